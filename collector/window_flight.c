// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// window_flight.c: what the window of a run's flight recorder forgets: a run may go on for days, and have processes without number. Each leaves its
// last events and samples in the window's trace when it ends, and with them stacks, threads and its session; when none of the former are kept any more,
// the latter go, too: into new tables goes what is still wanted. Collector's lock held; nobody reads the tables before the window is stopped.

#include <stdlib.h>
#include <string.h>

#include "collector/session.h"
#include "collector/trace.h"
#include "collector/window_impl.h"

#define FORGET_LEAST 256u // targets

// On the way from the window's tables to new ones.
struct moving {
	struct window *window;
	struct aggregate aggregate;
	struct intern sources; // struct window_source
	uint32_t *stacks;      // of the window's nodes: the new ones; 0: not copied
	struct aggregate_frame frames[WIRE_MAX_FRAMES];
	bool failed; // no memory: all stays as it was
};

// ---- Out of the old tables ------------------------------------------------------------------------------------------

static void move_source(struct moving *moving, uint32_t id)
{
	uint32_t from = intern_find(&moving->window->sources, &id), to = intern_add(&moving->sources, &id, NULL);

	if (from == INTERN_NONE || to == INTERN_NONE)
		moving->failed = true;
	else
		*(struct window_source *)intern_item(&moving->sources, to) =
			*(const struct window_source *)intern_item(&moving->window->sources, from);
}

static void move_living_sources(struct moving *moving)
{
	for (uint32_t i = 0; i < moving->window->sources.count && !moving->failed; i++) {
		const struct window_source *source = intern_item(&moving->window->sources, i);

		if (source->session->state != SESSION_CLOSED)
			move_source(moving, source->id);
	}
}

static void move_thread(struct moving *moving, const struct trace_item *item)
{
	const struct aggregate_thread key = {.source = item->source, .tid = item->tid};
	uint32_t from = intern_find(&moving->window->aggregate.threads, &key), to;
	bool new;

	if (from == INTERN_NONE)
		return;
	if (aggregate_thread(&moving->aggregate, item->source, item->tid, &to, &new) < 0)
		moving->failed = true;
	else if (new)
		*(struct aggregate_thread *)intern_item(&moving->aggregate.threads, to) =
			*(const struct aggregate_thread *)intern_item(&moving->window->aggregate.threads, from);
}

static void move_stack(struct moving *moving, uint32_t stack)
{
	if (!stack || moving->stacks[stack])
		return;
	moving->stacks[stack] =
		aggregate_copy_stack(&moving->window->aggregate, stack, &moving->aggregate, moving->frames);
	moving->failed |= moving->stacks[stack] == 0;
}

// The name of a thread is no reason to keep its process.
static bool move_item(void *context, struct trace_item *item)
{
	struct moving *moving = context;

	if (item->kind == WIRE_EVENT_NAME || moving->failed)
		return true;
	move_source(moving, item->source);
	move_thread(moving, item);
	move_stack(moving, item->stack);
	return true;
}

// ---- Into the new ones ----------------------------------------------------------------------------------------------

static bool change_item(void *context, struct trace_item *item)
{
	const struct moving *moving = context;

	if (intern_find(&moving->sources, &item->source) == INTERN_NONE)
		return false;
	if (item->kind != WIRE_EVENT_NAME)
		item->stack = moving->stacks[item->stack];
	return true;
}

static void finish(struct intern *sources, struct aggregate *aggregate)
{
	intern_finish(sources);
	aggregate_finish(aggregate);
}

static void change_tables(struct moving *moving)
{
	struct window *window = moving->window;

	for (uint32_t i = 0; i < window->sources.count; i++) {
		struct window_source *source = intern_item(&window->sources, i);

		if (intern_find(&moving->sources, &source->id) == INTERN_NONE)
			window_release_source(source);
	}
	finish(&window->sources, &window->aggregate);
	aggregate_move(&moving->aggregate, &window->aggregate);
	window->sources = moving->sources;
	window->sources.budget = &window->aggregate.budget;
}

static void forget(struct moving *moving)
{
	struct trace *trace = moving->window->options.trace;

	aggregate_init(&moving->aggregate, CORE_WINDOW_BYTES);
	intern_init(&moving->sources, sizeof(struct window_source), sizeof(uint32_t), &moving->aggregate.budget);
	move_living_sources(moving);
	trace_forget(trace, move_item, moving);
	if (moving->failed) {
		finish(&moving->sources, &moving->aggregate);
		return;
	}
	trace_forget(trace, change_item, moving);
	change_tables(moving);
}

void window_forget(struct window *window)
{
	const struct trace_options *options = trace_options(window->options.trace);
	struct moving *moving;

	if (options->keep_ns == 0 || options->passive || window->sources.count < window->forget_at ||
	    window->sources.count < FORGET_LEAST)
		return;
	moving = calloc(1, sizeof(*moving));
	if (moving)
		moving->stacks = calloc((size_t)window->aggregate.nodes.count + 1, sizeof(*moving->stacks));
	if (moving && moving->stacks) {
		moving->window = window;
		forget(moving);
	}
	if (moving)
		free(moving->stacks);
	free(moving);
	window->forget_at = 2 * window->sources.count;
}
