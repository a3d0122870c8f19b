// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_zombies.c: the queue of a trace, what it says of each thread's waits, and who is called a zombie by both witnesses: by each reason for
// doubt once.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "collector/trace.h"
#include "collector/wake_history.h"
#include "collector/zombies.h"
#include "formats/thread_dump.h"

#define S 1000000000ULL

static const struct zombies_window window = {.begin_ns = 100 * S, .end_ns = 110 * S};
static struct wake_history *history;
static struct thread_dump *dump;

static int set_up(void **state)
{
	(void)state;
	history = wake_history_create();
	dump = thread_dump_create();
	assert_non_null(history);
	assert_non_null(dump);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	wake_history_destroy(history);
	thread_dump_destroy(dump);
	return 0;
}

static void happens(uint8_t kind, uint64_t time_s, uint32_t tid, uint64_t object)
{
	wake_history_add(
		history,
		&(struct trace_item){.kind = kind, .time_ns = time_s * S, .tid = tid, .object = object, .source = 1});
}

static void add(uint32_t tid, const char *state, const char *name)
{
	const struct thread_dump_thread thread = {
		.tid = tid, .name = name, .state = state, .object = "0x1", .cpu_ns = -1};
	uint32_t index = dump->nthreads;
	const struct thread_dump_verdict verdict = {.kind = THREAD_VERDICT_ZOMBIES,
						    .threads = &index,
						    .nthreads = 1,
						    .count = 1,
						    .state = state,
						    .window_ns = 10 * (int64_t)S};

	assert_int_equal(thread_dump_add_thread(dump, &thread), 0);
	assert_int_equal(thread_dump_add_verdict(dump, &verdict), 0);
}

static struct zombies_counts judge(void)
{
	struct zombies_counts counts;

	assert_int_equal(zombies_judge(dump, history, &window, &counts), 0);
	assert_int_equal(dump->nverdicts, counts.groups);
	return counts;
}

static void test_never_woken(void **state)
{
	(void)state;
	happens(WIRE_EVENT_START, 50, 7, 0x1000);
	happens(WIRE_EVENT_PARK, 60, 7, 0x1);
	add(7, "sem wait", "w");
	add(8, "cond wait", "before the trace"); // has no event at all
	assert_int_equal(judge().groups, 2);
	assert_string_equal(dump->verdicts[0].evidence, "alive for 60.0 s; never woken in the 60.0 s that were traced");
	assert_string_equal(dump->verdicts[1].evidence,
			    "alive for 60.0 s and more; never woken in the 60.0 s that were traced");
}

static void test_who_used_to_wake_it(void **state)
{
	(void)state;
	for (uint64_t s = 50; s < 54; s++) {
		happens(WIRE_EVENT_PARK, s, 7, 0x1);
		happens(WIRE_EVENT_WAKE, s + 1, 9, 0x1);
		happens(WIRE_EVENT_UNPARK, s + 1, 7, 0x1);
	}
	happens(WIRE_EVENT_PARK, 54, 7, 0x1);
	add(7, "sem wait", "w");
	assert_int_equal(judge().groups, 1);
	assert_string_equal(dump->verdicts[0].evidence, "alive for 60.0 s and more; woken 4 times; after 1.000 s at "
							"the longest; last 56.0 s ago by thread 9 that is gone");
}

// It was woken after waits that are not much shorter than this one so far.
static void test_slow(void **state)
{
	(void)state;
	happens(WIRE_EVENT_PARK, 60, 7, 0x1);
	happens(WIRE_EVENT_UNPARK, 70, 7, 0x1);
	happens(WIRE_EVENT_PARK, 70, 7, 0x1);
	happens(WIRE_EVENT_UNPARK, 90, 7, 0x1);
	happens(WIRE_EVENT_PARK, 90, 7, 0x1);
	add(7, "sem wait", "w");
	assert_int_equal(judge().doubted[ZOMBIES_SLOW], 1);
}

// A wait that time ended is no waking, and nobody did it.
static void test_time_wakes_nobody(void **state)
{
	struct wake_life life;

	(void)state;
	for (uint64_t s = 50; s < 60; s++) {
		happens(WIRE_EVENT_PARK, s, 7, 0x1);
		happens(WIRE_EVENT_WAKE, s, 9, 0x1); // another one's
		wake_history_add(history, &(struct trace_item){.kind = WIRE_EVENT_UNPARK,
							       .time_ns = (s + 1) * S,
							       .tid = 7,
							       .object = 0x1,
							       .other = WIRE_EVENT_NOBODY,
							       .source = 1});
	}
	assert_true(wake_history_find(history, 7, &life));
	assert_int_equal(life.woken, 0);
	assert_int_equal(life.waker_tid, 0);
	assert_int_equal(life.longest_ns, 0);
}

// What the trace's own marks say is no thread's doing.
static void test_marks_are_no_events(void **state)
{
	struct wake_life life;

	(void)state;
	happens(TRACE_ITEM_STOP, 105, 7, 0);
	happens(TRACE_ITEM_GONE, 105, 7, 0);
	assert_false(wake_history_find(history, 7, &life));
	assert_int_equal(wake_history_forgotten(history), 0);
}

