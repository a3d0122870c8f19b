// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// trace_feed.c: see trace_feed.h. A trace may begin and end anywhere in a thread's life, and lack events: an end without a beginning is left
// out, a second beginning ends what was open.

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/clock.h"
#include "collector/intern.h"
#include "collector/trace.h"
#include "collector/trace_feed.h"
#include "collector/trace_stacks.h"
#include "collector/window_impl.h"
#include "formats/trace.h"
#include "formats/writer.h"

#define ITEMS_AT_ONCE 1024u
#define MAX_WAITS 4u           // that one thread is in at once: one function that waits calls another
#define MAX_BYTES (256u << 20) // of threads and objects that are remembered

struct wait {
	uint64_t object, since_ns;
	uint8_t reason;
};

// The thread that has this id now.
struct thread {
	uint32_t source, tid;
	uint32_t track; // 0: it has ended
	uint32_t nwaits;
	uint64_t since_ns, last_ns; // of its track: no event may be before last_ns
	char name[16];
	struct wait waits[MAX_WAITS];
};

// Who let go on whoever waits for the object; or who makes the thread with that token, whose memory may be an object's later.
enum flow_kind { FLOW_WAKE, FLOW_CREATE };
struct flow {
	uint32_t source;
	uint32_t kind; // enum flow_kind
	uint64_t object;
	uint64_t id, time_ns;
	uint32_t tid;
};

struct source {
	uint32_t source;
	uint32_t pid; // 0: not known
	char name[16];
};

struct trace_feed {
	struct window *window;
	struct trace *trace;
	struct trace_output *output;
	char *title;
	const struct trace_format *format;
	struct intern_budget budget;
	struct intern sources, threads, flows;
	struct trace_stacks *stacks;
	uint32_t ntracks;
	uint64_t nflows;
	uint64_t forgotten; // items of threads that there was no room for
	uint64_t late;      // items that came when their thread's track had ended
	struct trace_feed_stats stats;
	struct trace_item items[ITEMS_AT_ONCE];
};

static const char *wait_name(uint32_t reason)
{
	static const char *const names[WIRE_WAIT_COUNT] = {
		[WIRE_WAIT_MUTEX] = "mutex lock",
		[WIRE_WAIT_READ_LOCK] = "rwlock read",
		[WIRE_WAIT_WRITE_LOCK] = "rwlock write",
		[WIRE_WAIT_SPIN] = "spin lock",
		[WIRE_WAIT_COND] = "cond wait",
		[WIRE_WAIT_SEMAPHORE] = "sem wait",
		[WIRE_WAIT_BARRIER] = "barrier wait",
		[WIRE_WAIT_JOIN] = "join thread",
		[WIRE_WAIT_FUTEX] = "futex",
		[WIRE_WAIT_READ] = "read",
		[WIRE_WAIT_WRITE] = "write",
		[WIRE_WAIT_SYNC] = "fsync",
		[WIRE_WAIT_FILE_LOCK] = "file lock",
		[WIRE_WAIT_CONNECT] = "connect",
		[WIRE_WAIT_ACCEPT] = "accept",
		[WIRE_WAIT_RECEIVE] = "recv",
		[WIRE_WAIT_SEND] = "send",
		[WIRE_WAIT_POLL] = "poll",
		[WIRE_WAIT_SELECT] = "select",
		[WIRE_WAIT_EPOLL] = "epoll",
		[WIRE_WAIT_SLEEP] = "sleep",
		[WIRE_WAIT_CHILD] = "wait child",
	};

	return reason < WIRE_WAIT_COUNT && names[reason] ? names[reason] : "wait";
}

struct trace_feed *trace_feed_create(struct window *window, struct trace *trace, const struct trace_format *format,
				     const char *title)
{
	struct trace_feed *feed = calloc(1, sizeof(*feed));

	if (!feed)
		return NULL;
	feed->window = window;
	feed->trace = trace;
	feed->format = format;
	feed->budget.max = MAX_BYTES;
	intern_init(&feed->sources, sizeof(struct source), sizeof(uint32_t), &feed->budget);
	intern_init(&feed->threads, sizeof(struct thread), 2 * sizeof(uint32_t), &feed->budget);
	intern_init(&feed->flows, sizeof(struct flow), 2 * sizeof(uint64_t), &feed->budget);
	feed->stacks = trace_stacks_create(window);
	feed->title = strdup(title);
	if (feed->stacks && feed->title)
		return feed;
	trace_feed_destroy(feed);
	return NULL;
}

