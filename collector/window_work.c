// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// window_work.c: see window_work.h.

#include "collector/window_work.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "collector/session.h"
#include "collector/trace_text.h"
#include "collector/window_impl.h"
#include "formats/label_text.h"

// ---- Causes --------------------------------------------------------------------------------------------------------

// Leaf's index + 1; 0 past the budget.
static uint32_t add_stack(struct window *window, const struct session *session, uint32_t maps_gen,
			  const struct context_item *item)
{
	struct aggregate_frame frames[WIRE_STACK_FRAMES];

	for (uint32_t i = 0; i < item->npcs; i++) {
		bool exact = item->pcs[i] & WIRE_PC_EXACT;
		uint64_t address = item->pcs[i] & ~WIRE_PC_EXACT;

		frames[i] = (struct aggregate_frame){
			session_find_mapping(session, maps_gen, address - (exact || address == 0 ? 0 : 1)),
			item->pcs[i]};
	}
	return aggregate_stack(&window->aggregate, frames, item->npcs);
}

// One cause; *ret_parent: the number of the next one to add. Index + 1; 0 past the budget.
static uint32_t add_cause(struct window *window, const struct session *session, uint32_t maps_gen, uint32_t number,
			  uint32_t *ret_parent)
{
	const struct aggregate_cause key = {.source = session->id, .number = number};
	struct aggregate_cause *cause;
	struct context_item item;
	bool new;
	uint32_t index = intern_add(&window->aggregate.causes, &key, &new);

	*ret_parent = 0;
	if (index == INTERN_NONE)
		return 0;
	if (!new || !context_pool_context(&session->region.pool, number, &item))
		return index + 1;
	cause = intern_item(&window->aggregate.causes, index);
	cause->kind = item.kind;
	cause->node = add_stack(window, session, maps_gen, &item);
	if (cause->node == 0)
		return 0;
	*ret_parent = item.parent;
	return index + 1;
}

uint32_t window_work_stack(struct window *window, const struct session *session, uint32_t number)
{
	uint32_t parent, index = number && session->region.header
					 ? add_cause(window, session, session->live.maps_gen, number, &parent)
					 : 0;

	return index ? ((const struct aggregate_cause *)intern_item(&window->aggregate.causes, index - 1))->node : 0;
}

// Its parents, too: each has a lower number, so there is an end. *ret_cause: index + 1; 0: none.
static int find_cause(struct window *window, const struct session *session, const struct wire_sample *sample,
		      uint32_t *ret_cause)
{
	uint32_t number = sample->context, child = 0;

	*ret_cause = 0;
	for (uint32_t i = 0; number && i < WIRE_CHAIN; i++) {
		uint32_t index = add_cause(window, session, sample->maps_gen, number, &number);

		if (index == 0)
			return -ENOMEM;
		if (child)
			((struct aggregate_cause *)intern_item(&window->aggregate.causes, child - 1))->parent = index;
		else
			*ret_cause = index;
		child = index;
	}
	return 0;
}

// ---- Labels --------------------------------------------------------------------------------------------------------

static int find_labels(struct window *window, const struct session *session, uint32_t number, uint32_t *ret_labels)
{
	const struct aggregate_labels key = {.source = session->id, .number = number};
	char text[WINDOW_WORK_TEXT_BYTES];
	struct context_labels labels;
	uint32_t index;
	bool new;

	*ret_labels = 0;
	if (number == 0)
		return 0;
	index = intern_add(&window->aggregate.labels, &key, &new);
	if (index == INTERN_NONE)
		return -ENOMEM;
	*ret_labels = index + 1;
	if (!new || !context_pool_labels(&session->region.pool, number, &labels))
		return 0;
	return aggregate_keep_labels(&window->aggregate, index, context_labels_text(&labels, text, sizeof(text)));
}

// ---- Work ----------------------------------------------------------------------------------------------------------

int window_work_find(struct window *window, const struct session *session, const struct ring_record *record,
		     uint32_t *ret_work)
{
	const struct wire_trace *trace = ring_record_trace(record);
	struct aggregate_work key = {.has_trace = trace != NULL};
	uint32_t index;
	int r = 0;

	*ret_work = 0;
	if (session->region.header) {
		if (window->options.view.causal)
			r = find_cause(window, session, &record->sample, &key.cause);
		if (r == 0)
			r = find_labels(window, session, record->sample.labels, &key.labels);
	}
	if (r < 0 || (!key.cause && !key.labels && !trace))
		return r;
	if (trace) {
		memcpy(&key.trace, trace, sizeof(key.trace));
		key.trace.flags &= WIRE_TRACE_SAMPLED;
		memset(key.trace.reserved, 0, sizeof(key.trace.reserved));
	}
	index = intern_add(&window->aggregate.works, &key, NULL);
	if (index == INTERN_NONE)
		return -ENOMEM;
	*ret_work = index + 1;
	return 0;
}

const char *window_work_text(const struct window *window, uint32_t work, char text[WINDOW_WORK_TEXT_BYTES])
{
	const struct aggregate *aggregate = &window->aggregate;
	const struct aggregate_work *item = work ? intern_item(&aggregate->works, work - 1) : NULL;
	const char *labels =
		item && item->labels
			? ((const struct aggregate_labels *)intern_item(&aggregate->labels, item->labels - 1))->text
			: NULL;

	snprintf(text, WINDOW_WORK_TEXT_BYTES, "%s", labels ? labels : "");
	if (item && item->has_trace)
		trace_text_add(&item->trace, text, WINDOW_WORK_TEXT_BYTES);
	return text;
}

bool window_work_is_wanted(const struct window *window, uint32_t work)
{
	const struct label_choice *choice = &window->options.view.labels;
	char text[WINDOW_WORK_TEXT_BYTES];

	if (!choice->key[0] && !choice->sampled_only)
		return true;
	return label_choice_wants(choice, window_work_text(window, work, text));
}