// What there is no memory for may have woken somebody.
static void test_memory_runs_out(void **state)
{
	uint64_t objects = 0;

	(void)state;
	while (wake_history_forgotten(history) == 0) {
		happens(WIRE_EVENT_WAKE, 60, 9, ++objects);
		assert_true(objects < 10000000);
	}
	assert_true(objects > 100000);
}

static void test_somebody_signals(void **state)
{
	(void)state;
	happens(WIRE_EVENT_PARK, 60, 7, 0x1);
	happens(WIRE_EVENT_WAKE, 105, 9, 0x1);
	add(7, "cond wait", "w");
	assert_int_equal(judge().doubted[ZOMBIES_WOKEN], 1);
}

static void test_did_something(void **state)
{
	(void)state;
	happens(WIRE_EVENT_PARK, 101, 7, 0x1);
	add(7, "cond wait", "w");
	assert_int_equal(judge().doubted[ZOMBIES_WOKEN], 1);
}

static void test_outside(void **state)
{
	static const char *const states[] = {"sleep",  "read",       "epoll",   "poll",   "recv",
					     "accept", "wait child", "sigwait", "running"};

	(void)state;
	for (uint32_t i = 0; i < sizeof(states) / sizeof(states[0]); i++)
		add(20 + i, states[i], "w");
	assert_int_equal(judge().doubted[ZOMBIES_OUTSIDE], sizeof(states) / sizeof(states[0]));
}

static void test_lost_events(void **state)
{
	struct zombies_window lossy = window;
	struct zombies_counts counts;

	(void)state;
	lossy.lost = 1;
	add(7, "cond wait", "w");
	assert_int_equal(zombies_judge(dump, history, &lossy, &counts), 0);
	assert_int_equal(counts.groups, 0);
	assert_int_equal(counts.doubted[ZOMBIES_LOST], 1);
}

// Another thread that had the same number before is no part of its past.
static void test_number_used_again(void **state)
{
	struct wake_life life;

	(void)state;
	happens(WIRE_EVENT_PARK, 50, 7, 0x1);
	happens(WIRE_EVENT_UNPARK, 51, 7, 0x1);
	happens(WIRE_EVENT_EXIT, 52, 7, 0x77);
	happens(WIRE_EVENT_START, 60, 7, 0x1000);
	assert_true(wake_history_find(history, 7, &life));
	assert_int_equal(life.woken, 0);
	assert_int_equal(life.started_ns, 60 * S);
	assert_false(wake_history_find(history, 8, &life));
}

// ---- The queue ------------------------------------------------------------------------------------------------------

static void queue_one(struct trace *trace, uint8_t kind, uint32_t source, uint64_t time_ns, uint32_t tid)
{
	trace_add(trace, &(struct trace_item){.source = source, .time_ns = time_ns, .tid = tid, .kind = kind});
}

static void queue(struct trace *trace, uint32_t source, uint64_t time_ns, uint32_t tid)
{
	queue_one(trace, WIRE_EVENT_WAKE, source, time_ns, tid);
}

static size_t take(struct trace *trace, uint32_t tids[16])
{
	struct trace_item items[16];
	size_t n = trace_take(trace, items, 16);

	for (size_t i = 0; i < n; i++)
		tids[i] = items[i].tid;
	return n;
}

// Of one target what is older than the drain, in order of time; equal times in the order they came.
static void test_order(void **state)
{
	struct trace *trace = trace_create(&(struct trace_options){0});
	uint32_t tids[16] = {0};

	(void)state;
	queue(trace, 1, 30, 3);
	queue(trace, 1, 10, 1);
	queue(trace, 2, 15, 9);
	queue(trace, 1, 20, 2);
	queue(trace, 1, 20, 22);
	trace_flush(trace, 1, 25);
	assert_int_equal(take(trace, tids), 3);
	assert_int_equal(tids[0], 1);
	assert_int_equal(tids[1], 2);
	assert_int_equal(tids[2], 22);
	trace_finish(trace);
	assert_int_equal(take(trace, tids), 2);
	assert_int_equal(tids[0], 9);
	assert_int_equal(tids[1], 3);
	trace_destroy(trace);
}

// A flight recorder keeps the last so long before the last event, and all names.
static void test_flight(void **state)
{
	struct trace *trace = trace_create(&(struct trace_options){.keep_ns = 10 * S});
	struct trace_item items[16];
	uint32_t i;

	(void)state;
	trace_add(trace,
		  &(struct trace_item){.source = 1, .time_ns = 1, .tid = 5, .kind = WIRE_EVENT_NAME, .name = "old"});
	for (i = 1; i <= 100000; i++)
		queue(trace, 1, i * S, i);
	trace_flush(trace, 1, 100000 * S);
	trace_add(trace, &(struct trace_item){.source = 1, .time_ns = (i + 50) * S, .tid = 5, .kind = TRACE_ITEM_GONE});
	trace_finish(trace);
	assert_int_equal(trace_take(trace, items, 16), 13);
	assert_string_equal(items[0].name, "old");
	assert_int_equal(items[0].time_ns, (100000 - 10) * S);
	for (i = 0; i < 11; i++)
		assert_int_equal(items[i + 1].tid, 100000 - 10 + i);
	assert_int_equal(items[12].kind, TRACE_ITEM_GONE);
	trace_destroy(trace);
}