void trace_feed_destroy(struct trace_feed *feed)
{
	if (!feed)
		return;
	trace_destroy_output(feed->output);
	intern_finish(&feed->sources);
	intern_finish(&feed->threads);
	intern_finish(&feed->flows);
	trace_stacks_destroy(feed->stacks);
	free(feed->title);
	free(feed);
}

// ---- Processes and threads ------------------------------------------------------------------------------------------

// Its own event's time, or that of the one before on its track.
static uint64_t time_on_track(struct thread *thread, uint64_t time_ns)
{
	if (time_ns > thread->last_ns)
		thread->last_ns = time_ns;
	return thread->last_ns;
}

static void put(struct trace_feed *feed, struct thread *thread, struct trace_event event)
{
	event.track = thread->track;
	event.time_ns = time_on_track(thread, event.time_ns);
	feed->stats.arrows += event.flow_in != 0;
	trace_event(feed->output, &event);
}

static void name_track(struct trace_feed *feed, const struct source *source, const struct thread *thread)
{
	const struct trace_thread track = {.track = thread->track,
					   .pid = source->pid,
					   .tid = thread->tid,
					   .name = thread->name[0] ? thread->name : source->name};

	trace_thread(feed->output, &track);
}

// name: "" where the window knows it.
static void open_track(struct trace_feed *feed, const struct source *source, struct thread *thread,
		       struct trace_event event, const char *name)
{
	thread->track = ++feed->ntracks;
	thread->nwaits = 0;
	thread->since_ns = event.time_ns;
	thread->last_ns = 0;
	feed->stats.threads++;
	if (name)
		memcpy(thread->name, name, sizeof(thread->name));
	else
		window_trace_thread(feed->window, source->source, thread->tid, thread->name);
	name_track(feed, source, thread);
	event.phase = TRACE_BEGIN;
	event.name = "alive";
	event.category = "thread";
	put(feed, thread, event);
}

static struct thread *find_thread(struct trace_feed *feed, uint32_t source, uint32_t tid)
{
	const uint32_t key[2] = {source, tid};
	uint32_t index = intern_find(&feed->threads, key);

	return index == INTERN_NONE ? NULL : intern_item(&feed->threads, index);
}

static struct thread *add_thread(struct trace_feed *feed, uint32_t source, uint32_t tid)
{
	const uint32_t key[2] = {source, tid};
	uint32_t index = intern_add(&feed->threads, key, NULL);

	return index == INTERN_NONE ? NULL : intern_item(&feed->threads, index);
}

// Those within the wait number `depth`, which may not have ended by themselves.
static void end_waits(struct trace_feed *feed, struct thread *thread, uint32_t depth, uint64_t time_ns)
{
	for (; thread->nwaits > depth; thread->nwaits--)
		put(feed, thread, (struct trace_event){.phase = TRACE_END, .time_ns = time_ns});
}

static void close_track(struct trace_feed *feed, struct thread *thread, uint64_t time_ns)
{
	end_waits(feed, thread, 0, time_ns);
	put(feed, thread, (struct trace_event){.phase = TRACE_END, .time_ns = time_ns});
	thread->track = 0;
}

// All of that process, or of what it was before it became another program.
static void close_tracks(struct trace_feed *feed, uint32_t source, uint64_t time_ns)
{
	for (uint32_t i = 0; i < feed->threads.count; i++) {
		struct thread *thread = intern_item(&feed->threads, i);

		if (thread->source == source && thread->track)
			close_track(feed, thread, time_ns);
	}
}

