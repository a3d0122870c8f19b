// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// short_name.c: see short_name.h. Runs wherever a format is written; no state of its own.

#include "formats/short_name.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "formats/profile.h"
#include "formats/utf8.h"
#include "formats/writer.h"

#define FOLDED "…"
#define ANONYMOUS "(anonymous namespace)"
#define MAX_NESTING 256 // of brackets that are folded
#define MAX_NAME 16384  // bytes of a name made short; a longer one stays

struct output {
	char *text;
	size_t used, size;
	bool full;
};

static void put(struct output *output, const char *text, size_t length)
{
	if (output->full || length >= output->size - output->used) {
		output->full = true;
		return;
	}
	memcpy(output->text + output->used, text, length);
	output->used += length;
	output->text[output->used] = '\0';
}

static bool is_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '$' ||
	       (unsigned char)c >= 0x80;
}

// Is at[0], a '<', the beginning of arguments? In an expression it may be less-than; a Rust path may begin with one.
static bool opens_arguments(const char *start, const char *at)
{
	if (at == start)
		return false;
	if (at[-1] == ':')
		return strncmp(at, "<impl ", 6) != 0;
	return is_word(at[-1]) || at[-1] == '>' || at[-1] == '}' || at[-1] == ']';
}

static char closer_of(char opener)
{
	return opener == '(' ? ')' : opener == '<' ? '>' : opener == '[' ? ']' : '}';
}

// Behind the bracket that belongs to at[0]. NULL: there is none.
static const char *skip_brackets(const char *start, const char *at)
{
	char closers[MAX_NESTING];
	size_t depth = 0;

	for (; *at; at++) {
		bool arrow = at > start && at[-1] == '-';

		if (*at == '(' || *at == '[' || *at == '{' ||
		    (*at == '<' && (depth == 0 || opens_arguments(start, at)))) {
			if (depth == MAX_NESTING)
				return NULL;
			closers[depth++] = closer_of(*at);
		} else if (depth > 0 && *at == closers[depth - 1] && !(*at == '>' && arrow)) {
			if (--depth == 0)
				return at + 1;
		} else if (*at == ')' || *at == ']' || *at == '}') {
			return NULL;
		}
	}
	return NULL;
}

// Behind "operator" at at[0], and its sign. NULL: that is part of a longer word.
static const char *skip_operator(const char *start, const char *at)
{
	static const char word[] = "operator";
	static const char *const signs[] = {
		"<=>", "<<=", ">>=", "->*", "<<", ">>", "<=", ">=", "==", "!=", "&&", "||",   "++", "--",
		"+=",  "-=",  "*=",  "/=",  "%=", "&=", "|=", "^=", "->", "()", "[]", "\"\"", "<",  ">",
		"+",   "-",   "*",   "/",   "%",  "^",  "&",  "|",  "~",  "!",  "=",  ","};
	const char *end = at + sizeof(word) - 1;

	if (strncmp(at, word, sizeof(word) - 1) != 0 || is_word(*end) || (at > start && is_word(at[-1])))
		return NULL;
	for (size_t i = 0; i < sizeof(signs) / sizeof(signs[0]); i++)
		if (strncmp(end, signs[i], strlen(signs[i])) == 0)
			return end + strlen(signs[i]);
	return end;
}

// Behind what may follow the parameters.
static const char *skip_qualifiers(const char *at)
{
	static const char *const words[] = {" const", " volatile", " &&", " &"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]);) {
		bool found = strncmp(at, words[i], strlen(words[i])) == 0;

		at += found ? strlen(words[i]) : 0;
		i = found ? 0 : i + 1;
	}
	return at;
}

struct shortener {
	const char *start; // the name
	struct output *output;
	size_t name_at; // in the output: where the function's name begins, without its result's type
	bool after_operator, in_conversion, has_parameters;
	int depth; // of brackets that are shown
};

// Folds what stands in the brackets at at[0].
static const char *fold(struct shortener *shortener, const char *at)
{
	const char *end = skip_brackets(shortener->start, at);

	if (!end)
		return NULL;
	put(shortener->output, at, 1);
	if (end - at > 2)
		put(shortener->output, FOLDED, strlen(FOLDED));
	put(shortener->output, end - 1, 1);
	return end;
}

// "vtable for X", "non-virtual thunk to X": no result's type.
static bool is_description(const struct output *output)
{
	static const char *const words[] = {" for", " to"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		size_t length = strlen(words[i]);

		if (output->used >= length && memcmp(output->text + output->used - length, words[i], length) == 0)
			return true;
	}
	return false;
}

