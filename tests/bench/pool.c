// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// pool.c: a thread pool as servers have it: bench_pool JOBS SPINS WORKERS. One thread puts jobs into a bounded queue, workers take them under a
// mutex with two condition variables; each job spins. Prints the seconds that it took, and those of CPU time.

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define QUEUE 64

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t filled = PTHREAD_COND_INITIALIZER, emptied = PTHREAD_COND_INITIALIZER;
static long queued, left, spins;

static void *work(void *unused)
{
	for (;;) {
		pthread_mutex_lock(&lock);
		while (queued == 0 && left > 0)
			pthread_cond_wait(&filled, &lock);
		if (queued == 0) {
			pthread_mutex_unlock(&lock);
			return unused;
		}
		if (queued-- == QUEUE)
			pthread_cond_signal(&emptied);
		pthread_mutex_unlock(&lock);
		for (volatile long i = 0; i < spins; i++)
			;
	}
}

static void put_job(void)
{
	pthread_mutex_lock(&lock);
	while (queued == QUEUE)
		pthread_cond_wait(&emptied, &lock);
	queued++;
	if (--left == 0)
		pthread_cond_broadcast(&filled);
	else
		pthread_cond_signal(&filled);
	pthread_mutex_unlock(&lock);
}

int main(int argc, char **argv)
{
	long workers = argc > 3 ? strtol(argv[3], NULL, 10) : 4;
	struct timespec begin, end;
	pthread_t threads[64];

	left = argc > 1 ? strtol(argv[1], NULL, 10) : 100000;
	spins = argc > 2 ? strtol(argv[2], NULL, 10) : 20000;
	if (workers < 1 || workers > 64)
		return 2;
	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (long i = 0; i < workers; i++)
		pthread_create(&threads[i], NULL, work, NULL);
	for (long i = left; i > 0; i--)
		put_job();
	for (long i = 0; i < workers; i++)
		pthread_join(threads[i], NULL);
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("%.6f ", (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
	printf("%.6f\n", (double)end.tv_sec + (double)end.tv_nsec / 1e9);
	return 0;
}
