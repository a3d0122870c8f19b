// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// states_locks.c: target_states's threads that wait for locks and the like: all of them in the call futex.

#include "states.h"
#include "target.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdbool.h>
#include <sys/syscall.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER, recursive, errorcheck, adaptive, robust, inherit, shared;
static pthread_mutex_t condition_mutex = PTHREAD_MUTEX_INITIALIZER, woken_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER, timed_condition = PTHREAD_COND_INITIALIZER,
		      woken_condition = PTHREAD_COND_INITIALIZER, used_condition = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t written = PTHREAD_RWLOCK_INITIALIZER, read_by_main = PTHREAD_RWLOCK_INITIALIZER,
			prefers_writers = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
static pthread_barrier_t barrier;
static pthread_once_t once = PTHREAD_ONCE_INIT, raw_once = PTHREAD_ONCE_INIT;
static sem_t semaphore, timed_semaphore, initializer_semaphore, initializing, locked;
static pthread_t holder_thread;
static uint32_t word, raw_word;

static void wait_mutex(void)
{
	pthread_mutex_lock(&mutex);
}

static void wait_mutex_timed(void)
{
	struct timespec at = far_from(CLOCK_REALTIME);

	pthread_mutex_timedlock(&mutex, &at);
}

static void wait_recursive(void)
{
	pthread_mutex_lock(&recursive);
}

static void wait_errorcheck(void)
{
	pthread_mutex_lock(&errorcheck);
}

static void wait_adaptive(void)
{
	pthread_mutex_lock(&adaptive);
}

static void wait_robust(void)
{
	(void)!pthread_mutex_lock(&robust);
}

static void wait_inherit(void)
{
	pthread_mutex_lock(&inherit);
}

static void wait_shared(void)
{
	pthread_mutex_lock(&shared);
}

static void wait_rdlock(void)
{
	pthread_rwlock_rdlock(&written);
}

static void wait_wrlock(void)
{
	pthread_rwlock_wrlock(&written);
}

static void wait_wrlock_of_reader(void)
{
	pthread_rwlock_wrlock(&read_by_main);
}

static void wait_wrlock_preferred(void)
{
	pthread_rwlock_wrlock(&prefers_writers);
}

// Behind a writer that waits: it has set its flag once nobody can lock for reading.
static void wait_rdlock_behind_writer(void)
{
	while (pthread_rwlock_tryrdlock(&prefers_writers) == 0) {
		pthread_rwlock_unlock(&prefers_writers);
		sched_yield();
	}
	pthread_rwlock_rdlock(&prefers_writers);
}

static void wait_condition(void)
{
	pthread_mutex_lock(&condition_mutex);
	pthread_cond_wait(&condition, &condition_mutex);
}

static void wait_condition_timed(void)
{
	struct timespec at = far_from(CLOCK_REALTIME);

	pthread_mutex_lock(&condition_mutex);
	pthread_cond_timedwait(&timed_condition, &condition_mutex, &at);
}

// Of one whose groups have changed places a few times.
static void wait_condition_used(void)
{
	for (;;) {
		pthread_mutex_lock(&condition_mutex);
		sem_post(&locked);
		pthread_cond_wait(&used_condition, &condition_mutex);
		pthread_mutex_unlock(&condition_mutex);
	}
}

// Woken by main, which keeps the mutex.
static void wait_condition_mutex(void)
{
	pthread_mutex_lock(&woken_mutex);
	sem_post(&locked);
	pthread_cond_wait(&woken_condition, &woken_mutex);
}

static void wait_semaphore(void)
{
	sem_wait(&semaphore);
}

static void wait_semaphore_timed(void)
{
	struct timespec at = far_from(CLOCK_REALTIME);

	sem_timedwait(&timed_semaphore, &at);
}

static void wait_barrier(void)
{
	pthread_barrier_wait(&barrier);
}

static void slow_initializer(void)
{
	sem_post(&initializing);
	sem_wait(&initializer_semaphore);
}

