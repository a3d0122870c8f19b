// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// tasks.c: see tasks.h. One thread at a time has to do with a task: who makes it, runs it or ends it. So its fields need no lock, only
// the turn that tells a reader whether it saw them whole. The free list is a stack whose head carries a tag against ABA.
//
// What the region has of a task is written from memory of our own, where it is first: a fork's child finds it there as it was at the fork,
// while its parent goes on with the region.

#include "profd/tasks.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "profd/agent.h"
#include "profd/clock.h"
#include "profd/contexts.h"

// Numbers that the program is given: a task's index + 1, and how often there has been another in its place, so that the number of one that
// is gone, or is the parent's of a fork, does not name a new one.
#define INDEX_BITS 15u
#define INDEX_MASK ((1u << INDEX_BITS) - 1)
_Static_assert(WIRE_TASKS < INDEX_MASK, "index");

struct task {
	struct wire_task told; // but for turn_state as the region has it
	uint32_t life;         // counted up when a task is added. By the one who adds it
	uint32_t born_with;    // the context that the thread was born with which ran it last
	uint32_t next_free;    // atomic; index + 1
};

static struct task tasks[WIRE_TASKS];
static uint32_t used;      // atomic; tasks [0, used) were ever used
static uint64_t free_head; // atomic; tag in the high half, index + 1 in the low one

static struct wire_task *shared_of(const struct task *task)
{
	return &profd_agent.region.tasks[task - tasks];
}

static enum wire_task_state state_of(const struct task *task)
{
	return (enum wire_task_state)WIRE_TASK_STATE(__atomic_load_n(&task->told.turn_state, __ATOMIC_RELAXED));
}

// ---- Places ---------------------------------------------------------------------------------------------------------

static uint32_t pop_free(void)
{
	uint64_t head = __atomic_load_n(&free_head, __ATOMIC_ACQUIRE), wanted;

	do {
		if ((uint32_t)head == 0)
			return WIRE_TASKS;
		wanted = ((head >> 32) + 1) << 32 |
			 __atomic_load_n(&tasks[(uint32_t)head - 1].next_free, __ATOMIC_RELAXED);
	} while (!__atomic_compare_exchange_n(&free_head, &head, wanted, true, __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE));
	return (uint32_t)head - 1;
}

