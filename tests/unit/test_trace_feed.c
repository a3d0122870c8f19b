// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_trace_feed.c: what a trace's items become on the tracks (trace_feed.c), above all where items are missing or come late. A window and its
// stacks are this test's own, and so is the format: a line of text for each call.

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "collector/trace.h"
#include "collector/trace_feed.h"
#include "collector/trace_stacks.h"
#include "collector/window_impl.h"
#include "formats/trace.h"
#include "formats/writer.h"

static char said[4096];

static void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *fmt, ...)
{
	size_t used = strlen(said);
	va_list args;

	va_start(args, fmt);
	vsnprintf(said + used, sizeof(said) - used, fmt, args);
	va_end(args);
}

// ---- The window and the format ---------------------------------------------------------------------------------------

bool window_trace_process(struct window *window, uint32_t source, uint32_t *ret_pid, char ret_name[16])
{
	*ret_pid = 100;
	snprintf(ret_name, 16, "program%" PRIu32, source);
	return true;
}

void window_trace_thread(struct window *window, uint32_t source, uint32_t tid, char ret_name[16])
{
	ret_name[0] = '\0';
}

struct trace_stacks *trace_stacks_create(struct window *window)
{
	return (struct trace_stacks *)said;
}

void trace_stacks_destroy(struct trace_stacks *stacks) {}

uint32_t trace_stacks_send(struct trace_stacks *stacks, struct trace_output *output, uint32_t source, uint32_t stack)
{
	return stack;
}

void trace_stacks_end(struct trace_stacks *stacks, struct trace_output *output) {}

static void begin(struct trace_output *output, const struct trace_meta *meta) {}

static void process(struct trace_output *output, uint32_t pid, const char *name) {}

static void thread(struct trace_output *output, const struct trace_thread *thread) {}

static void event(struct trace_output *output, const struct trace_event *event)
{
	say("%s%" PRIu32 "@%" PRIu64, event->phase == TRACE_END ? "end " : "", event->track, event->time_ns);
	if (event->phase != TRACE_END)
		say("%s%s", event->phase == TRACE_BEGIN ? " begin " : " ", event->name);
	if (event->flow_in)
		say(" from %" PRIu64, event->flow_in);
	if (event->flow_out)
		say(" to %" PRIu64, event->flow_out);
	say("\n");
}

static void end(struct trace_output *output, uint64_t time_ns) {}

static void finish(struct trace_output *output) {}

static const struct trace_format format = {.state_size = sizeof(struct trace_output),
					   .begin = begin,
					   .process = process,
					   .thread = thread,
					   .event = event,
					   .end = end,
					   .finish = finish};

// ---- Tests ----------------------------------------------------------------------------------------------------------

static int ignore(void *context, const void *data, size_t size)
{
	return 0;
}

// What becomes of these items; losses: what is said of what was lost.
static const char *feed(const struct trace_item *items, size_t n, const char *losses)
{
	struct trace *trace = trace_create(&(struct trace_options){0});
	struct trace_feed *feed = trace_feed_create(NULL, trace, &format, "test");
	struct writer writer;
	char text[256];

	said[0] = '\0';
	writer_init(&writer, ignore, NULL);
	for (size_t i = 0; i < n; i++) {
		struct trace_item item = items[i];

		item.source = item.source ? item.source : 1;
		trace_add(trace, &item);
		trace_flush(trace, item.source, UINT64_MAX); // in this order, whatever their times
	}
	trace_finish(trace);
	assert_int_equal(trace_feed_end(feed, &writer), 0);
	assert_string_equal(trace_feed_losses(feed, text, sizeof(text)), losses);
	trace_feed_destroy(feed);
	trace_destroy(trace);
	return said;
}
#define FEED(losses, ...)                              \
	feed((const struct trace_item[]){__VA_ARGS__}, \
	     sizeof((const struct trace_item[]){__VA_ARGS__}) / sizeof(struct trace_item), (losses))
#define ITEM(kind_, time, tid_, ...)                                                     \
	{                                                                                \
		.kind = (kind_), .time_ns = (time), .tid = (tid_), .object = __VA_ARGS__ \
	}
#define START(time, tid, token) ITEM(WIRE_EVENT_START, time, tid, token)
#define EXIT(time, tid) ITEM(WIRE_EVENT_EXIT, time, tid, 0)
#define WAKE(time, tid, object) ITEM(WIRE_EVENT_WAKE, time, tid, object)
#define PARK(time, tid, object) ITEM(WIRE_EVENT_PARK, time, tid, object, .reason = WIRE_WAIT_SEMAPHORE)
#define UNPARK(time, tid, object) ITEM(WIRE_EVENT_UNPARK, time, tid, object, .reason = WIRE_WAIT_SEMAPHORE)
#define LOCK(time, tid, object) ITEM(WIRE_EVENT_PARK, time, tid, object, .reason = WIRE_WAIT_MUTEX)
#define SAMPLE(time, tid) ITEM(TRACE_ITEM_SAMPLE, time, tid, 10)

#define LOST(late)                                                                                          \
	"lost: 0 events overwritten before they were read or not finished, 0 without sense, 0 for want of " \
	"memory, " late " that came after their thread's end"

static void test_a_life(void **state)
{
	(void)state;
	assert_string_equal(FEED("nothing lost", START(10, 7, 0), PARK(20, 7, 5), WAKE(30, 8, 5), UNPARK(31, 7, 5),
				 SAMPLE(35, 7), EXIT(40, 7)),
			    "1@10 begin alive\n1@20 begin sem wait\n2@30 begin alive\n2@30 wake to 1\n"
			    "end 1@31 from 1\n1@35 on CPU\n1@40 exit\nend 1@40\nend 2@40\n");
}

