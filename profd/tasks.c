// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// tasks.c: see tasks.h. One thread at a time has to do with a task: who makes it, runs it or ends it. So its fields need no lock, only
// the turn that tells a reader whether it saw them whole. The free list is a stack whose head carries a tag against ABA.

#include "profd/tasks.h"

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

static uint64_t free_head;         // atomic; tag in the high half, index + 1 in the low one
static uint32_t lives[WIRE_TASKS]; // of each place; counted up when a task is added. By the one who adds it

void profd_tasks_init(void)
{
	free_head = 0;
}

static struct wire_task *task_at(uint32_t index)
{
	return &profd_agent.region.tasks[index];
}

static uint32_t pop_free(void)
{
	uint64_t head = __atomic_load_n(&free_head, __ATOMIC_ACQUIRE), wanted;

	do {
		if ((uint32_t)head == 0)
			return WIRE_TASKS;
		wanted = ((head >> 32) + 1) << 32 |
			 __atomic_load_n(&task_at((uint32_t)head - 1)->next_free, __ATOMIC_RELAXED);
	} while (!__atomic_compare_exchange_n(&free_head, &head, wanted, true, __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE));
	return (uint32_t)head - 1;
}

static void push_free(uint32_t index)
{
	uint64_t head = __atomic_load_n(&free_head, __ATOMIC_RELAXED), wanted;

	do {
		__atomic_store_n(&task_at(index)->next_free, (uint32_t)head, __ATOMIC_RELAXED);
		wanted = ((head >> 32) + 1) << 32 | (index + 1);
	} while (!__atomic_compare_exchange_n(&free_head, &head, wanted, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
}

static uint32_t take_fresh(void)
{
	uint32_t *counter = &profd_agent.region.header->tasks_used;
	uint32_t used = __atomic_load_n(counter, __ATOMIC_RELAXED);

	while (used < WIRE_TASKS) {
		if (__atomic_compare_exchange_n(counter, &used, used + 1, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			return used;
	}
	return WIRE_TASKS;
}

// ---- Changes -------------------------------------------------------------------------------------------------------

static void begin_change(struct wire_task *task)
{
	uint64_t word = __atomic_load_n(&task->turn_state, __ATOMIC_RELAXED);

	__atomic_store_n(&task->turn_state, WIRE_TASK_WORD(WIRE_TASK_TURN(word) | 1, WIRE_TASK_STATE(word)),
			 __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static void end_change(struct wire_task *task, enum wire_task_state state)
{
	uint64_t turn = WIRE_TASK_TURN(__atomic_load_n(&task->turn_state, __ATOMIC_RELAXED)) + 1;

	__atomic_store_n(&task->turn_state, WIRE_TASK_WORD(turn, state), __ATOMIC_RELEASE);
}

static void copy_text(char *to, size_t size, const char *text)
{
	size_t n = text ? strnlen(text, size - 1) : 0;

	memset(to, 0, size);
	if (n > 0)
		memcpy(to, text, n);
}

// NULL: it is gone, or another's.
static struct wire_task *find(uint32_t number)
{
	uint32_t index = (number & INDEX_MASK) - 1;

	if (index >= WIRE_TASKS || number >> INDEX_BITS != (lives[index] & (UINT32_MAX >> INDEX_BITS)) ||
	    WIRE_TASK_STATE(__atomic_load_n(&task_at(index)->turn_state, __ATOMIC_RELAXED)) == WIRE_TASK_FREE)
		return NULL;
	return task_at(index);
}

uint32_t profd_tasks_add(const char *name, uint64_t stack, uint64_t size)
{
	uint32_t index = pop_free();
	struct wire_task *task;

	if (index == WIRE_TASKS)
		index = take_fresh();
	if (index == WIRE_TASKS) {
		__atomic_fetch_add(&profd_agent.region.header->tasks_lost, 1, __ATOMIC_RELAXED);
		return 0;
	}
	task = task_at(index);
	lives[index]++;
	begin_change(task);
	task->stack_low = stack;
	task->stack_high = stack + size;
	task->work = profd_contexts_own_work();
	task->since_ns = 0;
	copy_text(task->name, sizeof(task->name), name);
	copy_text(task->waits_for, sizeof(task->waits_for), "");
	end_change(task, WIRE_TASK_RUNNING);
	return lives[index] << INDEX_BITS | (index + 1);
}

void profd_tasks_remove(uint32_t number)
{
	struct wire_task *task = find(number);

	if (!task)
		return;
	begin_change(task);
	end_change(task, WIRE_TASK_FREE);
	push_free((number & INDEX_MASK) - 1);
}

void profd_tasks_suspend(uint32_t number, const char *state, struct profd_caller caller)
{
	struct wire_task *task = find(number);

	if (!task)
		return;
	begin_change(task);
	task->pc = caller.pc;
	task->sp = caller.sp;
	task->fp = caller.fp;
	task->since_ns = profd_clock_now_ns();
	task->work = profd_contexts_own_work();
	copy_text(task->waits_for, sizeof(task->waits_for), state);
	end_change(task, WIRE_TASK_SUSPENDED);
}

void profd_tasks_resume(uint32_t number)
{
	struct wire_task *task = find(number);

	if (!task)
		return;
	begin_change(task);
	end_change(task, WIRE_TASK_RUNNING);
}
