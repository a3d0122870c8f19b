// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// store_traces.c: see store_traces.h.

#include "collector/store_traces.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "collector/store_profile.h"
#include "formats/profile.h"

// ---- Entries -------------------------------------------------------------------------------------------------------

static int by_bucket_and_trace(const void *left, const void *right)
{
	const struct store_traced *a = left, *b = right;

	if (a->bucket != b->bucket)
		return a->bucket < b->bucket ? -1 : 1;
	return memcmp(&a->trace, &b->trace, sizeof(a->trace)); // reserved bytes are 0
}

bool store_traced_are_alike(const struct store_traced *a, const struct store_traced *b)
{
	return by_bucket_and_trace(a, b) == 0;
}

int store_traces_begin(struct store_part *part)
{
	return store_read_traced(part->source->store, &part->traced, &part->ntraced);
}

void store_traces_end(struct store_part *part)
{
	size_t kept = 0;

	part->traced_next = store_traced_next(part->source->store);
	for (size_t i = 0; i < part->ntraced; i++)
		if (store_part_bucket(part, part->traced[i].bucket))
			part->traced[kept++] = part->traced[i];
	part->ntraced = kept;
	qsort(part->traced, kept, sizeof(*part->traced), by_bucket_and_trace);
}

size_t store_traces_find(const struct store_part *part, uint32_t bucket, const struct store_traced **ret_first)
{
	size_t low = 0, high = part->ntraced, count = 0;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (part->traced[middle].bucket < bucket)
			low = middle + 1;
		else
			high = middle;
	}
	*ret_first = part->traced + low;
	while (low + count < part->ntraced && part->traced[low + count].bucket == bucket)
		count++;
	return count;
}

// ---- Shares --------------------------------------------------------------------------------------------------------

uint64_t store_traces_add(uint64_t a, uint64_t b)
{
	uint64_t sum;

	return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

// What came since another reading has all samples that came since. But of what is in use some may be gone that was there before: then it is less than
// they, and theirs is a share of all there is. Entries that were read before their bucket may have been in use then, and may be no more.
int64_t store_share_take(struct store_share *share, uint64_t count)
{
	bool covers = share->value >= 0 && share->sampled >= 0 && (uint64_t)share->sampled >= share->traced;
	uint64_t base = (uint64_t)(covers ? share->value : share->value_now), of, upto;
	int64_t given = share->given;

	of = covers ? (uint64_t)share->sampled : share->sampled_now;
	if (of < share->traced)
		of = share->traced;
	share->taken = store_traces_add(share->taken, count);
	if (share->taken > of)
		share->taken = of;
	upto = of ? (uint64_t)((unsigned __int128)base * share->taken / of) : 0;
	share->given = (int64_t)upto;
	return share->given - given;
}

int64_t store_share_rest(const struct store_share *share)
{
	int64_t rest;

	if (!__builtin_sub_overflow(share->value, share->given, &rest))
		return rest;
	return INT64_MIN; // given is never negative
}

// ---- What was lost -------------------------------------------------------------------------------------------------

static uint64_t lost_of(const struct store_part *part, const struct store_part *before)
{
	if (!before)
		return part->live.traces_lost;
	// What less than a lap overwrote was there before.
	if (part->traced_next - before->traced_next <= WIRE_TRACED || part->live.traces_lost < before->live.traces_lost)
		return 0;
	return part->live.traces_lost - before->live.traces_lost;
}

void store_traces_comment(struct profile *profile, const struct store_reading *reading,
			  const struct store_reading *before)
{
	uint64_t lost = 0;

	for (size_t i = 0; i < reading->sources.count; i++)
		lost += lost_of(&reading->parts[i], store_reading_part(before, &reading->parts[i]));
	if (lost)
		profile_add_comment(profile,
				    "%" PRIu64 " samples' traces were not kept: a process has room for the last %u",
				    lost, WIRE_TRACED);
}