// A sample that was still in the ring when its thread's end was written: there is no second life.
static void test_a_sample_after_its_thread(void **state)
{
	(void)state;
	assert_string_equal(FEED(LOST("1"), START(10, 7, 0), EXIT(40, 7), SAMPLE(39, 7)),
			    "1@10 begin alive\n1@40 exit\nend 1@40\n");
	// Nor is it the next one's that has the number.
	assert_string_equal(
		FEED(LOST("1"), START(10, 7, 0), EXIT(40, 7), START(50, 7, 0), SAMPLE(39, 7), SAMPLE(51, 7)),
		"1@10 begin alive\n1@40 exit\nend 1@40\n2@50 begin alive\n2@51 on CPU\nend 2@51\n");
	// Who is seen later is another one, whose start was lost.
	assert_string_equal(FEED("nothing lost", START(10, 7, 0), EXIT(40, 7), SAMPLE(41, 7)),
			    "1@10 begin alive\n1@40 exit\nend 1@40\n2@41 begin alive\n2@41 on CPU\nend 2@41\n");
}

// The end of a wait was lost: it ends where it begins again, and with it what began in it.
static void test_a_wait_without_an_end(void **state)
{
	(void)state;
	assert_string_equal(FEED("nothing lost", PARK(10, 7, 5), LOCK(20, 7, 6), PARK(30, 7, 5), UNPARK(31, 7, 5)),
			    "1@10 begin alive\n1@10 begin sem wait\n1@20 begin mutex lock\nend 1@30\nend 1@30\n"
			    "1@30 begin sem wait\nend 1@31\nend 1@31\n");
	// No more than four are open at once.
	assert_string_equal(FEED("nothing lost", PARK(10, 7, 1), PARK(11, 7, 2), PARK(12, 7, 3), PARK(13, 7, 4),
				 PARK(14, 7, 5), UNPARK(15, 7, 1)),
			    "1@10 begin alive\n1@10 begin sem wait\n1@11 begin sem wait\n1@12 begin sem wait\n"
			    "1@13 begin sem wait\nend 1@14\n1@14 begin sem wait\nend 1@15\nend 1@15\nend 1@15\n"
			    "end 1@15\nend 1@15\n");
	// An end without a beginning is none.
	assert_string_equal(FEED("nothing lost", UNPARK(15, 7, 1)), "1@15 begin alive\nend 1@15\n");
}

// A program that became another one, in the same process; and the end of a process.
// Time ended the second one, whoever was woken there meanwhile.
static void test_a_wait_that_nobody_ended(void **state)
{
	assert_string_equal(FEED("nothing lost", PARK(1, 1, 7), WAKE(2, 2, 7), UNPARK(3, 1, 7), PARK(4, 1, 7),
				 WAKE(5, 2, 7),
				 {.kind = WIRE_EVENT_UNPARK,
				  .reason = WIRE_WAIT_SEMAPHORE,
				  .time_ns = 6,
				  .tid = 1,
				  .object = 7,
				  .other = WIRE_EVENT_NOBODY}),
			    "1@1 begin alive\n1@1 begin sem wait\n2@2 begin alive\n2@2 wake to 1\nend 1@3 from 1\n"
			    "1@4 begin sem wait\n2@5 wake to 2\nend 1@6\nend 1@6\nend 2@6\n");
}

// The memory that a thread's token was in is a semaphore's later, and the other way round.
static void test_tokens_are_no_objects(void **state)
{
	assert_string_equal(
		FEED("nothing lost", WAKE(1, 1, 7), START(2, 2, 7), PARK(3, 2, 7), ITEM(WIRE_EVENT_CREATE, 4, 1, 7),
		     UNPARK(5, 2, 7)),
		"1@1 begin alive\n1@1 wake to 1\n2@2 begin alive\n2@3 begin sem wait\n1@4 create thread to 2\n"
		"end 2@5\nend 1@5\nend 2@5\n");
}

// What a process's threads did last goes on to where its part of the trace stops.
static void test_where_it_stops(void **state)
{
	assert_string_equal(FEED("nothing lost", PARK(1, 1, 7), ITEM(TRACE_ITEM_STOP, 90, 0, 0)),
			    "1@1 begin alive\n1@1 begin sem wait\nend 1@90\nend 1@90\n");
}

static void test_processes(void **state)
{
	(void)state;
	assert_string_equal(FEED("nothing lost", PARK(10, 100, 5),
				 {.kind = TRACE_ITEM_SAMPLE, .source = 2, .time_ns = 20, .tid = 100, .object = 1},
				 {.kind = TRACE_ITEM_GONE, .source = 2, .time_ns = 30, .tid = 100}),
			    "1@10 begin alive\n1@10 begin sem wait\nend 1@20\nend 1@20\n"
			    "2@20 begin alive\n2@20 on CPU\nend 2@30\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_life),
		cmocka_unit_test(test_a_sample_after_its_thread),
		cmocka_unit_test(test_a_wait_without_an_end),
		cmocka_unit_test(test_a_wait_that_nobody_ended),
		cmocka_unit_test(test_tokens_are_no_objects),
		cmocka_unit_test(test_where_it_stops),
		cmocka_unit_test(test_processes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
