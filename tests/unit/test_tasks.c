// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_tasks.c: coroutines that the program told of: in the region, in that of a fork's child, and what they work for when wakers are switched
// off.

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "profd/tasks.h"
#include "tests/unit/own_region.h"

static uint32_t born_with, queued, woken; // contexts

static uint32_t add_context(enum wire_context_kind kind, uint64_t pc, uint32_t parent)
{
	return profd_contexts_add(kind, profd_contexts_stack(called_at(pc), NULL), parent);
}

static int set_up(void **state)
{
	(void)state;
	own_region_make();
	profd_tasks_init();
	profd_contexts_woken = PROFD_WOKEN_NEVER;
	born_with = add_context(WIRE_CONTEXT_CREATED, 100, 0);
	queued = add_context(WIRE_CONTEXT_QUEUED, 200, born_with);
	woken = add_context(WIRE_CONTEXT_WOKEN, 300, 0);
	own_slot()->creator = born_with;
	own_slot()->work = WIRE_WORK(queued, 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	own_region_free();
	return 0;
}

static const struct wire_task *at(uint32_t number)
{
	return &profd_agent.region.tasks[(number & 0x7fff) - 1];
}

static enum wire_task_state state_of(uint32_t number)
{
	assert_int_equal(WIRE_TASK_TURN(at(number)->turn_state) % 2, 0);
	return (enum wire_task_state)WIRE_TASK_STATE(at(number)->turn_state);
}

static void assert_suspended_at(uint32_t number, uint64_t pc, const char *name, const char *waits_for)
{
	const struct wire_task *task = at(number);

	assert_int_equal(state_of(number), WIRE_TASK_SUSPENDED);
	assert_int_equal(task->pc, pc);
	assert_int_equal(task->sp, pc * 16);
	assert_int_equal(task->fp, pc * 16 + 8);
	assert_int_equal(task->since_ns, 1000);
	assert_int_equal(task->stack_low, 4096);
	assert_int_equal(task->stack_high, 8192);
	assert_string_equal(task->name, name);
	assert_string_equal(task->waits_for, waits_for);
}

static void test_life(void **state)
{
	uint32_t first = profd_tasks_add("first", 4096, 4096), second = profd_tasks_add("second", 4096, 4096), third;

	(void)state;
	assert_int_equal(profd_agent.region.header->tasks_used, 2);
	assert_int_equal(state_of(first), WIRE_TASK_RUNNING);
	profd_tasks_suspend(first, "a lock", called_at(50));
	assert_suspended_at(first, 50, "first", "a lock");
	assert_int_equal(at(first)->work, WIRE_WORK(queued, 0));
	profd_tasks_resume(first);
	assert_int_equal(state_of(first), WIRE_TASK_RUNNING);
	profd_tasks_remove(first);
	assert_int_equal(state_of(first), WIRE_TASK_FREE);
	third = profd_tasks_add("third", 4096, 4096); // in the first one's place, by another number
	assert_ptr_equal(at(third), at(first));
	assert_int_not_equal(third, first);
	profd_tasks_suspend(first, "nothing", called_at(60));
	assert_int_equal(state_of(third), WIRE_TASK_RUNNING);
	assert_int_equal(profd_agent.region.header->tasks_used, 2);
	profd_tasks_remove(second);
	profd_tasks_remove(third);
}

static void test_no_room(void **state)
{
	uint32_t *numbers = calloc(WIRE_TASKS, sizeof(*numbers));

	(void)state;
	for (uint32_t i = 0; i < WIRE_TASKS; i++)
		assert_true((numbers[i] = profd_tasks_add("", 0, 1)) != 0);
	assert_int_equal(profd_tasks_add("", 0, 1), 0);
	assert_int_equal(profd_agent.region.header->tasks_lost, 1);
	for (uint32_t i = 0; i < WIRE_TASKS; i++)
		profd_tasks_remove(numbers[i]);
	free(numbers);
}

// ---- fork ----------------------------------------------------------------------------------------------------------

struct tasks {
	uint32_t suspended, running, ended, resumed;
};

static struct tasks make_tasks(void)
{
	struct tasks tasks = {.ended = profd_tasks_add("ended", 4096, 4096),
			      .suspended = profd_tasks_add("suspended", 4096, 4096),
			      .running = profd_tasks_add("running", 4096, 4096),
			      .resumed = profd_tasks_add("resumed", 4096, 4096)};

	profd_tasks_suspend(tasks.suspended, "a lock", called_at(50));
	profd_tasks_suspend(tasks.resumed, "time", called_at(60));
	profd_tasks_resume(tasks.resumed);
	profd_tasks_remove(tasks.ended);
	return tasks;
}

static void remove_tasks(const struct tasks *tasks)
{
	profd_tasks_remove(tasks->suspended);
	profd_tasks_remove(tasks->running);
	profd_tasks_remove(tasks->resumed);
}

// The child's region. What they work for is another number there.
static void assert_carried(const struct tasks *tasks)
{
	const struct wire_pool_context *work = profd_contexts_find(WIRE_WORK_CONTEXT(at(tasks->suspended)->work));

	assert_suspended_at(tasks->suspended, 50, "suspended", "a lock");
	assert_int_equal(state_of(tasks->running), WIRE_TASK_RUNNING);
	assert_int_equal(state_of(tasks->resumed), WIRE_TASK_RUNNING);
	assert_int_equal(state_of(tasks->ended), WIRE_TASK_FREE);
	assert_string_equal(at(tasks->running)->name, "running");
	assert_int_equal(work->kind, WIRE_CONTEXT_QUEUED);
	assert_int_equal(profd_contexts_find(work->parent)->kind, WIRE_CONTEXT_CREATED);
}

// By the numbers that the parent had of them.
static void assert_they_go_on(const struct tasks *tasks)
{
	uint32_t fresh;

	profd_tasks_resume(tasks->suspended);
	assert_int_equal(state_of(tasks->suspended), WIRE_TASK_RUNNING);
	profd_tasks_suspend(tasks->running, "later", called_at(70));
	assert_suspended_at(tasks->running, 70, "running", "later");
	profd_tasks_resume(tasks->ended);
	assert_int_equal(state_of(tasks->ended), WIRE_TASK_FREE);
	fresh = profd_tasks_add("fresh", 4096, 4096); // nobody's place but one that is free
	assert_ptr_equal(at(fresh), at(tasks->ended));
	profd_tasks_remove(fresh);
}

static void test_fork(void **state)
{
	struct tasks tasks = make_tasks();
	void *parents_tasks = profd_agent.region.tasks;
	const size_t size = WIRE_TASKS * sizeof(struct wire_task);
	int fd = dup(profd_agent.region.fd);
	struct wire_task *parents =
		mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)profd_agent.region.header->tasks_off);

	(void)state;
	assert_true(parents != MAP_FAILED);
	close(fd);
	assert_memory_equal(parents, parents_tasks, 4 * sizeof(*parents));
	memset(parents, 0x55, 4 * sizeof(*parents)); // the parent goes on
	own_region_renew();
	own_slot()->creator = add_context(WIRE_CONTEXT_CREATED, 900, 0);
	profd_tasks_init();
	profd_contexts_release_parents();
	assert_int_equal(profd_agent.region.header->tasks_used, 4);
	assert_carried(&tasks);
	assert_they_go_on(&tasks);
	assert_int_equal(parents[3].pc, 0x5555555555555555u); // nothing is written to what is the parent's
	munmap(parents, size);
	remove_tasks(&tasks);
}

