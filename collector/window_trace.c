// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// window_trace.c: a window whose samples are not counted, but put on the time axis, with its targets' events (trace.h). Collector's lock
// held, unless said.

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "collector/clock.h"
#include "collector/flight_samples.h"
#include "collector/jit_follow.h"
#include "collector/session.h"
#include "collector/trace.h"
#include "collector/window_impl.h"
#include "collector/window_work.h"

// A window's place in a target's file.
struct window_events {
	struct event_reader reader;
	bool begun; // there is a file, and reader is its place
	bool ended; // all was read
};

bool window_wants_events(const struct session *session, uint32_t *ret_mib)
{
	const struct window *window;
	bool wanted = false;

	*ret_mib = 0;
	TAILQ_FOREACH(window, &session->collector->windows, link)
	{
		const struct trace_options *options;

		if (!window->options.trace || !window_covers(window, session))
			continue;
		options = trace_options(window->options.trace);
		wanted |= !options->passive;
		if (options->mib > *ret_mib)
			*ret_mib = options->mib;
	}
	if (*ret_mib == 0)
		*ret_mib = WIRE_EVENTS_DEFAULT_MIB;
	return wanted;
}

static struct window_events *events_of(struct window *window, struct session *session)
{
	struct window_source *source = window_add_source(window, session);

	if (source && !source->events)
		source->events = calloc(1, sizeof(*source->events));
	return source ? source->events : NULL;
}

// ---- Stacks and names -----------------------------------------------------------------------------------------------

// false: no memory. *ret_name, where it is put: NULL where the thread is known already.
static bool add_thread(struct window *window, const struct session *session, uint32_t tid, char **ret_name)
{
	struct aggregate_thread *thread;
	uint32_t index;
	bool new;

	if (aggregate_thread(&window->aggregate, session->id, tid, &index, &new) < 0)
		return false;
	thread = intern_item(&window->aggregate.threads, index);
	*ret_name = new ? thread->name : NULL;
	return true;
}

static bool see_thread(struct window *window, struct session *session, uint32_t tid, uint32_t slot)
{
	char *name;
	bool added = add_thread(window, session, tid, &name);

	if (added && name)
		session_thread_name(session, tid, slot, name);
	return added;
}

// ---- Events and samples ---------------------------------------------------------------------------------------------

bool window_trace_sample(struct window *window, struct session *session, const struct ring_record *record,
			 const struct aggregate_frame *frames, size_t nframes)
{
	const struct wire_sample *sample = &record->sample;
	struct trace_item item = {.time_ns = sample->time_ns,
				  .source = session->id,
				  .tid = sample->tid,
				  .object = sample->cpu_ns,
				  .kind = TRACE_ITEM_SAMPLE};

	if (trace_options(window->options.trace)->keep_ns > 0)
		return true;
	if (!window_add_source(window, session) || !see_thread(window, session, sample->tid, sample->slot))
		return false;
	item.stack = aggregate_stack(&window->aggregate, frames, nframes);
	if (!item.stack)
		return false;
	trace_counting(window->options.trace)->samples++;
	trace_add(window->options.trace, &item);
	return true;
}

struct draining {
	struct window *window;
	struct session *session;
};

static void take_event(void *context, const struct event *event)
{
	const struct draining *draining = context;
	struct trace_item item = {.time_ns = event->time_ns,
				  .source = draining->session->id,
				  .tid = event->tid,
				  .kind = event->type,
				  .reason = event->reason};

	// Who starts has not named itself yet.
	if (event->type == WIRE_EVENT_START)
		add_thread(draining->window, draining->session, event->tid, &(char *){NULL});
	else
		see_thread(draining->window, draining->session, event->tid, UINT32_MAX);
	if (event->type == WIRE_EVENT_NAME) {
		memcpy(item.name, event->name, sizeof(item.name));
	} else {
		item.object = event->object;
		item.other = event->other;
		item.stack = window_work_stack(draining->window, draining->session, event->context);
	}
	trace_add(draining->window->options.trace, &item);
}

void window_trace_begin(struct window *window, struct session *session, bool from_oldest)
{
	struct window_events *events = events_of(window, session);

	if (!events || !session->events.header)
		return;
	event_reader_init(&events->reader, &session->events, from_oldest);
	events->begun = true;
}

static void read_file(struct window *window, struct session *session, enum event_reader_mode mode)
{
	struct window_events *events = events_of(window, session);
	struct draining draining = {window, session};

	if (events && events->begun && session->events.header)
		event_reader_drain(&events->reader, &session->events, mode, take_event, &draining,
				   &trace_counting(window->options.trace)->events);
}

// A flight recorder lets the file keep the events until the end.
void window_trace_drain(struct window *window, struct session *session, enum event_reader_mode mode, int64_t until_ns)
{
	struct trace *trace = window->options.trace;

	if (trace_options(trace)->keep_ns == 0)
		read_file(window, session, mode);
	trace_flush(trace, session->id, (uint64_t)until_ns);
}

