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
// are scaled already, so they are taken back: n × s was rounded to the nearest whole number, and s ≥ 1, so n comes out as it was. Where it does not,
// the rate was another one when it was sampled; and what a program maps itself (label "mapped") was not sampled at all. Where there is such, the first
// line says rate 1, by which readers scale nothing, and all numbers stay as they are.

#include "formats/heap_text.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "formats/saturate.h"
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

// false: it was not sampled at this rate.
static bool take_back(double rate, struct entry *entry)
{
	double size = (double)size_of(entry->sample);
	double probability = rate > 1 && size > 0 ? -expm1(-size / rate) : 1;
	bool whole = rate <= 1 || !is_mapped(entry->sample);

	for (int i = 0; i < VALUES; i++) {
		double value = (double)entry->sample->values[i] * probability, nearest = floor(value + 0.5);

		// As far off as rounding what was scaled, or a part of it, can have made it.
		whole &= fabs(value - nearest) <= probability + 1e-9 * fabs(value);
		entry->values[i] = (int64_t)nearest;
	}
	return whole;
}

static bool take_all_back(const struct profile *profile, double rate, struct entry *entries)
{
	bool whole = true;

	for (uint32_t i = 0; i < profile->nsamples; i++) {
		entries[i].sample = &profile->samples[i];
		whole &= take_back(rate, &entries[i]);
	}
	return whole;
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
	int64_t sums[VALUES] = {0}, rate = profile->period;

	if (!entries)
		return -ENOMEM;
	if (profile->nsample_types != VALUES) {
		free(entries);
		return -EINVAL;
	}
	if (!take_all_back(profile, (double)rate, entries)) {
		rate = 1;
		take_all_back(profile, 1, entries);
	}
	for (uint32_t i = 0; i < profile->nsamples; i++)
		for (int k = 0; k < VALUES; k++)
			sums[k] = saturate_add(sums[k], entries[i].values[k]);
	qsort(entries, profile->nsamples, sizeof(*entries), by_bytes);
	writer_puts(writer, "heap profile: ");
	put_values(writer, sums);
	writer_printf(writer, " heap/%" PRIu64 "\n", 2 * (uint64_t)rate);
	for (uint32_t i = 0; i < profile->nsamples && !writer->error; i++)
		put_entry(writer, profile, &entries[i]);
	text_put_comments(writer, profile);
	free(entries);
	return writer_flush(writer);
}
