// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_stay.c: who waits in a call has left the CPU, who does not has not; signals; threads that leave a call by longjmp.

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/rseq.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "profd/stay.h"
#include "profd/thread_pointer.h"

#define TRIES 100000

static bool tells;

static void need_rseq(void)
{
	if (!tells)
		skip();
}

// A call that waits for nothing: other threads and the machine may take the CPU away at any time, but not always.
static int calls_to_stay_once(void)
{
	for (int i = 1; i <= TRIES; i++) {
		profd_stay_begin();
		(void)getppid();
		if (profd_stayed())
			return i;
	}
	return 0;
}

static bool stays_in_sleep(void)
{
	profd_stay_begin();
	nanosleep(&(struct timespec){0, 1000}, NULL);
	return profd_stayed();
}

static void test_not_known_before(void **state)
{
	(void)state;
	assert_int_equal(calls_to_stay_once(), 0);
	profd_stay_init();
	assert_int_equal(calls_to_stay_once(), 0);
	profd_stay_try();
	tells = calls_to_stay_once() > 0;
	if (!tells)
		print_message("this kernel, or libc, does not tell\n");
}

static void *test_calls(void *unused)
{
	(void)unused;
	for (int i = 0; i < 100; i++) {
		assert_int_not_equal(calls_to_stay_once(), 0);
		assert_false(stays_in_sleep());
	}
	return NULL;
}

static void test_waits(void **state)
{
	pthread_t thread;

	(void)state;
	need_rseq();
	test_calls(NULL);
	assert_int_equal(pthread_create(&thread, NULL, test_calls, NULL), 0);
	pthread_join(thread, NULL);
}

static void wait_in_handler(int signo)
{
	(void)signo;
	profd_stay_begin();
	(void)getppid();
	(void)profd_stayed();
}

static void test_signals(void **state)
{
	(void)state;
	need_rseq();
	signal(SIGUSR1, wait_in_handler);
	for (int i = 0; i < 1000; i++) {
		profd_stay_begin();
		raise(SIGUSR1);
		assert_false(profd_stayed());
	}
}

// A thread whose end was never told, for it left the call by longjmp, and what a program leaves in its word.
static void test_words_that_are_left(void **state)
{
	struct rseq *own = (struct rseq *)(uintptr_t)(profd_thread_pointer() + (uint64_t)__rseq_offset);

	(void)state;
	need_rseq();
	profd_stay_begin();
	nanosleep(&(struct timespec){0, 1000}, NULL);
	assert_int_equal(own->rseq_cs, 0);
	assert_false(profd_stayed());
	while (calls_to_stay_once() == 0)
		;
	assert_int_equal(own->rseq_cs, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_not_known_before),
		cmocka_unit_test(test_waits),
		cmocka_unit_test(test_signals),
		cmocka_unit_test(test_words_that_are_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