static const struct source *find_source(struct trace_feed *feed, const struct trace_item *item)
{
	bool new;
	uint32_t index = intern_add(&feed->sources, &item->source, &new);
	struct source *source = index == INTERN_NONE ? NULL : intern_item(&feed->sources, index);

	if (!source)
		return NULL;
	if (new &&window_trace_process(feed->window, item->source, &source->pid, source->name)) {
		for (uint32_t i = 0; i < index; i++) {
			const struct source *other = intern_item(&feed->sources, i);

			if (other->pid == source->pid)
				close_tracks(feed, other->source, item->time_ns);
		}
		trace_process(feed->output, source->pid, source->name);
	}
	return source->pid ? source : NULL;
}

// ---- Arrows ---------------------------------------------------------------------------------------------------------

static uint64_t begin_flow(struct trace_feed *feed, const struct trace_item *item)
{
	const struct flow key = {.source = item->source,
				 .kind = item->kind == WIRE_EVENT_CREATE ? FLOW_CREATE : FLOW_WAKE,
				 .object = item->object};
	uint32_t index = intern_add(&feed->flows, &key, NULL);
	struct flow *flow = index == INTERN_NONE ? NULL : intern_item(&feed->flows, index);

	if (!flow)
		return 0;
	flow->id = ++feed->nflows;
	flow->time_ns = item->time_ns;
	flow->tid = item->tid;
	return flow->id;
}

// The last that was begun for the object, not before since_ns. NULL: none.
static const struct flow *find_flow(struct trace_feed *feed, const struct trace_item *item, enum flow_kind kind,
				    uint64_t since_ns)
{
	const struct flow key = {.source = item->source, .kind = kind, .object = item->object};
	uint32_t index = intern_find(&feed->flows, &key);
	const struct flow *flow = index == INTERN_NONE ? NULL : intern_item(&feed->flows, index);

	return flow && flow->time_ns >= since_ns && flow->tid != item->tid ? flow : NULL;
}

// ---- Items ----------------------------------------------------------------------------------------------------------

static void on_start(struct trace_feed *feed, const struct source *source, struct thread *thread,
		     const struct trace_item *item)
{
	const struct thread *creator = item->other ? find_thread(feed, item->source, item->other) : NULL;
	const struct flow *flow = item->object ? find_flow(feed, item, FLOW_CREATE, 0) : NULL;
	char name[16] = "";

	if (creator)
		memcpy(name, creator->name, sizeof(name));
	if (thread->track) // its end was lost
		close_track(feed, thread, item->time_ns);
	open_track(
		feed, source, thread,
		(struct trace_event){.time_ns = item->time_ns,
				     .other_tid = item->other,
				     .flow_in = flow ? flow->id : 0,
				     .stack = trace_stacks_send(feed->stacks, feed->output, item->source, item->stack)},
		name);
}

// The innermost such wait that the thread is in, from 1; 0: it is in none.
static uint32_t find_wait(const struct thread *thread, const struct trace_item *item)
{
	uint32_t at = thread->nwaits;

	while (at > 0 && (thread->waits[at - 1].object != item->object || thread->waits[at - 1].reason != item->reason))
		at--;
	return at;
}

static void on_park(struct trace_feed *feed, struct thread *thread, const struct trace_item *item)
{
	uint32_t again = find_wait(thread, item);

	// Who begins it again has ended it: by longjmp, or in an event that was lost.
	if (again > 0)
		end_waits(feed, thread, again - 1, item->time_ns);
	end_waits(feed, thread, MAX_WAITS - 1, item->time_ns);
	thread->waits[thread->nwaits++] =
		(struct wait){.object = item->object, .since_ns = item->time_ns, .reason = item->reason};
	put(feed, thread,
	    (struct trace_event){.phase = TRACE_BEGIN,
				 .time_ns = item->time_ns,
				 .name = wait_name(item->reason),
				 .category = "wait",
				 .object = item->object,
				 .stack = trace_stacks_send(feed->stacks, feed->output, item->source, item->stack)});
}

