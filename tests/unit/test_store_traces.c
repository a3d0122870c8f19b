// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_store_traces.c: heap and lock profiles by trace, made of what the agent's own code wrote: each trace has what was sampled for it, and the sums
// are those of the buckets, whatever the target says.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "collector/heap_profile.h"
#include "collector/store_profile.h"
#include "collector/wait_profile.h"
#include "profd/live.h"
#include "profd/store.h"
#include "profd/traced.h"
#include "tests/unit/fake_traces.h"
#include "tests/unit/own_store.h"

static struct store *store;
static struct store_source source;

static int open_store(void **state)
{
	(void)state;
	fake_set_trace(0, false);
	if (profd_store_open() < 0 || store_map(profd_store.fd, profd_store.size, getpid(), &store) < 0)
		return -1;
	source =
		(struct store_source){.refs = 1000, .store = store, .pid = 1, .jitdump_fd = -1}; // never the last one's
	return 0;
}

static int end_store(void **state)
{
	store_unref(store);
	return close_store(state);
}

// ---- The target ----------------------------------------------------------------------------------------------------------------------

static struct wire_bucket *bucket_of(enum wire_bucket_kind kind, uint64_t pc, uint64_t key, uint64_t rate)
{
	const struct profd_store_stack stack = {.pcs = &pc, .npcs = 1};
	struct wire_bucket *bucket = profd_store_bucket(kind, &stack, key, rate);

	assert_non_null(bucket);
	return bucket;
}

static const void *object_at(uint64_t number)
{
	return (const void *)(uintptr_t)(0x10000 + number * 16); // NOLINT(performance-no-int-to-ptr)
}

// As heap.c: n objects of so many bytes, at `at` and after.
static void allocate(struct wire_bucket *bucket, uint64_t at, uint32_t n, uint64_t bytes)
{
	for (uint64_t i = at; i < at + n; i++) {
		struct wire_live live = {.bucket = profd_store_number(bucket), .bytes = bytes};

		live.traced = (uint16_t)profd_traced_count(bucket, (const uint64_t[]){1, bytes}, object_at(i));
		assert_true(profd_live_put(object_at(i), &live));
	}
}

static void release(uint64_t at, uint32_t n)
{
	for (uint64_t i = at; i < at + n; i++) {
		struct wire_live live;

		assert_true(profd_live_take(object_at(i), &live));
		if (live.traced)
			profd_traced_freed(live.traced, object_at(i));
		profd_store_add(&profd_store.buckets[live.bucket], WIRE_HEAP_FREE_BYTES, live.bytes);
		profd_store_add(&profd_store.buckets[live.bucket], WIRE_HEAP_FREE_OBJECTS, 1);
	}
}

// ---- The collector -------------------------------------------------------------------------------------------------------------------

static struct store_reading *read_store(enum wire_bucket_kind kind)
{
	struct store_reading *reading = calloc(1, sizeof(*reading));

	assert_non_null(reading);
	reading->sources.list = calloc(1, sizeof(*reading->sources.list));
	reading->parts = calloc(1, sizeof(*reading->parts));
	assert_true(reading->sources.list && reading->parts);
	reading->sources.list[0] = &source;
	reading->sources.count = 1;
	reading->parts[0].source = &source;
	assert_int_equal(store_part_read(&reading->parts[0], kind), 0);
	reading->now_ns = INT64_MAX / 2;
	return reading;
}

static struct profile *make_heap(const struct store_reading *reading, const struct store_reading *before)
{
	struct profile *profile =
		heap_profile_make(reading, &(struct heap_profile_options){.before = before, .shown = HEAP_INUSE_SPACE});

	assert_non_null(profile);
	return profile;
}

static const char *label_of(const struct profile_sample *sample, const char *key)
{
	for (uint32_t i = 0; i < sample->nlabels; i++)
		if (strcmp(sample->labels[i].key, key) == 0)
			return sample->labels[i].str;
	return NULL;
}

#define ALL (-1)
// The sum of a value over the samples of that trace (0: without one).
static int64_t sum_of(const struct profile *profile, int digit, int value)
{
	char wanted[33] = "";
	int64_t sum = 0;

	for (int i = 0; digit > 0 && i < 32; i += 2)
		snprintf(wanted + i, 3, "%02x", (unsigned)digit);
	for (uint32_t i = 0; i < profile->nsamples; i++) {
		const char *trace = label_of(&profile->samples[i], "trace_id");

		if (digit == ALL || (digit == 0 ? !trace : trace && strcmp(trace, wanted) == 0))
			sum += profile->samples[i].values[value];
	}
	return sum;
}

