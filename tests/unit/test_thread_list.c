// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_thread_list.c: each thread of a process is handed out once, to whoever asks first, and the list is in order at the end.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "collector/task_reader.h"
#include "collector/thread_list.h"
#include "collector/thread_scan.h"

#define THREADS 600 // more than are listed at once
#define TAKERS 3

static sem_t leave;

static void *wait_main(void *argument)
{
	while (sem_wait(&leave) < 0)
		;
	return argument;
}

static void *take_main(void *argument)
{
	struct thread_list *list = argument;
	struct thread_scan_record *records;
	size_t n;

	while ((n = thread_list_take(list, &records, 7)) > 0)
		for (size_t i = 0; i < n; i++)
			__atomic_fetch_add(&records[i].npcs, 1, __ATOMIC_RELAXED);
	return NULL;
}

static void take_all(struct thread_list *list)
{
	pthread_t takers[TAKERS];

	for (int i = 0; i < TAKERS; i++)
		assert_int_equal(pthread_create(&takers[i], NULL, take_main, list), 0);
	assert_int_equal(thread_list_fill(list), 0);
	for (int i = 0; i < TAKERS; i++)
		pthread_join(takers[i], NULL);
}

static int compare_tids(const void *a, const void *b)
{
	uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;

	return (left > right) - (left < right);
}

static void check(const struct thread_scan *scan, const uint32_t *tids, size_t count, uint32_t turns)
{
	assert_int_equal(scan->count, count);
	for (size_t i = 0; i < count; i++) {
		assert_int_equal(scan->records[i].tid, tids[i]);
		assert_int_equal(scan->records[i].npcs, turns);
	}
}

static void test_each_once(void **state)
{
	pthread_t threads[THREADS];
	struct thread_scan scan = {0}, again = {0};
	struct task_reader reader;
	struct thread_list list;
	uint32_t *tids;
	size_t count;

	(void)state;
	assert_int_equal(sem_init(&leave, 0, 0), 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, wait_main, NULL), 0);
	assert_int_equal(task_reader_open(getpid(), &reader), 0);
	assert_int_equal(task_reader_list(&reader, &tids, &count), 0);
	assert_true(count >= THREADS + 1);

	assert_int_equal(thread_list_begin(&list, &scan, &reader), 0);
	take_all(&list);
	for (size_t i = 0; i < scan.count; i++) // those that take are there as well, and have ended
		if (!bsearch(&scan.records[i].tid, tids, count, sizeof(*tids), compare_tids))
			scan.records[i].tid = 0;
	thread_list_rewind(&list);
	take_all(&list);
	thread_list_end(&list);
	check(&scan, tids, count, 2);

	// Those that are known, whatever there is now; but for one that ended.
	assert_int_equal(thread_list_begin_with(&list, &again, tids, count), 0);
	take_all(&list);
	again.records[1].tid = 0;
	thread_list_end(&list);
	assert_int_equal(again.count, count - 1);
	assert_int_equal(again.records[0].tid, tids[0]);
	check(&(struct thread_scan){.count = count - 2, .records = again.records + 1}, tids + 2, count - 2, 1);

	free(scan.records);
	free(again.records);
	free(tids);
	task_reader_close(&reader);
	for (int i = 0; i < THREADS; i++)
		sem_post(&leave);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
