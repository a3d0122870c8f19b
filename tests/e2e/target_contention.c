// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_contention.c: threads that wait for each other in known ways. Each measures itself how long its calls took, and the sums are printed as
// "NAME COUNT NANOSECONDS": what a block profile has to say, at most; NAME.held, what a mutex profile, at most; NAME.least, what both, at the
// least: from when who waits was seen to sleep until it was about to be let go on. However busy the machine is, the truth is between.
//
// usage: target_contention CASE [ROUNDS]

#include "target.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <threads.h>

#define WAITERS 3

// What one function waited, all threads together.
struct truth {
	const char *name;
	uint64_t count, ns;
	uint64_t held_ns, least_ns;
};

// One who waits.
struct waiter {
	long tid;          // atomic; 0: it does not wait yet
	uint64_t began_ns; // by tid
};

static uint64_t seen_ns, before_ns; // in this round: all who wait slept; they were about to be let go on

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void note(struct truth *truth, uint64_t began_ns)
{
	__atomic_fetch_add(&truth->ns, now_ns() - began_ns, __ATOMIC_RELAXED);
	__atomic_fetch_add(&truth->count, 1, __ATOMIC_RELAXED);
}

static uint64_t begin(struct waiter *self)
{
	self->began_ns = now_ns();
	__atomic_store_n(&self->tid, syscall(SYS_gettid), __ATOMIC_RELEASE);
	return self->began_ns;
}

static void print(const struct truth *truth)
{
	printf("%s %llu %llu\n", truth->name, (unsigned long long)truth->count, (unsigned long long)truth->ns);
	printf("%s.held %llu %llu\n", truth->name, (unsigned long long)truth->count,
	       (unsigned long long)truth->held_ns);
	printf("%s.least %llu %llu\n", truth->name, (unsigned long long)truth->count,
	       (unsigned long long)truth->least_ns);
}

static void sleep_ms(long ms)
{
	nanosleep(&(struct timespec){0, ms * 1000000}, NULL);
}

// ---- A mutex: two holders, one long, one short; three that wait ------------------------------------------------------------

pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t round_begins, round_ends, held;
static long rounds;
static struct truth waited_long = {"hold_long", 0, 0, 0, 0}, waited_short = {"hold_short", 0, 0, 0, 0};
static bool is_long;
static struct waiter waiters[WAITERS];

TARGET_NOINLINE static void wait_for_lock(struct truth *truth, struct waiter *self)
{
	uint64_t began_ns = begin(self);

	pthread_mutex_lock(&table_lock);
	note(truth, began_ns);
	pthread_mutex_unlock(&table_lock);
	__asm__ volatile("");
}

static void await_waiters(void)
{
	for (int i = 0; i < WAITERS; i++)
		target_await_sleep(&waiters[i].tid);
	seen_ns = now_ns();
}

TARGET_NOINLINE static void hold_long(void)
{
	pthread_mutex_lock(&table_lock);
	pthread_barrier_wait(&held);
	await_waiters();
	sleep_ms(9);
	before_ns = now_ns();
	pthread_mutex_unlock(&table_lock);
	__asm__ volatile("");
}

TARGET_NOINLINE static void hold_short(void)
{
	pthread_mutex_lock(&table_lock);
	pthread_barrier_wait(&held);
	await_waiters();
	sleep_ms(3);
	before_ns = now_ns();
	pthread_mutex_unlock(&table_lock);
	__asm__ volatile("");
}

static void *wait_for_locks(void *self)
{
	for (long i = 0; i < rounds; i++) {
		pthread_barrier_wait(&round_begins);
		pthread_barrier_wait(&held);
		wait_for_lock(is_long ? &waited_long : &waited_short, self);
		pthread_barrier_wait(&round_ends);
	}
	return NULL;
}

// The round has just ended. Each one is printed as well: NAME.ROUND.
static void note_round(struct truth *truth, long number, uint64_t after_ns)
{
	uint64_t held_ns = 0;

	for (int i = 0; i < WAITERS; i++)
		held_ns += after_ns - waiters[i].began_ns;
	truth->held_ns += held_ns;
	truth->least_ns += WAITERS * (before_ns - seen_ns);
	printf("%s.%ld 1 %llu\n", truth->name, number, (unsigned long long)held_ns);
}

