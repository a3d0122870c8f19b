// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_contention.c: threads that wait for each other in known ways. Each measures itself how long its calls took, and the sums are printed as
// "NAME COUNT NANOSECONDS": what a block profile has to say; NAME.held, what a mutex profile.
//
// usage: target_contention CASE [ROUNDS]

#include "target.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <threads.h>

#define WAITERS 3

// What one function waited, all threads together.
struct truth {
	const char *name;
	uint64_t count, ns;
	uint64_t held_ns; // of that, until the holder was about to give it back
};

static uint64_t released_ns; // atomic; when that was last

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void note(struct truth *truth, uint64_t began_ns)
{
	uint64_t until_ns = __atomic_load_n(&released_ns, __ATOMIC_RELAXED);

	__atomic_fetch_add(&truth->ns, now_ns() - began_ns, __ATOMIC_RELAXED);
	__atomic_fetch_add(&truth->held_ns, until_ns > began_ns ? until_ns - began_ns : 0, __ATOMIC_RELAXED);
	__atomic_fetch_add(&truth->count, 1, __ATOMIC_RELAXED);
}

static void print(const struct truth *truth)
{
	printf("%s %llu %llu\n", truth->name, (unsigned long long)truth->count, (unsigned long long)truth->ns);
	printf("%s.held %llu %llu\n", truth->name, (unsigned long long)truth->count,
	       (unsigned long long)truth->held_ns);
}

static void note_release(void)
{
	__atomic_store_n(&released_ns, now_ns(), __ATOMIC_RELAXED);
}

static void sleep_ms(long ms)
{
	nanosleep(&(struct timespec){0, ms * 1000000}, NULL);
}

// ---- A mutex: two holders, one long, one short; three that wait ------------------------------------------------------------

pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t round_begins, round_ends, held;
static long rounds;
static struct truth waited_long = {"hold_long", 0, 0, 0}, waited_short = {"hold_short", 0, 0, 0};
static bool is_long;

TARGET_NOINLINE static void wait_for_lock(struct truth *truth)
{
	uint64_t began_ns = now_ns();

	pthread_mutex_lock(&table_lock);
	note(truth, began_ns);
	pthread_mutex_unlock(&table_lock);
	__asm__ volatile("");
}

TARGET_NOINLINE static void hold_long(void)
{
	pthread_mutex_lock(&table_lock);
	pthread_barrier_wait(&held);
	sleep_ms(9);
	note_release();
	pthread_mutex_unlock(&table_lock);
	__asm__ volatile("");
}

TARGET_NOINLINE static void hold_short(void)
{
	pthread_mutex_lock(&table_lock);
	pthread_barrier_wait(&held);
	sleep_ms(3);
	note_release();
	pthread_mutex_unlock(&table_lock);
	__asm__ volatile("");
}

static void *waiter(void *unused)
{
	for (long i = 0; i < rounds; i++) {
		pthread_barrier_wait(&round_begins);
		pthread_barrier_wait(&held);
		wait_for_lock(is_long ? &waited_long : &waited_short);
		pthread_barrier_wait(&round_ends);
	}
	return NULL;
}

static int run_mutex(int argc, char **argv)
{
	pthread_t threads[WAITERS];

	rounds = target_number(argc, argv, 1, 60);
	pthread_barrier_init(&round_begins, NULL, WAITERS + 1);
	pthread_barrier_init(&held, NULL, WAITERS + 1);
	pthread_barrier_init(&round_ends, NULL, WAITERS + 1);
	for (int i = 0; i < WAITERS; i++)
		TARGET_CHECK(pthread_create(&threads[i], NULL, waiter, NULL) == 0);
	for (long i = 0; i < rounds; i++) {
		is_long = i % 2 == 0;
		pthread_barrier_wait(&round_begins);
		if (is_long)
			hold_long();
		else
			hold_short();
		pthread_barrier_wait(&round_ends);
	}
	for (int i = 0; i < WAITERS; i++)
		pthread_join(threads[i], NULL);
	print(&waited_long);
	print(&waited_short);
	return 0;
}

// ---- Each of the others: one thread waits, the other keeps it waiting ------------------------------------------------------

static struct truth truth = {"wait", 0, 0, 0};
static sem_t asked, answered, free_place;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_spinlock_t spin;
static mtx_t c11_mutex;
static bool ready;

TARGET_NOINLINE static void wait_sem(void)
{
	uint64_t began_ns = now_ns();

	sem_wait(&answered);
	note(&truth, began_ns);
}

