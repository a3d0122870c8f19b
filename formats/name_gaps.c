// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// name_gaps.c: see name_gaps.h. Runs wherever a profile is made or written; no state of its own.

#include "formats/name_gaps.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/flame_units.h"
#include "formats/lookup.h"
#include "formats/saturate.h"
#include "formats/writer.h"

#define WORD "nameless: "
#define FROM "; names from "
#define MAX_LINE 1024 // bytes
#define MAX_FILE 512  // of them
#define NO_FILE "no module"

static bool has_value(const struct profile *profile, uint32_t value)
{
	for (uint32_t i = 0; i < profile->nsamples; i++)
		if (profile->samples[i].values[value] != 0)
			return true;
	return false;
}

uint32_t name_gaps_value(const struct profile *profile)
{
	uint32_t value = profile->nsample_types ? profile->nsample_types - 1 : 0; // as pprof does, where none is named

	if (profile->default_sample_type[0])
		value = profile_default_value(profile);
	for (uint32_t i = profile->nsample_types; i-- > 0 && !has_value(profile, value);)
		value = has_value(profile, i) ? i : value;
	return value;
}

// ---- Counting ------------------------------------------------------------------------------------------------------

static bool is_file(const void *context, uint32_t id, const void *key)
{
	return ((const struct name_gaps *)context)->modules[id].file == *(const char *const *)key;
}

// Mappings of one file are one module. The profile's strings are interned: equal ones are one. The number, or 0: no memory.
static uint32_t module_of(struct name_gaps *gaps, struct lookup *lookup, const struct profile_mapping *mapping)
{
	uint32_t hash = lookup_hash(lookup, &mapping->file, sizeof(mapping->file));
	uint32_t number = lookup_find(lookup, hash, is_file, gaps, &mapping->file);
	struct name_gaps_module *module;

	if (!number && lookup_reserve(lookup) == 0) {
		number = gaps->nmodules++;
		gaps->modules[number] =
			(struct name_gaps_module){mapping->file, mapping->build_id, "", "", 0, 0, 0, 0, 0, 0};
		lookup_insert(lookup, hash, number);
	}
	module = &gaps->modules[number];
	if (number && !module->names_from[0])
		module->names_from = mapping->names_from;
	if (number && !module->advice[0])
		module->advice = mapping->advice;
	return number;
}

int name_gaps_init(struct name_gaps *gaps, const struct profile *profile)
{
	struct lookup lookup;
	int error = 0;

	*gaps = (struct name_gaps){.profile = profile, .noun = "samples"};
	gaps->modules = calloc((size_t)profile->nmappings + 1, sizeof(*gaps->modules));
	gaps->of_mapping = calloc((size_t)profile->nmappings + 1, sizeof(*gaps->of_mapping));
	if (!gaps->modules || !gaps->of_mapping)
		return -ENOMEM;
	gaps->modules[gaps->nmodules++] = (struct name_gaps_module){
		"", "", "", "code that was in no mapping when it was sampled", 0, 0, 0, 0, 0, 0};
	lookup_init(&lookup);
	for (uint32_t i = 0; i < profile->nmappings && !error; i++) {
		gaps->of_mapping[i + 1] = module_of(gaps, &lookup, &profile->mappings[i]);
		error = gaps->of_mapping[i + 1] ? 0 : -ENOMEM;
	}
	lookup_finish(&lookup);
	return error;
}

void name_gaps_finish(struct name_gaps *gaps)
{
	free(gaps->modules);
	free(gaps->of_mapping);
	*gaps = (struct name_gaps){0};
}

static bool is_nameless(const struct profile *profile, const struct profile_location *location)
{
	for (uint32_t i = 0; i < location->nlines; i++)
		if (location->lines[i].function_id && profile->functions[location->lines[i].function_id - 1].name[0])
			return false;
	return true;
}

void name_gaps_add(struct name_gaps *gaps, const uint32_t *location_ids, uint32_t nlocations, int64_t value)
{
	uint32_t stack = ++gaps->nstacks;

	gaps->total = saturate_add(gaps->total, value);
	for (uint32_t i = 0; i < nlocations; i++) {
		const struct profile_location *location = &gaps->profile->locations[location_ids[i] - 1];
		struct name_gaps_module *module = &gaps->modules[gaps->of_mapping[location->mapping_id]];
		bool nameless = is_nameless(gaps->profile, location);

		if (i == 0)
			module->self = saturate_add(module->self, value);
		if (i == 0 && nameless)
			module->nameless_self = saturate_add(module->nameless_self, value);
		if (module->seen != stack)
			module->total = saturate_add(module->total, value);
		module->seen = stack;
		if (nameless && module->seen_nameless != stack) {
			module->nameless_total = saturate_add(module->nameless_total, value);
			module->seen_nameless = stack;
		}
	}
}

