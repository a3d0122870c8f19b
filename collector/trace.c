// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// trace.c: see trace.h. The queue is a list of chunks; its lock is taken inside of the collector's.

#include "collector/trace.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "collector/intern.h"

#define CHUNK_ITEMS 2048u
#define MAX_ITEMS (2u << 20) // queued: 80 MiB
#define FORGET_LEAST 4096u
#define MAX_PENDING (2u << 20) // not sorted yet: each shard of a file at once
#define FUTURE_NS 10000000000u // an item that is so much younger than its drain is a lie: there is one clock
#define SEEN_BYTES (32u << 20) // to find out which threads wait

struct chunk {
	struct chunk *next;
	size_t taken, count;
	struct trace_item items[CHUNK_ITEMS];
};

struct trace {
	struct trace_options options;
	// The loop's.
	struct trace_item *pending;
	size_t npending, pending_capacity;
	uint32_t last_order;
	size_t forget_at; // npending at which a flight recorder looks for what is too old
	struct trace_counts counting;
	// Both sides'.
	pthread_mutex_t lock;
	struct chunk *first, *last;
	size_t nitems;
	struct trace_counts counts; // as of the last flush
};

struct trace *trace_create(const struct trace_options *options)
{
	struct trace *trace = calloc(1, sizeof(*trace));

	if (!trace)
		return NULL;
	trace->options = *options;
	pthread_mutex_init(&trace->lock, NULL);
	return trace;
}

static void drop_first(struct trace *trace)
{
	struct chunk *chunk = trace->first;

	trace->first = chunk->next;
	if (!trace->first)
		trace->last = NULL;
	trace->nitems -= chunk->count - chunk->taken;
	free(chunk);
}

void trace_destroy(struct trace *trace)
{
	if (!trace)
		return;
	while (trace->first)
		drop_first(trace);
	pthread_mutex_destroy(&trace->lock);
	free(trace->pending);
	free(trace);
}

const struct trace_options *trace_options(const struct trace *trace)
{
	return &trace->options;
}

struct trace_counts *trace_counting(struct trace *trace)
{
	return &trace->counting;
}

// ---- Pending --------------------------------------------------------------------------------------------------------

static int compare_items(const void *a, const void *b)
{
	const struct trace_item *left = a, *right = b;

	if (left->time_ns != right->time_ns)
		return left->time_ns < right->time_ns ? -1 : 1;
	return (int32_t)(left->order - right->order) < 0 ? -1 : left->order != right->order;
}

// Where the run that begins at `at` ends: items in order, as each shard of a file has them.
static size_t run_end(const struct trace_item *items, size_t at, size_t count)
{
	for (at++; at < count && compare_items(&items[at - 1], &items[at]) <= 0; at++)
		;
	return at;
}

static void merge_two(const struct trace_item *items, size_t at, size_t middle, size_t end, struct trace_item *to)
{
	size_t left = at, right = middle;

	while (left < middle && right < end)
		to[at++] = compare_items(&items[left], &items[right]) <= 0 ? items[left++] : items[right++];
	memcpy(&to[at], &items[left], (middle - left) * sizeof(*to));
	memcpy(&to[at + middle - left], &items[right], (end - right) * sizeof(*to));
}

// Merges neighbouring runs until there is one. spare: as many items.
static void merge_runs(struct trace_item *items, struct trace_item *spare, size_t count)
{
	struct trace_item *from = items, *to = spare;

	while (run_end(from, 0, count) < count) {
		struct trace_item *merged = to;

		for (size_t at = 0, middle, end; at < count; at = end) {
			middle = run_end(from, at, count);
			end = middle < count ? run_end(from, middle, count) : count;
			merge_two(from, at, middle, end, to);
		}
		to = from;
		from = merged;
	}
	if (from != items)
		memcpy(items, from, count * sizeof(*items));
}

