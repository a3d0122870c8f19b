// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_mutexes.c: mutexes of every kind that there is. One thread has it, others wait for it; meanwhile the holder gives back one of two holds
// (recursive), or a stranger tries to give it back (those that check), which lets nobody go on and must not be blamed. Printed as
// "NAME COUNT NANOSECONDS": "waited" by the waiters' own clocks; "held", that until the holder had given the mutex back; "held.least", from when all
// who wait were seen to sleep until it was about to. However busy the machine is, the truth is between.
//
// usage: target_mutexes KIND [ROUNDS] | processes [ROUNDS]

#include "target.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define WAITERS 2

static const struct kind {
	const char *name;
	int type, protocol, robust, shared;
} kinds[] = {
	{"normal", PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED, PTHREAD_PROCESS_PRIVATE},
	{"adaptive", PTHREAD_MUTEX_ADAPTIVE_NP, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED, PTHREAD_PROCESS_PRIVATE},
	{"recursive", PTHREAD_MUTEX_RECURSIVE, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED, PTHREAD_PROCESS_PRIVATE},
	{"errorcheck", PTHREAD_MUTEX_ERRORCHECK, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED, PTHREAD_PROCESS_PRIVATE},
	{"robust", PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST, PTHREAD_PROCESS_PRIVATE},
	{"robust-recursive", PTHREAD_MUTEX_RECURSIVE, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST, PTHREAD_PROCESS_PRIVATE},
	{"inherit", PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_STALLED, PTHREAD_PROCESS_PRIVATE},
	{"inherit-recursive", PTHREAD_MUTEX_RECURSIVE, PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_STALLED,
	 PTHREAD_PROCESS_PRIVATE},
	{"inherit-errorcheck", PTHREAD_MUTEX_ERRORCHECK, PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_STALLED,
	 PTHREAD_PROCESS_PRIVATE},
	{"protect", PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_PROTECT, PTHREAD_MUTEX_STALLED, PTHREAD_PROCESS_PRIVATE},
	{"protect-recursive", PTHREAD_MUTEX_RECURSIVE, PTHREAD_PRIO_PROTECT, PTHREAD_MUTEX_STALLED,
	 PTHREAD_PROCESS_PRIVATE},
	{"shared", PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED, PTHREAD_PROCESS_SHARED},
	{"shared-robust", PTHREAD_MUTEX_ERRORCHECK, PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST, PTHREAD_PROCESS_SHARED}};

// What the processes share.
struct shared {
	pthread_mutex_t mutex;
	pthread_barrier_t begins, ends; // a round: the holder has it; all waiters had it
	struct {
		long tid;          // atomic; 0: it does not wait yet
		uint64_t began_ns; // by tid
	} waiters[WAITERS];
};

static struct shared *shared;
static long rounds;
static uint64_t waited, waited_ns;            // under the mutex
static uint64_t before_ns, held_ns, least_ns; // the holder's; before_ns: it was about to give the mutex back

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void sleep_ms(long ms)
{
	nanosleep(&(struct timespec){0, ms * 1000000}, NULL);
}

static void make(const struct kind *kind, int pshared)
{
	pthread_mutexattr_t attr;
	pthread_barrierattr_t barrier;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	TARGET_CHECK(shared != MAP_FAILED);
	pthread_mutexattr_init(&attr);
	TARGET_CHECK(pthread_mutexattr_settype(&attr, kind->type) == 0);
	TARGET_CHECK(pthread_mutexattr_setprotocol(&attr, kind->protocol) == 0);
	TARGET_CHECK(pthread_mutexattr_setrobust(&attr, kind->robust) == 0);
	TARGET_CHECK(pthread_mutexattr_setpshared(&attr, pshared) == 0);
	TARGET_CHECK(pthread_mutex_init(&shared->mutex, &attr) == 0);
	// Only real-time threads may have a ceiling.
	if (kind->protocol == PTHREAD_PRIO_PROTECT &&
	    sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){1}) != 0) {
		perror("SCHED_FIFO");
		exit(77);
	}
	pthread_barrierattr_init(&barrier);
	pthread_barrierattr_setpshared(&barrier, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(&shared->begins, &barrier, WAITERS + 1);
	pthread_barrier_init(&shared->ends, &barrier, WAITERS + 1);
}

// ---- Who waits -----------------------------------------------------------------------------------------------------------

TARGET_NOINLINE static void give_on(void)
{
	TARGET_CHECK(pthread_mutex_unlock(&shared->mutex) == 0);
	__asm__ volatile(""); // no tail call
}

