// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// worker.c: see worker.h.

#include "collector/worker.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#define MAX_THREADS 16

struct worker_pool {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct worker_job *first, **last; // guarded by lock, as `ending`
	bool ending;
	unsigned nthreads;
	pthread_t threads[MAX_THREADS];
};

// NULL: the pool ends.
static struct worker_job *next_job(struct worker_pool *pool)
{
	struct worker_job *job;

	pthread_mutex_lock(&pool->lock);
	while (!pool->first && !pool->ending)
		pthread_cond_wait(&pool->wake, &pool->lock);
	job = pool->first;
	if (job) {
		pool->first = job->next;
		if (!pool->first)
			pool->last = &pool->first;
	}
	pthread_mutex_unlock(&pool->lock);
	return job;
}

static void *work(void *argument)
{
	struct worker_job *job;

	while ((job = next_job(argument)))
		job->run(job);
	return NULL;
}

int worker_pool_create(unsigned threads, struct worker_pool **ret_pool)
{
	struct worker_pool *pool = calloc(1, sizeof(*pool));

	if (!pool)
		return -ENOMEM;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->wake, NULL);
	pool->last = &pool->first;
	while (pool->nthreads < threads && pool->nthreads < MAX_THREADS) {
		int error = pthread_create(&pool->threads[pool->nthreads], NULL, work, pool);

		if (error) {
			worker_pool_destroy(pool);
			return -error;
		}
		pool->nthreads++;
	}
	*ret_pool = pool;
	return 0;
}

void worker_pool_submit(struct worker_pool *pool, struct worker_job *job)
{
	job->next = NULL;
	pthread_mutex_lock(&pool->lock);
	*pool->last = job;
	pool->last = &job->next;
	pthread_cond_signal(&pool->wake);
	pthread_mutex_unlock(&pool->lock);
}

void worker_pool_destroy(struct worker_pool *pool)
{
	if (!pool)
		return;
	pthread_mutex_lock(&pool->lock);
	pool->ending = true;
	pthread_cond_broadcast(&pool->wake);
	pthread_mutex_unlock(&pool->lock);
	for (unsigned i = 0; i < pool->nthreads; i++)
		pthread_join(pool->threads[i], NULL);
	pthread_cond_destroy(&pool->wake);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}