static void sort(struct trace_item *items, size_t count)
{
	struct trace_item *spare;

	if (count == 0 || run_end(items, 0, count) == count)
		return;
	spare = malloc(count * sizeof(*spare));
	if (spare)
		merge_runs(items, spare, count);
	else
		qsort(items, count, sizeof(*items), compare_items);
	free(spare);
}

// What one target says must not move the others' end, nor stay for good.
static void drop_future(struct trace *trace, uint64_t now_ns)
{
	size_t kept = 0;

	if (now_ns > UINT64_MAX - FUTURE_NS)
		return;
	for (size_t i = 0; i < trace->npending; i++) {
		if (trace->pending[i].time_ns > now_ns + FUTURE_NS)
			trace->counting.events.bad++;
		else
			trace->pending[kept++] = trace->pending[i];
	}
	trace->npending = kept;
}

// ---- A flight recorder forgets --------------------------------------------------------------------------------------

// Who was seen, going back in time. Thread 0: the process was gone.
struct seen {
	uint32_t source, tid;
};

// false: it was seen before, or there is no memory to tell.
static bool see(struct intern *seen, uint32_t source, uint32_t tid)
{
	const struct seen key = {source, tid};
	bool new;

	return intern_add(seen, &key, &new) != INTERN_NONE && new;
}

// Of what is before the horizon, asked from there back: names stay, and the wait that a thread is in at that time. One that did anything else last
// does not wait.
static bool outlasts(struct intern *seen, const struct trace_item *item)
{
	const struct seen gone = {item->source, 0};

	switch (item->kind) {
	case WIRE_EVENT_NAME:
		return true;
	case TRACE_ITEM_GONE:
		(void)see(seen, item->source, 0);
		return false;
	case TRACE_ITEM_SAMPLE:
	case TRACE_ITEM_STOP:
		return false;
	default:
		return intern_find(seen, &gone) == INTERN_NONE && see(seen, item->source, item->tid) &&
		       item->kind == WIRE_EVENT_PARK;
	}
}

// Pending is sorted. What stays of the time before horizon_ns is of that time from then on.
static void forget(struct trace *trace, uint64_t horizon_ns)
{
	struct intern_budget budget = {.max = SEEN_BYTES};
	struct intern seen;
	size_t before = 0, first;

	intern_init(&seen, sizeof(struct seen), sizeof(struct seen), &budget);
	while (before < trace->npending && trace->pending[before].time_ns < horizon_ns)
		before++;
	first = before;
	while (before-- > 0) {
		if (!outlasts(&seen, &trace->pending[before]))
			continue;
		trace->pending[--first] = trace->pending[before];
		trace->pending[first].time_ns = horizon_ns;
	}
	trace->npending -= first;
	memmove(trace->pending, trace->pending + first, trace->npending * sizeof(*trace->pending));
	intern_finish(&seen);
}

// Now and then.
static void forget_old(struct trace *trace, uint64_t now_ns)
{
	if (trace->npending < trace->forget_at || now_ns < trace->options.keep_ns)
		return;
	sort(trace->pending, trace->npending);
	forget(trace, now_ns - trace->options.keep_ns);
	trace->forget_at = trace->npending * 2 > FORGET_LEAST ? trace->npending * 2 : FORGET_LEAST;
}

// More is to be kept than there is room for: the oldest goes, and counts as dropped. false: that makes no room.
static bool forget_oldest(struct trace *trace)
{
	size_t before = trace->npending;

	if (trace->options.keep_ns == 0 || before == 0)
		return false;
	sort(trace->pending, trace->npending);
	forget(trace, trace->pending[before / 4].time_ns);
	trace->counting.dropped += before - trace->npending;
	return trace->npending < before;
}

// ---- In -------------------------------------------------------------------------------------------------------------