TARGET_NOINLINE static void wait_for_it(int number)
{
	uint64_t began_ns = now_ns();

	shared->waiters[number].began_ns = began_ns;
	__atomic_store_n(&shared->waiters[number].tid, syscall(SYS_gettid), __ATOMIC_RELEASE);
	TARGET_CHECK(pthread_mutex_lock(&shared->mutex) == 0);
	waited_ns += now_ns() - began_ns; // it is ours
	waited++;
	give_on();
}

static void *wait_in_rounds(void *number)
{
	for (long i = 0; i < rounds; i++) {
		pthread_barrier_wait(&shared->begins);
		wait_for_it((int)(intptr_t)number);
		pthread_barrier_wait(&shared->ends);
	}
	return NULL;
}

static void start_waiters(pthread_t *threads)
{
	for (int i = 0; i < WAITERS; i++)
		TARGET_CHECK(pthread_create(&threads[i], NULL, wait_in_rounds, (void *)(intptr_t)i) == 0);
}

static void join_waiters(const pthread_t *threads)
{
	for (int i = 0; i < WAITERS; i++)
		pthread_join(threads[i], NULL);
	printf("waited %llu %llu\n", (unsigned long long)waited, (unsigned long long)waited_ns);
	fflush(stdout);
}

// ---- Who has it ----------------------------------------------------------------------------------------------------------

TARGET_NOINLINE static void give_back(void)
{
	before_ns = now_ns();
	TARGET_CHECK(pthread_mutex_unlock(&shared->mutex) == 0);
	__asm__ volatile(""); // no tail call
}

TARGET_NOINLINE static void give_back_the_inner(void)
{
	TARGET_CHECK(pthread_mutex_unlock(&shared->mutex) == 0);
	__asm__ volatile(""); // no tail call
}

TARGET_NOINLINE static void *give_back_anothers(void *unused)
{
	TARGET_CHECK(pthread_mutex_unlock(&shared->mutex) == EPERM);
	return NULL;
}

static void meddle(const struct kind *kind)
{
	pthread_t stranger;

	if (kind->type == PTHREAD_MUTEX_RECURSIVE)
		give_back_the_inner();
	if (kind->type != PTHREAD_MUTEX_ERRORCHECK && kind->type != PTHREAD_MUTEX_RECURSIVE)
		return;
	TARGET_CHECK(pthread_create(&stranger, NULL, give_back_anothers, NULL) == 0);
	pthread_join(stranger, NULL);
}

static void hold_in_rounds(const struct kind *kind)
{
	uint64_t seen_ns, after_ns;

	for (long i = 0; i < rounds; i++) {
		TARGET_CHECK(pthread_mutex_lock(&shared->mutex) == 0);
		if (kind->type == PTHREAD_MUTEX_RECURSIVE)
			TARGET_CHECK(pthread_mutex_lock(&shared->mutex) == 0);
		for (int k = 0; k < WAITERS; k++)
			shared->waiters[k].tid = 0;
		pthread_barrier_wait(&shared->begins);
		for (int k = 0; k < WAITERS; k++)
			target_await_sleep(&shared->waiters[k].tid);
		seen_ns = now_ns();
		sleep_ms(3);
		meddle(kind);
		sleep_ms(3);
		give_back();
		after_ns = now_ns();
		for (int k = 0; k < WAITERS; k++) {
			held_ns += after_ns - shared->waiters[k].began_ns;
			least_ns += before_ns - seen_ns;
		}
		pthread_barrier_wait(&shared->ends);
	}
	printf("held %ld %llu\nheld.least %ld %llu\n", WAITERS * rounds, (unsigned long long)held_ns, WAITERS * rounds,
	       (unsigned long long)least_ns);
	fflush(stdout);
}

// ---- Cases ---------------------------------------------------------------------------------------------------------------

// The waiters are in a process of their own.
static int run_processes(void)
{
	pthread_t threads[WAITERS];
	int status;
	pid_t child;

	make(&kinds[0], PTHREAD_PROCESS_SHARED);
	child = fork();
	if (child == 0) {
		start_waiters(threads);
		join_waiters(threads);
		return 0;
	}
	hold_in_rounds(&kinds[0]);
	TARGET_CHECK(waitpid(child, &status, 0) == child);
	return status;
}

static int run_threads(const struct kind *kind)
{
	pthread_t threads[WAITERS];

	make(kind, kind->shared);
	start_waiters(threads);
	hold_in_rounds(kind);
	join_waiters(threads);
	return 0;
}

int main(int argc, char **argv)
{
	rounds = target_number(argc, argv, 2, 40);
	if (argc > 1 && strcmp(argv[1], "processes") == 0)
		return run_processes();
	for (size_t i = 0; argc > 1 && i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(argv[1], kinds[i].name) == 0)
			return run_threads(&kinds[i]);
	fprintf(stderr, "%s: no such kind\n", argv[0]);
	return 98;
}
