// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_asleep.c: threads that nobody will ever wake, five kinds of them, two of each; or threads that are slow, but alive. Ends with its
// standard input.
//
//   zombies   wait for a condition, a semaphore, a mutex, a barrier, a read-write lock and a thread that nobody will ever bring about;
//             the ones at the condition were woken three times before, by "boss"
//   slow      a pool that gets a job every 700 ms, a thread that is let go on every second, timed waits, a sleeper, a reader of a pipe
//             and one of a socket

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "target.h"

#define EACH 2
#define JOBS 3

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER, held = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work = PTHREAD_COND_INITIALIZER, never = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t written = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t barrier;
static sem_t posts, rare_posts;
static long jobs;
static pthread_t joined;
static int pipe_fds[2], sockets[2];

static void take_job(void)
{
	pthread_mutex_lock(&lock);
	while (jobs == 0)
		pthread_cond_wait(&work, &lock);
	jobs--;
	pthread_mutex_unlock(&lock);
}

static void give_jobs(long count)
{
	pthread_mutex_lock(&lock);
	jobs += count;
	pthread_cond_broadcast(&work);
	pthread_mutex_unlock(&lock);
}

static long worker_tids[EACH]; // atomic
static int nworkers;           // atomic

static void *work_for_ever(void *unused)
{
	__atomic_store_n(&worker_tids[__atomic_fetch_add(&nworkers, 1, __ATOMIC_RELAXED)], syscall(SYS_gettid),
			 __ATOMIC_RELEASE);
	for (;;)
		take_job();
	return unused;
}

static void *wait_for_post(void *unused)
{
	sem_wait(&posts);
	return unused;
}

static void *wait_for_mutex(void *unused)
{
	pthread_mutex_lock(&held);
	return unused;
}

static void *wait_for_writer(void *unused)
{
	pthread_rwlock_rdlock(&written);
	return unused;
}

static void *wait_for_others(void *unused)
{
	pthread_barrier_wait(&barrier);
	return unused;
}

static void *wait_for_end(void *unused)
{
	pthread_join(joined, NULL);
	return unused;
}

static pthread_t start(void *(*function)(void *))
{
	pthread_t thread;

	TARGET_CHECK(pthread_create(&thread, NULL, function, NULL) == 0);
	return thread;
}

// From one place, so that they are one group.
TARGET_NOINLINE static pthread_t start_each(void *(*function)(void *))
{
	pthread_t thread = 0;

	for (volatile int i = 0; i < EACH; i++) // not unrolled
		thread = start(function);
	__asm__ volatile(""); // no tail call
	return thread;
}

static bool are_jobs_done(void)
{
	bool done;

	pthread_mutex_lock(&lock);
	done = jobs == 0;
	pthread_mutex_unlock(&lock);
	return done;
}

// Wakes each of them each time: all wait.
static void *be_boss(void *unused)
{
	pthread_setname_np(pthread_self(), "boss");
	for (int i = 0; i < JOBS; i++) {
		usleep(50000);
		while (!are_jobs_done())
			usleep(1000);
		for (int k = 0; k < EACH; k++)
			target_await_sleep(&worker_tids[k]);
		give_jobs(EACH);
	}
	return unused;
}

static void await_others(void)
{
	while (!target_others_sleep())
		usleep(1000);
}

static void until_the_end(int period_ms, void (*tick)(int))
{
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};

	puts("ready");
	fflush(stdout);
	for (int i = 0; poll(&input, 1, period_ms) == 0; i++)
		tick(i);
}

static void do_nothing(int i)
{
	(void)i;
}

static int run_zombies(int argc, char **argv)
{
	void *(*const kinds[])(void *) = {work_for_ever, wait_for_post, wait_for_mutex, wait_for_writer,
					  wait_for_others};

	(void)argc;
	(void)argv;
	sem_init(&posts, 0, 0);
	pthread_barrier_init(&barrier, NULL, EACH + 1);
	pthread_mutex_lock(&held);
	pthread_rwlock_wrlock(&written);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		joined = start_each(kinds[i]);
	start(wait_for_end); // joins one of the last
	await_others();
	pthread_join(start(be_boss), NULL);
	await_others();
	until_the_end(100, do_nothing);
	_exit(0);
}

// ---- Slow -----------------------------------------------------------------------------------------------------------

static void *work_rarely(void *unused)
{
	for (;;)
		sem_wait(&rare_posts);
	return unused;
}

static struct timespec in_an_hour(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	time.tv_sec += 3600;
	return time;
}

static void *wait_with_a_limit(void *unused)
{
	struct timespec limit = in_an_hour(CLOCK_REALTIME);

	pthread_mutex_lock(&lock);
	pthread_cond_timedwait(&never, &lock, &limit);
	pthread_mutex_unlock(&lock);
	return unused;
}

static void *wait_for_post_with_a_limit(void *unused)
{
	struct timespec limit = in_an_hour(CLOCK_REALTIME);

	sem_timedwait(&posts, &limit);
	return unused;
}

static void *sleep_long(void *unused)
{
	sleep(3600);
	return unused;
}

static void *read_pipe(void *unused)
{
	char byte;

	TARGET_CHECK(read(pipe_fds[0], &byte, 1) >= 0);
	return unused;
}

static void *read_socket(void *unused)
{
	char byte;

	TARGET_CHECK(recv(sockets[0], &byte, 1, 0) >= 0);
	return unused;
}

static void let_go(int i)
{
	if (i % 7 == 0)
		give_jobs(1);
	if (i % 10 == 0)
		sem_post(&rare_posts);
}

static int run_slow(int argc, char **argv)
{
	void *(*const kinds[])(void *) = {work_for_ever, work_rarely, wait_with_a_limit, wait_for_post_with_a_limit,
					  sleep_long,    read_pipe,   read_socket};

	(void)argc;
	(void)argv;
	sem_init(&posts, 0, 0);
	sem_init(&rare_posts, 0, 0);
	TARGET_CHECK(pipe(pipe_fds) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		start_each(kinds[i]);
	until_the_end(100, let_go);
	_exit(0);
}

static const struct target_case cases[] = {{"zombies", run_zombies}, {"slow", run_slow}};
TARGET_MAIN(cases)
