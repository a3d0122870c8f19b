// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_task_table.c: the kernel's table of a process's threads says what its files do (task_table.c, task_program.c, task_reader.c).

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "collector/task_reader.h"
#include "collector/task_table.h"

#define WAYS 4
#define THREADS 300 // more than the kernel writes at once

// A process whose threads wait, each in one of some ways, beside one that runs all the time.
struct program {
	pid_t pid;
	struct task_reader reader;
	uint32_t runner;
};

static struct shared {
	uint32_t ready, runner;
	int pipe[2];
} * shared;

static void *waiter_main(void *argument)
{
	const struct timespec long_time = {100000, 0};
	int way = (int)(intptr_t)argument % WAYS;
	char name[16], byte;

	snprintf(name, sizeof(name), "way-%d (%d)", way, (int)(intptr_t)argument % 7);
	prctl(PR_SET_NAME, name);
	__atomic_fetch_add(&shared->ready, 1, __ATOMIC_RELEASE);
	switch (way) {
	case 0:
		pause();
		break;
	case 1:
		nanosleep(&long_time, NULL);
		break;
	case 2:
		(void)!read(shared->pipe[0], &byte, 1);
		__atomic_fetch_add(&shared->ready, 1, __ATOMIC_RELEASE);
		pause();
		break;
	default:
		sigtimedwait(&(sigset_t){0}, NULL, &long_time);
	}
	return NULL;
}

static void *runner_main(void *argument)
{
	__atomic_store_n(&shared->runner, (uint32_t)gettid(), __ATOMIC_RELEASE);
	for (volatile unsigned turns = 0;; turns = turns + 1)
		;
	return argument;
}

static void child_main(void)
{
	pthread_attr_t attributes;
	pthread_t thread;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 65536);
	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&thread, &attributes, waiter_main, (void *)(intptr_t)i) != 0)
			_exit(1);
	if (pthread_create(&thread, &attributes, runner_main, NULL) != 0)
		_exit(1);
	for (;;)
		pause();
}

// In the call that it is to stay in; it may sleep on its way there, too.
static bool has_arrived(const struct program *program, uint32_t tid)
{
	struct task_place place;

	if (task_reader_state(&program->reader, tid) != 'S' || task_reader_place(&program->reader, tid, &place) != 0 ||
	    !place.in_syscall)
		return false;
	return place.nr == SYS_pause || place.nr == SYS_nanosleep || place.nr == SYS_clock_nanosleep ||
	       place.nr == SYS_read || place.nr == SYS_rt_sigtimedwait;
}

static void wait_until_asleep(const struct program *program)
{
	uint32_t *tids;
	size_t count;

	assert_int_equal(task_reader_list(&program->reader, &tids, &count), 0);
	for (size_t i = 0; i < count; i++)
		while (tids[i] != program->runner && !has_arrived(program, tids[i]))
			usleep(1000);
	free(tids);
}

static int set_up(void **state)
{
	static struct program program;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED || pipe(shared->pipe) < 0)
		return -1;
	program.pid = fork();
	if (program.pid == 0)
		child_main();
	if (program.pid < 0 || task_reader_open(program.pid, &program.reader) < 0)
		return -1;
	while (__atomic_load_n(&shared->ready, __ATOMIC_ACQUIRE) < THREADS ||
	       !__atomic_load_n(&shared->runner, __ATOMIC_ACQUIRE))
		usleep(1000);
	program.runner = shared->runner;
	wait_until_asleep(&program);
	*state = &program;
	return 0;
}

static int tear_down(void **state)
{
	struct program *program = *state;

	task_reader_close(&program->reader);
	kill(program->pid, SIGKILL);
	waitpid(program->pid, NULL, 0);
	close(shared->pipe[0]);
	close(shared->pipe[1]);
	munmap(shared, sizeof(*shared));
	return 0;
}

static void read_or_skip(const struct program *program, struct task_table *ret_table)
{
	if (task_table_read(program->pid, ret_table) < 0)
		skip();
}

static void test_says_what_the_files_do(void **state)
{
	const struct program *program = *state;
	struct task_table table;
	uint32_t *tids;
	size_t count;

	read_or_skip(program, &table);
	assert_int_equal(task_reader_list(&program->reader, &tids, &count), 0);
	assert_int_equal(count, THREADS + 2);
	assert_int_equal(table.count, count);
	for (size_t i = 0; i < count; i++) {
		const struct task_row *row = task_table_find(&table, tids[i]);
		struct task_times times;
		struct task_place place;
		char name[16] = "";

		assert_non_null(row);
		assert_int_equal(row->tid, tids[i]);
		task_reader_name(&program->reader, tids[i], name);
		assert_string_equal(row->name, name);
		if (tids[i] == program->runner)
			continue;
		assert_int_equal(task_reader_times(&program->reader, tids[i], name, &times), 0);
		assert_int_equal(row->times.run_ns, times.run_ns);
		if (times.last_ran_ns >= 0)
			assert_int_equal(row->times.last_ran_ns, times.last_ran_ns);
		assert_int_equal(task_reader_place(&program->reader, tids[i], &place), 0);
		assert_true(row->waits);
#if defined(__x86_64__)
		assert_true(row->has_place);
#endif
		if (row->has_place) {
			assert_true(row->place.in_syscall && !row->place.running);
			assert_memory_equal(&row->place.args, &place.args, sizeof(place.args));
			assert_int_equal(row->place.nr, place.nr);
			assert_int_equal(row->place.sp, place.sp);
			assert_int_equal(row->place.pc, place.pc);
		}
	}
	free(tids);
	task_table_finish(&table);
}

