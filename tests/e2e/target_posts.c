// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_posts.c: semaphores that are posted just when somebody is about to wait for them. main asks a worker for something (ask), and waits for it. The
// worker has a helper do a part, and waits for that (paint comes after): the helper posts within nanoseconds of the worker's look at the
// semaphore, a little earlier or later each time.
//
// usage: target_posts ROUNDS

#include "target.h"

#include <pthread.h>
#include <semaphore.h>
#include <sys/syscall.h>

#define LEAD_S 150e-6 // the helper is woken in less, nearly always
#define STEPS 40
#define STEP_S 25e-9
#define EARLIEST_S -200e-9

static long rounds;
static sem_t asked, help_wanted, helped, done;
static long worker_tid;  // atomic
static double meeting_s; // CLOCK_MONOTONIC; by semaphores

static void wait_until(double when_s)
{
	while (target_clock_s(CLOCK_MONOTONIC) < when_s)
		;
}

static void *help(void *unused)
{
	for (long i = 0; i < rounds; i++) {
		sem_wait(&help_wanted);
		wait_until(meeting_s + EARLIEST_S + (double)(i % STEPS) * STEP_S);
		sem_post(&helped);
	}
	return unused;
}

TARGET_NOINLINE static void paint(void)
{
	target_burn(0.05);
	__asm__ volatile("");
}

static void *work(void *unused)
{
	__atomic_store_n(&worker_tid, syscall(SYS_gettid), __ATOMIC_RELEASE);
	for (long i = 0; i < rounds; i++) {
		sem_wait(&asked);
		meeting_s = target_clock_s(CLOCK_MONOTONIC) + LEAD_S;
		sem_post(&help_wanted);
		wait_until(meeting_s);
		sem_wait(&helped);
		paint();
		sem_post(&done);
	}
	return unused;
}

TARGET_NOINLINE static void ask(void)
{
	sem_post(&asked);
	__asm__ volatile("");
}

int main(int argc, char **argv)
{
	pthread_t worker, helper;

	rounds = target_number(argc, argv, 1, 1000);
	sem_init(&asked, 0, 0);
	sem_init(&help_wanted, 0, 0);
	sem_init(&helped, 0, 0);
	sem_init(&done, 0, 0);
	TARGET_CHECK(pthread_create(&worker, NULL, work, NULL) == 0);
	TARGET_CHECK(pthread_create(&helper, NULL, help, NULL) == 0);
	while (!target_sleeps(&worker_tid))
		usleep(200);
	for (long i = 0; i < rounds; i++) {
		usleep(100); // the worker waits again by then, nearly always
		ask();
		sem_wait(&done);
	}
	pthread_join(worker, NULL);
	pthread_join(helper, NULL);
	return 0;
}
