// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_trace.c: threads whose lives, waits and wake-ups are known, for the event trace.
//
//   story [MS]  each kind of wait once or some times, each for MS (30) and more; says which thread is which: "NAME TID", and in the end
//               "used ns INNER PROCESS": the CPU time of the thread "inner", and of all
//   many N      N threads, one after the other
//   ticks N     a worker that is woken N times, 5 ms after it was done; then the process says "last ns TIME", of CLOCK_MONOTONIC when it
//               woke it last, and kills itself (N = 0: until standard input ends)
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
#include "target_settle.h"

#define ROUNDS 5

static sem_t posts, answers;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER, state_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t barrier;
static long state;
static long rounds; // how often the waiter has waited, with this time
static double inner_ns;

// The ids of those who are about to wait; 0: not yet.
enum { WAITER, LOCKER, READER, LISTENER, GUEST, OUTER, MAIN, WAITERS };
static long waiting[WAITERS];

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

// The caller waits next, in whatever way; and then nothing else happens to it, until it is let go.
static void go_to_wait(int who)
{
	__atomic_store_n(&waiting[who], syscall(SYS_gettid), __ATOMIC_RELEASE);
}

static void *wait_for_posts(void *unused)
{
	introduce("waiter");
	go_to_wait(WAITER);
	for (int i = 0; i < ROUNDS; i++) {
		__atomic_store_n(&rounds, i + 1, __ATOMIC_RELEASE);
		sem_wait(&posts);
	}
	return unused;
}

static void *lock_once(void *unused)
{
	introduce("locker");
	go_to_wait(LOCKER);
	pthread_mutex_lock(&mutex);
	pthread_mutex_unlock(&mutex);
	return unused;
}

static void *read_once(void *unused)
{
	introduce("reader");
	go_to_wait(READER);
	pthread_rwlock_rdlock(&rwlock);
	pthread_rwlock_unlock(&rwlock);
	return unused;
}

static void *wait_for_change(void *unused)
{
	introduce("listener");
	go_to_wait(LISTENER);
	pthread_mutex_lock(&state_lock);
	while (state == 0)
		pthread_cond_wait(&changed, &state_lock);
	pthread_mutex_unlock(&state_lock);
	return unused;
}

static void *meet(void *unused)
{
	say("guest"); // its maker names it
	go_to_wait(GUEST);
	pthread_barrier_wait(&barrier);
	return unused;
}

static void *burn_as_child(void *unused)
{
	introduce("inner");
	target_settle(&waiting[OUTER], 1);
	target_burn(300);
	inner_ns = target_clock_s(CLOCK_THREAD_CPUTIME_ID) * 1e9;
	return unused;
}

static pthread_t start(void *(*function)(void *))
{
	pthread_t thread;

	TARGET_CHECK(pthread_create(&thread, NULL, function, NULL) == 0);
	return thread;
}

// Ends only when main waits for that.
static void *make_inner(void *unused)
{
	pthread_t inner;

	introduce("outer");
	inner = start(burn_as_child);
	go_to_wait(OUTER);
	pthread_join(inner, NULL);
	target_settle(&waiting[MAIN], 1);
	return unused;
}

static int run_story(int argc, char **argv)
{
	long ms = target_number(argc, argv, 1, 30);
	pthread_t threads[6];

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
		while (__atomic_load_n(&rounds, __ATOMIC_ACQUIRE) <= i)
			sleep_ms(1);
		target_settle(waiting, OUTER); // or a busy machine would let it find a post, and not wait
		sleep_ms(ms);
		sem_post(&posts);
	}
	pthread_mutex_unlock(&mutex);
	pthread_rwlock_unlock(&rwlock);
	pthread_mutex_lock(&state_lock);
	state = 1;
	pthread_mutex_unlock(&state_lock);
	pthread_cond_broadcast(&changed);
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < 6; i++) {
		if (i == 5)
			go_to_wait(MAIN);
		pthread_join(threads[i], NULL);
	}
	printf("used ns %.0f %.0f\n", inner_ns, target_clock_s(CLOCK_PROCESS_CPUTIME_ID) * 1e9);
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
	go_to_wait(WAITER);
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
	double last_s = 0;

	introduce("main");
	sem_init(&posts, 0, 0);
	sem_init(&answers, 0, 0);
	start(work_for_ever);
	for (long i = 0; ticks == 0 ? poll(&input, 1, 5) == 0 : i < ticks; i++) {
		if (ticks)
			sleep_ms(5);
		if (i == ticks - 1)
			target_settle(&waiting[WAITER], 1); // its last wait is one
		last_s = target_clock_s(CLOCK_MONOTONIC);
		sem_post(&posts);
		sem_wait(&answers); // or a busy machine would let posts pile up, and the worker never wait
	}
	if (ticks) {
		printf("last ns %.0f\n", last_s * 1e9);
		fflush(stdout);
		raise(SIGKILL);
	}
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

// Until its maker waits for its end, and for a while.
static void *rest(void *unused)
{
	target_settle(&waiting[MAIN], 1);
	sleep_ms(10);
	return unused;
}

static int run_family(int argc, char **argv)
{
	pid_t child = fork();

	(void)argc;
	if (child == 0) {
		pthread_t thread;

		introduce("forked");
		thread = start(rest);
		go_to_wait(MAIN);
		pthread_join(thread, NULL);
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
