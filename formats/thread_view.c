// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// thread_view.c: a thread dump as a view wants it (profile_view.h): which threads, and what their stacks stand under.

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "formats/causal.h"
#include "formats/pseudo_frame.h"
#include "formats/thread_dump.h"

static int find_cause(void *context, uint32_t id, struct causal_link *ret_link)
{
	const struct thread_dump *dump = context;
	const struct thread_dump_cause *cause = &dump->causes[id - 1];
	const struct thread_dump_stack *stack = &dump->stacks[cause->stack - 1];

	ret_link->kind = cause->kind;
	ret_link->next = cause->parent;
	ret_link->nids = stack->nlocations < CAUSAL_MAX_IDS ? stack->nlocations : CAUSAL_MAX_IDS;
	memcpy(ret_link->ids, stack->location_ids, ret_link->nids * sizeof(*ret_link->ids));
	return 0;
}

// ids: room for the stack and all that may be added.
static int put_under(struct thread_dump *dump, struct thread_dump_thread *thread, const struct profile_view *view,
		     uint32_t *ids)
{
	const struct thread_dump_stack *stack = thread->stack ? &dump->stacks[thread->stack - 1] : NULL;
	const char *partial = stack ? stack->partial : "";
	uint32_t n = stack ? stack->nlocations : 0;

	if (n > 0)
		memcpy(ids, stack->location_ids, n * sizeof(*ids));
	if (view->causal && thread->cause) {
		n = causal_append(dump->profile, find_cause, dump, thread->cause, ids, n);
		if (n == 0)
			return -ENOMEM;
	}
	if (view->labels.group[0]) {
		ids[n] = pseudo_frame_group(dump->profile, view->labels.group, thread->labels);
		if (!ids[n++])
			return -ENOMEM;
	}
	thread->stack = thread_dump_add_stack(dump, ids, n, partial);
	return thread->stack ? 0 : -ENOMEM;
}

static size_t longest_stack(const struct thread_dump *dump)
{
	size_t longest = 0;

	for (uint32_t i = 0; i < dump->nstacks; i++)
		if (dump->stacks[i].nlocations > longest)
			longest = dump->stacks[i].nlocations;
	return longest;
}

int thread_dump_apply_view(struct thread_dump *dump, const struct profile_view *view)
{
	bool under = view->causal || view->labels.group[0];
	uint32_t *ids = calloc(longest_stack(dump) + CAUSAL_MAX_ADDED + 1, sizeof(*ids));
	int r = ids ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < dump->nthreads && r == 0; i++) {
		dump->threads[i].hidden |= !label_choice_wants(&view->labels, dump->threads[i].labels);
		if (under && !dump->threads[i].hidden)
			r = put_under(dump, &dump->threads[i], view, ids);
	}
	free(ids);
	return r;
}
