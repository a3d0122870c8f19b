// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// heap_text.c: see heap_text.h.
//
//   heap profile: INUSE-OBJECTS: INUSE-BYTES [ALLOC-OBJECTS: ALLOC-BYTES] @ heap/2×RATE
//   INUSE-OBJECTS: INUSE-BYTES [ALLOC-OBJECTS: ALLOC-BYTES] @ 0xPC 0xPC…
//   #\t0xPC\tFUNCTION+0xOFFSET\tFILE:LINE
//
// The numbers are of sampled objects: readers scale them, by the rate in the first line (twice the rate, as Go writes it). Those of a profile
// are scaled already, so they are taken back: n × s was rounded to the nearest whole number, and s ≥ 1, so n comes out as it was. What a program
// maps itself (label "mapped") was not sampled, and stays as it is: no numbers would be scaled to it.

#include "formats/heap_text.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "formats/text_frames.h"

enum { ALLOC_OBJECTS, ALLOC_SPACE, INUSE_OBJECTS, INUSE_SPACE, VALUES };

struct entry {
	const struct profile_sample *sample;
	int64_t values[VALUES];
};

static int64_t size_of(const struct profile_sample *sample)
{
	for (uint32_t i = 0; i < sample->nlabels; i++)
		if (strcmp(sample->labels[i].key, "bytes") == 0)
			return sample->labels[i].num;
	return 0;
}

static bool is_mapped(const struct profile_sample *sample)
{
	for (uint32_t i = 0; i < sample->nlabels; i++)
		if (strcmp(sample->labels[i].key, "mapped") == 0)
			return true;
	return false;
}

static void take_back(const struct profile *profile, struct entry *entry)
{
	double size = (double)size_of(entry->sample), rate = (double)profile->period;
	double probability = rate > 1 && size > 0 && !is_mapped(entry->sample) ? -expm1(-size / rate) : 1;

	for (int i = 0; i < VALUES; i++)
		entry->values[i] = (int64_t)floor((double)entry->sample->values[i] * probability + 0.5);
}

static int by_bytes(const void *a, const void *b)
{
	const struct entry *left = a, *right = b;

	for (int i = VALUES; i-- > 0;)
		if (left->values[i] != right->values[i])
			return left->values[i] > right->values[i] ? -1 : 1;
	return (left->sample > right->sample) - (left->sample < right->sample);
}

static void put_values(struct writer *writer, const int64_t values[VALUES])
{
	writer_printf(writer, "%" PRId64 ": %" PRId64 " [%" PRId64 ": %" PRId64 "] @", values[INUSE_OBJECTS],
		      values[INUSE_SPACE], values[ALLOC_OBJECTS], values[ALLOC_SPACE]);
}

static void put_entry(struct writer *writer, const struct profile *profile, const struct entry *entry)
{
	const struct profile_sample *sample = entry->sample;

	put_values(writer, entry->values);
	// A return address is shown as the last byte of its call; who reads this takes one off again.
	for (uint32_t i = 0; i < sample->nlocations; i++)
		writer_printf(writer, " 0x%" PRIx64, profile->locations[sample->location_ids[i] - 1].address + 1);
	writer_puts(writer, "\n");
	for (uint32_t i = 0; i < sample->nlocations; i++)
		text_put_location(writer, profile, &profile->locations[sample->location_ids[i] - 1]);
	writer_puts(writer, "\n");
}

int heap_text_write(const struct profile *profile, struct writer *writer)
{
	struct entry *entries = calloc((size_t)profile->nsamples + 1, sizeof(*entries));
	int64_t sums[VALUES] = {0};

	if (!entries)
		return -ENOMEM;
	if (profile->nsample_types != VALUES) {
		free(entries);
		return -EINVAL;
	}
	for (uint32_t i = 0; i < profile->nsamples; i++) {
		entries[i].sample = &profile->samples[i];
		take_back(profile, &entries[i]);
		for (int k = 0; k < VALUES; k++)
			sums[k] += entries[i].values[k];
	}
	qsort(entries, profile->nsamples, sizeof(*entries), by_bytes);
	writer_puts(writer, "heap profile: ");
	put_values(writer, sums);
	writer_printf(writer, " heap/%" PRId64 "\n", 2 * profile->period);
	for (uint32_t i = 0; i < profile->nsamples && !writer->error; i++)
		put_entry(writer, profile, &entries[i]);
	text_put_comments(writer, profile);
	free(entries);
	return writer_flush(writer);
}
