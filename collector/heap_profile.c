// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// heap_profile.c: see heap_profile.h.

#include "collector/heap_profile.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "collector/heap_comments.h"
#include "collector/store_profile.h"
#include "formats/profile.h"
#include "formats/saturate.h"

// ---- Values --------------------------------------------------------------------------------------------------------

// What one sampled object of so many bytes stands for.
static double scale(uint64_t objects, uint64_t bytes, uint64_t rate)
{
	double size = objects ? (double)bytes / (double)objects : 0;

	if (rate <= 1 || size <= 0)
		return 1;
	return -1 / expm1(-size / (double)rate);
}

static int64_t scaled(uint64_t raw, double factor)
{
	return (int64_t)fmin((double)raw * factor + 0.5, 9e18);
}

static uint64_t minus(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

// What was in use in an image that exec replaced is gone.
static void raw_values(const struct store_part *part, const struct store_bucket *bucket, uint64_t raw[HEAP_VALUES])
{
	const uint64_t *counts = bucket->counts;

	raw[HEAP_ALLOC_OBJECTS] = counts[WIRE_HEAP_ALLOC_OBJECTS];
	raw[HEAP_ALLOC_SPACE] = counts[WIRE_HEAP_ALLOC_BYTES];
	raw[HEAP_INUSE_OBJECTS] =
		part->source->replaced ? 0 : minus(counts[WIRE_HEAP_ALLOC_OBJECTS], counts[WIRE_HEAP_FREE_OBJECTS]);
	raw[HEAP_INUSE_SPACE] =
		part->source->replaced ? 0 : minus(counts[WIRE_HEAP_ALLOC_BYTES], counts[WIRE_HEAP_FREE_BYTES]);
}

// As raw_values, of one sample.
static void traced_values(const struct store_part *part, const struct store_traced *traced, uint64_t raw[HEAP_VALUES])
{
	bool in_use = traced->live && !part->source->replaced;

	raw[HEAP_ALLOC_OBJECTS] = traced->counts[WIRE_HEAP_ALLOC_OBJECTS];
	raw[HEAP_ALLOC_SPACE] = traced->counts[WIRE_HEAP_ALLOC_BYTES];
	raw[HEAP_INUSE_OBJECTS] = in_use ? raw[HEAP_ALLOC_OBJECTS] : 0;
	raw[HEAP_INUSE_SPACE] = in_use ? raw[HEAP_ALLOC_SPACE] : 0;
}

static void scaled_values(const struct store_part *part, const struct store_bucket *bucket, int64_t *values)
{
	uint64_t raw[HEAP_VALUES];
	double factor;

	raw_values(part, bucket, raw);
	factor = scale(raw[HEAP_ALLOC_OBJECTS], raw[HEAP_ALLOC_SPACE], bucket->rate);
	for (int i = 0; i < HEAP_VALUES; i++)
		values[i] = scaled(raw[i], factor);
}

void heap_reading_totals(const struct store_reading *reading, struct heap_totals *ret_totals)
{
	struct heap_totals totals = {.processes = (uint32_t)reading->sources.count, .error = reading->sources.error};

	for (size_t i = 0; i < reading->sources.count; i++) {
		const struct store_part *part = &reading->parts[i];
		uint64_t rate = part->live.rates.heap_bytes;

		if (rate && (!totals.rate || rate < totals.rate))
			totals.rate = rate;
		totals.unseen |= part->live.heap_unseen;
		totals.mapped |= part->live.rates.heap_mmap != 0;
		for (int k = 0; k < WIRE_STORE_LOST_COUNT; k++)
			totals.lost += part->live.lost[k];
		for (size_t k = 0; k < part->count; k++) {
			int64_t values[HEAP_VALUES];
			uint64_t raw[HEAP_VALUES];

			raw_values(part, &part->buckets[k], raw);
			scaled_values(part, &part->buckets[k], values);
			totals.sampled += raw[HEAP_ALLOC_OBJECTS];
			totals.in_use += raw[HEAP_INUSE_OBJECTS];
			for (int n = 0; n < HEAP_VALUES; n++)
				totals.values[n] = saturate_add(totals.values[n], values[n]);
		}
	}
	*ret_totals = totals;
}

// ---- Profiles ------------------------------------------------------------------------------------------------------

// The function that the program mapped it by; NULL: its allocator's.
static const char *mapped_by(const struct store_bucket *bucket)
{
	static const char *const names[] = {
		[WIRE_HEAP_BY_MMAP] = "mmap", [WIRE_HEAP_BY_MREMAP] = "mremap", [WIRE_HEAP_BY_MPROTECT] = "mprotect"};

	return names[WIRE_HEAP_BY(bucket->key)];
}

static int add_sample(struct store_profile *making, const struct store_part *part, const struct store_sample *sample)
{
	const char *by = mapped_by(sample->bucket);
	const struct profile_label labels[] = {
		{.key = "bytes", .num = (int64_t)WIRE_HEAP_BYTES(sample->bucket->key), .num_unit = "bytes"},
		{.key = "mapped", .str = by},
	};

	making->leaf = by;
	return store_profile_add(making, part, sample, labels, by ? 2 : 1);
}

static void describe(struct store_profile *builder, enum heap_value shown, uint64_t rate)
{
	static const struct profile_value_type types[HEAP_VALUES] = {
		[HEAP_ALLOC_OBJECTS] = {"alloc_objects", "count"},
		[HEAP_ALLOC_SPACE] = {"alloc_space", "bytes"},
		[HEAP_INUSE_OBJECTS] = {"inuse_objects", "count"},
		[HEAP_INUSE_SPACE] = {"inuse_space", "bytes"},
	};

	for (int i = 0; i < HEAP_VALUES; i++)
		profile_add_sample_type(builder->profile, types[i].type, types[i].unit);
	profile_set_period(builder->profile, "space", "bytes", (int64_t)rate);
	builder->profile->default_sample_type = types[shown].type;
	store_profile_add_main_mappings(builder);
}

static const struct store_profile_kind heap_kind = {scaled_values, raw_values, traced_values, add_sample};

static int begin(struct store_profile *builder, const struct store_reading *reading, enum heap_value shown,
		 struct heap_totals *ret_totals)
{
	if (!store_profile_begin(builder, reading))
		return -ENOMEM;
	heap_reading_totals(reading, ret_totals);
	store_profile_prepare_names(reading);
	describe(builder, shown, ret_totals->rate);
	return 0;
}

struct profile *heap_profile_make(const struct store_reading *reading, const struct heap_profile_options *options)
{
	struct heap_totals totals;
	struct store_profile builder;
	int r = begin(&builder, reading, options->shown, &totals);

	if (r == 0)
		r = store_profile_add_all(&builder, options->before, &heap_kind);
	if (r == 0) {
		builder.profile->time_ns = reading->time_ns;
		if (options->before)
			builder.profile->duration_ns = reading->now_ns - options->before->now_ns;
		heap_comments_add(builder.profile, &totals, options->command);
		heap_comments_add_truncated(builder.profile, builder.ntruncated, builder.nstacks);
		store_traces_comment(builder.profile, reading, options->before);
	}
	return store_profile_end(&builder, r);
}

// ---- Leaks ---------------------------------------------------------------------------------------------------------

struct leaks {
	const struct store_part *part;
	uint64_t (*old)[2]; // of each bucket of the part: objects, bytes
	uint64_t *entries;  // of each number of an entry: the address of its object, in use
	bool *only;         // likewise: the object is one of these
};

static void add_old(void *context, const struct store_object *object)
{
	struct leaks *leaks = context;
	const struct store_bucket *bucket = store_part_bucket(leaks->part, object->bucket);

	if (!bucket)
		return;
	leaks->old[bucket - leaks->part->buckets][0]++;
	leaks->old[bucket - leaks->part->buckets][1] += object->bytes;
	// Its entry may be another's by now.
	if (object->traced <= WIRE_TRACED && leaks->entries[object->traced] == object->address)
		leaks->only[object->traced] = true;
}

static void leak_counts(const struct store_part *part, const struct store_traced *traced, uint64_t raw[HEAP_VALUES])
{
	(void)part;
	raw[HEAP_ALLOC_OBJECTS] = raw[HEAP_INUSE_OBJECTS] = traced->counts[WIRE_HEAP_ALLOC_OBJECTS];
	raw[HEAP_ALLOC_SPACE] = raw[HEAP_INUSE_SPACE] = traced->counts[WIRE_HEAP_ALLOC_BYTES];
}

static int add_leaks(struct store_profile *builder, struct leaks *leaks, int64_t before_ns)
{
	const struct store_part *part = leaks->part;
	const struct store_profile_kind kind = {.traced_counts = leak_counts, .add = add_sample};
	const struct store_choice choice = {.only = leaks->only};
	int r = 0;

	for (size_t i = 0; i < part->ntraced; i++)
		if (part->traced[i].live)
			leaks->entries[part->traced[i].number] = part->traced[i].object;
	store_read_live_objects(part->source->store, before_ns, add_old, leaks);
	for (size_t i = 0; i < part->count && r == 0; i++) {
		const uint64_t *old = leaks->old[i];
		double factor = scale(old[0], old[1], part->buckets[i].rate);
		struct store_share shares[PROFILE_MAX_VALUES] = {0};

		for (int k = 0; k < HEAP_VALUES; k++) {
			uint64_t count = old[k == HEAP_ALLOC_SPACE || k == HEAP_INUSE_SPACE];
			int64_t value = scaled(count, factor);

			shares[k] = (struct store_share){.value = value,
							 .value_now = value,
							 .sampled = (int64_t)(count & INT64_MAX),
							 .sampled_now = count};
		}
		r = store_profile_add_bucket(builder, part, &part->buckets[i], &kind, &choice, shares);
	}
	return r;
}

static int find_leaks(struct store_profile *builder, const struct store_part *part, int64_t before_ns)
{
	struct leaks leaks = {part, calloc(part->count + 1, sizeof(*leaks.old)),
			      calloc(WIRE_TRACED + 1, sizeof(*leaks.entries)),
			      calloc(WIRE_TRACED + 1, sizeof(*leaks.only))};
	int r = leaks.old && leaks.entries && leaks.only ? add_leaks(builder, &leaks, before_ns) : -ENOMEM;

	free(leaks.old);
	free(leaks.entries);
	free(leaks.only);
	return r;
}

struct profile *heap_profile_make_leaks(const struct store_reading *reading, double older_than_s, const char *command)
{
	struct heap_totals totals;
	struct store_profile builder;
	int r = begin(&builder, reading, HEAP_INUSE_SPACE, &totals);

	for (size_t i = 0; i < reading->sources.count && r == 0; i++) {
		const struct store_part *part = &reading->parts[i];

		if (!part->source->replaced)
			r = find_leaks(&builder, part,
				       store_reading_end_of(reading, part) - (int64_t)(older_than_s * 1e9));
	}
	if (r == 0) {
		builder.profile->time_ns = reading->time_ns;
		heap_comments_add(builder.profile, &totals, command);
		profile_add_comment(builder.profile,
				    "leaks: in use at the end, and allocated more than %.1f s before it", older_than_s);
		store_traces_comment(builder.profile, reading, NULL);
	}
	return store_profile_end(&builder, r);
}
