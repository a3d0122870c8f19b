// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// aggregate.c: see aggregate.h.

#include "collector/aggregate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "collector/mapping.h"

void aggregate_init(struct aggregate *aggregate, size_t max_bytes)
{
	aggregate->budget = (struct intern_budget){.max = max_bytes};
	aggregate->path_length = 0;
	intern_init(&aggregate->nodes, sizeof(struct aggregate_node), sizeof(struct aggregate_node),
		    &aggregate->budget);
	intern_init(&aggregate->threads, sizeof(struct aggregate_thread), 8, &aggregate->budget);
	intern_init(&aggregate->samples, sizeof(struct aggregate_sample), AGGREGATE_SAMPLE_KEY_BYTES,
		    &aggregate->budget);
	intern_init(&aggregate->mappings, sizeof(struct aggregate_mapping), 4, &aggregate->budget);
	intern_init(&aggregate->causes, sizeof(struct aggregate_cause), 8, &aggregate->budget);
	intern_init(&aggregate->labels, sizeof(struct aggregate_labels), 8, &aggregate->budget);
	intern_init(&aggregate->works, sizeof(struct aggregate_work), sizeof(struct aggregate_work),
		    &aggregate->budget);
}

void aggregate_finish(struct aggregate *aggregate)
{
	for (uint32_t i = 0; i < aggregate->mappings.count; i++)
		mapping_unref(((struct aggregate_mapping *)intern_item(&aggregate->mappings, i))->mapping);
	for (uint32_t i = 0; i < aggregate->labels.count; i++)
		free((void *)((struct aggregate_labels *)intern_item(&aggregate->labels, i))->text);
	intern_finish(&aggregate->nodes);
	intern_finish(&aggregate->threads);
	intern_finish(&aggregate->samples);
	intern_finish(&aggregate->mappings);
	intern_finish(&aggregate->causes);
	intern_finish(&aggregate->labels);
	intern_finish(&aggregate->works);
}

int aggregate_thread(struct aggregate *aggregate, uint32_t source, uint32_t tid, uint32_t *ret_index, bool *ret_new)
{
	struct aggregate_thread key = {.source = source, .tid = tid};
	uint32_t index = intern_add(&aggregate->threads, &key, ret_new);

	if (index == INTERN_NONE)
		return -ENOMEM;
	*ret_index = index;
	return 0;
}

// Every node's mapping is kept alive by the aggregate. Before the node is made, so that there is none without.
static bool keep_mapping(struct aggregate *aggregate, struct mapping *mapping)
{
	struct aggregate_mapping *kept;
	uint32_t index;
	bool new;

	if (!mapping)
		return true;
	index = intern_add(&aggregate->mappings, &mapping->id, &new);
	if (index == INTERN_NONE)
		return false;
	kept = intern_item(&aggregate->mappings, index);
	if (new)
		kept->mapping = mapping_ref(mapping);
	return true;
}

// Index + 1; 0 past the budget.
// How many frames, from the outermost on, are those of the last stack.
static size_t count_common(const struct aggregate *aggregate, const struct aggregate_frame *frames, size_t nframes)
{
	size_t i, max = nframes < aggregate->path_length ? nframes : aggregate->path_length;

	for (i = 0; i < max; i++) {
		const struct aggregate_frame *frame = &frames[nframes - 1 - i];
		const struct aggregate_node *node = aggregate_node(aggregate, aggregate->path[i]);

		if (node->pc != frame->pc || node->mapping != (frame->mapping ? frame->mapping->id : 0))
			break;
	}
	return i;
}

static uint32_t add_node(struct aggregate *aggregate, const struct aggregate_frame *frame, uint32_t parent)
{
	struct aggregate_node node = {
		.pc = frame->pc,
		.mapping = frame->mapping ? frame->mapping->id : 0,
		.parent = parent,
	};
	uint32_t index = intern_find(&aggregate->nodes, &node);

	if (index == INTERN_NONE && keep_mapping(aggregate, frame->mapping))
		index = intern_add(&aggregate->nodes, &node, NULL);
	return index + 1;
}

static void add_saturating(uint64_t *sum, uint64_t value)
{
	if (__builtin_add_overflow(*sum, value, sum) || *sum > INT64_MAX)
		*sum = INT64_MAX;
}

// The same stack, or one that shares its outermost frames, often comes next.
uint32_t aggregate_stack(struct aggregate *aggregate, const struct aggregate_frame *frames, size_t nframes)
{
	size_t common = count_common(aggregate, frames, nframes);
	uint32_t node = common > 0 ? aggregate->path[common - 1] : AGGREGATE_ROOT;

	aggregate->path_length = (uint32_t)common;
	for (size_t i = common; i < nframes; i++) {
		node = add_node(aggregate, &frames[nframes - 1 - i], node);
		if (node == 0)
			return 0;
		if (i < WIRE_MAX_FRAMES)
			aggregate->path[aggregate->path_length++] = node;
	}
	return node;
}

uint32_t aggregate_copy_stack(const struct aggregate *from, uint32_t node, struct aggregate *to,
			      struct aggregate_frame frames[WIRE_MAX_FRAMES])
{
	size_t n = 0;

	while (node != AGGREGATE_ROOT && n < WIRE_MAX_FRAMES) {
		const struct aggregate_node *item = aggregate_node(from, node);

		frames[n++] = (struct aggregate_frame){aggregate_mapping(from, item->mapping), item->pc};
		node = item->parent;
	}
	return aggregate_stack(to, frames, n);
}

void aggregate_move(struct aggregate *from, struct aggregate *to)
{
	*to = *from;
	to->nodes.budget = to->threads.budget = to->samples.budget = to->mappings.budget = &to->budget;
	to->causes.budget = to->labels.budget = to->works.budget = &to->budget;
}

int aggregate_add(struct aggregate *aggregate, const struct aggregate_sample *sample,
		  const struct aggregate_frame *frames, size_t nframes)
{
	struct aggregate_sample key = {
		.node = aggregate_stack(aggregate, frames, nframes), .thread = sample->thread, .work = sample->work};
	struct aggregate_sample *sum;
	uint32_t index;

	if (key.node == 0 && nframes > 0)
		return -ENOMEM;
	index = intern_add(&aggregate->samples, &key, NULL);
	if (index == INTERN_NONE)
		return -ENOMEM;
	sum = intern_item(&aggregate->samples, index);
	add_saturating(&sum->samples, sample->samples);
	add_saturating(&sum->cpu_ns, sample->cpu_ns);
	return 0;
}

int aggregate_keep_labels(struct aggregate *aggregate, uint32_t index, const char *text)
{
	struct aggregate_labels *labels = intern_item(&aggregate->labels, index);
	size_t bytes = strlen(text) + 1;

	if (bytes > aggregate->budget.max - aggregate->budget.used)
		return -ENOMEM;
	labels->text = strdup(text);
	if (!labels->text)
		return -ENOMEM;
	aggregate->budget.used += bytes;
	return 0;
}

struct mapping *aggregate_mapping(const struct aggregate *aggregate, uint32_t id)
{
	uint32_t index = id ? intern_find(&aggregate->mappings, &id) : INTERN_NONE;

	return index == INTERN_NONE ? NULL
				    : ((struct aggregate_mapping *)intern_item(&aggregate->mappings, index))->mapping;
}
