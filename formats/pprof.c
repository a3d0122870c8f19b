// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// pprof.c: the gzipped protobuf of github.com/google/pprof (profile.proto), through protobuf-c.
//
// A protobuf message may be written in pieces: the pieces' encodings, one after the other, are the encoding of the whole
// (repeated fields are appended). So each sample, location… goes out as a Profile of its own that holds nothing else, and
// no second copy of the profile is ever in memory. The string table is written last: only then is it complete.
//
//   sample_type… │ sample… │ mapping… │ location… │ function… │ the single fields and comments │ string_table…
//
// Runs wherever a format is written; no state of its own.

#include "formats/grow.h"
#include "formats/lookup.h"
#include "formats/profile.h"
#include "formats/utf8.h"
#include "formats/writer.h"
#include "pprof.pb-c.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#define GZIP_WINDOW_BITS (15 + 16) // + 16: with gzip's header and trailer

struct pprof {
	struct writer *writer;
	z_stream zlib;
	int error; // the first −errno

	struct lookup lookup; // of strings
	const char **strings; // strings[i] has the id i + 1; the profile's own text. Id 0 is "".
	uint32_t nstrings, strings_capacity;

	// Scratch: one encoded piece; what one sample or location points to.
	uint8_t *packed;
	uint64_t *ids;
	Perftools__Profiles__Label *labels;
	Perftools__Profiles__Line *lines;
	void **pointers;
	uint32_t packed_capacity, ids_capacity, labels_capacity, lines_capacity, pointers_capacity;
	uint8_t compressed[16384];
};

static bool fail(struct pprof *pprof, int error)
{
	if (!pprof->error)
		pprof->error = error;
	return false;
}

// Gives pprof->array room for `needed` items; false when out of memory.
#define RESERVE(pprof, array, needed)                                                                 \
	({                                                                                            \
		void *grown_ = grow_array((void *)(pprof)->array, &(pprof)->array##_capacity, needed, \
					  sizeof(*(pprof)->array));                                   \
		if (grown_)                                                                           \
			(pprof)->array = grown_;                                                      \
		grown_ ? true : fail(pprof, -ENOMEM);                                                 \
	})

// ---- Bytes ---------------------------------------------------------------------------------------------------------

// Until zlib has nothing more to say: for Z_NO_FLUSH all input is taken, for Z_FINISH the stream ends.
static void compress_bytes(struct pprof *pprof, const uint8_t *data, size_t size, int flush)
{
	pprof->zlib.next_in = (uint8_t *)data; // read only; zlib's type has no const
	pprof->zlib.avail_in = (uInt)size;     // pieces are smaller than GROW_MAX
	do {
		pprof->zlib.next_out = pprof->compressed;
		pprof->zlib.avail_out = sizeof(pprof->compressed);
		if (deflate(&pprof->zlib, flush) == Z_STREAM_ERROR)
			fail(pprof, -EIO);
		writer_put(pprof->writer, pprof->compressed, sizeof(pprof->compressed) - pprof->zlib.avail_out);
	} while (pprof->zlib.avail_out == 0 && !pprof->error);
	if (pprof->writer->error)
		fail(pprof, pprof->writer->error);
}

static void put_piece(struct pprof *pprof, const Perftools__Profiles__Profile *piece)
{
	if (pprof->error)
		return;
	size_t size = perftools__profiles__profile__get_packed_size(piece);
	if (!RESERVE(pprof, packed, size))
		return;
	perftools__profiles__profile__pack(piece, pprof->packed);
	compress_bytes(pprof, pprof->packed, size, Z_NO_FLUSH);
}

// ---- Strings -------------------------------------------------------------------------------------------------------

static bool string_equal(const void *context, uint32_t id, const void *key)
{
	return strcmp(((const struct pprof *)context)->strings[id - 1], key) == 0;
}

static int64_t string_id(struct pprof *pprof, const char *s)
{
	if (!s || !s[0])
		return 0;
	uint32_t hash = lookup_hash(&pprof->lookup, s, strlen(s));
	uint32_t id = lookup_find(&pprof->lookup, hash, string_equal, pprof, s);
	if (id || pprof->error)
		return id;
	if (!RESERVE(pprof, strings, (size_t)pprof->nstrings + 1))
		return 0;
	if (lookup_reserve(&pprof->lookup)) {
		fail(pprof, -ENOMEM);
		return 0;
	}
	pprof->strings[pprof->nstrings++] = s;
	lookup_insert(&pprof->lookup, hash, pprof->nstrings);
	return pprof->nstrings;
}

static void put_string(struct pprof *pprof, char *s)
{
	Perftools__Profiles__Profile piece = PERFTOOLS__PROFILES__PROFILE__INIT;
	piece.n_string_table = 1;
	piece.string_table = &s;
	put_piece(pprof, &piece);
}