// What was begun within it, and never ended, ends with it.
static void on_unpark(struct trace_feed *feed, struct thread *thread, const struct trace_item *item)
{
	const struct flow *flow;
	uint32_t at = find_wait(thread, item);

	if (at == 0)
		return;
	end_waits(feed, thread, at, item->time_ns);
	thread->nwaits--;
	flow = item->other == WIRE_EVENT_NOBODY ? NULL
						: find_flow(feed, item, FLOW_WAKE, thread->waits[at - 1].since_ns);
	put(feed, thread,
	    (struct trace_event){.phase = TRACE_END,
				 .time_ns = item->time_ns,
				 .other_tid = item->other == WIRE_EVENT_NOBODY ? 0
					      : item->other                    ? item->other
					      : flow                           ? flow->tid
									       : 0,
				 .flow_in = flow ? flow->id : 0,
				 .stack = trace_stacks_send(feed->stacks, feed->output, item->source, item->stack)});
}

static void on_instant(struct trace_feed *feed, struct thread *thread, const struct trace_item *item, const char *name,
		       const char *category)
{
	put(feed, thread,
	    (struct trace_event){.phase = TRACE_INSTANT,
				 .time_ns = item->time_ns,
				 .name = name,
				 .category = category,
				 .object = item->object,
				 .flow_out = item->object ? begin_flow(feed, item) : 0,
				 .stack = trace_stacks_send(feed->stacks, feed->output, item->source, item->stack)});
}

static void on_sample(struct trace_feed *feed, struct thread *thread, const struct trace_item *item)
{
	put(feed, thread,
	    (struct trace_event){.phase = TRACE_INSTANT,
				 .time_ns = item->time_ns,
				 .name = "on CPU",
				 .category = "cpu",
				 .weight_ns = item->object,
				 .stack = trace_stacks_send(feed->stacks, feed->output, item->source, item->stack)});
}

static void on_name(struct trace_feed *feed, const struct source *source, struct thread *thread,
		    const struct trace_item *item)
{
	memcpy(thread->name, item->name, sizeof(thread->name));
	if (thread->track)
		name_track(feed, source, thread);
}

// Its thread has ended by what is written; or it has, and another one has its number now.
static bool is_late(const struct thread *thread, const struct trace_item *item)
{
	if (item->kind == WIRE_EVENT_START || item->kind == WIRE_EVENT_NAME)
		return false;
	return thread->track ? item->time_ns < thread->since_ns : thread->last_ns && item->time_ns <= thread->last_ns;
}

static void take(struct trace_feed *feed, const struct trace_item *item)
{
	const struct source *source;
	struct thread *thread;

	if (item->kind == TRACE_ITEM_GONE || item->kind == TRACE_ITEM_STOP) {
		close_tracks(feed, item->source, item->time_ns);
		return;
	}
	source = find_source(feed, item);
	thread = source ? add_thread(feed, item->source, item->tid) : NULL;
	if (!thread) {
		feed->forgotten++;
		return;
	}
	if (is_late(thread, item)) {
		feed->late++;
		return;
	}
	feed->stats.samples += item->kind == TRACE_ITEM_SAMPLE;
	feed->stats.events += item->kind != TRACE_ITEM_SAMPLE;
	if (item->kind == WIRE_EVENT_START) {
		on_start(feed, source, thread, item);
		return;
	}
	if (!thread->track && item->kind != WIRE_EVENT_NAME)
		open_track(feed, source, thread, (struct trace_event){.time_ns = item->time_ns}, NULL);
	switch (item->kind) {
	case WIRE_EVENT_CREATE:
		on_instant(feed, thread, item, "create thread", "thread");
		break;
	case WIRE_EVENT_WAKE:
		on_instant(feed, thread, item, "wake", "wake");
		break;
	case WIRE_EVENT_PARK:
		on_park(feed, thread, item);
		break;
	case WIRE_EVENT_UNPARK:
		on_unpark(feed, thread, item);
		break;
	case WIRE_EVENT_EXIT:
		on_instant(feed, thread, item, "exit", "thread");
		close_track(feed, thread, item->time_ns);
		break;
	case WIRE_EVENT_NAME:
		on_name(feed, source, thread, item);
		break;
	default:
		on_sample(feed, thread, item);
		break;
	}
}

