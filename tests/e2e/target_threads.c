// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_threads.c: a program with threads of every making: many, short, raw, hidden from pthread_create, or blocked.

#include "target.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <threads.h>

#define SMALL_STACK (64u << 10)

static void small_stack(pthread_attr_t *attr)
{
	pthread_attr_init(attr);
	TARGET_CHECK(pthread_attr_setstacksize(attr, SMALL_STACK) == 0);
}

// ---- Many ----------------------------------------------------------------------------------------------------------

static void *count_up(void *pointer)
{
	__atomic_fetch_add((long *)pointer, 1, __ATOMIC_RELAXED);
	return NULL;
}

static void *make_and_join(void *pointer)
{
	long count = *(long *)pointer, done = 0;
	pthread_attr_t attr;

	small_stack(&attr);
	for (long i = 0; i < count; i++) {
		pthread_t thread;

		TARGET_CHECK(pthread_create(&thread, &attr, count_up, &done) == 0);
		TARGET_CHECK(pthread_join(thread, NULL) == 0);
	}
	*(long *)pointer = done;
	return NULL;
}

// many N: N threads made and joined, by two threads at once.
static int run_many(int argc, char **argv)
{
	long counts[2] = {target_number(argc, argv, 1, 1000) / 2, target_number(argc, argv, 1, 1000) / 2};
	pthread_t other;

	TARGET_CHECK(pthread_create(&other, NULL, make_and_join, &counts[1]) == 0);
	make_and_join(&counts[0]);
	TARGET_CHECK(pthread_join(other, NULL) == 0);
	printf("%ld threads\n", counts[0] + counts[1]);
	return 0;
}

static sem_t all_here, go;

TARGET_NOINLINE static void burn_among_many(void)
{
	target_burn(2);
	__asm__ volatile("");
}

static void *wait_then_burn(void *unused)
{
	sem_post(&all_here);
	while (sem_wait(&go) < 0)
		;
	burn_among_many();
	return unused;
}

// alive N: N threads at once; then each burns 2 ms.
static int run_alive(int argc, char **argv)
{
	long count = target_number(argc, argv, 1, 100);
	pthread_t *threads = calloc((size_t)count, sizeof(*threads));
	pthread_attr_t attr;

	small_stack(&attr);
	TARGET_CHECK(threads && sem_init(&all_here, 0, 0) == 0 && sem_init(&go, 0, 0) == 0);
	for (long i = 0; i < count; i++)
		TARGET_CHECK(pthread_create(&threads[i], &attr, wait_then_burn, NULL) == 0);
	for (long i = 0; i < count; i++)
		TARGET_CHECK(sem_wait(&all_here) == 0);
	printf("%ld alive\n", count);
	target_burn(300);
	for (long i = 0; i < count; i++)
		sem_post(&go);
	for (long i = 0; i < count; i++)
		TARGET_CHECK(pthread_join(threads[i], NULL) == 0);
	return 0;
}

static double short_s; // what the short ones took, by their own clocks

TARGET_NOINLINE static void *short_lived(void *unused)
{
	double began_s = target_clock_s(CLOCK_THREAD_CPUTIME_ID);

	target_burn(5);
	short_s += target_clock_s(CLOCK_THREAD_CPUTIME_ID) - began_s;
	return unused;
}

// short N [FILE]: N threads of 5 ms each, one after the other; writes there how many seconds they really took.
static int run_short(int argc, char **argv)
{
	long count = target_number(argc, argv, 1, 100);

	for (long i = 0; i < count; i++) {
		pthread_t thread;

		TARGET_CHECK(pthread_create(&thread, NULL, short_lived, NULL) == 0);
		TARGET_CHECK(pthread_join(thread, NULL) == 0);
	}
	if (argc > 2) {
		FILE *file = fopen(argv[2], "w");

		TARGET_CHECK(file && fprintf(file, "%.9f\n", short_s) > 0 && fclose(file) == 0);
	}
	printf("%ld short ones\n", count);
	return 0;
}

// ---- Of other makings ----------------------------------------------------------------------------------------------

// No thread-local storage of its own: it may use nothing of libc.
static int64_t raw_rounds;

TARGET_NOINLINE static int raw_burn(void *unused)
{
	while (__atomic_load_n(&raw_rounds, __ATOMIC_RELAXED) > 0) {
		for (int i = 0; i < 1000; i++)
			__asm__ volatile("" ::: "memory");
		__atomic_fetch_sub(&raw_rounds, 1, __ATOMIC_RELAXED);
	}
	return 0;
}

static void wait_for_exit(uint32_t *tid)
{
	uint32_t seen;

	while ((seen = __atomic_load_n(tid, __ATOMIC_ACQUIRE)) != 0)
		syscall(SYS_futex, tid, FUTEX_WAIT, seen, NULL, NULL, 0);
}

