// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// pprof_read.c: see pprof_read.h. Runs in the commands that read files; no state of its own.
//
// protobuf-c makes of each message a struct that may be fifty times as large: it gets its memory from an arena with a limit.

#include "formats/pprof_read.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "formats/arena.h"
#include "formats/name_gaps.h"
#include "formats/profile.h"
#include "formats/writer.h"
#include "pprof.pb-c.h"

#define ANY_HEADER (15 + 32)                // zlib: gzip's, or its own
#define MAX_TREE_BYTES ((size_t)1536 << 20) // of protobuf-c's structs
#define MAX_STACK 65536u                    // locations of a sample

typedef Perftools__Profiles__Profile message;

// ---- Bytes ---------------------------------------------------------------------------------------------------------

static int unpack(const void *data, size_t size, struct writer_memory *memory)
{
	z_stream zlib = {.next_in = (uint8_t *)data}; // read only; zlib's type has no const
	uint8_t buffer[65536];
	size_t left = size;
	int state = inflateInit2(&zlib, ANY_HEADER), error = 0;

	if (state != Z_OK)
		return -ENOMEM;
	while (state == Z_OK && !error) {
		if (zlib.avail_in == 0) {
			zlib.avail_in = left < (1u << 30) ? (uInt)left : 1u << 30;
			left -= zlib.avail_in;
		}
		zlib.next_out = buffer;
		zlib.avail_out = sizeof(buffer);
		state = inflate(&zlib, Z_NO_FLUSH);
		error = writer_memory_sink(memory, buffer, sizeof(buffer) - zlib.avail_out);
	}
	inflateEnd(&zlib);
	if (error)
		return memory->size > PPROF_READ_MAX_BYTES / 2 ? -EFBIG : error;
	return state == Z_STREAM_END ? 0 : -EINVAL;
}

// What protobuf-c takes; nothing is given back before the end.
struct tree_memory {
	struct arena arena;
	size_t used;
	bool full;
};

static void *take(void *context, size_t size)
{
	struct tree_memory *memory = context;
	void *block = NULL;

	if (size > MAX_TREE_BYTES - memory->used)
		memory->full = true;
	else
		block = arena_alloc(&memory->arena, size, 16);
	memory->used += block ? size : 0;
	return block;
}

static void keep(void *context, void *block)
{
	(void)context;
	(void)block;
}

// ---- Ids -----------------------------------------------------------------------------------------------------------

// Other tools' ids may be any numbers.
struct id {
	uint64_t theirs;
	uint32_t ours;
};

struct ids {
	struct id *list; // sorted
	size_t count;
};

static int compare_ids(const void *left, const void *right)
{
	const struct id *a = left, *b = right;

	return (a->theirs > b->theirs) - (a->theirs < b->theirs);
}

// 0: there is none.
static uint32_t find_id(const struct ids *ids, uint64_t theirs)
{
	const struct id key = {theirs, 0};
	const struct id *found = ids->count ? bsearch(&key, ids->list, ids->count, sizeof(key), compare_ids) : NULL;

	return found ? found->ours : 0;
}

// ---- Tables --------------------------------------------------------------------------------------------------------

struct reader {
	const message *from;
	struct profile *profile;
	struct ids mappings, functions, locations;
	struct profile_line *lines; // scratch
	uint32_t *stack;
	struct profile_label *labels;
	bool bad; // a number that means nothing
};

static const char *text(struct reader *reader, int64_t number)
{
	if (number >= 0 && (uint64_t)number < reader->from->n_string_table)
		return reader->from->string_table[number];
	reader->bad = true;
	return "";
}

static int start_ids(struct ids *ids, size_t count)
{
	ids->list = calloc(count + 1, sizeof(*ids->list));
	return ids->list ? 0 : -ENOMEM;
}

static void add_id(struct reader *reader, struct ids *ids, uint64_t theirs, uint32_t ours)
{
	reader->bad |= theirs == 0;
	ids->list[ids->count++] = (struct id){theirs, ours};
}

