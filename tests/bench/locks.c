// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// locks.c: what libc's locks and wakes take, for scripts/bench locks, which runs it with the agent and without. Prints "NAME NANOSECONDS" for each.
//
//   mutex, rwlock, semaphore   a pair of calls that nobody waits in, in a process with another thread
//   wake                       sem_post where a waiter is registered (by hand: no thread is really there to be woken), 12 calls deep
//   contended                  two threads and one mutex, held for some 200 ns of each µs: wall time of one of them a round

#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#define PAIRS 4000000
#define WAKES 400000
#define ROUNDS 400000

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static sem_t semaphore;

static double now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void *nothing(void *unused)
{
	return unused;
}

static void spin(int turns)
{
	for (int i = 0; i < turns; i++)
		__asm__ volatile("" ::: "memory");
}

static void pair_mutex(void)
{
	pthread_mutex_lock(&mutex);
	pthread_mutex_unlock(&mutex);
}

static void pair_rwlock(void)
{
	pthread_rwlock_rdlock(&rwlock);
	pthread_rwlock_unlock(&rwlock);
}

static void pair_semaphore(void)
{
	sem_post(&semaphore);
	sem_wait(&semaphore);
}

static void print(const char *name, double began_ns, long count)
{
	printf("%s %.2f\n", name, (now_ns() - began_ns) / (double)count);
}

static void run_pairs(const char *name, void (*pair)(void))
{
	double began_ns = now_ns();

	for (long i = 0; i < PAIRS; i++)
		pair();
	print(name, began_ns, PAIRS);
}

// A waiter that is none: sem_post makes its system call, and finds nobody.
static void wake_many(void)
{
	static sem_t other;
	double began_ns;

	sem_init(&other, 0, 0);
	((uint32_t *)(void *)&other)[1] = 1;
	began_ns = now_ns();
	for (long i = 0; i < WAKES; i++)
		sem_post(&other);
	print("wake", began_ns, WAKES);
}

__attribute__((noinline, noclone)) static void deep(int depth)
{
	if (depth > 0)
		deep(depth - 1);
	else
		wake_many();
	__asm__ volatile("");
}

static void *contend(void *unused)
{
	for (long i = 0; i < ROUNDS; i++) {
		pthread_mutex_lock(&mutex);
		spin(400);
		pthread_mutex_unlock(&mutex);
		spin(1600);
	}
	return unused;
}

int main(void)
{
	pthread_t thread;
	double began_ns;

	sem_init(&semaphore, 0, 0);
	pthread_create(&thread, NULL, nothing, NULL);
	pthread_join(thread, NULL);
	run_pairs("mutex", pair_mutex);
	run_pairs("rwlock", pair_rwlock);
	run_pairs("semaphore", pair_semaphore);
	deep(12);
	began_ns = now_ns();
	pthread_create(&thread, NULL, contend, NULL);
	contend(NULL);
	pthread_join(thread, NULL);
	print("contended", began_ns, ROUNDS);
	return 0;
}