TARGET_NOINLINE static void wait_cond(void)
{
	uint64_t began_ns;

	pthread_mutex_lock(&table_lock);
	while (!ready) {
		began_ns = now_ns();
		pthread_cond_wait(&cond, &table_lock);
		note(&truth, began_ns);
	}
	ready = false;
	pthread_mutex_unlock(&table_lock);
}

TARGET_NOINLINE static void wait_barrier(void)
{
	uint64_t began_ns = now_ns();

	pthread_barrier_wait(&barrier);
	note(&truth, began_ns);
}

TARGET_NOINLINE static void wait_read(void)
{
	uint64_t began_ns = now_ns();

	pthread_rwlock_rdlock(&rwlock);
	note(&truth, began_ns);
	pthread_rwlock_unlock(&rwlock);
}

TARGET_NOINLINE static void wait_write(void)
{
	uint64_t began_ns = now_ns();

	pthread_rwlock_wrlock(&rwlock);
	note(&truth, began_ns);
	pthread_rwlock_unlock(&rwlock);
}

TARGET_NOINLINE static void wait_spin(void)
{
	uint64_t began_ns = now_ns();

	pthread_spin_lock(&spin);
	note(&truth, began_ns);
	pthread_spin_unlock(&spin);
}

TARGET_NOINLINE static void wait_c11(void)
{
	uint64_t began_ns = now_ns();

	mtx_lock(&c11_mutex);
	note(&truth, began_ns);
	mtx_unlock(&c11_mutex);
}

// Tries for a millisecond, again and again.
TARGET_NOINLINE static void wait_timed(void)
{
	uint64_t began_ns = now_ns();
	struct timespec until;

	do {
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += 1000000;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
	} while (pthread_mutex_timedlock(&table_lock, &until) == ETIMEDOUT);
	note(&truth, began_ns);
	pthread_mutex_unlock(&table_lock);
}

static void (*wait_once)(void);

static void *wait_in_rounds(void *unused)
{
	for (long i = 0; i < rounds; i++) {
		sem_wait(&asked);
		wait_once();
		sem_post(&free_place);
	}
	return NULL;
}

// take and give: what the other thread does before and after the time that it keeps the first waiting.
static int run_pair(void (*wait)(void), void (*take)(void), void (*give)(void))
{
	pthread_t thread;

	wait_once = wait;
	sem_init(&asked, 0, 0);
	sem_init(&answered, 0, 0);
	sem_init(&free_place, 0, 0);
	TARGET_CHECK(pthread_create(&thread, NULL, wait_in_rounds, NULL) == 0);
	for (long i = 0; i < rounds; i++) {
		if (take)
			take();
		sem_post(&asked);
		sleep_ms(4);
		note_release();
		give();
		sem_wait(&free_place);
	}
	pthread_join(thread, NULL);
	print(&truth);
	return 0;
}

TARGET_NOINLINE static void give_sem(void)
{
	sem_post(&answered);
	__asm__ volatile(""); // no tail call
}

static void give_cond(void)
{
	pthread_mutex_lock(&table_lock);
	ready = true;
	pthread_cond_signal(&cond);
	pthread_mutex_unlock(&table_lock);
}

TARGET_NOINLINE static void give_barrier(void)
{
	pthread_barrier_wait(&barrier);
	__asm__ volatile(""); // no tail call
}

static void take_write(void)
{
	pthread_rwlock_wrlock(&rwlock);
}

static void take_read(void)
{
	pthread_rwlock_rdlock(&rwlock);
}

TARGET_NOINLINE static void give_rwlock(void)
{
	pthread_rwlock_unlock(&rwlock);
	__asm__ volatile(""); // no tail call
}

static void take_spin(void)
{
	pthread_spin_lock(&spin);
}

TARGET_NOINLINE static void give_spin(void)
{
	pthread_spin_unlock(&spin);
	__asm__ volatile(""); // no tail call
}

static void take_c11(void)
{
	mtx_lock(&c11_mutex);
}

TARGET_NOINLINE static void give_c11(void)
{
	mtx_unlock(&c11_mutex);
	__asm__ volatile(""); // no tail call
}

static void take_mutex(void)
{
	pthread_mutex_lock(&table_lock);
}

TARGET_NOINLINE static void give_mutex(void)
{
	pthread_mutex_unlock(&table_lock);
	__asm__ volatile(""); // no tail call
}