static void end_ids(struct reader *reader, struct ids *ids)
{
	if (ids->count)
		qsort(ids->list, ids->count, sizeof(*ids->list), compare_ids);
	for (size_t i = 1; i < ids->count; i++)
		reader->bad |= ids->list[i].theirs == ids->list[i - 1].theirs;
}

static int read_mappings(struct reader *reader)
{
	const message *from = reader->from;

	if (start_ids(&reader->mappings, from->n_mapping) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < from->n_mapping; i++) {
		const Perftools__Profiles__Mapping *mapping = from->mapping[i];
		const struct profile_mapping added = {
			.start = mapping->memory_start,
			.limit = mapping->memory_limit,
			.file_offset = mapping->file_offset,
			.file = text(reader, mapping->filename),
			.build_id = text(reader, mapping->build_id),
			.has_functions = mapping->has_functions,
			.has_filenames = mapping->has_filenames,
			.has_line_numbers = mapping->has_line_numbers,
			.has_inline_frames = mapping->has_inline_frames,
		};

		add_id(reader, &reader->mappings, mapping->id, profile_add_mapping(reader->profile, &added));
	}
	end_ids(reader, &reader->mappings);
	return 0;
}

static int read_functions(struct reader *reader)
{
	const message *from = reader->from;

	if (start_ids(&reader->functions, from->n_function) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < from->n_function; i++) {
		const Perftools__Profiles__Function *function = from->function[i];
		const struct profile_function added = {
			.name = text(reader, function->name),
			.system_name = text(reader, function->system_name),
			.file = text(reader, function->filename),
			.start_line = function->start_line,
		};

		add_id(reader, &reader->functions, function->id, profile_add_function(reader->profile, &added));
	}
	end_ids(reader, &reader->functions);
	return 0;
}

static uint32_t read_lines(struct reader *reader, const Perftools__Profiles__Location *location)
{
	uint32_t count = 0;

	for (size_t i = 0; i < location->n_line; i++) {
		uint32_t function = find_id(&reader->functions, location->line[i]->function_id);

		reader->bad |= !function && location->line[i]->function_id;
		if (function)
			reader->lines[count++] = (struct profile_line){function, location->line[i]->line};
	}
	return count;
}

static int read_locations(struct reader *reader)
{
	const message *from = reader->from;
	size_t lines = 0;

	for (size_t i = 0; i < from->n_location; i++)
		if (from->location[i]->n_line > lines)
			lines = from->location[i]->n_line;
	reader->lines = calloc(lines + 1, sizeof(*reader->lines));
	if (!reader->lines || start_ids(&reader->locations, from->n_location) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < from->n_location && !reader->bad; i++) {
		const Perftools__Profiles__Location *location = from->location[i];
		struct profile_location added = {
			.mapping_id = find_id(&reader->mappings, location->mapping_id),
			.address = location->address,
			.nlines = read_lines(reader, location),
			.lines = reader->lines,
		};

		reader->bad |= !added.mapping_id && location->mapping_id;
		// Tools that know no addresses give many locations the same one: here each has one of its own.
		if (profile_find_location(reader->profile, added.mapping_id, added.address))
			added.address = ~location->id;
		add_id(reader, &reader->locations, location->id, profile_add_location(reader->profile, &added));
	}
	end_ids(reader, &reader->locations);
	return 0;
}

// ---- Samples -------------------------------------------------------------------------------------------------------

static int read_types(struct reader *reader)
{
	const message *from = reader->from;

	if (from->n_sample_type == 0)
		return -EINVAL;
	if (from->n_sample_type > PROFILE_MAX_VALUES)
		return -E2BIG;
	for (size_t i = 0; i < from->n_sample_type; i++)
		profile_add_sample_type(reader->profile, text(reader, from->sample_type[i]->type),
					text(reader, from->sample_type[i]->unit));
	if (from->period_type)
		profile_set_period(reader->profile, text(reader, from->period_type->type),
				   text(reader, from->period_type->unit), from->period);
	reader->profile->time_ns = from->time_nanos;
	reader->profile->duration_ns = from->duration_nanos;
	reader->profile->default_sample_type = profile_string(reader->profile, text(reader, from->default_sample_type));
	return 0;
}

