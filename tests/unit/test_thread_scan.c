// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_thread_scan.c: the kernel's table of threads only saves reading files: whatever it lacks, or has too much, a scan has the threads
// that there are (thread_scan.c). And a thread that stopped running while it was looked at waits.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "collector/mapping.h"
#include "collector/task_reader.h"
#include "collector/task_table.h"
#include "collector/thread_scan.h"
#include "collector/thread_walk.h"

#define THREADS 600u // so many that a table is asked for

int __wrap_task_table_read(pid_t pid, struct task_table *ret_table);
int __real_task_table_read(pid_t pid, struct task_table *ret_table);

static size_t kept_rows;
static unsigned reads;

// As if a thread had ended while the kernel was at it; and another one behind, that has ended since.
int __wrap_task_table_read(pid_t pid, struct task_table *ret_table)
{
	int r = __real_task_table_read(pid, ret_table);

	reads++;
	if (r < 0)
		return r;
	assert_true(ret_table->count > kept_rows);
	ret_table->count = kept_rows + 1;
	ret_table->rows[kept_rows].tid = INT32_MAX;
	return 0;
}

static unsigned *ready;

static void *thread_main(void *argument)
{
	__atomic_fetch_add(ready, 1, __ATOMIC_RELEASE);
	pause();
	return argument;
}

static void child_main(void)
{
	pthread_attr_t attributes;
	pthread_t thread;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 65536);
	for (unsigned i = 1; i < THREADS; i++)
		if (pthread_create(&thread, &attributes, thread_main, NULL) != 0)
			_exit(1);
	thread_main(NULL);
}

static void check(const struct thread_scan *scan, pid_t pid)
{
	bool has_first = false; // it need not have the lowest number: they begin anew at the highest

	assert_int_equal(scan->count, THREADS);
	for (size_t i = 0; i < scan->count; i++) {
		has_first |= scan->records[i].tid == (uint32_t)pid;
		assert_true(scan->records[i].tid != INT32_MAX);
		assert_true(i == 0 || scan->records[i - 1].tid < scan->records[i].tid);
	}
	assert_true(has_first);
}

static void test_short_table(void **state)
{
	static const size_t rows[] = {0, 1, 300, THREADS - 1};
	struct mapping_set mappings = {.count = 0};
	struct thread_scan *scan, *last = NULL;
	struct walk_image *image;
	pid_t pid;

	(void)state;
	ready = mmap(NULL, sizeof(*ready), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(ready != MAP_FAILED);
	pid = fork();
	if (pid == 0)
		child_main();
	assert_true(pid > 0);
	while (__atomic_load_n(ready, __ATOMIC_ACQUIRE) < THREADS)
		usleep(1000);
	image = walk_image_create(pid, &mappings, NULL);
	assert_non_null(image);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		kept_rows = rows[i];
		reads = 0;
		assert_int_equal(thread_scan_take(pid, image, NULL, 0, &scan), 0);
		assert_true(reads > 0);
		check(scan, pid);
		thread_scan_destroy(last);
		last = scan;
	}
	assert_int_equal(thread_scan_take(pid, image, last, 0, &scan), 0);
	check(scan, pid);
	thread_scan_destroy(scan);
	thread_scan_destroy(last);
	walk_image_destroy(image);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	munmap(ready, sizeof(*ready));
}

// ---- A thread that runs at the first look, and waits at the next -------------------------------------------------------

int __wrap_task_reader_place(const struct task_reader *reader, uint32_t tid, struct task_place *ret_place);
int __real_task_reader_place(const struct task_reader *reader, uint32_t tid, struct task_place *ret_place);

static unsigned looks_running; // so many more times

int __wrap_task_reader_place(const struct task_reader *reader, uint32_t tid, struct task_place *ret_place)
{
	int r = __real_task_reader_place(reader, tid, ret_place);

	if (r == 0 && looks_running > 0) {
		looks_running--;
		*ret_place = (struct task_place){.running = true, .nr = -1};
	}
	return r;
}

static void test_waits_by_now(void **state)
{
	struct mapping_set mappings = {.count = 0};
	struct thread_scan *first, *second;
	struct walk_image *image;
	pid_t pid = fork();
	bool runs;
	int error;

	(void)state;
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	assert_true(pid > 0);
	image = walk_image_create(pid, &mappings, NULL);
	assert_non_null(image);
	do {
		assert_int_equal(thread_scan_take(pid, image, NULL, 0, &first), 0);
		runs = first->records[0].place.running;
		thread_scan_destroy(first);
	} while (runs); // it is on its way to pause()

	looks_running = 2; // to who asks whether this process is ours to look at, and to who looks
	assert_int_equal(thread_scan_take(pid, image, NULL, 0, &first), 0);
	assert_int_equal(looks_running, 0);
	assert_int_equal(thread_scan_take(pid, image, first, 0, &second), 0);
	error = first->capture_error;
	if (!error) { // or it may not be looked at again
		assert_false(first->records[0].place.running);
		assert_true(first->records[0].run_state != 'R');
	}
	assert_false(second->records[0].place.running);
	assert_true(second->records[0].run_state != 'R');
	thread_scan_destroy(second);
	thread_scan_destroy(first);
	walk_image_destroy(image);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	if (error)
		skip();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_short_table),
		cmocka_unit_test(test_waits_by_now),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
