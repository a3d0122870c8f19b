// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// deep.c: a fixed amount of CPU work, each thread some frames deep in calls. For scripts/bench cpu: prints what it took itself.
//
// usage: deep [THREADS] [DEPTH] [MILLIONS]     (default: 2 30 1200)
// prints: wall SECONDS cpu SECONDS

#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#define MAX_THREADS 256
#define PIECES 1000 // the descent and the way back up are made this often, and cost little beside a piece

static int depth = 30;
static uint64_t iterations = 1200000000;
static uint64_t sink; // atomic; keeps the work from being optimized away

__attribute__((noinline)) static uint64_t work(uint64_t x, uint64_t n)
{
	while (n--) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
	}
	return x;
}

// What follows the call keeps it from being a tail call: every level is a frame.
__attribute__((noinline)) static uint64_t descend(int levels, uint64_t x, uint64_t n)
{
	uint64_t result = levels > 0 ? descend(levels - 1, x + 1, n) : work(x, n);

	return result * 3 + (uint64_t)levels;
}

// gperftools' timers for each thread are for threads that ask; it is there when it is preloaded.
static void register_with_gperftools(void)
{
	void (*register_thread)(void) = (void (*)(void))dlsym(RTLD_DEFAULT, "ProfilerRegisterThread");

	if (register_thread)
		register_thread();
}

static void *thread_main(void *argument)
{
	uint64_t x = (uint64_t)(uintptr_t)argument + 88172645463325252u;

	register_with_gperftools();
	for (int i = 0; i < PIECES; i++)
		x = descend(depth, x | 1, iterations / PIECES);
	__atomic_fetch_xor(&sink, x, __ATOMIC_RELAXED);
	return NULL;
}

static double wall_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static double cpu_s(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static int number(char **argv, int argc, int at, int otherwise)
{
	return argc > at ? (int)strtol(argv[at], NULL, 10) : otherwise;
}

int main(int argc, char **argv)
{
	pthread_t threads[MAX_THREADS];
	int count = number(argv, argc, 1, 2);
	double start = wall_s();

	depth = number(argv, argc, 2, 30);
	iterations = (uint64_t)number(argv, argc, 3, 1200) * 1000000;
	if (count < 1 || count > MAX_THREADS || depth < 0 || iterations == 0)
		return 2;
	for (int i = 0; i < count; i++)
		if (pthread_create(&threads[i], NULL, thread_main, (void *)(uintptr_t)i) != 0)
			return 1;
	for (int i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	printf("wall %.6f cpu %.6f\n", wall_s() - start, cpu_s());
	return 0;
}
