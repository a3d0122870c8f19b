// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// profile.c: builds a profile: interns strings, functions, locations and samples. See profile.h.
//
// Because strings are interned, two of them are equal exactly when their pointers are; functions and samples are compared
// that way. Whoever reads a profile must not rely on it: fields like default_sample_type may be set to any string.

#include "formats/profile.h"

#include "formats/arena.h"
#include "formats/grow.h"
#include "formats/lookup.h"
#include "formats/saturate.h"
#include "formats/utf8.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct profile_index {
	struct arena arena; // strings, lines, stacks, labels
	struct lookup strings, functions, locations, samples;
	const char **texts; // strings[id - 1]
	uint32_t ntexts;
	uint32_t texts_capacity, mappings_capacity, functions_capacity, locations_capacity, samples_capacity,
		comments_capacity;
	struct profile_label *labels; // scratch: the labels of one sample, interned and sorted
	uint32_t labels_capacity;
	bool failed;
};

// What a sample is looked up by.
struct sample_key {
	const uint32_t *location_ids;
	const struct profile_label *labels;
	uint32_t nlocations, nlabels;
};

struct profile *profile_create(void)
{
	struct profile *profile = calloc(1, sizeof(*profile));
	if (!profile)
		return NULL;
	profile->index = calloc(1, sizeof(*profile->index));
	if (!profile->index) {
		free(profile);
		return NULL;
	}
	lookup_init(&profile->index->strings);
	lookup_init(&profile->index->functions);
	lookup_init(&profile->index->locations);
	lookup_init(&profile->index->samples);
	profile->default_sample_type = "";
	profile->period_type = (struct profile_value_type){"", ""};
	return profile;
}

static void index_destroy(struct profile_index *index)
{
	if (!index)
		return;
	lookup_finish(&index->strings);
	lookup_finish(&index->functions);
	lookup_finish(&index->locations);
	lookup_finish(&index->samples);
	arena_finish(&index->arena);
	free((void *)index->texts);
	free(index->labels);
	free(index);
}

void profile_destroy(struct profile *profile)
{
	if (!profile)
		return;
	index_destroy(profile->index);
	free(profile->mappings);
	free(profile->functions);
	free(profile->locations);
	free(profile->samples);
	free((void *)profile->comments);
	free(profile);
}

bool profile_failed(const struct profile *profile)
{
	return profile->index->failed;
}

static uint32_t fail(struct profile *profile)
{
	profile->index->failed = true;
	return 0;
}

// ---- Strings -------------------------------------------------------------------------------------------------------

static bool string_equal(const void *context, uint32_t id, const void *key)
{
	const struct profile_index *index = context;
	return strcmp(index->texts[id - 1], key) == 0;
}

static const char *string_add(struct profile_index *index, uint32_t hash, const char *s, size_t length)
{
	const char **texts =
		grow_array((void *)index->texts, &index->texts_capacity, (size_t)index->ntexts + 1, sizeof(*texts));
	if (!texts)
		return NULL;
	index->texts = texts;
	if (lookup_reserve(&index->strings))
		return NULL;
	const char *copy = arena_copy(&index->arena, s, length + 1, 1);
	if (!copy)
		return NULL;
	texts[index->ntexts++] = copy;
	lookup_insert(&index->strings, hash, index->ntexts);
	return copy;
}

const char *profile_string(struct profile *profile, const char *s)
{
	struct profile_index *index = profile->index;
	if (!s || !s[0])
		return "";
	size_t length = strlen(s);
	uint32_t hash = lookup_hash(&index->strings, s, length);
	uint32_t id = lookup_find(&index->strings, hash, string_equal, index, s);
	if (id)
		return index->texts[id - 1];
	const char *copy = string_add(index, hash, s, length);
	if (!copy)
		fail(profile);
	return copy ? copy : "";
}

// ---- Mappings, functions, locations --------------------------------------------------------------------------------

uint32_t profile_add_mapping(struct profile *profile, const struct profile_mapping *mapping)
{
	struct profile_mapping *mappings = grow_array(profile->mappings, &profile->index->mappings_capacity,
						      (size_t)profile->nmappings + 1, sizeof(*mappings));
	if (!mappings)
		return fail(profile);
	profile->mappings = mappings;
	struct profile_mapping *added = &mappings[profile->nmappings];
	*added = *mapping;
	added->file = profile_string(profile, mapping->file);
	added->build_id = profile_string(profile, mapping->build_id);
	added->names_from = profile_string(profile, mapping->names_from);
	added->advice = profile_string(profile, mapping->advice);
	if (profile_failed(profile))
		return 0;
	return ++profile->nmappings;
}

