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
#include <sys/syscall.h>
#include <unistd.h>

#include "target.h"
#include "target_settle.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER, work = PTHREAD_COND_INITIALIZER;
static long jobs;
static long forgotten[256]; // ids

TARGET_NOINLINE static void wait_for_reply(void)
{
	for (;;)
		pthread_cond_wait(&never, &lock);
}

static void *forgotten_main(void *id)
{
	__atomic_store_n((long *)id, syscall(SYS_gettid), __ATOMIC_RELEASE);
	pthread_mutex_lock(&lock);
	wait_for_reply();
	return NULL;
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

int main(int argc, char **argv)
{
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
	long lost = target_number(argc, argv, 1, 12), pool = target_number(argc, argv, 2, 6);
	pthread_t thread;

	TARGET_CHECK(lost <= 256);
	for (long i = 0; i < lost; i++)
		TARGET_CHECK(pthread_create(&thread, NULL, forgotten_main, &forgotten[i]) == 0);
	target_settle(forgotten, (size_t)lost); // before there are others to wait for the lock with
	for (long i = 0; i < pool; i++)
		TARGET_CHECK(pthread_create(&thread, NULL, pool_main, NULL) == 0);
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
