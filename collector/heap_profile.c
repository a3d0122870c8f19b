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
#include <time.h>

#include "collector/heap_comments.h"
#include "collector/jit_names.h"
#include "collector/mapping.h"
#include "collector/name_wants.h"
#include "collector/profile_builder.h"
#include "collector/store.h"
#include "collector/store_source.h"
#include "formats/profile.h"

struct part {
	const struct store_source *source;
	struct store_bucket *buckets; // by number
	size_t count;
	struct store_live live;
};

struct heap_reading {
	struct store_sources sources;
	struct part *parts; // of sources
	int64_t time_ns, now_ns;
};

static int64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

// ---- Readings ------------------------------------------------------------------------------------------------------

int heap_reading_take(struct collector *collector, pid_t pid, struct heap_reading **ret_reading)
{
	struct heap_reading *reading = calloc(1, sizeof(*reading));
	int r = reading ? collector_stores(collector, pid, &reading->sources) : -ENOMEM;

	if (r == 0) {
		reading->parts = calloc(reading->sources.count + 1, sizeof(*reading->parts));
		r = reading->parts ? 0 : -ENOMEM;
	}
	for (size_t i = 0; r == 0 && i < reading->sources.count; i++) {
		struct part *part = &reading->parts[i];

		part->source = reading->sources.list[i];
		store_read_live(part->source->store, &part->live);
		r = store_read_buckets(part->source->store, WIRE_BUCKET_HEAP, &part->buckets, &part->count);
	}
	if (r < 0) {
		heap_reading_destroy(reading);
		return r;
	}
	reading->time_ns = clock_ns(CLOCK_REALTIME);
	reading->now_ns = clock_ns(CLOCK_MONOTONIC);
	*ret_reading = reading;
	return 0;
}

void heap_reading_destroy(struct heap_reading *reading)
{
	if (!reading)
		return;
	for (size_t i = 0; reading->parts && i < reading->sources.count; i++)
		free(reading->parts[i].buckets);
	free(reading->parts);
	store_sources_finish(&reading->sources);
	free(reading);
}

static int64_t end_of(const struct heap_reading *reading, const struct part *part)
{
	return part->source->ended_ns ? part->source->ended_ns : reading->now_ns;
}

double heap_reading_seconds(const struct heap_reading *reading)
{
	int64_t first = INT64_MAX, last = 0;

	for (size_t i = 0; i < reading->sources.count; i++) {
		const struct part *part = &reading->parts[i];

		if ((int64_t)part->live.start_ns < first)
			first = (int64_t)part->live.start_ns;
		if (end_of(reading, part) > last)
			last = end_of(reading, part);
	}
	return last > first ? (double)(last - first) / 1e9 : 0;
}

// ---- Values --------------------------------------------------------------------------------------------------------

// What one sampled object of so many bytes stands for.
static double scale(uint64_t objects, uint64_t bytes, uint64_t rate)
{
	double size = objects ? (double)bytes / (double)objects : 0;

	if (rate <= 1 || size <= 0)
		return 1;
	return -1 / expm1(-size / (double)rate);
}

static uint64_t minus(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

// What was in use in an image that exec replaced is gone.
static void raw_values(const struct part *part, const struct store_bucket *bucket, uint64_t raw[HEAP_VALUES])
{
	const uint64_t *counts = bucket->counts;

	raw[HEAP_ALLOC_OBJECTS] = counts[WIRE_HEAP_ALLOC_OBJECTS];
	raw[HEAP_ALLOC_SPACE] = counts[WIRE_HEAP_ALLOC_BYTES];
	raw[HEAP_INUSE_OBJECTS] =
		part->source->replaced ? 0 : minus(counts[WIRE_HEAP_ALLOC_OBJECTS], counts[WIRE_HEAP_FREE_OBJECTS]);
	raw[HEAP_INUSE_SPACE] =
		part->source->replaced ? 0 : minus(counts[WIRE_HEAP_ALLOC_BYTES], counts[WIRE_HEAP_FREE_BYTES]);
}

static void scaled_values(const struct part *part, const struct store_bucket *bucket, int64_t values[HEAP_VALUES])
{
	uint64_t raw[HEAP_VALUES];
	double factor;

	raw_values(part, bucket, raw);
	factor = scale(raw[HEAP_ALLOC_OBJECTS], raw[HEAP_ALLOC_SPACE], bucket->rate);
	for (int i = 0; i < HEAP_VALUES; i++)
		values[i] = (int64_t)fmin((double)raw[i] * factor + 0.5, 9e18);
}

void heap_reading_totals(const struct heap_reading *reading, struct heap_totals *ret_totals)
{
	struct heap_totals totals = {.processes = (uint32_t)reading->sources.count, .error = reading->sources.error};

	for (size_t i = 0; i < reading->sources.count; i++) {
		const struct part *part = &reading->parts[i];
		uint64_t rate = part->live.rates.heap_bytes;

		if (rate && (!totals.rate || rate < totals.rate))
			totals.rate = rate;
		totals.unseen |= part->live.heap_unseen;
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
				totals.values[n] += values[n];
		}
	}
	*ret_totals = totals;
}

