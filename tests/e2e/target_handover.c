// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_handover.c: locks that go from one thread to another. main has the lock, asks a worker for something (ask), waits until that sleeps at the
// lock, and gives it back in give_red or give_blue. The worker burns CPU time while it has the lock (paint_red, paint_blue), has a helper burn some
// meanwhile (paint_on_its_behalf), and burns some more when it has given it back (paint_afterwards).
//
// usage: target_handover KIND [ROUNDS]      KIND: mutex, timed, recursive, adaptive, robust, inherit, c11, read, write; 0 ROUNDS: until its
//                                           stdin ends

#include "target.h"

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <threads.h>

static pthread_mutex_t mutex;
static mtx_t c11_mutex;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static sem_t go, help_wanted, helped, done;
static bool blue, ends;
static long worker_tid, helper_tid; // atomic
static bool wants_lock;             // atomic; the worker is about to take the lock

static void lock_mutex(void)
{
	TARGET_CHECK(pthread_mutex_lock(&mutex) == 0);
}

static void lock_mutex_in_time(void)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 1000;
	TARGET_CHECK(pthread_mutex_timedlock(&mutex, &until) == 0);
}

static void unlock_mutex(void)
{
	TARGET_CHECK(pthread_mutex_unlock(&mutex) == 0);
}

static void lock_c11(void)
{
	TARGET_CHECK(mtx_lock(&c11_mutex) == thrd_success);
}

static void unlock_c11(void)
{
	TARGET_CHECK(mtx_unlock(&c11_mutex) == thrd_success);
}

static void lock_to_read(void)
{
	TARGET_CHECK(pthread_rwlock_rdlock(&rwlock) == 0);
}

static void lock_to_write(void)
{
	TARGET_CHECK(pthread_rwlock_wrlock(&rwlock) == 0);
}

static void unlock_rwlock(void)
{
	TARGET_CHECK(pthread_rwlock_unlock(&rwlock) == 0);
}

static const struct kind {
	const char *name;
	void (*lock)(void), (*wait)(void), (*unlock)(void); // wait: the worker's way to lock
	int type, protocol, robust;
} kinds[] = {
	{"mutex", lock_mutex, lock_mutex, unlock_mutex, PTHREAD_MUTEX_NORMAL, 0, 0},
	{"timed", lock_mutex, lock_mutex_in_time, unlock_mutex, PTHREAD_MUTEX_NORMAL, 0, 0},
	{"recursive", lock_mutex, lock_mutex, unlock_mutex, PTHREAD_MUTEX_RECURSIVE, 0, 0},
	{"adaptive", lock_mutex, lock_mutex, unlock_mutex, PTHREAD_MUTEX_ADAPTIVE_NP, 0, 0},
	{"robust", lock_mutex, lock_mutex, unlock_mutex, PTHREAD_MUTEX_ERRORCHECK, 0, PTHREAD_MUTEX_ROBUST},
	{"inherit", lock_mutex, lock_mutex, unlock_mutex, PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_INHERIT, 0},
	{"c11", lock_c11, lock_c11, unlock_c11, 0, 0, 0},
	{"read", lock_to_write, lock_to_read, unlock_rwlock, 0, 0, 0},
	{"write", lock_to_read, lock_to_write, unlock_rwlock, 0, 0, 0},
};
static const struct kind *kind;

TARGET_NOINLINE static void paint_red(void)
{
	target_burn(8);
	__asm__ volatile("");
}

TARGET_NOINLINE static void paint_blue(void)
{
	target_burn(9); // not the same code: the compiler would make one of two
	__asm__ volatile("");
}

TARGET_NOINLINE static void paint_on_its_behalf(void)
{
	target_burn(6);
	__asm__ volatile("");
}

TARGET_NOINLINE static void paint_afterwards(void)
{
	target_burn(7);
	__asm__ volatile("");
}

static void wait_for(sem_t *semaphore)
{
	while (sem_wait(semaphore) < 0)
		;
}

static void *help(void *unused)
{
	__atomic_store_n(&helper_tid, syscall(SYS_gettid), __ATOMIC_RELEASE);
	for (;;) {
		wait_for(&help_wanted);
		if (ends)
			return unused;
		paint_on_its_behalf();
		sem_post(&helped);
	}
}

static void *work(void *unused)
{
	__atomic_store_n(&worker_tid, syscall(SYS_gettid), __ATOMIC_RELEASE);
	for (;;) {
		wait_for(&go);
		if (ends)
			return unused;
		__atomic_store_n(&wants_lock, true, __ATOMIC_RELEASE);
		kind->wait();
		if (blue)
			paint_blue();
		else
			paint_red();
		sem_post(&help_wanted);
		kind->unlock();
		paint_afterwards();
		wait_for(&helped);
		sem_post(&done);
	}
}

TARGET_NOINLINE static void ask(void)
{
	while (!target_sleeps(&worker_tid) || !target_sleeps(&helper_tid)) // each waits for its semaphore
		usleep(200);
	kind->lock();
	__atomic_store_n(&wants_lock, false, __ATOMIC_RELEASE);
	sem_post(&go);
	while (!__atomic_load_n(&wants_lock, __ATOMIC_ACQUIRE) || !target_sleeps(&worker_tid))
		usleep(200);
	usleep(1000);
	__asm__ volatile("");
}

TARGET_NOINLINE static void give_red(void)
{
	kind->unlock();
	__asm__ volatile("");
}

TARGET_NOINLINE static void give_blue(void)
{
	kind->unlock();
	__asm__ volatile("" ::: "memory");
}

static bool stdin_ended(void)
{
	struct pollfd input = {.fd = 0, .events = POLLIN};

	return poll(&input, 1, 0) != 0;
}

static void make_locks(void)
{
	pthread_mutexattr_t attr;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, kind->type);
	pthread_mutexattr_setprotocol(&attr, kind->protocol);
	pthread_mutexattr_setrobust(&attr, kind->robust);
	TARGET_CHECK(pthread_mutex_init(&mutex, &attr) == 0);
	TARGET_CHECK(mtx_init(&c11_mutex, mtx_plain) == thrd_success);
	sem_init(&go, 0, 0);
	sem_init(&help_wanted, 0, 0);
	sem_init(&helped, 0, 0);
	sem_init(&done, 0, 0);
}

int main(int argc, char **argv)
{
	long rounds = target_number(argc, argv, 2, 40);
	pthread_t worker, helper;

	for (size_t i = 0; argc > 1 && i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(kinds[i].name, argv[1]) == 0)
			kind = &kinds[i];
	if (!kind)
		return 98;
	make_locks();
	TARGET_CHECK(pthread_create(&worker, NULL, work, NULL) == 0);
	TARGET_CHECK(pthread_create(&helper, NULL, help, NULL) == 0);
	puts("ready");
	fflush(stdout);
	for (long i = 0; rounds ? i < rounds : !stdin_ended(); i++) {
		blue = i % 2;
		ask();
		if (blue)
			give_blue();
		else
			give_red();
		wait_for(&done);
	}
	ends = true;
	sem_post(&go);
	sem_post(&help_wanted);
	pthread_join(worker, NULL);
	pthread_join(helper, NULL);
	puts("done");
	return 0;
}