static int run_mutex(int argc, char **argv)
{
	pthread_t threads[WAITERS];

	rounds = target_number(argc, argv, 1, 60);
	pthread_barrier_init(&round_begins, NULL, WAITERS + 1);
	pthread_barrier_init(&held, NULL, WAITERS + 1);
	pthread_barrier_init(&round_ends, NULL, WAITERS + 1);
	for (int i = 0; i < WAITERS; i++)
		TARGET_CHECK(pthread_create(&threads[i], NULL, wait_for_locks, &waiters[i]) == 0);
	for (long i = 0; i < rounds; i++) {
		uint64_t after_ns;

		is_long = i % 2 == 0;
		for (int k = 0; k < WAITERS; k++)
			waiters[k].tid = 0;
		pthread_barrier_wait(&round_begins);
		if (is_long)
			hold_long();
		else
			hold_short();
		after_ns = now_ns();
		pthread_barrier_wait(&round_ends);
		note_round(is_long ? &waited_long : &waited_short, i, after_ns);
	}
	for (int i = 0; i < WAITERS; i++)
		pthread_join(threads[i], NULL);
	print(&waited_long);
	print(&waited_short);
	return 0;
}

// ---- Each of the others: one thread waits, the other keeps it waiting ------------------------------------------------------

static struct truth truth = {"wait", 0, 0, 0, 0};
static struct waiter the_waiter;
static sem_t asked, answered, free_place;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_spinlock_t spin;
static mtx_t c11_mutex;
static bool ready;

TARGET_NOINLINE static void wait_sem(void)
{
	uint64_t began_ns = begin(&the_waiter);

	sem_wait(&answered);
	note(&truth, began_ns);
}

TARGET_NOINLINE static void wait_cond(void)
{
	uint64_t began_ns;

	pthread_mutex_lock(&table_lock);
	while (!ready) {
		began_ns = begin(&the_waiter);
		pthread_cond_wait(&cond, &table_lock);
		note(&truth, began_ns);
	}
	ready = false;
	pthread_mutex_unlock(&table_lock);
}

TARGET_NOINLINE static void wait_barrier(void)
{
	uint64_t began_ns = begin(&the_waiter);

	pthread_barrier_wait(&barrier);
	note(&truth, began_ns);
}

TARGET_NOINLINE static void wait_read(void)
{
	uint64_t began_ns = begin(&the_waiter);

	pthread_rwlock_rdlock(&rwlock);
	note(&truth, began_ns);
	pthread_rwlock_unlock(&rwlock);
}

TARGET_NOINLINE static void wait_write(void)
{
	uint64_t began_ns = begin(&the_waiter);

	pthread_rwlock_wrlock(&rwlock);
	note(&truth, began_ns);
	pthread_rwlock_unlock(&rwlock);
}

TARGET_NOINLINE static void wait_spin(void)
{
	uint64_t began_ns = begin(&the_waiter);

	pthread_spin_lock(&spin);
	note(&truth, began_ns);
	pthread_spin_unlock(&spin);
}

TARGET_NOINLINE static void wait_c11(void)
{
	uint64_t began_ns = begin(&the_waiter);

	mtx_lock(&c11_mutex);
	note(&truth, began_ns);
	mtx_unlock(&c11_mutex);
}

// Tries for a millisecond, again and again.
TARGET_NOINLINE static void wait_timed(void)
{
	uint64_t began_ns = begin(&the_waiter);
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
		the_waiter.tid = 0;
		if (take)
			take();
		sem_post(&asked);
		while (wait == wait_spin ? !__atomic_load_n(&the_waiter.tid, __ATOMIC_ACQUIRE)
					 : !target_sleeps(&the_waiter.tid))
			usleep(100);
		seen_ns = now_ns();
		sleep_ms(4);
		before_ns = now_ns();
		give();
		truth.held_ns += now_ns() - the_waiter.began_ns;
		truth.least_ns += before_ns - seen_ns;
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

// Somebody waits for us to end, and goes on to for a little while.
static void *sleep_a_little(void *unused)
{
	target_await_sleep(&the_waiter.tid);
	seen_ns = now_ns();
	sleep_ms(4);
	truth.least_ns += now_ns() - seen_ns;
	return NULL;
}

TARGET_NOINLINE static void wait_join(pthread_t thread)
{
	uint64_t began_ns = begin(&the_waiter);

	pthread_join(thread, NULL);
	note(&truth, began_ns);
}

static int run_join(int argc, char **argv)
{
	rounds = target_number(argc, argv, 1, 60);
	for (long i = 0; i < rounds; i++) {
		pthread_t thread;

		the_waiter.tid = 0;
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