void profile_explain_mapping(struct profile *profile, uint32_t mapping_id, const char *names_from, const char *advice)
{
	struct profile_mapping *mapping = &profile->mappings[mapping_id - 1];
	mapping->names_from = profile_string(profile, names_from);
	mapping->advice = profile_string(profile, advice);
}

// The key: name, system_name, file. `a` and `b` hold interned strings.
static bool function_equal(const void *context, uint32_t id, const void *key)
{
	const struct profile_function *a = &((const struct profile *)context)->functions[id - 1], *b = key;
	return a->name == b->name && a->system_name == b->system_name && a->file == b->file;
}

static uint32_t function_append(struct profile *profile, const struct profile_function *function, uint32_t hash)
{
	struct profile_function *functions = grow_array(profile->functions, &profile->index->functions_capacity,
							(size_t)profile->nfunctions + 1, sizeof(*functions));
	if (!functions)
		return fail(profile);
	profile->functions = functions;
	if (lookup_reserve(&profile->index->functions))
		return fail(profile);
	functions[profile->nfunctions++] = *function;
	lookup_insert(&profile->index->functions, hash, profile->nfunctions);
	return profile->nfunctions;
}

uint32_t profile_add_function(struct profile *profile, const struct profile_function *function)
{
	const struct profile_function interned = {
		.name = profile_string(profile, function->name),
		.system_name = profile_string(profile, function->system_name),
		.file = profile_string(profile, function->file),
		.start_line = function->start_line,
	};
	const char *const key[] = {interned.name, interned.system_name, interned.file};
	uint32_t hash = lookup_hash(&profile->index->functions, key, sizeof(key));
	if (profile_failed(profile))
		return 0;
	uint32_t id = lookup_find(&profile->index->functions, hash, function_equal, profile, &interned);
	return id ? id : function_append(profile, &interned, hash);
}

static bool location_equal(const void *context, uint32_t id, const void *key)
{
	const struct profile_location *a = &((const struct profile *)context)->locations[id - 1], *b = key;
	return a->mapping_id == b->mapping_id && a->address == b->address;
}

static uint32_t location_hash(const struct profile *profile, uint32_t mapping_id, uint64_t address)
{
	const uint64_t key[] = {mapping_id, address};
	return lookup_hash(&profile->index->locations, key, sizeof(key));
}

uint32_t profile_find_location(const struct profile *profile, uint32_t mapping_id, uint64_t address)
{
	const struct profile_location key = {.mapping_id = mapping_id, .address = address};
	uint32_t hash = location_hash(profile, mapping_id, address);
	return lookup_find(&profile->index->locations, hash, location_equal, profile, &key);
}

static bool location_is_sound(const struct profile *profile, const struct profile_location *location)
{
	if (location->mapping_id > profile->nmappings || (location->nlines && !location->lines))
		return false;
	for (uint32_t i = 0; i < location->nlines; i++) {
		uint32_t id = location->lines[i].function_id;
		if (id == 0 || id > profile->nfunctions)
			return false;
	}
	return true;
}

static uint32_t location_append(struct profile *profile, const struct profile_location *location, uint32_t hash)
{
	struct profile_index *index = profile->index;
	struct profile_location *locations = grow_array(profile->locations, &index->locations_capacity,
							(size_t)profile->nlocations + 1, sizeof(*locations));
	if (!locations)
		return fail(profile);
	profile->locations = locations;
	if (lookup_reserve(&index->locations))
		return fail(profile);
	const struct profile_line *lines = arena_copy(&index->arena, location->lines, location->nlines * sizeof(*lines),
						      _Alignof(struct profile_line));
	if (!lines)
		return fail(profile);
	struct profile_location *added = &locations[profile->nlocations++];
	*added = *location;
	added->lines = lines;
	lookup_insert(&index->locations, hash, profile->nlocations);
	return profile->nlocations;
}

uint32_t profile_add_location(struct profile *profile, const struct profile_location *location)
{
	uint32_t hash = location_hash(profile, location->mapping_id, location->address);
	uint32_t id = lookup_find(&profile->index->locations, hash, location_equal, profile, location);
	if (id)
		return id;
	return location_is_sound(profile, location) ? location_append(profile, location, hash) : 0;
}

// ---- What is measured ----------------------------------------------------------------------------------------------