// At a space that no brackets are around.
static const char *step_over_space(struct shortener *shortener, const char *at)
{
	struct output *output = shortener->output;

	if (shortener->has_parameters) {
		const char *end = skip_qualifiers(at);

		return strncmp(end, "::", 2) == 0 ? end : at + strlen(at); // " const", " [clone …]"
	}
	if (is_description(output))
		shortener->name_at = 0;
	else if (!shortener->in_conversion)
		shortener->name_at = output->used + 1;
	put(output, at, 1);
	return at + 1;
}

// Of what is shown; an arrow is no bracket.
static int depth_change(const char *start, const char *at)
{
	if (*at == '>')
		return at > start && at[-1] == '-' ? 0 : -1;
	return (*at == '<' || *at == '{' || *at == '[') - (*at == '}' || *at == ']');
}

// The next piece at at[0]; returns what follows it. NULL: the name makes no sense.
static const char *step(struct shortener *shortener, const char *at)
{
	const char *end = skip_operator(shortener->start, at);
	bool operator_before = shortener->after_operator;

	shortener->after_operator = end != NULL;
	if (!end && strncmp(at, ANONYMOUS, strlen(ANONYMOUS)) == 0)
		end = at + strlen(ANONYMOUS);
	if (end) {
		put(shortener->output, at, (size_t)(end - at));
		return end;
	}
	if (operator_before && at[0] == ' ' && at[1] == '<')
		return fold(shortener, at + 1); // "operator< <int>"
	if (operator_before && at[0] == ' ')
		shortener->in_conversion = true; // "operator bool", "operator new"
	if (*at == '(' && shortener->depth == 0) {
		shortener->has_parameters = true;
		shortener->in_conversion = false;
	}
	if (*at == '(' || (*at == '<' && (operator_before || opens_arguments(shortener->start, at))))
		return fold(shortener, at);
	if (*at == ' ' && shortener->depth == 0)
		return step_over_space(shortener, at);
	shortener->depth += depth_change(shortener->start, at);
	put(shortener->output, at, 1);
	return shortener->depth < 0 ? NULL : at + 1;
}

// A function that returns a function's address, decltype(…): not taken apart.
static bool is_sound(const struct shortener *shortener)
{
	const struct output *output = shortener->output;
	const char *text = output->text + shortener->name_at;

	return shortener->depth == 0 && !output->full && shortener->name_at < output->used &&
	       (text[0] != '(' || strncmp(text, ANONYMOUS, strlen(ANONYMOUS)) == 0);
}

static void copy(const char *name, char *buf, size_t size)
{
	size_t length = utf8_prefix(name, size - 1);

	memcpy(buf, name, length);
	buf[length] = '\0';
}

char *short_name(const char *name, char *buf, size_t size)
{
	struct output output = {buf, 0, size, false};
	struct shortener shortener = {.start = name, .output = &output};
	const char *at = name;

	if (size == 0)
		return buf;
	buf[0] = '\0';
	while (at && *at && !output.full)
		at = step(&shortener, at);
	if (at && is_sound(&shortener))
		memmove(buf, buf + shortener.name_at, output.used - shortener.name_at + 1);
	else
		copy(name, buf, size);
	return buf;
}

// ---- Of a profile --------------------------------------------------------------------------------------------------

// "accumulate<int*, f()::<lambda(int)> >": as DWARF names what has no linkage name.
static bool is_template(const char *name)
{
	const char *at = strchr(name, '<'), *end = at && at > name && is_word(at[-1]) ? skip_brackets(name, at) : NULL;

	return end && *end == '\0';
}

char *short_name_of_function(const struct profile_function *function, char *buf, size_t size)
{
	bool mangled = function->system_name[0] == '_' && strcmp(function->system_name, function->name) != 0;

	if (mangled || is_template(function->name))
		return short_name(function->name, buf, size);
	if (size > 0)
		copy(function->name, buf, size);
	return buf;
}

int short_names_in(struct profile *profile)
{
	char *buf = malloc(MAX_NAME);

	if (!buf)
		return -ENOMEM;
	for (uint32_t i = 0; i < profile->nfunctions; i++) {
		struct profile_function *function = &profile->functions[i];

		if (strlen(function->name) < MAX_NAME)
			function->name = profile_string(profile, short_name_of_function(function, buf, MAX_NAME));
	}
	free(buf);
	return profile_failed(profile) ? -ENOMEM : 0;
}

bool name_form_by_name(const char *text, enum name_form *ret_form)
{
	bool full = strcmp(text, "full") == 0;

	if (!full && strcmp(text, "short") != 0)
		return false;
	*ret_form = full ? NAME_FORM_FULL : NAME_FORM_SHORT;
	return true;
}

int name_form_prepare(enum name_form form, const struct format *format, struct profile *profile,
		      struct format_options *options)
{
	options->full_names = form == NAME_FORM_FULL;
	return form == NAME_FORM_SHORT && format != &format_html && format != &format_svg ? short_names_in(profile) : 0;
}
