// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_moving.c: threads that wait again and again for some milliseconds, each time in another way, below functions of that way's own whose
// frames are of that way's own sizes. A stack with functions of two ways was put together from two moments.
//
// usage: target_moving THREADS     prints "pid PID" when all of them are there, and lives until its stdin ends

#include "target.h"

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <time.h>

static sem_t never;
static int ready;

#define WAY(name, size, wait)                                            \
	static __attribute__((noinline)) void name##_inner(int ms)       \
	{                                                                \
		volatile char space[size];                               \
		struct timespec time = {0, ms * 1000000L};               \
                                                                         \
		space[0] = (char)ms;                                     \
		wait;                                                    \
		asm volatile("" ::"r"(space[0]), "r"(&time) : "memory"); \
	}                                                                \
	static __attribute__((noinline)) void name##_middle(int ms)      \
	{                                                                \
		volatile char space[size * 2];                           \
                                                                         \
		space[0] = (char)ms;                                     \
		name##_inner(ms);                                        \
		asm volatile("" ::"r"(space[0]));                        \
	}                                                                \
	static __attribute__((noinline)) void name##_outer(int ms)       \
	{                                                                \
		name##_middle(ms);                                       \
		asm volatile("");                                        \
	}

WAY(polls, 40, poll(NULL, 0, ms))
WAY(sleeps, 200, nanosleep(&time, NULL))
WAY(takes, 120, {
	clock_gettime(CLOCK_REALTIME, &time);
	time.tv_nsec = (time.tv_nsec + ms * 1000000L) % 1000000000L;
	time.tv_sec += time.tv_nsec < ms * 1000000L;
	sem_timedwait(&never, &time);
})

static void *run(void *argument)
{
	unsigned random = (unsigned)(intptr_t)argument * 2654435761u + 1;

	__atomic_fetch_add(&ready, 1, __ATOMIC_RELEASE);
	for (;;) {
		int ms;

		random = random * 1103515245u + 12345;
		ms = 20 + (int)(random >> 8) % 100;
		switch (random >> 16 & 3) {
		case 0:
			polls_outer(ms);
			break;
		case 1:
			sleeps_outer(ms);
			break;
		default:
			takes_outer(ms);
		}
	}
	return NULL;
}

int main(int argc, char **argv)
{
	int threads = argc > 1 ? atoi(argv[1]) : 3;
	pthread_attr_t attributes;
	char buf[64];

	if (sem_init(&never, 0, 0) < 0)
		return 1;
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 65536);
	for (int i = 0; i < threads; i++) {
		pthread_t thread;

		if (pthread_create(&thread, &attributes, run, (void *)(intptr_t)i) != 0)
			return 1;
		snprintf(buf, sizeof(buf), "moves-%d", i);
		pthread_setname_np(thread, buf);
	}
	while (__atomic_load_n(&ready, __ATOMIC_ACQUIRE) < threads)
		usleep(1000);
	printf("pid %d\n", getpid());
	fflush(stdout);
	while (read(0, buf, sizeof(buf)) > 0)
		;
	_exit(0);
}
