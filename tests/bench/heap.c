// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// heap.c: a program that allocates much: threads that each keep some hundred objects of 16 to 512 bytes and replace one after the other,
// writing to each, with some work in between. Prints its own wall time, how many pairs of malloc and free a second that was, and its peak
// memory.
//
// usage: bench_heap THREADS MILLION-PAIRS STEPS-OF-WORK

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define OBJECTS 512u
#define MAX_THREADS 64

static uint64_t pairs, steps;

// Where samples are taken: a few frames deep, as programs are.
static __attribute__((noinline)) void *make(size_t bytes)
{
	char *object = malloc(bytes);

	if (!object)
		abort();
	memset(object, 1, bytes < 64 ? bytes : 64);
	__asm__ volatile("" : : "r"(object) : "memory");
	return object;
}

static __attribute__((noinline)) void replace(void **place, size_t bytes)
{
	free(*place);
	*place = make(bytes);
	__asm__ volatile("" : : : "memory");
}

static void *work(void *unused)
{
	void *objects[OBJECTS] = {NULL};
	uint64_t random = 88172645463325252u;

	(void)unused;
	for (uint64_t i = 0; i < pairs; i++) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		for (uint64_t k = 0; k < steps; k++)
			__asm__ volatile("imul $3, %0, %0" : "+r"(random)); // one behind the other
		random |= 1;
		replace(&objects[(random >> 20) % OBJECTS], 16 + (random >> 32) % 497);
	}
	for (uint32_t i = 0; i < OBJECTS; i++)
		free(objects[i]);
	return NULL;
}

int main(int argc, char **argv)
{
	int threads = argc > 1 ? atoi(argv[1]) : 2; // NOLINT(cert-err34-c)
	struct timespec start, end;
	struct rusage usage;
	pthread_t ids[MAX_THREADS];
	double wall_s;

	steps = argc > 3 ? strtoull(argv[3], NULL, 10) : 160;
	pairs = (argc > 2 ? strtoull(argv[2], NULL, 10) : 20) * 1000000;
	if (threads < 1 || threads > MAX_THREADS)
		return 2;
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (int i = 0; i < threads; i++)
		pthread_create(&ids[i], NULL, work, NULL);
	for (int i = 0; i < threads; i++)
		pthread_join(ids[i], NULL);
	clock_gettime(CLOCK_MONOTONIC, &end);
	wall_s = (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) / 1e9;
	getrusage(RUSAGE_SELF, &usage);
	printf("wall %.6f\nmillion pairs a second %.2f\npeak KiB %ld\n", wall_s,
	       1e-6 * (double)pairs * threads / wall_s, usage.ru_maxrss);
	return 0;
}
