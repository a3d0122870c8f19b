// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// locks.c: what libc's locks, wakes and mappings take, for scripts/bench locks, which runs it with the agent and without. Prints "NAME NANOSECONDS" for each.
//
//   mutex, rwlock, semaphore   a pair of calls that nobody waits in, in a process with another thread
//   map                        mmap and munmap of a page that is not touched
//   wake                       sem_post where a waiter is registered (by hand: no thread is really there to be woken), 12 calls deep
//   contended                  two threads and one mutex, held for some 200 ns of each µs: wall time of one of them a round

#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>

#define CALLS 10000
#define BLOCKS 100
#define ROUNDS 400000

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static sem_t semaphore;

static double now_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
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

// Far from all others: beside one that it can be merged with, the kernel takes a quarter less or more.
static void pair_map(void)
{
	void *far = (void *)0x100000000000; // NOLINT(performance-no-int-to-ptr)

	munmap(mmap(far, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 4096);
}

// The calling thread's CPU time of one call: the least of many blocks, for others may be at work on the machine.
static void print_calls(const char *name, void (*call)(void))
{
	double least_ns = 1e12;

	for (int block = 0; block < BLOCKS; block++) {
		double began_ns = now_ns(CLOCK_THREAD_CPUTIME_ID), ns;

		for (int i = 0; i < CALLS; i++)
			call();
		ns = (now_ns(CLOCK_THREAD_CPUTIME_ID) - began_ns) / CALLS;
		least_ns = ns < least_ns ? ns : least_ns;
	}
	printf("%s %.2f\n", name, least_ns);
}

// A waiter that is none: sem_post makes its system call, and finds nobody.
static sem_t other;

static void wake(void)
{
	sem_post(&other);
}

static void wake_many(void)
{
	sem_init(&other, 0, 0);
	((uint32_t *)(void *)&other)[1] = 1;
	print_calls("wake", wake);
}

__attribute__((noinline)) static void deep(int depth)
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
	print_calls("mutex", pair_mutex);
	print_calls("rwlock", pair_rwlock);
	print_calls("semaphore", pair_semaphore);
	print_calls("map", pair_map);
	deep(12);
	began_ns = now_ns(CLOCK_MONOTONIC);
	pthread_create(&thread, NULL, contend, NULL);
	contend(NULL);
	pthread_join(thread, NULL);
	printf("contended %.2f\n", (now_ns(CLOCK_MONOTONIC) - began_ns) / ROUNDS);
	return 0;
}