void profile_add_sample_type(struct profile *profile, const char *type, const char *unit)
{
	if (profile->nsample_types == PROFILE_MAX_VALUES) {
		fail(profile);
		return;
	}
	profile->sample_types[profile->nsample_types++] =
		(struct profile_value_type){profile_string(profile, type), profile_string(profile, unit)};
}

uint32_t profile_default_value(const struct profile *profile)
{
	for (uint32_t i = 0; i < profile->nsample_types; i++)
		if (strcmp(profile->sample_types[i].type, profile->default_sample_type) == 0)
			return i;
	return 0;
}

void profile_set_period(struct profile *profile, const char *type, const char *unit, int64_t period)
{
	profile->period_type =
		(struct profile_value_type){profile_string(profile, type), profile_string(profile, unit)};
	profile->period = period;
}

// The text in buf, or one on the heap when that is too small; NULL when out of memory.
static char *format_text(char *buf, size_t size, const char *fmt, va_list args)
{
	va_list again;
	va_copy(again, args);
	int length = vsnprintf(buf, size, fmt, args);
	char *text = buf;
	if (length < 0 || (size_t)length >= size) {
		text = length < 0 ? NULL : malloc((size_t)length + 1);
		if (text)
			vsnprintf(text, (size_t)length + 1, fmt, again);
	}
	va_end(again);
	return text;
}

void profile_add_comment(struct profile *profile, const char *fmt, ...)
{
	char buf[512];
	va_list args;
	va_start(args, fmt);
	char *text = format_text(buf, sizeof(buf), fmt, args);
	va_end(args);
	const char **comments = grow_array((void *)profile->comments, &profile->index->comments_capacity,
					   (size_t)profile->ncomments + 1, sizeof(*comments));
	if (comments)
		profile->comments = comments;
	if (comments && text)
		comments[profile->ncomments++] = profile_string(profile, text);
	else
		fail(profile);
	if (text != buf)
		free(text);
}

// ---- Samples -------------------------------------------------------------------------------------------------------

// Where the key is in, or belongs into, labels[0, n), which are sorted.
static uint32_t label_position(const struct profile_label *labels, uint32_t n, const char *key)
{
	uint32_t low = 0;
	while (low < n) {
		uint32_t middle = low + (n - low) / 2;
		if (strcmp(labels[middle].key, key) < 0)
			low = middle + 1;
		else
			n = middle;
	}
	return low;
}

static uint32_t label_insert(struct profile *profile, uint32_t n, const struct profile_label *label)
{
	struct profile_label *labels = profile->index->labels;
	struct profile_label interned = {.key = profile_string(profile, label->key), .num_unit = ""};
	uint32_t at = label_position(labels, n, interned.key);
	if (label->str) {
		interned.str = profile_string(profile, label->str);
	} else {
		interned.num = label->num;
		interned.num_unit = profile_string(profile, label->num_unit);
	}
	bool there = at < n && labels[at].key == interned.key;
	if (!there)
		memmove(&labels[at + 1], &labels[at], (n - at) * sizeof(*labels));
	labels[at] = interned;
	return there ? n : n + 1;
}

// Fills the scratch: sorted, the last of equal keys.
static int labels_intern(struct profile *profile, const struct profile_label *labels, uint32_t nlabels,
			 uint32_t *ret_count)
{
	struct profile_index *index = profile->index;
	struct profile_label *scratch = grow_array(index->labels, &index->labels_capacity, nlabels, sizeof(*scratch));
	uint32_t count = 0;
	if (!scratch) {
		fail(profile);
		return -ENOMEM;
	}
	index->labels = scratch;
	for (uint32_t i = 0; i < nlabels; i++) {
		if (!labels[i].key || !labels[i].key[0])
			return -EINVAL;
		count = label_insert(profile, count, &labels[i]);
	}
	*ret_count = count;
	return profile_failed(profile) ? -ENOMEM : 0;
}

static bool sample_equal(const void *context, uint32_t id, const void *key)
{
	const struct profile_sample *a = &((const struct profile *)context)->samples[id - 1];
	const struct sample_key *b = key;
	// Interned strings and no padding: equal labels are equal bytes.
	_Static_assert(sizeof(struct profile_label) == 3 * sizeof(char *) + sizeof(int64_t),
		       "padding in profile_label");
	return a->nlocations == b->nlocations && a->nlabels == b->nlabels &&
	       memcmp(a->location_ids, b->location_ids, b->nlocations * sizeof(*b->location_ids)) == 0 &&
	       memcmp(a->labels, b->labels, b->nlabels * sizeof(*b->labels)) == 0;
}

