// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_leaky.c: a service that starts a worker for each request. In 'leak' mode the worker waits for a reply that never comes.
//
// usage: target_leaky leak|mended     a line on stdin is a request; each is answered by a line when its worker waits or has ended.
//                                     Lives until its stdin ends

#include "target.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t reply_came = PTHREAD_COND_INITIALIZER;
static bool has_reply;
static sem_t waits;

// The mutex is held until the wait begins: who gets it after `waits` was posted knows that the worker sleeps or is about to.
static TARGET_NOINLINE void await_reply(void)
{
	pthread_mutex_lock(&mutex);
	sem_post(&waits);
	while (!has_reply)
		pthread_cond_wait(&reply_came, &mutex);
	pthread_mutex_unlock(&mutex);
}

static void *handle_request(void *arg)
{
	await_reply();
	return NULL;
}

static TARGET_NOINLINE bool serve(bool leak)
{
	pthread_t worker;

	if (pthread_create(&worker, NULL, handle_request, NULL) != 0)
		return false;
	sem_wait(&waits);
	pthread_mutex_lock(&mutex);
	if (!leak) {
		has_reply = true;
		pthread_cond_broadcast(&reply_came);
	}
	pthread_mutex_unlock(&mutex);
	if (leak)
		return pthread_detach(worker) == 0;
	bool joined = pthread_join(worker, NULL) == 0;
	has_reply = false; // nobody else is left
	return joined;
}

int main(int argc, char **argv)
{
	char line[64];

	if (argc != 2 || (strcmp(argv[1], "leak") != 0 && strcmp(argv[1], "mended") != 0)) {
		fprintf(stderr, "usage: target_leaky leak|mended\n");
		return 2;
	}
	sem_init(&waits, 0, 0);
	setvbuf(stdout, NULL, _IOLBF, 0);
	while (fgets(line, sizeof(line), stdin)) {
		if (!serve(strcmp(argv[1], "leak") == 0))
			return 1;
		puts("done");
	}
	_exit(0); // whoever leaked still waits
}