// ---- The whole ------------------------------------------------------------------------------------------------------

// The trace begins with its first item. first: NULL: there is none.
static int begin(struct trace_feed *feed, struct writer *writer, const struct trace_item *first)
{
	uint64_t now_ns = (uint64_t)clock_now_ns();
	struct trace_meta meta = {.title = feed->title, .start_ns = first ? first->time_ns : now_ns};

	if (meta.start_ns > now_ns)
		meta.start_ns = now_ns;
	meta.realtime_ns = (uint64_t)clock_epoch_ns() - (now_ns - meta.start_ns);
	feed->output = trace_create_output(feed->format, writer, &meta);
	return feed->output ? 0 : -ENOMEM;
}

int trace_feed_some(struct trace_feed *feed, struct writer *writer)
{
	size_t n = trace_take(feed->trace, feed->items, ITEMS_AT_ONCE);

	if (n == 0)
		return writer->error;
	if (!feed->output && begin(feed, writer, &feed->items[0]) < 0)
		return -ENOMEM;
	feed->output->writer = writer;
	for (size_t i = 0; i < n; i++)
		take(feed, &feed->items[i]);
	if (feed->output->error)
		return feed->output->error;
	if (writer->error)
		return writer->error;
	return n == ITEMS_AT_ONCE;
}

void trace_feed_stats(const struct trace_feed *feed, struct trace_feed_stats *ret_stats)
{
	*ret_stats = feed->stats;
}

const char *trace_feed_losses(struct trace_feed *feed, char *buf, size_t size)
{
	struct trace_counts counts;
	uint64_t dropped;

	trace_read_counts(feed->trace, &counts);
	dropped = counts.dropped + feed->forgotten;
	if (counts.events.lost + counts.events.bad + dropped + feed->late == 0)
		snprintf(buf, size, "nothing lost");
	else
		snprintf(buf, size,
			 "lost: %" PRIu64 " events overwritten before they were read or not finished, %" PRIu64
			 " without sense, %" PRIu64 " for want of memory, %" PRIu64
			 " that came after their thread's end",
			 counts.events.lost, counts.events.bad, dropped, feed->late);
	return buf;
}

static void add_notes(struct trace_feed *feed)
{
	const struct trace_options *options = trace_options(feed->trace);
	struct trace_counts counts;
	char text[256];

	trace_read_counts(feed->trace, &counts);
	trace_note(feed->output, "%" PRIu64 " events, %" PRIu64 " samples, %" PRIu64 " threads; %s", feed->stats.events,
		   feed->stats.samples, feed->stats.threads, trace_feed_losses(feed, text, sizeof(text)));
	if (options->keep_ns)
		trace_note(feed->output,
			   "the last %.3f s were asked for; each process's file holds its last events alone, so a "
			   "trace may "
			   "begin later",
			   (double)options->keep_ns / 1e9);
	if (counts.cut)
		trace_note(feed->output,
			   "samples of %" PRIu64
			   " processes begin later than their events: there was no memory for more",
			   counts.cut);
	if (counts.without)
		trace_note(feed->output, "%" PRIu64 " processes have no events%s%s", counts.without,
			   counts.without_errno ? ": " : "",
			   counts.without_errno ? strerrordesc_np(counts.without_errno) : "");
}

int trace_feed_end(struct trace_feed *feed, struct writer *writer)
{
	uint64_t end_ns;
	int r;

	while ((r = trace_feed_some(feed, writer)) > 0)
		;
	if (r == 0 && !feed->output)
		r = begin(feed, writer, NULL);
	if (r < 0)
		return r;
	feed->output->writer = writer;
	end_ns = feed->output->end_ns;
	for (uint32_t i = 0; i < feed->threads.count; i++) {
		struct thread *thread = intern_item(&feed->threads, i);

		if (thread->track)
			close_track(feed, thread, end_ns);
	}
	add_notes(feed);
	trace_stacks_end(feed->stacks, feed->output);
	return trace_end(feed->output, end_ns);
}