static bool has_comment(const struct profile *profile, const char *text)
{
	for (uint32_t i = 0; i < profile->ncomments; i++)
		if (strstr(profile->comments[i], text))
			return true;
	return false;
}

static void assert_heap(const struct profile *profile, int digit, const int64_t wanted[HEAP_VALUES])
{
	for (int i = 0; i < HEAP_VALUES; i++)
		assert_int_equal(sum_of(profile, digit, i), wanted[i]);
}
#define ASSERT_HEAP(profile, digit, ...) assert_heap(profile, digit, (const int64_t[]){__VA_ARGS__})

// ---- Shares --------------------------------------------------------------------------------------------------------------------------

static void test_shares_add_up(void **state)
{
	(void)state;
	for (int64_t value = 0; value < 50; value++) {
		for (uint64_t traced = 0; traced <= 9; traced++) {
			struct store_share share = {value, value, 7, 7, .traced = traced};
			int64_t sum = 0;

			for (uint64_t i = 0; i < traced; i++) {
				int64_t part = store_share_take(&share, 1);

				assert_in_range(part, 0, value);
				sum += part;
			}
			assert_int_equal(sum + store_share_rest(&share), value);
			assert_true(traced < 7 ? sum == value * (int64_t)traced / 7 : sum == value);
		}
	}
}

// Five more in use, two of them ours; five fewer, though two of ours came: as the rate has it, a sample stands for ten.
static void test_shares_of_a_difference(void **state)
{
	struct store_share more = {50, 200, 5, 20, .traced = 2}, fewer = {-50, 100, -5, 10, .traced = 2};

	(void)state;
	assert_int_equal(store_share_take(&more, 2), 20);
	assert_int_equal(store_share_rest(&more), 30);
	assert_int_equal(store_share_take(&fewer, 2), 20);
	assert_int_equal(store_share_rest(&fewer), -70);
}

static void test_shares_without_bounds(void **state)
{
	struct store_share share = {INT64_MIN, INT64_MAX, INT64_MIN, UINT64_MAX, .traced = UINT64_MAX};
	struct store_share none = {5, 5, 0, 0, .traced = 0};

	(void)state;
	assert_int_equal(store_share_take(&share, UINT64_MAX), INT64_MAX);
	assert_int_equal(store_share_take(&share, UINT64_MAX), 0);
	assert_int_equal(store_share_rest(&share), INT64_MIN);
	assert_int_equal(store_share_take(&none, 5), 0);
	assert_int_equal(store_share_rest(&none), 5);
}

// ---- Heap ----------------------------------------------------------------------------------------------------------------------------

static void test_each_trace_has_its_own(void **state)
{
	struct wire_bucket *one = bucket_of(WIRE_BUCKET_HEAP, 0x1000, 100, 1),
			   *two = bucket_of(WIRE_BUCKET_HEAP, 0x2000, 30, 1);
	struct store_reading *reading;
	struct profile *profile;

	(void)state;
	allocate(one, 0, 4, 100);
	fake_set_trace(0xaa, true);
	allocate(one, 4, 10, 100);
	allocate(two, 14, 5, 30);
	release(14, 5);
	fake_set_trace(0xbb, false);
	allocate(one, 19, 3, 100);
	release(20, 1);
	reading = read_store(WIRE_BUCKET_HEAP);
	profile = make_heap(reading, NULL);
	assert_int_equal(profile->nsamples, 4);
	ASSERT_HEAP(profile, 0, 4, 400, 4, 400);
	ASSERT_HEAP(profile, 0xaa, 15, 1150, 10, 1000);
	ASSERT_HEAP(profile, 0xbb, 3, 300, 2, 200);
	for (uint32_t i = 0; i < profile->nsamples; i++) {
		const char *trace = label_of(&profile->samples[i], "trace_id"),
			   *sampled = label_of(&profile->samples[i], "trace_sampled");

		assert_true((trace && trace[0] == 'a') == (sampled && strcmp(sampled, "1") == 0));
		assert_true(!trace == !label_of(&profile->samples[i], "span_id"));
	}
	assert_false(has_comment(profile, "traces were not kept"));
	profile_destroy(profile);
	store_reading_destroy(reading);
}