// One value a key is all that a profile takes here.
static uint32_t read_labels(struct reader *reader, const Perftools__Profiles__Sample *sample)
{
	uint32_t count = 0;

	for (size_t i = 0; i < sample->n_label; i++) {
		const Perftools__Profiles__Label *label = sample->label[i];
		const char *key = text(reader, label->key), *str = text(reader, label->str);

		if (key[0])
			reader->labels[count++] = (struct profile_label){key, label->str ? str : NULL, label->num,
									 text(reader, label->num_unit)};
	}
	return count;
}

static int read_sample(struct reader *reader, const Perftools__Profiles__Sample *sample)
{
	int64_t values[PROFILE_MAX_VALUES] = {0};
	uint32_t nlabels = read_labels(reader, sample);

	if (sample->n_value != reader->from->n_sample_type || sample->n_location_id > MAX_STACK)
		return -EINVAL;
	memcpy(values, sample->value, sample->n_value * sizeof(*values));
	for (size_t i = 0; i < sample->n_location_id; i++)
		reader->stack[i] = find_id(&reader->locations, sample->location_id[i]);
	if (reader->bad)
		return -EINVAL;
	return profile_add_sample(reader->profile, reader->stack, (uint32_t)sample->n_location_id, reader->labels,
				  nlabels, values);
}

static int read_samples(struct reader *reader)
{
	const message *from = reader->from;
	size_t labels = 0;
	int error = 0;

	for (size_t i = 0; i < from->n_sample; i++)
		if (from->sample[i]->n_label > labels)
			labels = from->sample[i]->n_label;
	reader->labels = calloc(labels + 1, sizeof(*reader->labels));
	reader->stack = calloc(MAX_STACK, sizeof(*reader->stack));
	if (!reader->labels || !reader->stack)
		return -ENOMEM;
	for (size_t i = 0; i < from->n_sample && !error; i++)
		error = read_sample(reader, from->sample[i]);
	for (size_t i = 0; i < from->n_comment && !error; i++)
		profile_add_comment(reader->profile, "%s", text(reader, from->comment[i]));
	return error;
}

// ---- The whole -----------------------------------------------------------------------------------------------------

static int read_message(const message *from, struct profile *profile)
{
	struct reader reader = {.from = from, .profile = profile};
	static int (*const steps[])(struct reader *) = {read_types, read_mappings, read_functions, read_locations,
							read_samples};
	int error = 0;

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]) && !error; i++) {
		error = steps[i](&reader);
		if (!error && reader.bad)
			error = -EINVAL;
		if (profile_failed(profile))
			error = -ENOMEM;
	}
	free(reader.mappings.list);
	free(reader.functions.list);
	free(reader.locations.list);
	free(reader.lines);
	free(reader.labels);
	free(reader.stack);
	return error;
}

static int parse(const void *data, size_t size, struct profile *profile)
{
	struct tree_memory memory = {.used = 0};
	ProtobufCAllocator allocator = {take, keep, &memory};
	message *from = perftools__profiles__profile__unpack(&allocator, size, data);
	int error = from ? read_message(from, profile) : memory.full ? -EFBIG : -EINVAL;

	arena_finish(&memory.arena);
	if (!error)
		name_gaps_read(profile);
	return error;
}

int pprof_read(const void *data, size_t size, struct profile **ret_profile)
{
	static const uint8_t gzip[] = {0x1f, 0x8b};
	bool packed = size >= sizeof(gzip) && memcmp(data, gzip, sizeof(gzip)) == 0;
	struct writer_memory memory = {.max = PPROF_READ_MAX_BYTES};
	struct profile *profile = profile_create();
	int error = profile ? 0 : -ENOMEM;

	if (!error && !packed && size > PPROF_READ_MAX_BYTES)
		error = -EFBIG;
	if (!error && packed)
		error = unpack(data, size, &memory);
	if (!error)
		error = parse(packed ? (const void *)memory.data : data, packed ? memory.size : size, profile);
	free(memory.data);
	if (error)
		profile_destroy(profile);
	else
		*ret_profile = profile;
	return error;
}
