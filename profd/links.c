// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// links.c: see links.h.

#include "profd/links.h"

#include <string.h>

#include "include/profd.h"
#include "profd/contexts.h"
#include "profd/labels.h"

#define MAX_DEPTH 16u

// What the program carries about. Its numbers mean something in the region of the agent with that cookie alone: not after a fork.
struct link {
	uint32_t cookie, context, labels;
	uint32_t has_trace;
	struct wire_trace trace;
};
_Static_assert(sizeof(struct link) == sizeof(struct profd_link), "link");

struct level {
	uint64_t work;
	uint32_t has_trace;
	struct wire_trace trace;
};

static __thread uint32_t depth; // also beyond MAX_DEPTH
static __thread struct level levels[MAX_DEPTH];

void profd_links_capture(struct profd_caller caller, struct profd_link *ret_link)
{
	struct link link = {.cookie = profd_agent.cookie,
			    .context = profd_contexts_note(WIRE_CONTEXT_QUEUED, caller),
			    .labels = WIRE_WORK_LABELS(profd_contexts_work())};

	link.has_trace = profd_labels_trace(&link.trace);
	memcpy(ret_link, &link, sizeof(link));
}

static void save(struct level *level)
{
	level->work = profd_contexts_own_work();
	level->has_trace = profd_labels_trace(&level->trace);
}

void profd_links_enter(const struct profd_link *pointer)
{
	struct link link;

	if (depth++ >= MAX_DEPTH)
		return;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	save(&levels[depth - 1]);
	if (!pointer)
		return;
	memcpy(&link, pointer, sizeof(link));
	if (link.cookie != profd_agent.cookie)
		link.context = link.labels = 0;
	profd_contexts_set_work(WIRE_WORK(link.context, link.labels));
	profd_labels_set_trace(link.has_trace, &link.trace);
}

bool profd_links_entered(void)
{
	return depth > 0;
}

void profd_links_leave(void)
{
	struct level level;

	if (depth == 0 || depth > MAX_DEPTH) {
		depth -= depth > 0;
		return;
	}
	// Before the place is given up: a handler of the program's that comes in between may take it.
	level = levels[depth - 1];
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	depth--;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	profd_contexts_set_work(level.work);
	profd_labels_set_trace(level.has_trace, &level.trace);
}

void profd_links_forget(uint64_t work)
{
	for (uint32_t i = 0; i < depth && i < MAX_DEPTH; i++)
		levels[i] = (struct level){.work = work};
}