// Where it is, is not known of a thread that runs; that it ran, of one that waits again.
static void test_running_and_moved(void **state)
{
	const struct program *program = *state;
	struct task_table before, after;
	unsigned moved = 0;

	read_or_skip(program, &before);
	assert_false(task_table_find(&before, program->runner)->waits);
	assert_int_equal(write(shared->pipe[1], "x", 1), 1);
	while (__atomic_load_n(&shared->ready, __ATOMIC_ACQUIRE) < THREADS + 1)
		usleep(1000);
	wait_until_asleep(program);
	assert_int_equal(task_table_read(program->pid, &after), 0);
	for (size_t i = 0; i < before.count; i++) {
		const struct task_row *now = task_table_find(&after, before.rows[i].tid);

		assert_non_null(now);
		if (now->tid == program->runner)
			continue;
		moved += now->switches != before.rows[i].switches;
		assert_true((now->switches != before.rows[i].switches) ==
			    (now->times.run_ns != before.rows[i].times.run_ns));
	}
	assert_int_equal(moved, 1);
	task_table_finish(&before);
	task_table_finish(&after);
}

// Equal CPU time is not enough: it has to wait where it did.
static void test_unmoved(void **state)
{
	const struct program *program = *state;
	struct task_times times;
	struct task_place place, other;
	uint32_t tid = (uint32_t)program->pid;

	wait_until_asleep(program);
	assert_int_equal(task_reader_times(&program->reader, tid, NULL, &times), 0);
	assert_int_equal(task_reader_place(&program->reader, tid, &place), 0);
	assert_int_equal(task_reader_check_unmoved(&program->reader, tid, &times, &place), 0);
	other = place;
	other.sp += 16;
	assert_int_equal(task_reader_check_unmoved(&program->reader, tid, &times, &other), -EAGAIN);
	other = place;
	other.pc++;
	assert_int_equal(task_reader_check_unmoved(&program->reader, tid, &times, &other), -EAGAIN);
	times.run_ns--;
	assert_int_equal(task_reader_check_unmoved(&program->reader, tid, &times, &place), -EAGAIN);
	assert_int_equal(task_reader_times(&program->reader, program->runner, NULL, &times), 0);
	assert_int_equal(task_reader_check_unmoved(&program->reader, program->runner, &times, &place), -EAGAIN);
	assert_true(task_reader_check_unmoved(&program->reader, INT32_MAX, &times, &place) < 0);
}

// A thread may have any name: a line's of /proc/PID/sched, too.
static void test_named_as_a_member(void **state)
{
	static const char *const names[] = {"se.exec_start:9", "\nse.exec_start:", "#threads: 1\n:9"};

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct task_reader reader;
		struct task_times times;
		char name[16] = "";
		pid_t pid = fork();

		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			prctl(PR_SET_NAME, names[i]);
			for (;;)
				pause();
		}
		assert_true(pid > 0);
		assert_int_equal(task_reader_open(pid, &reader), 0);
		while (strcmp(name, names[i]) != 0) {
			usleep(1000);
			task_reader_times(&reader, (uint32_t)pid, name, &times);
			if (times.last_ran_ns < 0)
				break; // no such file here
		}
		if (times.last_ran_ns >= 0)
			assert_true(task_reader_now_ns() - times.last_ran_ns < 60000000000LL);
		task_reader_close(&reader);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
}

// Neither is there a place of one that is stopped.
static void test_stopped(void **state)
{
	const struct program *program = *state;
	struct task_table table;

	kill(program->pid, SIGSTOP);
	waitpid(program->pid, NULL, WUNTRACED);
	if (task_table_read(program->pid, &table) == 0) {
		for (size_t i = 0; i < table.count; i++)
			assert_false(table.rows[i].waits || table.rows[i].has_place);
		task_table_finish(&table);
	}
	kill(program->pid, SIGCONT);
}

static void test_no_process(void **state)
{
	struct task_table table = {.count = 7};
	pid_t pid = fork();

	(void)state;
	if (pid == 0)
		_exit(0);
	waitpid(pid, NULL, 0);
	assert_true(task_table_read(pid, &table) < 0);
	assert_int_equal(table.count, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_says_what_the_files_do),
		cmocka_unit_test(test_running_and_moved),
		cmocka_unit_test(test_unmoved),
		cmocka_unit_test(test_stopped),
		cmocka_unit_test(test_named_as_a_member),
		cmocka_unit_test(test_no_process),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