void name_gaps_add_samples(struct name_gaps *gaps, uint32_t value_index)
{
	for (uint32_t i = 0; i < gaps->profile->nsamples; i++) {
		const struct profile_sample *sample = &gaps->profile->samples[i];

		name_gaps_add(gaps, sample->location_ids, sample->nlocations, sample->values[value_index]);
	}
}

static int compare(const void *left, const void *right)
{
	const struct name_gaps_module *a = left, *b = right;

	if (a->nameless_total != b->nameless_total)
		return a->nameless_total < b->nameless_total ? 1 : -1;
	if (a->total != b->total)
		return a->total < b->total ? 1 : -1;
	return strcmp(a->file, b->file);
}

void name_gaps_sort(struct name_gaps *gaps)
{
	qsort(gaps->modules, gaps->nmodules, sizeof(*gaps->modules), compare);
}

// ---- Lines ---------------------------------------------------------------------------------------------------------

// The file's name as it is, so that who reads the line finds the mapping by it; but on one line.
static void put_file(char *line, size_t size, const char *file)
{
	snprintf(line, size, WORD "%.*s: ", MAX_FILE, file[0] ? file : NO_FILE);
	for (char *c = line; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
}

static void make_line(const struct name_gaps *gaps, const struct name_gaps_module *module, char *line, size_t size)
{
	char total[16], self[16];
	size_t used;

	put_file(line, size, module->file);
	used = strlen(line);
	flame_units_percent(total, sizeof(total), module->nameless_total, gaps->total);
	flame_units_percent(self, sizeof(self), module->nameless_self, gaps->total);
	snprintf(line + used, size - used, "%s of %s (self %s)%s%s%s%s", total, gaps->noun, self,
		 module->names_from[0] ? FROM : "", module->names_from, module->advice[0] ? "; " : "", module->advice);
}

typedef void take_line(void *context, const char *line);

static void each_line(const struct name_gaps *gaps, take_line *take, void *context)
{
	char line[MAX_LINE];
	uint32_t i = 0, more = 0;

	for (; i < gaps->nmodules && gaps->modules[i].nameless_total > 0; i++) {
		if (i >= NAME_GAPS_LINES) {
			more++;
			continue;
		}
		make_line(gaps, &gaps->modules[i], line, sizeof(line));
		take(context, line);
	}
	if (more) {
		snprintf(line, sizeof(line), WORD "%u more modules", more);
		take(context, line);
	}
}

struct put {
	struct writer *writer;
	const char *prefix;
};

static void put_line(void *context, const char *line)
{
	const struct put *put = context;

	writer_puts(put->writer, put->prefix);
	writer_puts(put->writer, line);
	writer_puts(put->writer, "\n");
}

void name_gaps_put(const struct name_gaps *gaps, const char *prefix, struct writer *writer)
{
	struct put put = {writer, prefix};

	each_line(gaps, put_line, &put);
}

static void add_comment(void *context, const char *line)
{
	profile_add_comment(context, "%s", line);
}

int name_gaps_comment(struct profile *profile)
{
	struct name_gaps gaps;
	int error = name_gaps_init(&gaps, profile);

	if (!error) {
		name_gaps_add_samples(&gaps, name_gaps_value(profile));
		name_gaps_sort(&gaps);
		each_line(&gaps, add_comment, profile);
	}
	name_gaps_finish(&gaps);
	return error || profile_failed(profile) ? -ENOMEM : 0;
}

// ---- Reading them --------------------------------------------------------------------------------------------------

// "…; names from WHAT; ADVICE", either of them perhaps missing.
static void read_rest(struct profile *profile, uint32_t mapping_id, const char *rest)
{
	const char *from = strstr(rest, FROM), *after = from ? from + strlen(FROM) : rest;
	const char *advice = strstr(after, "; ");
	char names_from[MAX_LINE] = "";

	if (from)
		snprintf(names_from, sizeof(names_from), "%s", after);
	if (from && advice && advice - after < MAX_LINE)
		names_from[advice - after] = '\0';
	profile_explain_mapping(profile, mapping_id, names_from, advice ? advice + 2 : "");
}

static void read_line(struct profile *profile, const char *line)
{
	char start[MAX_LINE];

	for (uint32_t i = 0; i < profile->nmappings; i++) {
		put_file(start, sizeof(start), profile->mappings[i].file);
		if (strncmp(line, start, strlen(start)) == 0)
			read_rest(profile, i + 1, line + strlen(start));
	}
}

void name_gaps_read(struct profile *profile)
{
	uint32_t kept = 0, lines = 0;

	for (uint32_t i = 0; i < profile->ncomments; i++) {
		if (strncmp(profile->comments[i], WORD, strlen(WORD)) != 0)
			profile->comments[kept++] = profile->comments[i];
		else if (lines++ <= NAME_GAPS_LINES) // nobody writes more
			read_line(profile, profile->comments[i]);
	}
	profile->ncomments = kept;
}
