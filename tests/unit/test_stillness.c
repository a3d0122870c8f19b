// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_stillness.c: a thread that ran is noticed, unless it is one of those that may.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "collector/stillness.h"

// A process with two threads that answer bytes, beside its main one.
struct pair {
	int wake[2], answer[2]; // pipes
	uint32_t tid;
};
struct program {
	pid_t pid;
	struct task_reader reader;
	struct pair pairs[2];
};

static void *answer_main(void *argument)
{
	struct pair *pair = argument;
	uint32_t tid = (uint32_t)syscall(SYS_gettid);
	char byte;

	if (write(pair->answer[1], &tid, sizeof(tid)) != sizeof(tid))
		_exit(1);
	while (read(pair->wake[0], &byte, 1) == 1 && write(pair->answer[1], &byte, 1) == 1)
		;
	return NULL;
}

static void child_main(struct program *program)
{
	pthread_t thread;

	for (int i = 0; i < 2; i++)
		if (pthread_create(&thread, NULL, answer_main, &program->pairs[i]) != 0)
			_exit(1);
	for (;;)
		pause();
}

// In a call, and off the CPU: what it ran for is counted.
static bool is_asleep(const struct program *program, uint32_t tid)
{
	struct task_place place;

	return task_reader_state(&program->reader, tid) == 'S' &&
	       task_reader_place(&program->reader, tid, &place) == 0 && place.in_syscall;
}

static void wait_until_asleep(const struct program *program)
{
	const uint32_t tids[] = {(uint32_t)program->pid, program->pairs[0].tid, program->pairs[1].tid};

	for (size_t i = 0; i < 3; i++)
		while (!is_asleep(program, tids[i]))
			usleep(1000);
}

static int set_up(void **state)
{
	static struct program program;

	for (int i = 0; i < 2; i++)
		if (pipe(program.pairs[i].wake) < 0 || pipe(program.pairs[i].answer) < 0)
			return -1;
	program.pid = fork();
	if (program.pid == 0)
		child_main(&program);
	if (program.pid < 0 || task_reader_open(program.pid, &program.reader) < 0)
		return -1;
	for (int i = 0; i < 2; i++)
		if (read(program.pairs[i].answer[0], &program.pairs[i].tid, sizeof(uint32_t)) != sizeof(uint32_t))
			return -1;
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
	for (int i = 0; i < 2; i++) {
		close(program->pairs[i].wake[0]);
		close(program->pairs[i].wake[1]);
		close(program->pairs[i].answer[0]);
		close(program->pairs[i].answer[1]);
	}
	return 0;
}

static void wake(struct program *program, int i)
{
	char byte = 0;

	assert_int_equal(write(program->pairs[i].wake[1], &byte, 1), 1);
	assert_int_equal(read(program->pairs[i].answer[0], &byte, 1), 1);
	wait_until_asleep(program);
}

static bool is_same_now(struct program *program, const struct stillness *before)
{
	struct stillness now = *before;

	stillness_read(&now, program->pid, &program->reader);
	assert_true(now.known);
	return stillness_is_same(before, &now);
}

static void test_who_runs_is_noticed(void **state)
{
	struct program *program = *state;
	struct stillness still = {0};

	stillness_read(&still, program->pid, &program->reader);
	assert_true(still.known);
	assert_true(is_same_now(program, &still));
	wake(program, 0);
	assert_false(is_same_now(program, &still));
}

static void test_movers_are_left_out(void **state)
{
	struct program *program = *state;
	struct stillness still = {0};

	assert_true(stillness_add_mover(&still, program->pairs[0].tid));
	stillness_read(&still, program->pid, &program->reader);
	for (int i = 0; i < 20; i++)
		wake(program, 0);
	assert_true(is_same_now(program, &still));
	wake(program, 1);
	assert_false(is_same_now(program, &still));
}

static void test_a_mover_that_is_gone(void **state)
{
	struct program *program = *state;
	struct stillness still = {0};

	stillness_add_mover(&still, 1u << 30);
	stillness_read(&still, program->pid, &program->reader);
	assert_false(still.known);
	assert_false(stillness_is_same(&still, &still));
}

static void test_set_of_movers(void **state)
{
	struct stillness still = {0};

	(void)state;
	for (uint32_t i = 0; i < STILLNESS_MOVERS; i++)
		assert_true(stillness_add_mover(&still, 1 + i * 37 % 1000));
	assert_true(stillness_add_mover(&still, 1));
	assert_int_equal(still.nmovers, STILLNESS_MOVERS);
	assert_false(stillness_add_mover(&still, 5000));
	for (size_t i = 1; i < still.nmovers; i++)
		assert_true(still.movers[i - 1] < still.movers[i]);
	for (uint32_t i = 0; i < STILLNESS_MOVERS; i++)
		assert_true(stillness_has_mover(&still, 1 + i * 37 % 1000));
	assert_false(stillness_has_mover(&still, 5000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_who_runs_is_noticed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_movers_are_left_out, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_mover_that_is_gone, set_up, tear_down),
		cmocka_unit_test(test_set_of_movers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
