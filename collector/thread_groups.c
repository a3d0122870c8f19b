// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// thread_groups.c: see thread_groups.h.

#include "collector/thread_groups.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "collector/intern.h"
#include "formats/thread_dump.h"

#define MAX_BYTES (4u << 20) // of groups ever seen; when they are too many, all are forgotten

struct group {
	XXH128_hash_t key;
	const char *state;
	uint32_t stack, creator_stack;
	uint32_t count, before; // in the dump under way, and in the last
	uint32_t base;          // when it was first seen, or shrank last
	uint32_t rises, dumps;  // since then
};

struct thread_groups {
	struct intern_budget budget;
	struct intern groups;
	bool again; // the dump under way is the last one's twin
};

static void start_over(struct thread_groups *groups)
{
	groups->budget = (struct intern_budget){.max = MAX_BYTES};
	intern_init(&groups->groups, sizeof(struct group), sizeof(XXH128_hash_t), &groups->budget);
}

struct thread_groups *thread_groups_create(void)
{
	struct thread_groups *groups = calloc(1, sizeof(*groups));

	if (groups)
		start_over(groups);
	return groups;
}

void thread_groups_destroy(struct thread_groups *groups)
{
	if (!groups)
		return;
	intern_finish(&groups->groups);
	free(groups);
}

void thread_groups_begin(struct thread_groups *groups, bool again)
{
	groups->again = again;
	if (groups->budget.used > MAX_BYTES / 2 && !again) {
		intern_finish(&groups->groups);
		start_over(groups);
	}
	for (uint32_t i = 0; i < groups->groups.count; i++) {
		struct group *group = intern_item(&groups->groups, i);

		if (!again)
			group->before = group->count;
		group->count = 0;
	}
}

void thread_groups_count(struct thread_groups *groups, XXH128_hash_t stack_hash, uint32_t creator, uint32_t stack,
			 uint32_t creator_stack, const char *state)
{
	struct {
		XXH128_hash_t stack_hash;
		uint64_t state_hash, creator;
	} parts = {stack_hash, XXH3_64bits(state, strlen(state)), creator};
	XXH128_hash_t key = XXH3_128bits(&parts, sizeof(parts));
	uint32_t index = intern_add(&groups->groups, &key, NULL);
	struct group *group;

	if (index == INTERN_NONE)
		return;
	group = intern_item(&groups->groups, index);
	group->stack = stack;
	group->creator_stack = creator_stack;
	group->state = state;
	group->count++;
}

static void judge(struct group *group)
{
	if (group->dumps == 0 || group->count < group->before) {
		group->base = group->count;
		group->rises = 0;
		group->dumps = 1;
		return;
	}
	group->rises += group->count > group->before;
	group->dumps++;
}

int thread_groups_end(struct thread_groups *groups, struct thread_dump *dump)
{
	int r = 0;

	for (uint32_t i = 0; i < groups->groups.count && r == 0; i++) {
		struct group *group = intern_item(&groups->groups, i);

		if (!groups->again || group->dumps == 0)
			judge(group);
		if (group->rises >= THREAD_GROUPS_RISES && group->count > 0) {
			const struct thread_dump_verdict verdict = {.kind = THREAD_VERDICT_GROWS,
								    .count = group->count,
								    .base = group->base,
								    .dumps = group->dumps,
								    .stack = group->stack,
								    .creator_stack = group->creator_stack,
								    .state = group->state};

			r = thread_dump_add_verdict(dump, &verdict);
		}
		group->state = NULL; // the dump's
	}
	return r;
}