static void test_views(void **state)
{
	struct wire_bucket *one = bucket_of(WIRE_BUCKET_HEAP, 0x1000, 100, 1);
	struct store_reading *reading;
	struct profile *profile;

	(void)state;
	allocate(one, 0, 4, 100);
	fake_set_trace(0xaa, true);
	allocate(one, 4, 10, 100);
	fake_set_trace(0xbb, false);
	allocate(one, 14, 3, 100);
	reading = read_store(WIRE_BUCKET_HEAP);
	reading->view.labels.sampled_only = true;
	profile = make_heap(reading, NULL);
	ASSERT_HEAP(profile, ALL, 10, 1000, 10, 1000);
	ASSERT_HEAP(profile, 0xaa, 10, 1000, 10, 1000);
	profile_destroy(profile);

	reading->view.labels.sampled_only = false;
	assert_true(label_choice_parse("trace_id=bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", &reading->view.labels));
	profile = make_heap(reading, NULL);
	ASSERT_HEAP(profile, ALL, 3, 300, 3, 300);
	profile_destroy(profile);

	reading->view = (struct profile_view){.labels.group = "trace_id"};
	profile = make_heap(reading, NULL);
	assert_int_equal(profile->nsamples, 3);
	for (uint32_t i = 0; i < 3; i++) {
		const struct profile_sample *sample = &profile->samples[i];
		const char *trace = label_of(sample, "trace_id");
		char name[64];

		assert_int_equal(sample->nlocations, 2); // the stack, which is the same, and the group
		profile_frame_name(profile, &profile->locations[sample->location_ids[1] - 1], 0, name, sizeof(name));
		assert_string_equal(name + strlen("trace_id="), trace ? trace : "");
	}
	profile_destroy(profile);

	// A text shows no traces: what differs by them alone is one. But groups stay apart.
	reading->view = (struct profile_view){.hides_traces = true};
	profile = make_heap(reading, NULL);
	assert_int_equal(profile->nsamples, 1);
	ASSERT_HEAP(profile, 0, 17, 1700, 17, 1700);
	profile_destroy(profile);
	reading->view =
		(struct profile_view){.hides_traces = true, .labels = {.group = "trace_id", .sampled_only = true}};
	profile = make_heap(reading, NULL);
	assert_int_equal(profile->nsamples, 1);
	ASSERT_HEAP(profile, 0, 10, 1000, 10, 1000);
	profile_destroy(profile);
	store_reading_destroy(reading);
}

// At a rate the sums are scaled; they are those of a store without traces to the last digit.
static void test_scaled_sums_are_exact(void **state)
{
	struct heap_totals totals;
	struct store_reading *reading;
	struct profile *profile;

	(void)state;
	for (uint64_t i = 0; i < 300; i++) {
		struct wire_bucket *bucket = bucket_of(WIRE_BUCKET_HEAP, 0x1000 + i % 7, 1 + i % 5, 4096);

		fake_set_trace((int)(i % 11), i % 2);
		allocate(bucket, i, 1, 1 + i % 5);
		if (i % 3 == 0)
			release(i, 1);
	}
	reading = read_store(WIRE_BUCKET_HEAP);
	heap_reading_totals(reading, &totals);
	profile = make_heap(reading, NULL);
	assert_true(profile->nsamples > 100);
	ASSERT_HEAP(profile, ALL, totals.values[0], totals.values[1], totals.values[2], totals.values[3]);
	assert_true(sum_of(profile, 3, HEAP_ALLOC_SPACE) > 50000); // 27 samples, each for some 4,096 bytes
	for (uint32_t i = 0; i < profile->nsamples; i++)
		for (int k = 0; k < HEAP_VALUES; k++)
			assert_true(profile->samples[i].values[k] >= 0);
	profile_destroy(profile);
	store_reading_destroy(reading);
}

