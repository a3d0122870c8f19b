// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// wait_profile.c: see wait_profile.h. Labels of a sample: `wait`, the kind; `lock`, the address of what was waited for; `lock_name`, the
// variable at that address, where it is one; `object`, the file or socket that was waited for.

#include "collector/wait_profile.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/intern.h"
#include "collector/store_profile.h"
#include "formats/profile.h"
#include "formats/saturate.h"

#define NAME_MAX_BYTES 256

static const char *const kind_names[WIRE_WAIT_COUNT] = {
	[WIRE_WAIT_MUTEX] = "mutex",         [WIRE_WAIT_READ_LOCK] = "read lock", [WIRE_WAIT_WRITE_LOCK] = "write lock",
	[WIRE_WAIT_SPIN] = "spin lock",      [WIRE_WAIT_COND] = "condition",      [WIRE_WAIT_SEMAPHORE] = "semaphore",
	[WIRE_WAIT_BARRIER] = "barrier",     [WIRE_WAIT_JOIN] = "join",           [WIRE_WAIT_FUTEX] = "futex",
	[WIRE_WAIT_READ] = "read",           [WIRE_WAIT_WRITE] = "write",         [WIRE_WAIT_SYNC] = "sync",
	[WIRE_WAIT_FILE_LOCK] = "file lock", [WIRE_WAIT_CONNECT] = "connect",     [WIRE_WAIT_ACCEPT] = "accept",
	[WIRE_WAIT_RECEIVE] = "receive",     [WIRE_WAIT_SEND] = "send",           [WIRE_WAIT_POLL] = "poll",
	[WIRE_WAIT_SELECT] = "select",       [WIRE_WAIT_EPOLL] = "epoll",         [WIRE_WAIT_SLEEP] = "sleep",
	[WIRE_WAIT_CHILD] = "child",
};

// What an address of a process is called; asked for once.
struct object {
	uint64_t part, address; // the key
	const char *name;       // the profile's; NULL: not known
};

struct making {
	struct store_profile store; // first: what adds a sample gets this
	struct intern objects;
	struct store_part *descriptors; // of each part: what descriptors were
};

// ---- Values --------------------------------------------------------------------------------------------------------

static int64_t limit(uint64_t value)
{
	return value < INT64_MAX ? (int64_t)value : INT64_MAX;
}

static void wait_values(const struct store_part *part, const struct store_bucket *bucket, int64_t *ret_values)
{
	(void)part;
	ret_values[WAIT_CONTENTIONS] =
		limit((bucket->counts[WIRE_WAIT_CONTENTIONS] + WIRE_WAIT_PARTS / 2) / WIRE_WAIT_PARTS);
	ret_values[WAIT_DELAY] = limit(bucket->counts[WIRE_WAIT_DELAY_NS]);
}

static void wait_counts(const struct store_part *part, const struct store_bucket *bucket, uint64_t *ret_counts)
{
	(void)part;
	ret_counts[WAIT_CONTENTIONS] = bucket->counts[WIRE_WAIT_CONTENTIONS];
	ret_counts[WAIT_DELAY] = bucket->counts[WIRE_WAIT_DELAY_NS];
}

static void traced_counts(const struct store_part *part, const struct store_traced *traced, uint64_t *ret_counts)
{
	(void)part;
	ret_counts[WAIT_CONTENTIONS] = traced->counts[WIRE_WAIT_CONTENTIONS];
	ret_counts[WAIT_DELAY] = traced->counts[WIRE_WAIT_DELAY_NS];
}

void wait_reading_totals(const struct store_reading *reading, enum wire_bucket_kind kind,
			 struct wait_totals *ret_totals)
{
	struct wait_totals totals = {.processes = (uint32_t)reading->sources.count};

	for (size_t i = 0; i < reading->sources.count; i++) {
		const struct store_part *part = &reading->parts[i];
		uint64_t rate = kind == WIRE_BUCKET_MUTEX ? part->live.rates.mutex : part->live.rates.block;

		if (rate && (!totals.rate || rate < totals.rate))
			totals.rate = rate;
		for (int k = 0; k < WIRE_STORE_LOST_COUNT; k++)
			totals.lost += part->live.lost[k];
		for (size_t k = 0; k < part->count; k++) {
			int64_t values[WAIT_VALUES];

			wait_values(part, &part->buckets[k], values);
			for (int n = 0; n < WAIT_VALUES; n++)
				totals.values[n] = saturate_add(totals.values[n], values[n]);
		}
	}
	*ret_totals = totals;
}

// ---- Samples -------------------------------------------------------------------------------------------------------

// NULL: not known.
static const char *name_object(struct making *making, const struct store_part *part, uint64_t address)
{
	const uint64_t key[2] = {(uint64_t)(part - making->store.reading->parts), address};
	char name[NAME_MAX_BYTES];
	struct object *object;
	bool new;
	uint32_t index = intern_add(&making->objects, key, &new);

	if (index == INTERN_NONE)
		return NULL;
	object = intern_item(&making->objects, index);
	if (new &&store_source_variable(part->source, address, name, sizeof(name)))
		object->name = profile_string(making->store.profile, name);
	return object->name;
}

// What a descriptor was: text in the place of a stack. Nobody vouches for it: the formats clean what they write. false: not known.
static bool read_object(const struct making *making, const struct store_part *part, uint64_t number,
			char text[WIRE_STORE_FRAMES * 8 + 1])
{
	const struct store_part *objects = &making->descriptors[part - making->store.reading->parts];
	const struct store_bucket *bucket =
		number && number <= UINT32_MAX ? store_part_bucket(objects, (uint32_t)number - 1) : NULL;
	uint64_t words[WIRE_STORE_FRAMES];
	uint32_t nwords;
	uint8_t stop;

	if (!bucket)
		return false;
	nwords = store_read_stack(part->source->store, bucket->stack, words, &stop);
	memcpy(text, words, nwords * 8);
	text[nwords * 8] = 0;
	return text[0] != 0;
}

