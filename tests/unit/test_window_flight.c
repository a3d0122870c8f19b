// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_window_flight.c: the window of a run's flight recorder has room for processes without number (window_flight.c). Window and sessions are this
// test's own, never opened.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "collector/session.h"
#include "collector/trace.h"
#include "collector/window_impl.h"

#define TARGETS 300u
#define STEP_NS 100u // between the ends of two of them
#define KEEP_NS 1000u

static struct session sessions[TARGETS + 1]; // by id; the first lives on
static uint32_t nreleased;

void window_release_source(struct window_source *source)
{
	assert_int_equal(source->session->state, SESSION_CLOSED);
	nreleased++;
}

static void add_source(struct window *window, uint32_t id, enum session_state state)
{
	struct window_source *source = intern_item(&window->sources, intern_add(&window->sources, &id, NULL));

	sessions[id] = (struct session){.id = id, .state = state};
	source->session = &sessions[id];
}

// A target that named its thread, ran a function of its own, and ended.
static void add_ended(struct window *window, uint32_t id)
{
	const struct aggregate_frame frames[] = {{NULL, 1000 + id}, {NULL, 7}};
	struct trace_item item = {.source = id, .tid = id, .time_ns = id * STEP_NS, .kind = WIRE_EVENT_NAME};
	uint32_t thread;

	add_source(window, id, SESSION_CLOSED);
	assert_int_equal(aggregate_thread(&window->aggregate, id, id, &thread, &(bool){false}), 0);
	strcpy(((struct aggregate_thread *)intern_item(&window->aggregate.threads, thread))->name, "thread");
	memset(item.name, 'n', sizeof(item.name) - 1);
	trace_add(window->options.trace, &item);
	memset(item.name, 0, sizeof(item.name));
	item.kind = TRACE_ITEM_SAMPLE;
	item.stack = aggregate_stack(&window->aggregate, frames, 2);
	trace_add(window->options.trace, &item);
	trace_add(window->options.trace,
		  &(struct trace_item){.source = id, .time_ns = id * STEP_NS, .kind = TRACE_ITEM_GONE});
}

static void begin(struct window *window, const struct trace_options *options)
{
	*window = (struct window){.options.trace = trace_create(options)};
	nreleased = 0;
	aggregate_init(&window->aggregate, CORE_WINDOW_BYTES);
	intern_init(&window->sources, sizeof(struct window_source), sizeof(uint32_t), &window->aggregate.budget);
	add_source(window, 0, SESSION_LIVE);
	for (uint32_t id = 1; id <= TARGETS; id++)
		add_ended(window, id);
}

static void end(struct window *window)
{
	trace_destroy(window->options.trace);
	aggregate_finish(&window->aggregate);
	intern_finish(&window->sources);
}

// The last so many nanoseconds are all there, with all that belongs to them; and nothing else.
static void test_what_ended_long_ago_is_forgotten(void **state)
{
	const uint32_t kept = KEEP_NS / STEP_NS + 1;
	struct trace_item items[100];
	struct window window;
	size_t bytes;

	begin(&window, &(struct trace_options){.keep_ns = KEEP_NS});
	bytes = window.aggregate.budget.used;
	window_forget(&window);
	assert_int_equal(window.sources.count, kept + 1);
	assert_int_equal(nreleased, TARGETS - kept);
	assert_int_equal(window.aggregate.threads.count, kept);
	assert_int_equal(window.aggregate.nodes.count, kept + 1);
	assert_true(window.aggregate.budget.used < bytes / 2);
	trace_finish(window.options.trace);
	assert_int_equal(trace_take(window.options.trace, items, 100), 3 * kept);
	for (uint32_t i = 0; i < kept; i++) {
		const struct trace_item *name = &items[3 * i], *sample = &items[3 * i + 1];
		const struct aggregate_thread key = {.source = sample->source, .tid = sample->source};
		uint32_t thread = intern_find(&window.aggregate.threads, &key);

		assert_int_equal(sample->source, TARGETS - kept + 1 + i);
		assert_int_equal(name->source, sample->source);
		assert_string_equal(name->name, "nnnnnnnnnnnnnnn");
		assert_int_equal(aggregate_node(&window.aggregate, sample->stack)->pc, 1000 + sample->source);
		assert_true(thread != INTERN_NONE);
		assert_string_equal(((struct aggregate_thread *)intern_item(&window.aggregate.threads, thread))->name,
				    "thread");
		assert_true(intern_find(&window.sources, &sample->source) != INTERN_NONE);
	}
	end(&window);
}

// Not each time that one ends: when there are twice as many.
static void test_now_and_then(void **state)
{
	struct window window;

	begin(&window, &(struct trace_options){.keep_ns = (uint64_t)TARGETS * STEP_NS});
	window_forget(&window);
	assert_int_equal(nreleased, 0);
	assert_int_equal(window.forget_at, 2 * (TARGETS + 1));
	end(&window);
}

// What is written while it happens, and what is asked for once, may be read at the same time.
static void test_other_windows_keep_all(void **state)
{
	const struct trace_options options[] = {{0}, {.keep_ns = KEEP_NS, .passive = true}};
	struct window window;

	for (int i = 0; i < 2; i++) {
		begin(&window, &options[i]);
		window_forget(&window);
		assert_int_equal(window.sources.count, TARGETS + 1);
		assert_int_equal(nreleased, 0);
		end(&window);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_ended_long_ago_is_forgotten),
		cmocka_unit_test(test_now_and_then),
		cmocka_unit_test(test_other_windows_keep_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