static const struct pair {
	const char *name;
	void (*wait)(void), (*take)(void), (*give)(void);
} pairs[] = {{"sem", wait_sem, NULL, give_sem},
	     {"cond", wait_cond, NULL, give_cond},
	     {"barrier", wait_barrier, NULL, give_barrier},
	     {"read", wait_read, take_write, give_rwlock},
	     {"write", wait_write, take_read, give_rwlock},
	     {"spin", wait_spin, take_spin, give_spin},
	     {"c11", wait_c11, take_c11, give_c11},
	     {"timed", wait_timed, take_mutex, give_mutex}};

static int run_named(int argc, char **argv)
{
	rounds = target_number(argc, argv, 2, 60);
	pthread_barrier_init(&barrier, NULL, 2);
	pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE);
	mtx_init(&c11_mutex, mtx_plain);
	for (size_t i = 0; argc > 1 && i < sizeof(pairs) / sizeof(pairs[0]); i++)
		if (strcmp(pairs[i].name, argv[1]) == 0)
			return run_pair(pairs[i].wait, pairs[i].take, pairs[i].give);
	return 98;
}

// ---- Joining, and many short waits ---------------------------------------------------------------------------------------

static void *sleep_a_little(void *unused)
{
	sleep_ms(5);
	return NULL;
}

TARGET_NOINLINE static void wait_join(pthread_t thread)
{
	uint64_t began_ns = now_ns();

	pthread_join(thread, NULL);
	note(&truth, began_ns);
}

static int run_join(int argc, char **argv)
{
	rounds = target_number(argc, argv, 1, 60);
	for (long i = 0; i < rounds; i++) {
		pthread_t thread;

		TARGET_CHECK(pthread_create(&thread, NULL, sleep_a_little, NULL) == 0);
		wait_join(thread);
	}
	print(&truth);
	return 0;
}

// Two threads that hand a turn to each other: each wait takes microseconds, so that most are not kept.
static sem_t turns[2];

TARGET_NOINLINE static void wait_turn(int i)
{
	uint64_t began_ns = now_ns();

	sem_wait(&turns[i]);
	note(&truth, began_ns);
}

static void *take_turns(void *pointer)
{
	int i = *(int *)pointer;

	for (long k = 0; k < rounds; k++) {
		wait_turn(i);
		sem_post(&turns[1 - i]);
	}
	return NULL;
}

static int run_turns(int argc, char **argv)
{
	static int numbers[2] = {0, 1};
	pthread_t threads[2];

	rounds = target_number(argc, argv, 1, 20000);
	for (int i = 0; i < 2; i++)
		sem_init(&turns[i], 0, i == 0);
	for (int i = 0; i < 2; i++)
		TARGET_CHECK(pthread_create(&threads[i], NULL, take_turns, &numbers[i]) == 0);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	print(&truth);
	return 0;
}

// More semaphores than a store has room for, each waited for once, and not for long: the time given is none.
TARGET_NOINLINE static void wait_many(void)
{
	static const struct timespec none = {0, -1};
	static sem_t many[300000];

	for (size_t i = 0; i < sizeof(many) / sizeof(many[0]); i++)
		TARGET_CHECK(sem_timedwait(&many[i], &none) < 0 && errno == EINVAL);
}

static int run_many(int argc, char **argv)
{
	wait_many();
	return run_join(argc, argv);
}

// One reads, another one waits to write: others read meanwhile, and need not wait for anybody.
TARGET_NOINLINE static void read_beside(void)
{
	for (long i = 0; i < rounds; i++) {
		TARGET_CHECK(pthread_rwlock_rdlock(&rwlock) == 0);
		TARGET_CHECK(pthread_rwlock_unlock(&rwlock) == 0);
	}
}

static void *write_once(void *unused)
{
	wait_write();
	return unused;
}

static int run_readers(int argc, char **argv)
{
	pthread_t thread;

	rounds = target_number(argc, argv, 1, 1000);
	take_read();
	TARGET_CHECK(pthread_create(&thread, NULL, write_once, NULL) == 0);
	while (pthread_rwlock_tryrdlock(&rwlock) == 0 && !(*(volatile unsigned *)&rwlock.__data.__readers & 2))
		pthread_rwlock_unlock(&rwlock);
	pthread_rwlock_unlock(&rwlock);
	read_beside();
	give_rwlock();
	pthread_join(thread, NULL);
	print(&truth);
	return 0;
}

static const struct target_case cases[] = {{"mutex", run_mutex}, {"pair", run_named}, {"join", run_join},
					   {"turns", run_turns}, {"many", run_many},  {"readers", run_readers}};

TARGET_MAIN(cases)
