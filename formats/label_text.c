// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// label_text.c: see label_text.h.

#include "formats/label_text.h"

#include <string.h>

#include "formats/profile.h"
#include "formats/utf8.h"

#define UNIT '\x1f'
#define RECORD '\x1e'

// Appends text, clean. false: no room.
static bool put(char *to, size_t size, size_t *used, const char *text)
{
	while (*text) {
		int step = utf8_step(text);
		size_t length = step > 0 ? (size_t)step : 1;
		bool clean = step > 1 || (step == 1 && (unsigned char)*text >= ' ' && *text != 0x7f);

		if (length >= size - *used)
			return false;
		memcpy(to + *used, clean ? text : "_", length);
		*used += length;
		text += step > 0 ? step : -step;
	}
	return true;
}

static bool put_byte(char *to, size_t size, size_t *used, char byte)
{
	if (size - *used < 2)
		return false;
	to[(*used)++] = byte;
	return true;
}

bool label_text_add(char *text, size_t size, const char *key, const char *value)
{
	size_t before = strlen(text), used = before;
	bool fits = put(text, size, &used, key) && put_byte(text, size, &used, UNIT) && put(text, size, &used, value) &&
		    put_byte(text, size, &used, RECORD);

	text[fits ? used : before] = '\0';
	return fits;
}

// One label of a text, and where the next one begins. false: there is none.
struct part {
	const char *key, *value;
	size_t key_length, value_length;
};

static bool next_part(const char **at, struct part *part)
{
	const char *unit = *at ? strchr(*at, UNIT) : NULL, *record = unit ? strchr(unit, RECORD) : NULL;

	if (!record)
		return false;
	*part = (struct part){*at, unit + 1, (size_t)(unit - *at), (size_t)(record - unit - 1)};
	*at = record + 1;
	return true;
}

bool label_text_find(const char *text, const char *key, char *value, size_t size)
{
	struct part part;

	while (next_part(&text, &part)) {
		if (strlen(key) != part.key_length || memcmp(key, part.key, part.key_length) != 0)
			continue;
		if (part.value_length >= size)
			return false;
		memcpy(value, part.value, part.value_length);
		value[part.value_length] = '\0';
		return true;
	}
	return false;
}

static void cut(char *to, size_t size, const char *text, size_t length)
{
	if (length >= size)
		length = size - 1;
	memcpy(to, text, length);
	to[length] = '\0';
}

bool label_text_next(const char **at, char key[LABEL_TEXT_KEY_BYTES], char value[LABEL_TEXT_VALUE_BYTES])
{
	struct part part;

	if (!next_part(at, &part))
		return false;
	cut(key, LABEL_TEXT_KEY_BYTES, part.key, part.key_length);
	cut(value, LABEL_TEXT_VALUE_BYTES, part.value, part.value_length);
	return true;
}

uint32_t label_text_labels(const char *text, struct profile *profile, struct profile_label *labels, uint32_t max)
{
	char key[LABEL_TEXT_KEY_BYTES], value[LABEL_TEXT_VALUE_BYTES];
	uint32_t n = 0;

	while (n < max && label_text_next(&text, key, value))
		labels[n++] = (struct profile_label){
			.key = profile_string(profile, key), .str = profile_string(profile, value), .num_unit = ""};
	return n;
}

// As labels are kept: cut, and clean.
bool label_choice_parse(const char *text, struct label_choice *choice)
{
	const char *equals = strchr(text, '='), *at;
	char key[LABEL_TEXT_KEY_BYTES], value[LABEL_TEXT_VALUE_KEPT + 1], label[sizeof(key) + sizeof(value) + 2] = "";

	if (!equals || equals == text || (size_t)(equals - text) >= sizeof(key))
		return false;
	cut(key, sizeof(key), text, (size_t)(equals - text));
	cut(value, sizeof(value), equals + 1, utf8_prefix(equals + 1, LABEL_TEXT_VALUE_KEPT));
	at = label;
	return label_text_add(label, sizeof(label), key, value) && label_text_next(&at, choice->key, choice->value);
}

bool label_choice_wants(const struct label_choice *choice, const char *text)
{
	char value[sizeof(choice->value)];

	if (choice->key[0] &&
	    (!label_text_find(text, choice->key, value, sizeof(value)) || strcmp(value, choice->value) != 0))
		return false;
	return !choice->sampled_only || label_text_find(text, LABEL_TRACE_SAMPLED, value, sizeof(value));
}