static const struct part *same_part(const struct heap_reading *reading, const struct part *part)
{
	for (size_t i = 0; reading && i < reading->sources.count; i++)
		if (reading->parts[i].source->store == part->source->store)
			return &reading->parts[i];
	return NULL;
}

static int by_number(const void *a, const void *b)
{
	uint32_t left = ((const struct store_bucket *)a)->number, right = ((const struct store_bucket *)b)->number;

	return (left > right) - (left < right);
}

static const struct store_bucket *same_bucket(const struct part *part, uint32_t number)
{
	const struct store_bucket key = {.number = number};

	return part && part->count ? bsearch(&key, part->buckets, part->count, sizeof(key), by_number) : NULL;
}

// ---- Profiles ------------------------------------------------------------------------------------------------------

struct builder {
	const struct heap_reading *reading;
	struct profile *profile;
	struct profile_builder frames;
	struct jit_names **jit_names; // of each part
	bool *jit_loaded;
	uint64_t nstacks, ntruncated; // sampled objects by whether their stack is whole
};

static const struct jit_names *get_jit_names(void *context, uint32_t number)
{
	struct builder *builder = context;
	const struct store_source *source = builder->reading->parts[number].source;

	if (!builder->jit_loaded[number]) {
		builder->jit_loaded[number] = true;
		builder->jit_names[number] = jit_names_load(source->pid, source->uid, source->jitdump_fd);
	}
	return builder->jit_names[number];
}

static struct mapping *find_mapping(const struct part *part, uint64_t pc)
{
	uint64_t address = pc & ~WIRE_PC_EXACT;

	return store_source_find(part->source, pc & WIRE_PC_EXACT || address == 0 ? address : address - 1);
}

// Location ids, the agent's own frames left out unless there are no others. 0: the stack makes no sense, or no memory.
static uint32_t name_stack(struct builder *builder, const struct part *part, uint32_t stack,
			   uint32_t ids[WIRE_STORE_FRAMES], uint8_t *ret_stop)
{
	uint64_t pcs[WIRE_STORE_FRAMES];
	uint32_t npcs = store_read_stack(part->source->store, stack, pcs, ret_stop), n = 0;

	for (int whole = 0; whole < 2 && n == 0; whole++) {
		for (uint32_t i = 0; i < npcs; i++) {
			const struct mapping *mapping = find_mapping(part, pcs[i]);

			if (mapping && mapping->agent && !whole)
				continue;
			ids[n] = profile_builder_location(&builder->frames, (uint32_t)(part - builder->reading->parts),
							  mapping, pcs[i]);
			if (ids[n++] == 0)
				return 0;
		}
	}
	return n;
}

static int add_sample(struct builder *builder, const struct part *part, const struct store_bucket *bucket,
		      const int64_t values[HEAP_VALUES])
{
	struct profile_label labels[2] = {{.key = "bytes", .num = (int64_t)bucket->key, .num_unit = "bytes"}};
	uint32_t ids[WIRE_STORE_FRAMES], nlabels = 1, n;
	uint64_t objects = bucket->counts[WIRE_HEAP_ALLOC_OBJECTS];
	uint8_t stop;

	n = name_stack(builder, part, bucket->stack, ids, &stop);
	if (n == 0)
		return profile_failed(builder->profile) ? -ENOMEM : 0;
	if (builder->reading->sources.count > 1)
		labels[nlabels++] =
			(struct profile_label){.key = "process_id", .num = part->source->pid, .num_unit = ""};
	builder->nstacks += objects;
	builder->ntruncated += stop == WIRE_STOP_END ? 0 : objects;
	return profile_add_sample(builder->profile, ids, n, labels, nlabels, values);
}

static void prepare_names(const struct heap_reading *reading)
{
	struct name_wants wants = {0};
	uint64_t pcs[WIRE_STORE_FRAMES];
	uint8_t stop;

	for (size_t i = 0; i < reading->sources.count; i++) {
		const struct part *part = &reading->parts[i];

		for (size_t k = 0; k < part->count; k++) {
			uint32_t npcs = store_read_stack(part->source->store, part->buckets[k].stack, pcs, &stop);

			for (uint32_t n = 0; n < npcs; n++)
				name_wants_add(&wants, find_mapping(part, pcs[n]), pcs[n]);
		}
	}
	name_wants_prepare(&wants);
}

static void describe(struct builder *builder, enum heap_value shown, uint64_t rate)
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
	for (size_t i = 0; i < builder->reading->sources.count; i++)
		if (builder->reading->parts[i].source->main_mapping)
			profile_builder_mapping(&builder->frames, builder->reading->parts[i].source->main_mapping);
}