static uint32_t sample_hash(const struct lookup *samples, const struct sample_key *key)
{
	uint32_t stack = lookup_hash(samples, key->location_ids, key->nlocations * sizeof(*key->location_ids));
	return stack * 31 + lookup_hash(samples, key->labels, key->nlabels * sizeof(*key->labels));
}

// A new sample with all values 0; NULL when out of memory.
static struct profile_sample *sample_append(struct profile *profile, const struct sample_key *key, uint32_t hash)
{
	struct profile_index *index = profile->index;
	struct profile_sample *samples =
		grow_array(profile->samples, &index->samples_capacity, (size_t)profile->nsamples + 1, sizeof(*samples));
	if (!samples)
		return NULL;
	profile->samples = samples;
	if (lookup_reserve(&index->samples))
		return NULL;
	const struct profile_label *labels =
		arena_copy(&index->arena, key->labels, key->nlabels * sizeof(*labels), _Alignof(struct profile_label));
	const uint32_t *ids =
		arena_copy(&index->arena, key->location_ids, key->nlocations * sizeof(*ids), _Alignof(uint32_t));
	if (!labels || !ids)
		return NULL;
	struct profile_sample *sample = &samples[profile->nsamples++];
	*sample = (struct profile_sample){
		.nlocations = key->nlocations, .location_ids = ids, .nlabels = key->nlabels, .labels = labels};
	lookup_insert(&index->samples, hash, profile->nsamples);
	return sample;
}

static struct profile_sample *sample_intern(struct profile *profile, const struct sample_key *key)
{
	uint32_t hash = sample_hash(&profile->index->samples, key);
	uint32_t id = lookup_find(&profile->index->samples, hash, sample_equal, profile, key);
	return id ? &profile->samples[id - 1] : sample_append(profile, key, hash);
}

int profile_add_sample(struct profile *profile, const uint32_t *location_ids, uint32_t nlocations,
		       const struct profile_label *labels, uint32_t nlabels, const int64_t *values)
{
	static const uint32_t no_stack[1];
	struct sample_key key = {.location_ids = nlocations ? location_ids : no_stack, .nlocations = nlocations};
	for (uint32_t i = 0; i < nlocations; i++) {
		if (location_ids[i] == 0 || location_ids[i] > profile->nlocations)
			return -EINVAL;
	}
	int error = labels_intern(profile, labels, nlabels, &key.nlabels);
	if (error)
		return error;
	key.labels = profile->index->labels;
	struct profile_sample *sample = sample_intern(profile, &key);
	if (!sample) {
		fail(profile);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < profile->nsample_types; i++)
		sample->values[i] = saturate_add(sample->values[i], values[i]);
	return 0;
}

// ---- Names ---------------------------------------------------------------------------------------------------------

static void name_without_symbol(const struct profile *profile, const struct profile_location *location, char *buf,
				size_t size)
{
	uint32_t id = location->mapping_id;
	const struct profile_mapping *mapping = id && id <= profile->nmappings ? &profile->mappings[id - 1] : NULL;
	if (!mapping || !mapping->file[0]) {
		snprintf(buf, size, "0x%" PRIx64, location->address);
		return;
	}
	const char *slash = strrchr(mapping->file, '/');
	uint64_t offset = location->address - mapping->start + mapping->file_offset;
	char suffix[32];
	int length = snprintf(suffix, sizeof(suffix), "+0x%" PRIx64, offset);
	// A long module name is cut rather than the offset.
	const char *module = slash && slash[1] ? slash + 1 : mapping->file;
	size_t room = size > (size_t)length + 1 ? size - (size_t)length - 1 : 0;
	snprintf(buf, size, "%.*s%s", (int)utf8_prefix(module, room < INT32_MAX ? room : INT32_MAX), module, suffix);
}

const char *profile_frame_name(const struct profile *profile, const struct profile_location *location, uint32_t i,
			       char *buf, size_t size)
{
	uint32_t id = i < location->nlines ? location->lines[i].function_id : 0;
	const char *name = id && id <= profile->nfunctions ? profile->functions[id - 1].name : "";
	if (size == 0)
		return buf;
	if (!name[0]) {
		name_without_symbol(profile, location, buf, size);
	} else {
		size_t length = utf8_prefix(name, size - 1);
		memcpy(buf, name, length);
		buf[length] = '\0';
	}
	return buf;
}