static void test_since_a_reading(void **state)
{
	struct wire_bucket *one = bucket_of(WIRE_BUCKET_HEAP, 0x1000, 100, 1);
	struct store_reading *before, *reading;
	struct profile *profile;

	(void)state;
	fake_set_trace(0xaa, true);
	allocate(one, 0, 10, 100);
	before = read_store(WIRE_BUCKET_HEAP);
	allocate(one, 10, 2, 100);
	fake_set_trace(0xbb, true);
	allocate(one, 12, 3, 100);
	release(12, 1);
	release(0, 7); // of the first, whose entry is older than the reading
	fake_set_trace(0, false);
	allocate(one, 20, 1, 100);
	reading = read_store(WIRE_BUCKET_HEAP);
	profile = make_heap(reading, before);
	ASSERT_HEAP(profile, 0xaa, 2, 200, 2, 200);
	ASSERT_HEAP(profile, 0xbb, 3, 300, 2, 200);
	ASSERT_HEAP(profile, 0, 1, 100, -6, -600);
	profile_destroy(profile);
	store_reading_destroy(before);
	store_reading_destroy(reading);
}

// What was overwritten is without a trace, and said; but not of what was there before the profile began.
static void test_what_is_lost(void **state)
{
	struct wire_bucket *one = bucket_of(WIRE_BUCKET_HEAP, 0x1000, 100, 1);
	struct store_reading *before, *reading;
	struct profile *profile;

	(void)state;
	fake_set_trace(0xaa, true);
	for (uint32_t i = 0; i < WIRE_TRACED; i++)
		profd_traced_count(one, (const uint64_t[]){1, 100}, NULL);
	before = read_store(WIRE_BUCKET_HEAP);
	fake_set_trace(0xbb, true);
	for (uint32_t i = 0; i < 10; i++)
		profd_traced_count(one, (const uint64_t[]){1, 100}, NULL);
	reading = read_store(WIRE_BUCKET_HEAP);
	profile = make_heap(reading, NULL);
	assert_int_equal(sum_of(profile, 0xaa, HEAP_ALLOC_OBJECTS), WIRE_TRACED - 10);
	assert_int_equal(sum_of(profile, 0xbb, HEAP_ALLOC_OBJECTS), 10);
	assert_int_equal(sum_of(profile, 0, HEAP_ALLOC_OBJECTS), 10);
	assert_true(has_comment(profile, "10 samples' traces were not kept"));
	profile_destroy(profile);
	profile = make_heap(reading, before);
	assert_int_equal(sum_of(profile, 0xbb, HEAP_ALLOC_OBJECTS), 10);
	assert_int_equal(sum_of(profile, ALL, HEAP_ALLOC_OBJECTS), 10);
	assert_false(has_comment(profile, "traces were not kept"));
	profile_destroy(profile);
	store_reading_destroy(reading);
	store_reading_destroy(before);
}

static void test_leaks(void **state)
{
	struct wire_bucket *one = bucket_of(WIRE_BUCKET_HEAP, 0x1000, 100, 1);
	struct store_reading *reading;
	struct profile *profile;

	(void)state;
	fake_set_trace(0xaa, true);
	allocate(one, 0, 10, 100);
	release(0, 4);
	fake_set_trace(0xbb, true);
	allocate(one, 10, 1, 100);
	fake_set_trace(0, false);
	allocate(one, 11, 2, 100);
	profd_store.traced[9].object = 1; // overwritten, by another object's
	reading = read_store(WIRE_BUCKET_HEAP);
	profile = heap_profile_make_leaks(reading, 0, NULL);
	assert_non_null(profile);
	ASSERT_HEAP(profile, 0xaa, 5, 500, 5, 500);
	ASSERT_HEAP(profile, 0xbb, 1, 100, 1, 100);
	ASSERT_HEAP(profile, 0, 3, 300, 3, 300);
	profile_destroy(profile);
	store_reading_destroy(reading);
}

// ---- Waits ---------------------------------------------------------------------------------------------------------------------------

static void test_waits(void **state)
{
	const uint64_t key = WIRE_WAIT_KEY(WIRE_WAIT_MUTEX, 0x5000);
	struct wire_bucket *block = bucket_of(WIRE_BUCKET_BLOCK, 0x1000, key, 0),
			   *mutex = bucket_of(WIRE_BUCKET_MUTEX, 0x1000, key, 0);
	struct store_reading *reading;
	struct profile *profile;

	(void)state;
	fake_set_trace(0xaa, true);
	profd_traced_count(block, (const uint64_t[]){3 * WIRE_WAIT_PARTS, 1000}, NULL);
	profd_traced_count(mutex, (const uint64_t[]){7 * WIRE_WAIT_PARTS, 9999}, NULL);
	fake_set_trace(0, false);
	profd_traced_count(block, (const uint64_t[]){WIRE_WAIT_PARTS, 111}, NULL);
	reading = read_store(WIRE_BUCKET_BLOCK);
	profile = wait_profile_make(reading, NULL, WIRE_BUCKET_BLOCK, NULL);
	assert_non_null(profile);
	assert_int_equal(profile->nsamples, 2);
	assert_int_equal(sum_of(profile, 0xaa, WAIT_CONTENTIONS), 3);
	assert_int_equal(sum_of(profile, 0xaa, WAIT_DELAY), 1000);
	assert_int_equal(sum_of(profile, 0, WAIT_CONTENTIONS), 1);
	assert_int_equal(sum_of(profile, 0, WAIT_DELAY), 111);
	assert_string_equal(label_of(&profile->samples[0], "wait"), "mutex");
	profile_destroy(profile);
	store_reading_destroy(reading);
}