static void take_kept(void *context, const struct flight_sample *sample)
{
	const struct draining *draining = context;
	const struct trace_item item = {.time_ns = sample->time_ns,
					.source = draining->session->id,
					.tid = sample->tid,
					.object = sample->cpu_ns,
					.stack = sample->stack,
					.kind = TRACE_ITEM_SAMPLE};
	struct trace *trace = draining->window->options.trace;
	char *name;

	if (!add_thread(draining->window, draining->session, sample->tid, &name)) {
		trace_counting(trace)->dropped++;
		return;
	}
	if (name)
		memcpy(name, sample->name, sizeof(((struct aggregate_thread *)0)->name));
	trace_counting(trace)->samples++;
	trace_add(trace, &item);
}

// What the session has of the last so many nanoseconds.
static void take_flight(struct window *window, struct session *session)
{
	struct trace *trace = window->options.trace;
	struct draining draining = {window, session};

	if (session->flight && flight_samples_copy(session->flight, trace_options(trace)->keep_ns, &window->aggregate,
						   take_kept, &draining, &trace_counting(trace)->dropped))
		trace_counting(trace)->cut++;
}

void window_trace_end(struct window *window, struct session *session)
{
	struct trace *trace = window->options.trace;
	struct window_events *events = session->state == SESSION_NEW ? NULL : events_of(window, session);
	uint64_t now_ns;
	bool gone;

	if (!events || events->ended)
		return;
	events->ended = true;
	trace_counting(trace)->recording +=
		session->events.header && (session->trace_sent || session->events.flight_s > 0);
	if (!session->events.header) {
		trace_counting(trace)->without++;
		trace_counting(trace)->without_errno = session->events_errno;
	}
	// What a recorder has overwritten it was there to forget: only what cannot be read now counts as lost.
	if (trace_options(trace)->keep_ns && session->events.header)
		event_reader_init(&events->reader, &session->events, true);
	if (trace_options(trace)->keep_ns)
		take_flight(window, session);
	read_file(window, session, EVENT_READER_LAST);
	now_ns = (uint64_t)clock_now_ns();
	gone = session->state == SESSION_ENDING;
	trace_add(trace, &(struct trace_item){.time_ns = gone ? (uint64_t)session->ending_since_ns : now_ns,
					      .source = session->id,
					      .kind = gone ? TRACE_ITEM_GONE : TRACE_ITEM_STOP});
	trace_flush(trace, session->id, now_ns);
}

unsigned window_trace_fill(struct window *window, const struct session *session)
{
	uint32_t index = intern_find(&window->sources, &session->id);
	const struct window_source *source = index == INTERN_NONE ? NULL : intern_item(&window->sources, index);

	if (!source || !source->events || !source->events->begun || trace_options(window->options.trace)->keep_ns)
		return 0;
	return event_reader_fill(&source->events->reader, &session->events);
}

// ---- For the consumer: any thread, without the lock ------------------------------------------------------------------

size_t window_trace_stack(struct window *window, uint32_t stack, struct aggregate_frame *frames, size_t max)
{
	const struct aggregate *aggregate = &window->aggregate;
	size_t n = 0;

	pthread_mutex_lock(&window->collector->lock);
	while (stack != AGGREGATE_ROOT && n < max) {
		const struct aggregate_node *node = aggregate_node(aggregate, stack);

		frames[n++] = (struct aggregate_frame){aggregate_mapping(aggregate, node->mapping), node->pc};
		stack = node->parent;
	}
	pthread_mutex_unlock(&window->collector->lock);
	return n;
}

bool window_trace_process(struct window *window, uint32_t source, uint32_t *ret_pid, char ret_name[16])
{
	uint32_t index;

	pthread_mutex_lock(&window->collector->lock);
	index = intern_find(&window->sources, &source);
	if (index != INTERN_NONE) {
		const struct session *session =
			((const struct window_source *)intern_item(&window->sources, index))->session;

		*ret_pid = (uint32_t)session->pid;
		memcpy(ret_name, session->comm, 16);
	}
	pthread_mutex_unlock(&window->collector->lock);
	return index != INTERN_NONE;
}

void window_trace_thread(struct window *window, uint32_t source, uint32_t tid, char ret_name[16])
{
	const struct aggregate_thread key = {.source = source, .tid = tid};
	uint32_t index;

	ret_name[0] = '\0';
	pthread_mutex_lock(&window->collector->lock);
	index = intern_find(&window->aggregate.threads, &key);
	if (index != INTERN_NONE)
		memcpy(ret_name,
		       ((const struct aggregate_thread *)intern_item(&window->aggregate.threads, index))->name, 16);
	pthread_mutex_unlock(&window->collector->lock);
}

void window_trace_maker(struct window *window, uint32_t source, struct jit_process *ret_process)
{
	uint32_t index;

	*ret_process = (struct jit_process){.jitdump_fd = -1};
	pthread_mutex_lock(&window->collector->lock);
	index = intern_find(&window->sources, &source);
	if (index != INTERN_NONE) {
		const struct session *session =
			((const struct window_source *)intern_item(&window->sources, index))->session;

		*ret_process = (struct jit_process){session->pid, session->uid,
						    __atomic_load_n(&session->jitdump_fd, __ATOMIC_RELAXED)};
	}
	pthread_mutex_unlock(&window->collector->lock);
}