// A wait that lasts is there, however long ago it began; not one that ended, or whose process has.
static void test_flight_keeps_waits(void **state)
{
	struct trace *trace = trace_create(&(struct trace_options){.keep_ns = 10 * S});
	struct trace_item items[16];
	size_t n;

	(void)state;
	queue_one(trace, WIRE_EVENT_PARK, 1, 1 * S, 1);
	queue_one(trace, WIRE_EVENT_PARK, 1, 2 * S, 2);
	queue_one(trace, WIRE_EVENT_UNPARK, 1, 3 * S, 2);
	queue_one(trace, WIRE_EVENT_PARK, 1, 4 * S, 3);
	queue_one(trace, WIRE_EVENT_EXIT, 1, 5 * S, 3);
	queue_one(trace, WIRE_EVENT_PARK, 2, 6 * S, 4);
	queue_one(trace, TRACE_ITEM_GONE, 2, 7 * S, 0);
	queue_one(trace, WIRE_EVENT_UNPARK, 1, 8 * S, 5);
	queue_one(trace, WIRE_EVENT_PARK, 1, 9 * S, 5);
	queue_one(trace, TRACE_ITEM_SAMPLE, 1, 9 * S + 1, 5);
	trace_flush(trace, 1, 50 * S);
	queue_one(trace, WIRE_EVENT_UNPARK, 1, 95 * S, 5);
	queue_one(trace, TRACE_ITEM_STOP, 1, 100 * S, 0); // it lives, so the last so long are those before now
	trace_finish(trace);
	n = trace_take(trace, items, 16);
	assert_int_equal(n, 4);
	assert_int_equal(items[0].tid, 1);
	assert_int_equal(items[1].tid, 5);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(items[i].kind, WIRE_EVENT_PARK);
		assert_int_equal(items[i].time_ns, 90 * S);
	}
	assert_int_equal(items[2].kind, WIRE_EVENT_UNPARK);
	assert_int_equal(items[3].kind, TRACE_ITEM_STOP);
	trace_destroy(trace);
}

// Where there is more to keep than there is room, it is the oldest that goes.
static void test_flight_keeps_the_last(void **state)
{
	struct trace *trace = trace_create(&(struct trace_options){.keep_ns = 3600 * S});
	const uint32_t all = 3000000;
	struct trace_counts counts;
	struct trace_item item;
	uint32_t kept = 0;

	(void)state;
	for (uint32_t i = 1; i <= all; i++) {
		queue_one(trace, TRACE_ITEM_SAMPLE, 1, S + i, i);
		if (i % 100000 == 0)
			trace_flush(trace, 1, S + i);
	}
	trace_finish(trace);
	trace_read_counts(trace, &counts);
	for (; trace_take(trace, &item, 1) == 1; kept++)
		assert_int_equal(item.tid, counts.dropped + 1 + kept);
	assert_int_equal(counts.dropped + kept, all);
	assert_in_range(kept, 1u << 20, 2u << 20);
	trace_destroy(trace);
}

// A target's clock is ours: what it says is still to come is no event, and moves nobody's end.
static void test_the_future(void **state)
{
	const uint64_t keeps[] = {0, 10 * S};
	struct trace_item items[16];

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct trace *trace = trace_create(&(struct trace_options){.keep_ns = keeps[i]});
		struct trace_counts counts;

		queue(trace, 1, 100 * S, 1);
		queue(trace, 2, INT64_MAX, 2);
		queue(trace, 2, 102 * S, 3); // written since the drain began
		trace_flush(trace, 1, 101 * S);
		trace_finish(trace);
		trace_read_counts(trace, &counts);
		assert_int_equal(counts.events.bad, 1);
		assert_int_equal(trace_take(trace, items, 16), 2);
		assert_int_equal(items[0].tid, 1);
		assert_int_equal(items[1].tid, 3);
		trace_destroy(trace);
	}
}

static void test_full_queue(void **state)
{
	struct trace *trace = trace_create(&(struct trace_options){0});
	struct trace_counts counts;

	(void)state;
	for (uint32_t i = 0; i < 2500000; i++) {
		queue(trace, 1, i, i);
		if (i % 100000 == 0)
			trace_flush(trace, 1, i);
	}
	trace_finish(trace);
	trace_read_counts(trace, &counts);
	assert_in_range(counts.dropped, 2500000 - (2u << 20) - 4096, 2500000 - (2u << 20));
	trace_destroy(trace);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_never_woken, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_who_used_to_wake_it, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_slow, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_time_wakes_nobody, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_marks_are_no_events, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_memory_runs_out, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_somebody_signals, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_did_something, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_outside, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_lost_events, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_number_used_again, set_up, tear_down),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_flight),
		cmocka_unit_test(test_flight_keeps_waits),
		cmocka_unit_test(test_flight_keeps_the_last),
		cmocka_unit_test(test_the_future),
		cmocka_unit_test(test_full_queue),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
