// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// trace.c: see trace.h. The queue is a list of chunks; its lock is taken inside of the collector's.

#include "collector/trace.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_ITEMS 2048u
#define MAX_ITEMS (2u << 20) // queued: 80 MiB
#define FORGET_LEAST 4096u
#define MAX_PENDING (2u << 20) // not sorted yet: each shard of a file at once

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

// ---- In -------------------------------------------------------------------------------------------------------------

static bool make_room(struct trace *trace)
{
	size_t capacity = trace->pending_capacity ? trace->pending_capacity * 2 : 1024;
	struct trace_item *pending;

	if (trace->npending < trace->pending_capacity)
		return true;
	pending = capacity <= MAX_PENDING ? realloc(trace->pending, capacity * sizeof(*pending)) : NULL;
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

// Of a flight recorder: what is older than horizon_ns.
static void forget(struct trace *trace, uint64_t horizon_ns)
{
	size_t kept = 0;

	for (size_t i = 0; i < trace->npending; i++) {
		struct trace_item item = trace->pending[i];

		if (item.time_ns < horizon_ns && item.kind != WIRE_EVENT_NAME)
			continue;
		if (item.time_ns < horizon_ns)
			item.time_ns = horizon_ns;
		trace->pending[kept++] = item;
	}
	trace->npending = kept;
}

// Now and then.
static void forget_old(struct trace *trace, uint64_t now_ns)
{
	if (trace->npending < trace->forget_at || now_ns < trace->options.keep_ns)
		return;
	forget(trace, now_ns - trace->options.keep_ns);
	trace->forget_at = trace->npending * 2 > FORGET_LEAST ? trace->npending * 2 : FORGET_LEAST;
}

void trace_flush(struct trace *trace, uint32_t source, uint64_t until_ns)
{
	if (trace->options.keep_ns)
		forget_old(trace, until_ns);
	else
		publish_pending(trace, source, until_ns);
}

// The last so long are those before the last event: a process may have died a while ago.
void trace_finish(struct trace *trace)
{
	uint64_t last_ns = 0;

	for (size_t i = 0; i < trace->npending; i++)
		if (trace->pending[i].time_ns > last_ns && trace->pending[i].kind != TRACE_ITEM_GONE)
			last_ns = trace->pending[i].time_ns;
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