static int begin(struct builder *builder, const struct heap_reading *reading, enum heap_value shown,
		 struct heap_totals *ret_totals)
{
	*builder = (struct builder){.reading = reading, .profile = profile_create()};
	builder->jit_names = calloc(reading->sources.count + 1, sizeof(*builder->jit_names));
	builder->jit_loaded = calloc(reading->sources.count + 1, sizeof(*builder->jit_loaded));
	profile_builder_init(&builder->frames, builder->profile);
	builder->frames.jit_names = get_jit_names;
	builder->frames.context = builder;
	if (!builder->profile || !builder->jit_names || !builder->jit_loaded)
		return -ENOMEM;
	heap_reading_totals(reading, ret_totals);
	prepare_names(reading);
	describe(builder, shown, ret_totals->rate);
	return 0;
}

static struct profile *end(struct builder *builder, int r)
{
	struct profile *profile = builder->profile;

	for (size_t i = 0; builder->jit_names && i < builder->reading->sources.count; i++)
		jit_names_destroy(builder->jit_names[i]);
	free(builder->jit_names);
	free(builder->jit_loaded);
	profile_builder_finish(&builder->frames);
	if (r == 0 && !profile_failed(profile))
		return profile;
	profile_destroy(profile);
	return NULL;
}

static int add_part(struct builder *builder, const struct part *part, const struct part *before)
{
	int r = 0;

	for (size_t i = 0; i < part->count && r == 0; i++) {
		const struct store_bucket *bucket = &part->buckets[i], *old = same_bucket(before, bucket->number);
		int64_t values[HEAP_VALUES], old_values[HEAP_VALUES] = {0};
		bool any = false;

		scaled_values(part, bucket, values);
		if (old)
			scaled_values(part, old, old_values);
		for (int k = 0; k < HEAP_VALUES; k++) {
			values[k] -= old_values[k];
			any |= values[k] != 0;
		}
		if (any)
			r = add_sample(builder, part, bucket, values);
	}
	return r;
}

struct profile *heap_profile_make(const struct heap_reading *reading, const struct heap_profile_options *options)
{
	struct heap_totals totals;
	struct builder builder;
	int r = begin(&builder, reading, options->shown, &totals);

	for (size_t i = 0; i < reading->sources.count && r == 0; i++)
		r = add_part(&builder, &reading->parts[i], same_part(options->before, &reading->parts[i]));
	if (r == 0) {
		builder.profile->time_ns = reading->time_ns;
		if (options->before)
			builder.profile->duration_ns = reading->now_ns - options->before->now_ns;
		heap_comments_add(builder.profile, &totals, options->command);
		heap_comments_add_truncated(builder.profile, builder.ntruncated, builder.nstacks);
	}
	return end(&builder, r);
}

// ---- Leaks ---------------------------------------------------------------------------------------------------------

struct leaks {
	const struct part *part;
	uint64_t (*old)[2]; // of each bucket of the part: objects, bytes
};

static void add_old(void *context, uint32_t number, uint64_t bytes)
{
	struct leaks *leaks = context;
	const struct store_bucket *bucket = same_bucket(leaks->part, number);

	if (!bucket)
		return;
	leaks->old[bucket - leaks->part->buckets][0]++;
	leaks->old[bucket - leaks->part->buckets][1] += bytes;
}

static int add_leaks(struct builder *builder, const struct part *part, int64_t before_ns)
{
	struct leaks leaks = {part, calloc(part->count + 1, sizeof(*leaks.old))};
	int r = 0;

	if (!leaks.old)
		return -ENOMEM;
	store_read_live_objects(part->source->store, before_ns, add_old, &leaks);
	for (size_t i = 0; i < part->count && r == 0; i++) {
		double factor = scale(leaks.old[i][0], leaks.old[i][1], part->buckets[i].rate);
		const int64_t values[HEAP_VALUES] = {(int64_t)((double)leaks.old[i][0] * factor + 0.5),
						     (int64_t)fmin((double)leaks.old[i][1] * factor + 0.5, 9e18),
						     (int64_t)((double)leaks.old[i][0] * factor + 0.5),
						     (int64_t)fmin((double)leaks.old[i][1] * factor + 0.5, 9e18)};

		if (leaks.old[i][0])
			r = add_sample(builder, part, &part->buckets[i], values);
	}
	free(leaks.old);
	return r;
}

struct profile *heap_profile_make_leaks(const struct heap_reading *reading, double older_than_s, const char *command)
{
	struct heap_totals totals;
	struct builder builder;
	int r = begin(&builder, reading, HEAP_INUSE_SPACE, &totals);

	for (size_t i = 0; i < reading->sources.count && r == 0; i++) {
		const struct part *part = &reading->parts[i];

		if (!part->source->replaced)
			r = add_leaks(&builder, part, end_of(reading, part) - (int64_t)(older_than_s * 1e9));
	}
	if (r == 0) {
		builder.profile->time_ns = reading->time_ns;
		heap_comments_add(builder.profile, &totals, command);
		profile_add_comment(builder.profile,
				    "leaks: in use at the end, and allocated more than %.1f s before it", older_than_s);
	}
	return end(&builder, r);
}