static bool make_room(struct trace *trace)
{
	size_t capacity = trace->pending_capacity ? trace->pending_capacity * 2 : 1024;
	struct trace_item *pending;

	if (trace->npending < trace->pending_capacity)
		return true;
	if (capacity > MAX_PENDING)
		return forget_oldest(trace);
	pending = realloc(trace->pending, capacity * sizeof(*pending));
	if (!pending)
		return false;
	trace->pending = pending;
	trace->pending_capacity = capacity;
	return true;
}

void trace_add(struct trace *trace, const struct trace_item *item)
{
	struct trace_item *added;

	if (!make_room(trace)) {
		trace->counting.dropped++;
		return;
	}
	added = &trace->pending[trace->npending++];
	*added = *item;
	added->order = trace->last_order++;
}

static struct chunk *chunk_with_room(struct trace *trace)
{
	struct chunk *chunk;

	if (trace->last && trace->last->count < CHUNK_ITEMS)
		return trace->last;
	chunk = trace->nitems < MAX_ITEMS ? malloc(sizeof(*chunk)) : NULL;
	if (!chunk)
		return NULL;
	chunk->next = NULL;
	chunk->taken = chunk->count = 0;
	if (trace->last)
		trace->last->next = chunk;
	else
		trace->first = chunk;
	trace->last = chunk;
	return chunk;
}

// false: there is no room.
static bool publish(struct trace *trace, const struct trace_item *item)
{
	struct chunk *chunk = chunk_with_room(trace);

	if (!chunk)
		return false;
	chunk->items[chunk->count++] = *item;
	trace->nitems++;
	return true;
}

// source 0: of all.
static void publish_pending(struct trace *trace, uint32_t source, uint64_t until_ns)
{
	size_t kept = 0;

	drop_future(trace, until_ns);
	sort(trace->pending, trace->npending);
	pthread_mutex_lock(&trace->lock);
	for (size_t i = 0; i < trace->npending; i++) {
		const struct trace_item *item = &trace->pending[i];

		if ((source != 0 && item->source != source) || item->time_ns > until_ns)
			trace->pending[kept++] = *item;
		else if (!publish(trace, item))
			trace->counting.dropped++;
	}
	trace->counts = trace->counting;
	pthread_mutex_unlock(&trace->lock);
	trace->npending = kept;
}

void trace_flush(struct trace *trace, uint32_t source, uint64_t until_ns)
{
	if (trace->options.keep_ns) {
		drop_future(trace, until_ns);
		forget_old(trace, until_ns);
	} else {
		publish_pending(trace, source, until_ns);
	}
}

// The last so long are those before now where a process lives, else before the last event: it may have died a while ago.
void trace_finish(struct trace *trace)
{
	uint64_t last_ns = 0;

	for (size_t i = 0; i < trace->npending; i++)
		if (trace->pending[i].time_ns > last_ns && trace->pending[i].kind != TRACE_ITEM_GONE)
			last_ns = trace->pending[i].time_ns;
	sort(trace->pending, trace->npending);
	if (trace->options.keep_ns && last_ns > trace->options.keep_ns)
		forget(trace, last_ns - trace->options.keep_ns);
	publish_pending(trace, 0, UINT64_MAX);
}

// ---- Out ------------------------------------------------------------------------------------------------------------

size_t trace_take(struct trace *trace, struct trace_item *items, size_t max)
{
	size_t count = 0;

	pthread_mutex_lock(&trace->lock);
	while (count < max && trace->first) {
		struct chunk *chunk = trace->first;
		size_t n = chunk->count - chunk->taken;

		if (n > max - count)
			n = max - count;
		memcpy(items + count, chunk->items + chunk->taken, n * sizeof(*items));
		chunk->taken += n;
		trace->nitems -= n;
		count += n;
		if (chunk->taken < chunk->count)
			break;
		drop_first(trace);
	}
	pthread_mutex_unlock(&trace->lock);
	return count;
}

void trace_read_counts(struct trace *trace, struct trace_counts *ret_counts)
{
	pthread_mutex_lock(&trace->lock);
	*ret_counts = trace->counts;
	pthread_mutex_unlock(&trace->lock);
}