// Protobuf's strings are UTF-8; several readers refuse a profile for one that is not.
static void put_repaired(struct pprof *pprof, const char *s)
{
	char *repaired = malloc(utf8_repaired_size(s) + 1);
	if (repaired) {
		utf8_repair(repaired, s);
		put_string(pprof, repaired);
	} else {
		fail(pprof, -ENOMEM);
	}
	free(repaired);
}

static void put_strings(struct pprof *pprof)
{
	char empty[] = "";
	put_string(pprof, empty);
	for (uint32_t i = 0; i < pprof->nstrings && !pprof->error; i++) {
		if (utf8_is_valid(pprof->strings[i]))
			put_string(pprof, (char *)pprof->strings[i]); // read only; protobuf-c's type has no const
		else
			put_repaired(pprof, pprof->strings[i]);
	}
}

// ---- Samples -------------------------------------------------------------------------------------------------------

static Perftools__Profiles__ValueType value_type(struct pprof *pprof, const struct profile_value_type *type)
{
	Perftools__Profiles__ValueType result = PERFTOOLS__PROFILES__VALUE_TYPE__INIT;
	result.type = string_id(pprof, type->type);
	result.unit = string_id(pprof, type->unit);
	return result;
}

static void put_sample_type(struct pprof *pprof, const struct profile_value_type *type)
{
	Perftools__Profiles__Profile piece = PERFTOOLS__PROFILES__PROFILE__INIT;
	Perftools__Profiles__ValueType message = value_type(pprof, type);
	Perftools__Profiles__ValueType *pointer = &message;
	piece.n_sample_type = 1;
	piece.sample_type = &pointer;
	put_piece(pprof, &piece);
}

// Fills pprof->labels and pointers; returns how many. A label whose text is empty would be read as the number 0.
static size_t fill_labels(struct pprof *pprof, const struct profile_sample *sample)
{
	size_t count = 0;
	if (!RESERVE(pprof, labels, sample->nlabels) || !RESERVE(pprof, pointers, sample->nlabels))
		return 0;
	for (uint32_t i = 0; i < sample->nlabels; i++) {
		const struct profile_label *label = &sample->labels[i];
		Perftools__Profiles__Label *message = &pprof->labels[count];
		if (label->str && !label->str[0])
			continue;
		perftools__profiles__label__init(message);
		message->key = string_id(pprof, label->key);
		message->str = string_id(pprof, label->str);
		message->num = label->str ? 0 : label->num;
		message->num_unit = label->str ? 0 : string_id(pprof, label->num_unit);
		pprof->pointers[count++] = message;
	}
	return count;
}

static void put_sample(struct pprof *pprof, const struct profile *profile, const struct profile_sample *sample)
{
	Perftools__Profiles__Profile piece = PERFTOOLS__PROFILES__PROFILE__INIT;
	Perftools__Profiles__Sample message = PERFTOOLS__PROFILES__SAMPLE__INIT;
	Perftools__Profiles__Sample *pointer = &message;
	int64_t values[PROFILE_MAX_VALUES];
	if (!RESERVE(pprof, ids, sample->nlocations))
		return;
	for (uint32_t i = 0; i < sample->nlocations; i++)
		pprof->ids[i] = sample->location_ids[i];
	memcpy(values, sample->values, sizeof(values));
	message.n_location_id = sample->nlocations;
	message.location_id = pprof->ids;
	message.n_value = profile->nsample_types;
	message.value = values;
	message.n_label = fill_labels(pprof, sample);
	message.label = (Perftools__Profiles__Label **)pprof->pointers;
	piece.n_sample = 1;
	piece.sample = &pointer;
	put_piece(pprof, &piece);
}

// ---- Where the samples are -----------------------------------------------------------------------------------------

static void put_mapping(struct pprof *pprof, const struct profile_mapping *mapping, uint32_t id)
{
	Perftools__Profiles__Profile piece = PERFTOOLS__PROFILES__PROFILE__INIT;
	Perftools__Profiles__Mapping message = PERFTOOLS__PROFILES__MAPPING__INIT;
	Perftools__Profiles__Mapping *pointer = &message;
	message.id = id;
	message.memory_start = mapping->start;
	message.memory_limit = mapping->limit;
	message.file_offset = mapping->file_offset;
	message.filename = string_id(pprof, mapping->file);
	message.build_id = string_id(pprof, mapping->build_id);
	message.has_functions = mapping->has_functions;
	message.has_filenames = mapping->has_filenames;
	message.has_line_numbers = mapping->has_line_numbers;
	message.has_inline_frames = mapping->has_inline_frames;
	piece.n_mapping = 1;
	piece.mapping = &pointer;
	put_piece(pprof, &piece);
}