static void raw_initializer(void)
{
	syscall(SYS_futex, &raw_word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

static void wait_initializer(void)
{
	pthread_once(&once, slow_initializer);
}

static void wait_raw_initializer(void)
{
	pthread_once(&raw_once, raw_initializer);
}

static void wait_once(void)
{
	sem_wait(&initializing);
	pthread_once(&once, slow_initializer);
}

static void wait_join(void)
{
	pthread_join(holder_thread, NULL);
}

// Names that begin as libc's do.
static __attribute__((noinline)) void sem_acquire(void)
{
	syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
	__asm__ volatile("");
}

static __attribute__((noinline)) void poll_loop(void)
{
	sem_acquire();
	__asm__ volatile("");
}

const struct state_way state_lock_ways[] = {
	{"mutex", wait_mutex, &mutex, NULL},
	{"mutex-timed", wait_mutex_timed, &mutex, NULL},
	{"recursive", wait_recursive, &recursive, NULL},
	{"errorcheck", wait_errorcheck, &errorcheck, NULL},
	{"adaptive", wait_adaptive, &adaptive, NULL},
	{"robust", wait_robust, &robust, NULL},
	{"inherit", wait_inherit, &inherit, NULL},
	{"shared", wait_shared, &shared, NULL},
	{"rdlock", wait_rdlock, &written, NULL},
	{"wrlock", wait_wrlock, &written, NULL},
	{"wrlock-2", wait_wrlock, &written, NULL},
	{"wrlock-read", wait_wrlock_of_reader, &read_by_main, NULL},
	{"wrlock-first", wait_wrlock_preferred, &prefers_writers, NULL},
	{"rdlock-behind", wait_rdlock_behind_writer, &prefers_writers, NULL},
	{"cond", wait_condition, &condition, NULL},
	{"cond-timed", wait_condition_timed, &timed_condition, NULL},
	{"cond-used", wait_condition_used, &used_condition, NULL},
	{"cond-mutex", wait_condition_mutex, &woken_mutex, NULL},
	{"sem", wait_semaphore, &semaphore, NULL},
	{"sem-timed", wait_semaphore_timed, &timed_semaphore, NULL},
	{"barrier", wait_barrier, &barrier, NULL},
	{"initializer", wait_initializer, &initializer_semaphore, NULL},
	{"raw-initializer", wait_raw_initializer, &raw_word, NULL},
	{"once", wait_once, &once, NULL},
	{"join", wait_join, NULL, NULL},
	{"futex", poll_loop, &word, NULL},
	{0},
};

static void make_mutex(pthread_mutex_t *made, int type, bool is_robust, int protocol, int sharing)
{
	pthread_mutexattr_t attributes;

	pthread_mutexattr_init(&attributes);
	TARGET_CHECK(pthread_mutexattr_settype(&attributes, type) == 0);
	TARGET_CHECK(pthread_mutexattr_setrobust(&attributes,
						 is_robust ? PTHREAD_MUTEX_ROBUST : PTHREAD_MUTEX_STALLED) == 0);
	TARGET_CHECK(pthread_mutexattr_setprotocol(&attributes, protocol) == 0);
	TARGET_CHECK(pthread_mutexattr_setpshared(&attributes, sharing) == 0);
	TARGET_CHECK(pthread_mutex_init(made, &attributes) == 0);
}

// Holds what the others wait for.
static void *hold(void *unused)
{
	pthread_mutex_t *held[] = {&mutex, &recursive, &errorcheck, &adaptive, &robust, &inherit, &shared};

	(void)unused;
	for (size_t i = 0; i < sizeof(held) / sizeof(held[0]); i++)
		TARGET_CHECK(pthread_mutex_lock(held[i]) == 0);
	TARGET_CHECK(pthread_mutex_lock(&recursive) == 0 && pthread_rwlock_wrlock(&written) == 0);
	sem_post(&locked);
	for (;;)
		pause();
	return NULL;
}

void state_locks_make(void)
{
	make_mutex(&recursive, PTHREAD_MUTEX_RECURSIVE, false, PTHREAD_PRIO_NONE, PTHREAD_PROCESS_PRIVATE);
	make_mutex(&errorcheck, PTHREAD_MUTEX_ERRORCHECK, false, PTHREAD_PRIO_NONE, PTHREAD_PROCESS_PRIVATE);
	make_mutex(&adaptive, PTHREAD_MUTEX_ADAPTIVE_NP, false, PTHREAD_PRIO_NONE, PTHREAD_PROCESS_PRIVATE);
	make_mutex(&robust, PTHREAD_MUTEX_NORMAL, true, PTHREAD_PRIO_NONE, PTHREAD_PROCESS_PRIVATE);
	make_mutex(&inherit, PTHREAD_MUTEX_NORMAL, false, PTHREAD_PRIO_INHERIT, PTHREAD_PROCESS_PRIVATE);
	make_mutex(&shared, PTHREAD_MUTEX_NORMAL, false, PTHREAD_PRIO_NONE, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(&barrier, NULL, 2);
	sem_init(&locked, 0, 0);
	TARGET_CHECK(pthread_create(&holder_thread, NULL, hold, NULL) == 0);
	pthread_setname_np(holder_thread, "holder");
	sem_wait(&locked);
	pthread_rwlock_rdlock(&read_by_main);
	pthread_rwlock_rdlock(&prefers_writers);
}

// What these two wait for has to happen after they began to.
void state_locks_started(const struct state_way *way)
{
	if (way->wait == wait_condition_mutex) {
		sem_wait(&locked);
		pthread_mutex_lock(&woken_mutex);
		pthread_cond_signal(&woken_condition);
	}
	for (int i = 0; way->wait == wait_condition_used && i < 8; i++) {
		sem_wait(&locked);
		pthread_mutex_lock(&condition_mutex);
		pthread_cond_signal(&used_condition);
		pthread_mutex_unlock(&condition_mutex);
	}
}
