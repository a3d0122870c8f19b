// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// folded.c: folded stacks, one line each: `frame;frame;frame COUNT`, root first, sorted. Written for flamegraph.pl, which
// reads a line as /^(.*)\s+?(\d+(?:\.\d*)?)$/ and then, to allow for the two counts of a differential profile, what it
// took for the stack once more by the same expression. Hence the rules for names in clean_name. Counts are positive
// integers: stacks whose values sum up to 0 or less (a difference of profiles) cannot be said in this format.
//
// Runs wherever a format is written; no state of its own.

#include "formats/arena.h"
#include "formats/frames.h"
#include "formats/grow.h"
#include "formats/lookup.h"
#include "formats/profile.h"
#include "formats/saturate.h"
#include "formats/thread_label.h"
#include "formats/utf8.h"
#include "formats/writer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define FOLDED_THREAD_MAX 256

struct folded_line {
	const uint32_t *names; // indices into folded.names; root first
	uint32_t nnames;
	int64_t value;
};

struct folded {
	const struct profile *profile;
	uint32_t value_index;
	struct frames frames;
	uint32_t *name_of_frame;
	const char **names; // clean, no two alike
	uint32_t nnames, names_capacity;
	struct folded_line *lines; // no two with the same names
	uint32_t nlines, lines_capacity;
	struct lookup name_lookup, line_lookup;
	struct arena arena;
};

// ---- Names ---------------------------------------------------------------------------------------------------------

// Controls and whatever else some reader may take for the end of a line: C0, DEL, C1, U+2028, U+2029.
static bool is_control(const char *s, int size)
{
	unsigned char c = (unsigned char)*s;
	if (size == 1)
		return c < ' ' || c == 0x7f;
	if (size == 2)
		return c == 0xc2 && (unsigned char)s[1] < 0xa0;
	return size == 3 && (memcmp(s, "\xe2\x80\xa8", 3) == 0 || memcmp(s, "\xe2\x80\xa9", 3) == 0);
}

// A name that ends in " 12" or " 1.5" would be read as a count of a differential profile: the space becomes '_'.
static void hide_count(char *name)
{
	size_t at = strlen(name), integer = at;
	while (at && name[at - 1] >= '0' && name[at - 1] <= '9')
		at--;
	if (at && name[at - 1] == '.') {
		integer = --at;
		while (at && name[at - 1] >= '0' && name[at - 1] <= '9')
			at--;
	}
	if (at && at < integer && name[at - 1] == ' ')
		name[at - 1] = '_';
}

// What can stand in a line: valid UTF-8 without controls, without ';', and not ending like a count.
static char *clean_name(struct arena *arena, const char *name)
{
	char *clean = arena_alloc(arena, utf8_repaired_size(name) + 1, 1);
	if (!clean)
		return NULL;
	utf8_repair(clean, name);
	char *to = clean;
	for (const char *from = clean; *from;) {
		int size = utf8_step(from);
		if (is_control(from, size))
			*to++ = '_';
		else if (*from == ';')
			*to++ = ':';
		else
			for (int i = 0; i < size; i++)
				*to++ = from[i];
		from += size;
	}
	*to = '\0';
	hide_count(clean);
	return clean;
}

static bool name_equal(const void *context, uint32_t id, const void *key)
{
	return strcmp(((const struct folded *)context)->names[id - 1], key) == 0;
}

static int intern_name(struct folded *folded, const char *name, uint32_t *ret_name)
{
	const char *clean = clean_name(&folded->arena, name);
	if (!clean)
		return -ENOMEM;
	uint32_t hash = lookup_hash(&folded->name_lookup, clean, strlen(clean));
	uint32_t id = lookup_find(&folded->name_lookup, hash, name_equal, folded, clean);
	if (!id) {
		const char **names = grow_array((void *)folded->names, &folded->names_capacity,
						(size_t)folded->nnames + 1, sizeof(*names));
		if (names)
			folded->names = names;
		if (!names || lookup_reserve(&folded->name_lookup))
			return -ENOMEM;
		names[folded->nnames++] = clean;
		id = folded->nnames;
		lookup_insert(&folded->name_lookup, hash, id);
	}
	*ret_name = id - 1;
	return 0;
}

static int name_frames(struct folded *folded)
{
	const struct frames *frames = &folded->frames;
	folded->name_of_frame = calloc((size_t)frames->count + 1, sizeof(*folded->name_of_frame));
	if (!folded->name_of_frame)
		return -ENOMEM;
	for (uint32_t i = 0; i < frames->count; i++) {
		int error = intern_name(folded, frames->items[i].name, &folded->name_of_frame[i]);
		if (error)
			return error;
	}
	return 0;
}

// ---- Lines ---------------------------------------------------------------------------------------------------------

