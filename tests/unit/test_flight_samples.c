// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_flight_samples.c: what a flight recorder keeps of a target's samples (flight_samples.c): always all of the last so long, not much more,
// and of too many the last ones.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collector/flight_samples.h"
#include "collector/mapping.h"

#define S 1000000000ULL

static struct flight_samples *samples;
static struct mapping *mapping;
static struct aggregate copied;

// What a copy handed out.
static struct {
	uint32_t count;
	uint64_t first_ns, last_ns, cpu_ns, dropped;
	uint32_t stack, tid; // the last one's
	char name[16];
	bool cut;
} got;

static int set_up(void **state)
{
	(void)state;
	samples = flight_samples_create();
	mapping = mapping_create(0x1000, 0x100000000, 0, "/bin/x");
	aggregate_init(&copied, (size_t)64 << 20);
	return samples && mapping ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	flight_samples_destroy(samples);
	aggregate_finish(&copied);
	mapping_unref(mapping);
	return 0;
}

// A sample of a stack of two; true: of a thread that is new, which is named now.
static bool add(uint64_t keep_ns, uint64_t time_ns, uint32_t tid, uint64_t pc)
{
	const struct wire_sample sample = {.time_ns = time_ns, .cpu_ns = 10, .tid = tid};
	const struct aggregate_frame frames[] = {{mapping, pc | WIRE_PC_EXACT}, {mapping, 0x2000}};
	char *name = flight_samples_add(samples, keep_ns, &sample, frames, 2);

	if (name)
		memcpy(name, "worker", sizeof("worker"));
	return name != NULL;
}

static void take(void *context, const struct flight_sample *sample)
{
	assert_ptr_equal(context, &got);
	if (got.count++ == 0)
		got.first_ns = sample->time_ns;
	got.last_ns = sample->time_ns;
	got.cpu_ns += sample->cpu_ns;
	got.stack = sample->stack;
	got.tid = sample->tid;
	memcpy(got.name, sample->name, sizeof(got.name));
}

static void copy(uint64_t keep_ns)
{
	memset(&got, 0, sizeof(got));
	got.cut = flight_samples_copy(samples, keep_ns, &copied, take, &got, &got.dropped);
}

static void test_nothing(void **state)
{
	(void)state;
	copy(10 * S);
	assert_int_equal(got.count, 0);
	assert_false(got.cut);
	flight_samples_destroy(NULL);
}

static void test_what_goes_in_comes_out(void **state)
{
	const struct aggregate_node *leaf, *caller;

	(void)state;
	assert_true(add(10 * S, 5 * S, 7, 0x3000));
	assert_false(add(10 * S, 6 * S, 7, 0x3000));
	assert_true(add(10 * S, 7 * S, 8, 0x4000));
	copy(10 * S);
	assert_int_equal(got.count, 3);
	assert_int_equal(got.cpu_ns, 30);
	assert_int_equal(got.tid, 8);
	assert_string_equal(got.name, "worker");
	leaf = aggregate_node(&copied, got.stack);
	caller = aggregate_node(&copied, leaf->parent);
	assert_int_equal(leaf->pc, 0x4000 | WIRE_PC_EXACT);
	assert_ptr_equal(aggregate_mapping(&copied, leaf->mapping), mapping);
	assert_int_equal(caller->pc, 0x2000);
	assert_int_equal(caller->parent, AGGREGATE_ROOT);
	copy(1 * S); // asked for again, and for less
	assert_int_equal(got.count, 2);
}

// A hundred samples a second for an hour, 30 s of which are wanted at any time.
static void test_the_last_so_long(void **state)
{
	const uint64_t keep_ns = 30 * S;

	(void)state;
	for (uint64_t i = 1; i <= 360000; i++) {
		uint64_t time_ns = i * S / 100;

		// As from two shards: some come late.
		add(keep_ns, i % 7 ? time_ns : time_ns - S / 50, (uint32_t)(i % 5), 0x3000 + i % 1000);
		if (i % 7919 != 0)
			continue;
		copy(keep_ns);
		assert_false(got.cut);
		assert_int_equal(got.dropped, 0);
		assert_in_range(got.count, i < 3000 ? i - 3 : 2997, 3003);
		assert_in_range(got.last_ns, time_ns - S / 50, time_ns);
	}
	copy(3600 * S); // no more is kept than twice that
	assert_in_range(got.count, 3000, 6100);
	assert_false(got.cut);
}

// More samples than there is room for: at the least half of that, the last ones, and it is said.
static void test_too_many(void **state)
{
	const uint32_t n = 3 * FLIGHT_SAMPLES_MAX + 1000;

	(void)state;
	for (uint32_t i = 1; i <= n; i++)
		add(30 * S, i, 1, 0x3000);
	copy(30 * S);
	assert_true(got.cut);
	assert_int_equal(got.count, FLIGHT_SAMPLES_MAX + 1000);
	assert_int_equal(got.last_ns, n);
	copy(10);
	assert_false(got.cut);
	assert_int_equal(got.count, 11);
}

// Each of another stack, as of a program that makes code: memory is for some 100,000 of them.
static void test_too_many_stacks(void **state)
{
	(void)state;
	for (uint64_t i = 1; i <= 1000000; i++)
		add(86400 * S, i * 1000, 1, 0x3000 + i);
	copy(86400 * S);
	assert_true(got.cut);
	assert_in_range(got.count, 100000, 600000);
	assert_int_equal(got.last_ns, 1000000 * 1000);
	assert_int_equal(aggregate_node(&copied, got.stack)->pc, (0x3000 + 1000000) | WIRE_PC_EXACT);
}

// What the copy has no room for is counted.
static void test_no_room_for_the_copy(void **state)
{
	struct aggregate small;

	(void)state;
	aggregate_init(&small, 10000);
	for (uint64_t i = 1; i <= 1000; i++)
		add(10 * S, i, 1, 0x3000 + i);
	memset(&got, 0, sizeof(got));
	assert_false(flight_samples_copy(samples, 10 * S, &small, take, &got, &got.dropped));
	assert_int_equal(got.count + got.dropped, 1000);
	assert_in_range(got.dropped, 1, 999);
	aggregate_finish(&small);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_nothing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_goes_in_comes_out, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_the_last_so_long, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_too_many, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_too_many_stacks, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_room_for_the_copy, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
