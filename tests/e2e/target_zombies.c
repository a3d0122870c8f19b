// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_zombies.c: threads that nobody will ever wake, beside a pool of which one is woken every 20 ms. Ends with its standard input.
//
// usage: target_zombies FORGOTTEN POOL

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "target.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER, work = PTHREAD_COND_INITIALIZER;
static long jobs;

TARGET_NOINLINE static void wait_for_reply(void)
{
	for (;;)
		pthread_cond_wait(&never, &lock);
}

static void *forgotten_main(void *unused)
{
	pthread_mutex_lock(&lock);
	wait_for_reply();
	return unused;
}

TARGET_NOINLINE static void wait_for_job(void)
{
	while (jobs == 0)
		pthread_cond_wait(&work, &lock);
	jobs--;
}

static void *pool_main(void *unused)
{
	pthread_mutex_lock(&lock);
	for (;;)
		wait_for_job();
	return unused;
}

static void start(long count, void *(*function)(void *))
{
	pthread_t thread;

	for (long i = 0; i < count; i++)
		TARGET_CHECK(pthread_create(&thread, NULL, function, NULL) == 0);
}

int main(int argc, char **argv)
{
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};

	start(target_number(argc, argv, 1, 12), forgotten_main);
	start(target_number(argc, argv, 2, 6), pool_main);
	usleep(200000);
	puts("ready");
	fflush(stdout);
	while (poll(&input, 1, 20) == 0) {
		pthread_mutex_lock(&lock);
		jobs++;
		pthread_cond_signal(&work);
		pthread_mutex_unlock(&lock);
	}
	return 0;
}