static int thread_root(struct folded *folded, const struct profile_sample *sample, uint32_t *ret_name)
{
	const struct thread_label thread = thread_label_of(sample);
	char text[FOLDED_THREAD_MAX];
	return intern_name(folded, thread_label_name(&thread, text, sizeof(text)), ret_name);
}

static bool line_equal(const void *context, uint32_t id, const void *key)
{
	const struct folded_line *a = &((const struct folded *)context)->lines[id - 1], *b = key;
	return a->nnames == b->nnames && memcmp(a->names, b->names, b->nnames * sizeof(*b->names)) == 0;
}

static int append_line(struct folded *folded, const struct folded_line *line, uint32_t hash)
{
	struct folded_line *lines =
		grow_array(folded->lines, &folded->lines_capacity, (size_t)folded->nlines + 1, sizeof(*lines));
	if (!lines)
		return -ENOMEM;
	folded->lines = lines;
	if (lookup_reserve(&folded->line_lookup))
		return -ENOMEM;
	uint32_t *names = arena_copy(&folded->arena, line->names, line->nnames * sizeof(*names), _Alignof(uint32_t));
	if (!names)
		return -ENOMEM;
	lines[folded->nlines] = *line;
	lines[folded->nlines++].names = names;
	lookup_insert(&folded->line_lookup, hash, folded->nlines);
	return 0;
}

static int add_line(struct folded *folded, const struct folded_line *line)
{
	uint32_t hash = lookup_hash(&folded->line_lookup, line->names, line->nnames * sizeof(*line->names));
	uint32_t id = lookup_find(&folded->line_lookup, hash, line_equal, folded, line);
	if (!id)
		return append_line(folded, line, hash);
	struct folded_line *there = &folded->lines[id - 1];
	there->value = saturate_add(there->value, line->value);
	return 0;
}

static int add_sample(struct folded *folded, const struct profile_sample *sample, bool per_thread)
{
	const uint32_t root = per_thread ? 1 : 0;
	uint32_t count = 0;
	uint32_t *stack = frames_expand(&folded->frames, sample, root, &count);
	if (!stack)
		return -ENOMEM;
	for (uint32_t i = root; i < count; i++)
		stack[i] = folded->name_of_frame[stack[i]];
	int error = root ? thread_root(folded, sample, &stack[0]) : 0;
	if (!error && count == root) { // a sample without a stack
		stack[count] = 0;
		error = intern_name(folded, "[unknown]", &stack[count++]);
	}
	const struct folded_line line = {stack, count, sample->values[folded->value_index]};
	return error ? error : add_line(folded, &line);
}

// ---- The file ------------------------------------------------------------------------------------------------------

static int compare_lines(const void *left, const void *right, void *context)
{
	const struct folded_line *a = left, *b = right;
	const struct folded *folded = context;
	for (uint32_t i = 0; i < a->nnames && i < b->nnames; i++) {
		if (a->names[i] != b->names[i])
			return strcmp(folded->names[a->names[i]], folded->names[b->names[i]]);
	}
	return (a->nnames > b->nnames) - (a->nnames < b->nnames);
}

static int write_lines(struct folded *folded, struct writer *writer)
{
	if (folded->nlines)
		qsort_r(folded->lines, folded->nlines, sizeof(*folded->lines), compare_lines, folded);
	for (uint32_t i = 0; i < folded->nlines && !writer->error; i++) {
		const struct folded_line *line = &folded->lines[i];
		if (line->value <= 0)
			continue;
		for (uint32_t j = 0; j < line->nnames; j++) {
			writer_puts(writer, j ? ";" : "");
			writer_puts(writer, folded->names[line->names[j]]);
		}
		writer_printf(writer, " %" PRId64 "\n", line->value);
	}
	return writer_flush(writer);
}

static void folded_finish(struct folded *folded)
{
	frames_finish(&folded->frames);
	lookup_finish(&folded->name_lookup);
	lookup_finish(&folded->line_lookup);
	arena_finish(&folded->arena);
	free(folded->name_of_frame);
	free((void *)folded->names);
	free(folded->lines);
}

static int folded_write(const struct profile *profile, const struct format_options *options, struct writer *writer)
{
	struct folded folded = {.profile = profile, .value_index = options ? options->value_index : 0};
	bool per_thread = options && options->per_thread;
	if (folded.value_index >= profile->nsample_types)
		return -EINVAL;
	lookup_init(&folded.name_lookup);
	lookup_init(&folded.line_lookup);
	int error = frames_init(&folded.frames, profile);
	if (!error)
		error = name_frames(&folded);
	for (uint32_t i = 0; i < profile->nsamples && !error; i++)
		error = add_sample(&folded, &profile->samples[i], per_thread);
	if (!error)
		error = write_lines(&folded, writer);
	folded_finish(&folded);
	return error;
}

const struct format format_folded = {
	.name = "folded",
	.extension = ".folded",
	.content_type = "text/plain; charset=utf-8",
	.write = folded_write,
};