static int add_sample(struct store_profile *store, const struct store_part *part, const struct store_sample *sample)
{
	struct making *making = (struct making *)(void *)store;
	uint32_t kind = WIRE_WAIT_KEY_KIND(sample->bucket->key), n = 0;
	uint64_t object = WIRE_WAIT_KEY_OBJECT(sample->bucket->key);
	struct profile_label labels[3];
	char address[24], text[WIRE_STORE_FRAMES * 8 + 1];
	const char *name;

	if (kind < WIRE_WAIT_COUNT && kind_names[kind])
		labels[n++] = (struct profile_label){.key = "wait", .str = kind_names[kind], .num_unit = ""};
	if (kind <= WIRE_WAIT_LAST_ADDRESS && object != 0) { // 0: one of many, not told apart
		snprintf(address, sizeof(address), "0x%" PRIx64, object);
		labels[n++] = (struct profile_label){.key = "lock", .str = address, .num_unit = ""};
		name = name_object(making, part, object);
		if (name)
			labels[n++] = (struct profile_label){.key = "lock_name", .str = name, .num_unit = ""};
	} else if (kind > WIRE_WAIT_LAST_ADDRESS && read_object(making, part, object, text)) {
		labels[n++] = (struct profile_label){.key = "object", .str = text, .num_unit = ""};
	}
	return store_profile_add(store, part, sample, labels, n);
}

// ---- Profiles ------------------------------------------------------------------------------------------------------

static void add_comments(struct making *making, enum wire_bucket_kind kind, const struct wait_totals *totals,
			 const char *command)
{
	struct profile *profile = making->store.profile;
	bool mutex = kind == WIRE_BUCKET_MUTEX;

	profile_add_comment(profile, "profd %s", PROFD_VERSION);
	if (command)
		profile_add_comment(profile, "command: %s", command);
	if (totals->rate && mutex)
		profile_add_comment(profile, "mutex: one contention in %" PRIu64 " is kept, and stands for all of them",
				    totals->rate);
	else if (totals->rate)
		profile_add_comment(profile, "block: a wait is kept for %" PRIu64 " ns waited, on average",
				    totals->rate);
	else if (mutex)
		profile_add_comment(
			profile, "mutex profiling is off; switch it on with PROFD_MUTEX_FRACTION=10 in the program's "
				 "environment, `profd run --mutex`, or POST /debug/pprof/config?mutex_fraction=10");
	else
		profile_add_comment(profile,
				    "block profiling is off; switch it on with PROFD_BLOCK_RATE=10000 in the program's "
				    "environment, `profd run --block`, or POST /debug/pprof/config?block_rate=10000");
	if (!totals->processes)
		return;
	profile_add_comment(profile, "%u process%s; dropped: %" PRIu64 " (no room in the store)", totals->processes,
			    totals->processes == 1 ? "" : "es", totals->lost);
	if (making->store.nstacks)
		profile_add_comment(profile, "truncated stacks: %.2f%%",
				    100.0 * (double)making->store.ntruncated / (double)making->store.nstacks);
}

static void describe(struct profile *profile)
{
	profile_add_sample_type(profile, "contentions", "count");
	profile_add_sample_type(profile, "delay", "nanoseconds");
	profile_set_period(profile, "contentions", "count", 1);
	profile->default_sample_type = "delay";
}

static int read_descriptors(struct making *making)
{
	const struct store_reading *reading = making->store.reading;
	int r = 0;

	making->descriptors = calloc(reading->sources.count + 1, sizeof(*making->descriptors));
	for (size_t i = 0; making->descriptors && i < reading->sources.count && r == 0; i++)
		r = store_read_buckets(reading->parts[i].source->store, WIRE_BUCKET_OBJECT,
				       &making->descriptors[i].buckets, &making->descriptors[i].count);
	return making->descriptors ? r : -ENOMEM;
}

static void forget_descriptors(struct making *making)
{
	for (size_t i = 0; making->descriptors && i < making->store.reading->sources.count; i++)
		free(making->descriptors[i].buckets);
	free(making->descriptors);
}

struct profile *wait_profile_make(const struct store_reading *reading, const struct store_reading *before,
				  enum wire_bucket_kind kind, const char *command)
{
	static const struct store_profile_kind how = {wait_values, wait_counts, traced_counts, add_sample};
	struct wait_totals totals;
	struct making making = {0};
	int r = store_profile_begin(&making.store, reading) ? read_descriptors(&making) : -ENOMEM;

	intern_init(&making.objects, sizeof(struct object), 2 * sizeof(uint64_t), &making.store.frames.budget);
	if (r == 0) {
		wait_reading_totals(reading, kind, &totals);
		store_profile_prepare_names(reading);
		describe(making.store.profile);
		store_profile_add_main_mappings(&making.store);
		r = store_profile_add_all(&making.store, before, &how);
	}
	if (r == 0) {
		making.store.profile->time_ns = reading->time_ns;
		if (before)
			making.store.profile->duration_ns = reading->now_ns - before->now_ns;
		add_comments(&making, kind, &totals, command);
		store_traces_comment(making.store.profile, reading, before);
	}
	intern_finish(&making.objects);
	forget_descriptors(&making);
	return store_profile_end(&making.store, r);
}