static void test_fork_of_a_fork(void **state)
{
	struct tasks tasks = make_tasks();

	(void)state;
	for (int i = 0; i < 3; i++) {
		own_region_renew();
		add_context(WIRE_CONTEXT_CREATED, 900 + (uint64_t)i, 0);
		profd_tasks_init();
		profd_contexts_release_parents();
		assert_carried(&tasks);
	}
	remove_tasks(&tasks);
}

static uint32_t over; // atomic

static void *keep_switching(void *task)
{
	for (uint64_t i = 1; !__atomic_load_n(&over, __ATOMIC_ACQUIRE); i++) {
		profd_tasks_suspend(*(uint32_t *)task, "a lock", called_at(i));
		profd_tasks_resume(*(uint32_t *)task);
	}
	return NULL;
}

// Exit status: 0, or what was wrong of a task that another thread was at.
static int look_at_forked(uint32_t number)
{
	const struct wire_task *task;
	uint64_t word;

	own_region_renew();
	profd_tasks_init();
	profd_contexts_release_parents();
	task = at(number);
	word = task->turn_state;
	if (WIRE_TASK_TURN(word) % 2)
		return 1;
	if (WIRE_TASK_STATE(word) == WIRE_TASK_RUNNING)
		return 0;
	return WIRE_TASK_STATE(word) == WIRE_TASK_SUSPENDED && task->sp == task->pc * 16 && task->fp == task->sp + 8
		       ? 0
		       : 2;
}

// At any moment of what another thread does, the child has it whole, or as running.
static void test_fork_while_another_thread_switches(void **state)
{
	uint32_t task = profd_tasks_add("busy", 4096, 4096);
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, keep_switching, &task), 0);
	for (int i = 0; i < 100; i++) {
		pid_t child = fork();
		int status = -1;

		assert_true(child >= 0);
		if (child == 0)
			_exit(look_at_forked(task));
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_int_equal(status, 0);
	}
	__atomic_store_n(&over, 1, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	profd_tasks_remove(task);
}

// ---- Wakers off ----------------------------------------------------------------------------------------------------

static void test_wakers_off(void **state)
{
	uint32_t by_waker = profd_tasks_add("by waker", 4096, 4096), by_link = profd_tasks_add("by link", 4096, 4096);

	(void)state;
	profd_contexts_keep_woken();
	profd_tasks_suspend(by_link, "", called_at(50));
	own_slot()->work = WIRE_WORK(woken, 9);
	profd_tasks_suspend(by_waker, "", called_at(60));
	assert_int_equal(at(by_waker)->work, WIRE_WORK(woken, 9));
	profd_contexts_drop_woken();
	profd_tasks_drop_woken();
	assert_int_equal(at(by_waker)->work, WIRE_WORK(born_with, 9));
	assert_int_equal(at(by_link)->work, WIRE_WORK(queued, 0));
	profd_tasks_resume(by_waker);
	own_slot()->work = WIRE_WORK(woken, 9); // what its thread had in its hands
	profd_tasks_suspend(by_waker, "", called_at(60));
	assert_suspended_at(by_waker, 60, "by waker", "");
	assert_int_equal(at(by_waker)->work, WIRE_WORK(born_with, 9));
	profd_tasks_remove(by_waker);
	profd_tasks_remove(by_link);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_life, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_fork, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_fork_of_a_fork, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_fork_while_another_thread_switches, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_wakers_off, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_room, set_up, tear_down), // the last: all places were used then
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