// ---- Lies ----------------------------------------------------------------------------------------------------------------------------

static void test_entries_that_lie(void **state)
{
	struct wire_bucket *one = bucket_of(WIRE_BUCKET_HEAP, 0x1000, 100, 512),
			   *other = bucket_of(WIRE_BUCKET_MUTEX, 0x1000, 1, 0);
	struct heap_totals totals;
	struct store_reading *reading;
	struct profile *profile;

	(void)state;
	fake_set_trace(0xaa, true);
	allocate(one, 0, 6, 100);
	profd_store.traced[0].counts[0] = UINT64_MAX;
	profd_store.traced[1].counts[1] = UINT64_MAX;
	profd_store.traced[2].counts[1] = UINT64_MAX;
	profd_store.traced[3].bucket = UINT32_MAX;
	profd_store.traced[4].bucket = profd_store_number(other);
	profd_store.traced[5].turn ^= WIRE_TRACED_LIVE;
	profd_store.header->traces_lost = UINT64_MAX;
	profd_store.header->traced_next = UINT64_MAX;
	reading = read_store(WIRE_BUCKET_HEAP);
	heap_reading_totals(reading, &totals);
	profile = make_heap(reading, NULL);
	ASSERT_HEAP(profile, ALL, totals.values[0], totals.values[1], totals.values[2], totals.values[3]);
	for (uint32_t i = 0; i < profile->nsamples; i++)
		for (int k = 0; k < HEAP_VALUES; k++)
			assert_true(profile->samples[i].values[k] >= 0);
	profile_destroy(profile);
	store_reading_destroy(reading);
}

// What is said of all buckets together is as much as there can be, and never less than nothing.
static void test_totals_of_buckets_that_lie(void **state)
{
	struct heap_totals heap;
	struct wait_totals waits;
	struct store_reading *reading;

	(void)state;
	for (uint64_t i = 0; i < 20; i++) {
		bucket_of(WIRE_BUCKET_HEAP, 0x1000 + i, 1, 1ULL << 62)->counts[WIRE_HEAP_ALLOC_BYTES] = 1ULL << 60;
		bucket_of(WIRE_BUCKET_MUTEX, 0x1000 + i, 1, 0)->counts[WIRE_WAIT_DELAY_NS] = 1ULL << 60;
	}
	reading = read_store(WIRE_BUCKET_HEAP);
	heap_reading_totals(reading, &heap);
	assert_int_equal(heap.values[HEAP_ALLOC_SPACE], INT64_MAX);
	store_reading_destroy(reading);
	reading = read_store(WIRE_BUCKET_MUTEX);
	wait_reading_totals(reading, WIRE_BUCKET_MUTEX, &waits);
	assert_int_equal(waits.values[WAIT_DELAY], INT64_MAX);
	store_reading_destroy(reading);
}

int main(void)
{
#define IN_A_STORE(test) cmocka_unit_test_setup_teardown(test, open_store, end_store)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shares_add_up),
		cmocka_unit_test(test_shares_of_a_difference),
		cmocka_unit_test(test_shares_without_bounds),
		IN_A_STORE(test_each_trace_has_its_own),
		IN_A_STORE(test_views),
		IN_A_STORE(test_scaled_sums_are_exact),
		IN_A_STORE(test_since_a_reading),
		IN_A_STORE(test_what_is_lost),
		IN_A_STORE(test_leaks),
		IN_A_STORE(test_waits),
		IN_A_STORE(test_entries_that_lie),
		IN_A_STORE(test_totals_of_buckets_that_lie),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
