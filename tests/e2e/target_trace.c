// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_trace.c: threads whose lives, waits and wake-ups are known, for the event trace.
//
//   story       each kind of wait once or some times; says which thread is which: "NAME TID"
//   many N      N threads, one after the other
//   ticks N     a worker that is woken N times, 5 ms after it was done; then the process kills itself (N = 0: until standard input ends)
//   hung        a thread, named by prctl(2), names the main one, and waits for a mutex that main keeps until standard input ends
//   family      a child made by fork, and a program started by exec, with a thread each

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "target.h"

#define ROUNDS 5

static sem_t posts, answers;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER, state_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t barrier;
static long state;
static long waiter, rounds; // its id; how often it has waited, with this time

static void sleep_ms(long ms)
{
	struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	while (nanosleep(&time, &time) != 0)
		;
}

static void say(const char *name)
{
	flockfile(stdout);
	printf("%s %ld\n", name, (long)syscall(SYS_gettid));
	fflush(stdout);
	funlockfile(stdout);
}

static void introduce(const char *name)
{
	pthread_setname_np(pthread_self(), name);
	say(name);
}

static void *wait_for_posts(void *unused)
{
	introduce("waiter");
	__atomic_store_n(&waiter, syscall(SYS_gettid), __ATOMIC_RELEASE);
	for (int i = 0; i < ROUNDS; i++) {
		__atomic_store_n(&rounds, i + 1, __ATOMIC_RELEASE);
		sem_wait(&posts);
	}
	return unused;
}

static void *lock_once(void *unused)
{
	introduce("locker");
	pthread_mutex_lock(&mutex);
	pthread_mutex_unlock(&mutex);
	return unused;
}

static void *read_once(void *unused)
{
	introduce("reader");
	pthread_rwlock_rdlock(&rwlock);
	pthread_rwlock_unlock(&rwlock);
	return unused;
}

static void *wait_for_change(void *unused)
{
	introduce("listener");
	pthread_mutex_lock(&state_lock);
	while (state == 0)
		pthread_cond_wait(&changed, &state_lock);
	pthread_mutex_unlock(&state_lock);
	return unused;
}

static void *meet(void *unused)
{
	say("guest"); // its maker names it
	pthread_barrier_wait(&barrier);
	return unused;
}

static void *burn_as_child(void *unused)
{
	introduce("inner");
	target_burn(300);
	return unused;
}

static pthread_t start(void *(*function)(void *))
{
	pthread_t thread;

	TARGET_CHECK(pthread_create(&thread, NULL, function, NULL) == 0);
	return thread;
}

static void *make_inner(void *unused)
{
	introduce("outer");
	pthread_join(start(burn_as_child), NULL);
	return unused;
}

static int run_story(int argc, char **argv)
{
	pthread_t threads[6];

	(void)argc;
	(void)argv;
	introduce("main");
	sem_init(&posts, 0, 0);
	pthread_barrier_init(&barrier, NULL, 2);
	pthread_mutex_lock(&mutex);
	pthread_rwlock_wrlock(&rwlock);
	threads[0] = start(wait_for_posts);
	threads[1] = start(lock_once);
	threads[2] = start(read_once);
	threads[3] = start(wait_for_change);
	threads[4] = start(meet);
	pthread_setname_np(threads[4], "guest");
	threads[5] = start(make_inner);
	for (int i = 0; i < ROUNDS; i++) {
		sleep_ms(30);
		while (__atomic_load_n(&rounds, __ATOMIC_ACQUIRE) <= i || !target_sleeps(&waiter))
			sleep_ms(1); // or a busy machine would let it find a post, and not wait
		sem_post(&posts);
	}
	pthread_mutex_unlock(&mutex);
	pthread_rwlock_unlock(&rwlock);
	pthread_mutex_lock(&state_lock);
	state = 1;
	pthread_mutex_unlock(&state_lock);
	pthread_cond_broadcast(&changed);
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < 6; i++)
		pthread_join(threads[i], NULL);
	return 0;
}

static void *do_nothing(void *unused)
{
	return unused;
}

static int run_many(int argc, char **argv)
{
	for (long i = target_number(argc, argv, 1, 1000); i > 0; i--)
		pthread_join(start(do_nothing), NULL);
	return 0;
}

static void *work_for_ever(void *unused)
{
	introduce("worker");
	for (;;) {
		sem_wait(&posts);
		target_burn(1);
		sem_post(&answers);
	}
	return unused;
}

static int run_ticks(int argc, char **argv)
{
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
	long ticks = target_number(argc, argv, 1, 0);

	introduce("main");
	sem_init(&posts, 0, 0);
	sem_init(&answers, 0, 0);
	start(work_for_ever);
	for (long i = 0; ticks == 0 ? poll(&input, 1, 5) == 0 : i < ticks; i++) {
		if (ticks)
			sleep_ms(5);
		sem_post(&posts);
		sem_wait(&answers); // or a busy machine would let posts pile up, and the worker never wait
	}
	if (ticks)
		raise(SIGKILL);
	return 0;
}

static pthread_t main_thread;

static void *wait_for_ever(void *unused)
{
	prctl(PR_SET_NAME, "hung");
	pthread_setname_np(main_thread, "main");
	say("hung");
	pthread_mutex_lock(&mutex);
	return unused;
}

static int run_hung(int argc, char **argv)
{
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};

	(void)argc;
	(void)argv;
	main_thread = pthread_self();
	say("main");
	pthread_mutex_lock(&mutex);
	start(wait_for_ever);
	while (poll(&input, 1, -1) < 1)
		;
	return 0;
}

static void *rest(void *unused)
{
	sleep_ms(50);
	return unused;
}

static int run_family(int argc, char **argv)
{
	pid_t child = fork();

	(void)argc;
	if (child == 0) {
		introduce("forked");
		pthread_join(start(rest), NULL);
		_exit(0);
	}
	TARGET_CHECK(waitpid(child, NULL, 0) == child);
	child = fork();
	if (child == 0) {
		execl("/proc/self/exe", "target_trace", "many", "1", (char *)NULL);
		_exit(1);
	}
	TARGET_CHECK(waitpid(child, NULL, 0) == child);
	printf("executed %d\n", (int)child);
	(void)argv;
	return 0;
}

static const struct target_case cases[] = {
	{"story", run_story}, {"many", run_many}, {"ticks", run_ticks}, {"hung", run_hung}, {"family", run_family}};
TARGET_MAIN(cases)
