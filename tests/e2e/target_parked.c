// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_parked.c: threads that wait, each below twelve functions of our own, in one of seven ways. The functions' frames have leftovers of older
// calls in them, as real ones do. Built several times, with and without frame pointers (tests/e2e/meson.build).
//
// usage: target_parked THREADS     prints "pid PID" when all of them wait, and lives until its stdin ends

#include "target.h"
#include "target_settle.h"

#include <alloca.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#define DEPTH 12
#define WAYS 7

static int epoll_fd, pipe_fds[2];
static sem_t never;
static pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER, mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static long *waiting; // the ids of those that are about to
static int arrived;

static __attribute__((noinline)) void park(int way)
{
	struct epoll_event event;
	struct pollfd poll_fd = {.fd = pipe_fds[0], .events = POLLIN};
	struct timespec long_time = {1000000, 0};
	char byte;

	__atomic_store_n(&waiting[__atomic_fetch_add(&arrived, 1, __ATOMIC_RELAXED)], syscall(SYS_gettid),
			 __ATOMIC_RELEASE);
	switch (way) {
	case 0:
		epoll_wait(epoll_fd, &event, 1, -1);
		break;
	case 1:
		poll(&poll_fd, 1, -1);
		break;
	case 2:
		(void)!read(pipe_fds[0], &byte, 1);
		break;
	case 3:
		nanosleep(&long_time, NULL);
		break;
	case 4:
		sem_wait(&never);
		break;
	case 5:
		pthread_mutex_lock(&held);
		break;
	default:
		pthread_mutex_lock(&mutex);
		pthread_cond_wait(&condition, &mutex);
	}
	asm volatile("");
}

// Leaves return addresses and frame pointers all over the stack that the next call gets.
static __attribute__((noinline)) int litter(int depth)
{
	volatile char junk[48];

	junk[0] = (char)depth;
	return depth > 0 ? litter(depth - 1) + junk[0] : junk[0];
}

static void descend(int depth, int way);

// Three kinds of frames; called by address or by name.
static __attribute__((noinline)) void large_frame(int depth, int way)
{
	volatile char leftovers[512];

	leftovers[0] = (char)depth;
	descend(depth, way);
	asm volatile("" ::"r"(leftovers[0]));
}

static __attribute__((noinline)) void alloca_frame(int depth, int way)
{
	volatile char *space = alloca((size_t)(depth * 24 + 40));

	space[0] = (char)litter(3);
	descend(depth, way);
	asm volatile("" ::"r"(space[0]));
}

static __attribute__((noinline)) void plain_frame(int depth, int way)
{
	descend(depth, way);
	asm volatile("");
}

static void (*volatile const kinds[])(int, int) = {large_frame, alloca_frame, plain_frame};

static __attribute__((noinline)) void descend(int depth, int way)
{
	litter(8);
	if (depth == 0)
		park(way);
	else if (depth % 4 == 0)
		large_frame(depth - 1, way);
	else
		kinds[depth % 3](depth - 1, way);
	asm volatile("");
}

static void *run(void *argument)
{
	litter(20);
	descend(DEPTH / 2, (int)(intptr_t)argument);
	return NULL;
}

int main(int argc, char **argv)
{
	int threads = argc > 1 ? atoi(argv[1]) : WAYS;
	pthread_attr_t attributes;
	char buf[64];

	epoll_fd = epoll_create1(0);
	waiting = calloc((size_t)threads + 1, sizeof(*waiting));
	if (!waiting || pipe(pipe_fds) < 0 || sem_init(&never, 0, 0) < 0)
		return 1;
	pthread_mutex_lock(&held);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 65536);
	for (int i = 0; i < threads; i++) {
		pthread_t thread;

		if (pthread_create(&thread, &attributes, run, (void *)(intptr_t)(i % WAYS)) != 0)
			return 1;
		snprintf(buf, sizeof(buf), "way-%d", i % WAYS);
		pthread_setname_np(thread, buf);
	}
	target_settle(waiting, (size_t)threads);
	printf("pid %d\n", getpid());
	fflush(stdout);
	while (read(0, buf, sizeof(buf)) > 0)
		;
	_exit(0);
}