// clone N: N threads by clone(2) alone, which no pthread function sees.
static int run_clone(int argc, char **argv)
{
	long count = target_number(argc, argv, 1, 1);
	static uint32_t tids[16];

	raw_rounds = 2500000;
	for (long i = 0; i < count && i < 16; i++) {
		char *stack = mmap(NULL, SMALL_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		TARGET_CHECK(stack != MAP_FAILED);
		tids[i] = 1;
		TARGET_CHECK(clone(raw_burn, stack + SMALL_STACK,
				   CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
					   CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID,
				   NULL, &tids[i], NULL, &tids[i]) > 0);
	}
	for (long i = 0; i < count && i < 16; i++)
		wait_for_exit(&tids[i]);
	printf("all done: %d\n", raw_rounds <= 0);
	return 0;
}

TARGET_NOINLINE static int c11_burn(void *unused)
{
	target_burn(500);
	return 6;
}

static int run_c11(int argc, char **argv)
{
	thrd_t threads[2];
	int result, sum = 0;

	for (int i = 0; i < 2; i++)
		TARGET_CHECK(thrd_create(&threads[i], c11_burn, NULL) == thrd_success);
	for (int i = 0; i < 2; i++) {
		TARGET_CHECK(thrd_join(threads[i], &result) == thrd_success);
		sum += result;
	}
	printf("sum %d\n", sum);
	return 0;
}

// Threads that were there before main: made by a preloaded library's constructor (early.c), which prints when they end.
static int run_early(int argc, char **argv)
{
	void (*join)(void) = NULL;

	*(void **)&join = getenv("EARLY_JOIN") ? (void *)strtoul(getenv("EARLY_JOIN"), NULL, 16) : NULL;
	TARGET_CHECK(join);
	join();
	puts("early ones ended");
	return 0;
}

TARGET_NOINLINE static void *masked_burn(void *unused)
{
	sigset_t now;
	int missing = 0;

	target_burn(400);
	TARGET_CHECK(pthread_sigmask(SIG_SETMASK, NULL, &now) == 0);
	for (int signo = 1; signo < 32; signo++)
		missing += !sigismember(&now, signo) && signo != SIGKILL && signo != SIGSTOP;
	printf("missing %d\n", missing);
	return unused;
}

// attrmask: a thread that is born with all signals blocked, by its attributes.
static int run_attrmask(int argc, char **argv)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all;

	sigfillset(&all);
	pthread_attr_init(&attr);
	TARGET_CHECK(pthread_attr_setsigmask_np(&attr, &all) == 0);
	TARGET_CHECK(pthread_create(&thread, &attr, masked_burn, NULL) == 0);
	TARGET_CHECK(pthread_join(thread, NULL) == 0);
	return 0;
}

// ---- Ends of threads -----------------------------------------------------------------------------------------------

static pthread_key_t key;
static long destroyed;

TARGET_NOINLINE static void burn_in_destructor(void *unused)
{
	target_burn(100);
	destroyed++;
}

static void *exit_with_key(void *unused)
{
	pthread_setspecific(key, &key);
	target_burn(50);
	pthread_exit(NULL);
}

static void *burn_until_cancelled(void *unused)
{
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	sem_post(&all_here);
	for (;;)
		target_spin();
	return unused;
}

// ends: pthread_exit with a busy destructor; cancellation, asynchronous, of a thread that is sampled.
static int run_ends(int argc, char **argv)
{
	void *result;
	pthread_t thread;
	int cancelled = 0;

	TARGET_CHECK(pthread_key_create(&key, burn_in_destructor) == 0 && sem_init(&all_here, 0, 0) == 0);
	for (int i = 0; i < 5; i++) {
		TARGET_CHECK(pthread_create(&thread, NULL, exit_with_key, NULL) == 0);
		TARGET_CHECK(pthread_join(thread, NULL) == 0);
	}
	for (int i = 0; i < 100; i++) {
		TARGET_CHECK(pthread_create(&thread, NULL, burn_until_cancelled, NULL) == 0);
		while (sem_wait(&all_here) < 0)
			;
		target_burn(2);
		TARGET_CHECK(pthread_cancel(thread) == 0 && pthread_join(thread, &result) == 0);
		cancelled += result == PTHREAD_CANCELED;
	}
	printf("destroyed %ld, cancelled %d\n", destroyed, cancelled);
	return 0;
}

// names: what a thread is called may change at any time.
static void *named_burn(void *name)
{
	pthread_setname_np(pthread_self(), name);
	target_burn(300);
	return NULL;
}

static int run_names(int argc, char **argv)
{
	static char *const names[] = {"worker-a", "worker-b"};
	pthread_t threads[2];

	for (int i = 0; i < 2; i++)
		TARGET_CHECK(pthread_create(&threads[i], NULL, named_burn, names[i]) == 0);
	for (int i = 0; i < 2; i++)
		TARGET_CHECK(pthread_join(threads[i], NULL) == 0);
	return 0;
}

static const struct target_case cases[] = {
	{"many", run_many},   {"alive", run_alive}, {"short", run_short},       {"clone", run_clone}, {"c11", run_c11},
	{"early", run_early}, {"ends", run_ends},   {"attrmask", run_attrmask}, {"names", run_names},
};
TARGET_MAIN(cases)