static void put_location(struct pprof *pprof, const struct profile_location *location, uint32_t id)
{
	Perftools__Profiles__Profile piece = PERFTOOLS__PROFILES__PROFILE__INIT;
	Perftools__Profiles__Location message = PERFTOOLS__PROFILES__LOCATION__INIT;
	Perftools__Profiles__Location *pointer = &message;
	if (!RESERVE(pprof, lines, location->nlines) || !RESERVE(pprof, pointers, location->nlines))
		return;
	for (uint32_t i = 0; i < location->nlines; i++) {
		perftools__profiles__line__init(&pprof->lines[i]);
		pprof->lines[i].function_id = location->lines[i].function_id;
		pprof->lines[i].line = location->lines[i].line;
		pprof->pointers[i] = &pprof->lines[i];
	}
	message.id = id;
	message.mapping_id = location->mapping_id;
	message.address = location->address;
	message.n_line = location->nlines;
	message.line = (Perftools__Profiles__Line **)pprof->pointers;
	piece.n_location = 1;
	piece.location = &pointer;
	put_piece(pprof, &piece);
}

static void put_function(struct pprof *pprof, const struct profile_function *function, uint32_t id)
{
	Perftools__Profiles__Profile piece = PERFTOOLS__PROFILES__PROFILE__INIT;
	Perftools__Profiles__Function message = PERFTOOLS__PROFILES__FUNCTION__INIT;
	Perftools__Profiles__Function *pointer = &message;
	message.id = id;
	message.name = string_id(pprof, function->name);
	message.system_name = string_id(pprof, function->system_name);
	message.filename = string_id(pprof, function->file);
	message.start_line = function->start_line;
	piece.n_function = 1;
	piece.function = &pointer;
	put_piece(pprof, &piece);
}

// ---- The whole -----------------------------------------------------------------------------------------------------

static void put_comment(struct pprof *pprof, const char *comment)
{
	Perftools__Profiles__Profile piece = PERFTOOLS__PROFILES__PROFILE__INIT;
	int64_t id = string_id(pprof, comment);
	piece.n_comment = 1;
	piece.comment = &id;
	put_piece(pprof, &piece);
}

static void put_single_fields(struct pprof *pprof, const struct profile *profile)
{
	Perftools__Profiles__Profile piece = PERFTOOLS__PROFILES__PROFILE__INIT;
	Perftools__Profiles__ValueType period_type = value_type(pprof, &profile->period_type);
	piece.period_type = &period_type;
	piece.period = profile->period;
	piece.time_nanos = profile->time_ns;
	piece.duration_nanos = profile->duration_ns;
	piece.default_sample_type = string_id(pprof, profile->default_sample_type);
	put_piece(pprof, &piece);
}

static void put_profile(struct pprof *pprof, const struct profile *profile)
{
	for (uint32_t i = 0; i < profile->nsample_types; i++)
		put_sample_type(pprof, &profile->sample_types[i]);
	for (uint32_t i = 0; i < profile->nsamples && !pprof->error; i++)
		put_sample(pprof, profile, &profile->samples[i]);
	for (uint32_t i = 0; i < profile->nmappings && !pprof->error; i++)
		put_mapping(pprof, &profile->mappings[i], i + 1);
	for (uint32_t i = 0; i < profile->nlocations && !pprof->error; i++)
		put_location(pprof, &profile->locations[i], i + 1);
	for (uint32_t i = 0; i < profile->nfunctions && !pprof->error; i++)
		put_function(pprof, &profile->functions[i], i + 1);
	put_single_fields(pprof, profile);
	for (uint32_t i = 0; i < profile->ncomments; i++)
		put_comment(pprof, profile->comments[i]);
	put_strings(pprof);
}

static void pprof_finish(struct pprof *pprof)
{
	deflateEnd(&pprof->zlib);
	lookup_finish(&pprof->lookup);
	free((void *)pprof->strings);
	free(pprof->packed);
	free(pprof->ids);
	free(pprof->labels);
	free(pprof->lines);
	free((void *)pprof->pointers);
}

static int pprof_write(const struct profile *profile, const struct format_options *options, struct writer *writer)
{
	struct pprof pprof = {.writer = writer};
	if (deflateInit2(&pprof.zlib, Z_DEFAULT_COMPRESSION, Z_DEFLATED, GZIP_WINDOW_BITS, 8, Z_DEFAULT_STRATEGY) !=
	    Z_OK)
		return -ENOMEM;
	lookup_init(&pprof.lookup);
	put_profile(&pprof, profile);
	if (!pprof.error)
		compress_bytes(&pprof, NULL, 0, Z_FINISH);
	pprof_finish(&pprof);
	int flushed = writer_flush(writer);
	return pprof.error ? pprof.error : flushed;
}

const struct format format_pprof = {
	.name = "pprof",
	.extension = ".pb.gz",
	.content_type = "application/octet-stream",
	.write = pprof_write,
};