static void push_free(uint32_t index)
{
	uint64_t head = __atomic_load_n(&free_head, __ATOMIC_RELAXED), wanted;

	do {
		__atomic_store_n(&tasks[index].next_free, (uint32_t)head, __ATOMIC_RELAXED);
		wanted = ((head >> 32) + 1) << 32 | (index + 1);
	} while (!__atomic_compare_exchange_n(&free_head, &head, wanted, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
}

static void raise_to(uint32_t *value, uint32_t least)
{
	uint32_t now = __atomic_load_n(value, __ATOMIC_RELAXED);

	while (now < least &&
	       !__atomic_compare_exchange_n(value, &now, least, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

static uint32_t take_fresh(void)
{
	uint32_t index = __atomic_load_n(&used, __ATOMIC_RELAXED);

	while (index < WIRE_TASKS) {
		if (__atomic_compare_exchange_n(&used, &index, index + 1, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
			raise_to(&profd_agent.region.header->tasks_used, index + 1);
			return index;
		}
	}
	return WIRE_TASKS;
}

// ---- Changes -------------------------------------------------------------------------------------------------------

static void begin_change(struct task *task)
{
	uint64_t word = __atomic_load_n(&task->told.turn_state, __ATOMIC_RELAXED);

	word = WIRE_TASK_WORD(WIRE_TASK_TURN(word) | 1, WIRE_TASK_STATE(word));
	__atomic_store_n(&task->told.turn_state, word, __ATOMIC_RELAXED);
	__atomic_store_n(&shared_of(task)->turn_state, word, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static void copy_to_region(const struct task *task)
{
	const size_t start = offsetof(struct wire_task, stack_low);

	memcpy((char *)shared_of(task) + start, (const char *)&task->told + start, sizeof(task->told) - start);
}

static void end_change(struct task *task, enum wire_task_state state)
{
	uint64_t turn = WIRE_TASK_TURN(__atomic_load_n(&task->told.turn_state, __ATOMIC_RELAXED)) + 1;

	__atomic_store_n(&task->told.turn_state, WIRE_TASK_WORD(turn, state), __ATOMIC_RELEASE);
	__atomic_store_n(&shared_of(task)->turn_state, WIRE_TASK_WORD(turn, state), __ATOMIC_RELEASE);
}

static void copy_text(char *to, size_t size, const char *text)
{
	size_t n = text ? strnlen(text, size - 1) : 0;

	memset(to, 0, size);
	if (n > 0)
		memcpy(to, text, n);
}

static void drop_woken(struct task *task)
{
	profd_contexts_drop_woken_of(&task->told.work, task->born_with);
	profd_contexts_drop_woken_of(&shared_of(task)->work, task->born_with);
}

// The calling thread's. Wakers may have been switched off since it was asked (contexts.h).
static void take_work(struct task *task)
{
	const struct wire_slot *slot = profd_contexts_slot();

	task->born_with = slot ? slot->creator : 0;
	__atomic_store_n(&task->told.work, profd_contexts_own_work(), __ATOMIC_RELAXED);
}

static void look_at_work(struct task *task)
{
	if (!__atomic_load_n(&profd_contexts_woken, __ATOMIC_RELAXED))
		return;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(&profd_contexts_woken, __ATOMIC_SEQ_CST) == PROFD_WOKEN_DROPPED)
		drop_woken(task);
}

// NULL: it is gone, or another's.
static struct task *find(uint32_t number)
{
	uint32_t index = (number & INDEX_MASK) - 1;

	if (index >= WIRE_TASKS || number >> INDEX_BITS != (tasks[index].life & (UINT32_MAX >> INDEX_BITS)) ||
	    state_of(&tasks[index]) == WIRE_TASK_FREE)
		return NULL;
	return &tasks[index];
}

uint32_t profd_tasks_add(const char *name, uint64_t stack, uint64_t size)
{
	uint32_t index = pop_free();
	struct task *task;

	if (index == WIRE_TASKS)
		index = take_fresh();
	if (index == WIRE_TASKS) {
		__atomic_fetch_add(&profd_agent.region.header->tasks_lost, 1, __ATOMIC_RELAXED);
		return 0;
	}
	task = &tasks[index];
	task->life++;
	begin_change(task);
	task->told.stack_low = stack;
	task->told.stack_high = stack + size;
	task->told.since_ns = 0;
	take_work(task);
	copy_text(task->told.name, sizeof(task->told.name), name);
	copy_text(task->told.waits_for, sizeof(task->told.waits_for), "");
	copy_to_region(task);
	end_change(task, WIRE_TASK_RUNNING);
	look_at_work(task);
	return task->life << INDEX_BITS | (index + 1);
}

void profd_tasks_remove(uint32_t number)
{
	struct task *task = find(number);

	if (!task)
		return;
	begin_change(task);
	end_change(task, WIRE_TASK_FREE);
	push_free((uint32_t)(task - tasks));
}

void profd_tasks_suspend(uint32_t number, const char *state, struct profd_caller caller)
{
	struct task *task = find(number);

	if (!task)
		return;
	begin_change(task);
	task->told.pc = caller.pc;
	task->told.sp = caller.sp;
	task->told.fp = caller.fp;
	task->told.since_ns = profd_clock_now_ns();
	take_work(task);
	copy_text(task->told.waits_for, sizeof(task->told.waits_for), state);
	copy_to_region(task);
	end_change(task, WIRE_TASK_SUSPENDED);
	look_at_work(task);
}

void profd_tasks_resume(uint32_t number)
{
	struct task *task = find(number);

	if (!task)
		return;
	begin_change(task);
	end_change(task, WIRE_TASK_RUNNING);
}

void profd_tasks_drop_woken(void)
{
	uint32_t count = __atomic_load_n(&used, __ATOMIC_ACQUIRE);

	if (__atomic_load_n(&profd_contexts_woken, __ATOMIC_SEQ_CST) != PROFD_WOKEN_DROPPED)
		return;
	for (uint32_t i = 0; i < count; i++)
		drop_woken(&tasks[i]);
}

// ---- A new region --------------------------------------------------------------------------------------------------

// Many tasks work for the same.
struct carried {
	uint64_t from, to;
};

static uint64_t carry_work(struct carried *last, uint64_t work)
{
	if (last->from != work)
		*last = (struct carried){work, profd_contexts_carry(work)};
	return last->to;
}

// One that a thread was at when it was forked away from counts as running: where it would stop, nobody can say.
static void carry(struct task *task, struct carried *last_work, struct carried *last_born_with)
{
	bool is_whole = WIRE_TASK_TURN(task->told.turn_state) % 2 == 0;
	enum wire_task_state state = is_whole ? state_of(task) : WIRE_TASK_RUNNING;

	begin_change(task);
	task->told.work = carry_work(last_work, task->told.work);
	task->born_with = WIRE_WORK_CONTEXT(carry_work(last_born_with, WIRE_WORK(task->born_with, 0)));
	copy_to_region(task);
	end_change(task, state);
}

void profd_tasks_init(void)
{
	struct carried last_work = {0, 0}, last_born_with = {0, 0}; // nothing comes of nothing

	free_head = 0;
	for (uint32_t i = used; i-- > 0;) {
		if (state_of(&tasks[i]) == WIRE_TASK_FREE)
			push_free(i);
		else
			carry(&tasks[i], &last_work, &last_born_with);
	}
	profd_agent.region.header->tasks_used = used;
}
