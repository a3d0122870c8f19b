// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_incident.c: the incident of docs/causality.md in three steps: a handler hands work to a queue, whose consumer starts a thread,
// which writes to a shared table and then waits for ever. Of two handlers only one does so, and no stack of the waiting threads names it.
//
// usage: target_incident [threads THREADS | chain GENERATIONS | fork | work]
//   threads N    N requests become N threads; says "ready PID" and waits for end of input (default: 20)
//   chain N      a thread makes a thread makes a thread, N of them; the last one spins for half a second of CPU time; all wait for it
//   locked N     as chain, but the last one spins under a lock that it has to wait for
//   deep N       as chain, but the last one says "ready PID" and waits for end of input
//   fork         forks twice; grandchild and its thread spin
//   heap         as threads 1, but the writer allocates 4,000 objects of 4,096 bytes and keeps them, and the program ends
//   lock         as heap, but it waits for a lock that another thread holds
//   work         as threads 1, but the writer spins for half a second of CPU time, and the program ends

#include "target.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "include/profd.h"

struct job {
	int key;
	struct profd_link link;
	struct job *next;
};

static pthread_mutex_t queue_lock = PTHREAD_MUTEX_INITIALIZER, table_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t queue_changed = PTHREAD_COND_INITIALIZER;
static struct job *queue;
static int table[64];
static sem_t written, never;
static double spin_ms;
static bool allocates, locks, waits;
static void *volatile kept[4000];
static pthread_mutex_t busy = PTHREAD_MUTEX_INITIALIZER;
static long waiter_tid; // atomic; of who is about to wait for it; 0: nobody yet

static void lock_busy(void)
{
	__atomic_store_n(&waiter_tid, syscall(SYS_gettid), __ATOMIC_RELEASE);
	pthread_mutex_lock(&busy);
}

// ---- The third step: a thread writes, and never returns ------------------------------------------------------------

TARGET_NOINLINE static void table_assign(int key)
{
	pthread_mutex_lock(&table_lock);
	table[key % 64]++;
	pthread_mutex_unlock(&table_lock);
	if (spin_ms > 0)
		target_burn(spin_ms);
	for (size_t i = 0; allocates && i < sizeof(kept) / sizeof(kept[0]); i++)
		kept[i] = malloc(4096);
	if (locks) {
		lock_busy();
		pthread_mutex_unlock(&busy);
	}
	__asm__ volatile("");
}

static void *session_writer(void *job)
{
	table_assign(((struct job *)job)->key);
	free(job);
	sem_post(&written);
	while (spin_ms == 0 && !allocates && !locks && sem_wait(&never) < 0)
		;
	return NULL;
}

// ---- The second step: the queue's consumer starts it ----------------------------------------------------------------

TARGET_NOINLINE static void start_writer(struct job *job)
{
	pthread_t thread;

	TARGET_CHECK(pthread_create(&thread, NULL, session_writer, job) == 0);
	pthread_detach(thread);
	__asm__ volatile("");
}

static void *consumer(void *unused)
{
	pthread_setname_np(pthread_self(), "consumer");
	for (;;) {
		struct job *job;

		pthread_mutex_lock(&queue_lock);
		while (!queue)
			pthread_cond_wait(&queue_changed, &queue_lock);
		job = queue;
		queue = job->next;
		pthread_mutex_unlock(&queue_lock);
		profd_enter(job->link);
		start_writer(job);
		profd_leave();
	}
	return unused;
}

TARGET_NOINLINE static void enqueue(int key)
{
	struct job *job = calloc(1, sizeof(*job));

	TARGET_CHECK(job);
	job->key = key;
	job->link = profd_capture();
	pthread_mutex_lock(&queue_lock);
	job->next = queue;
	queue = job;
	pthread_cond_signal(&queue_changed);
	pthread_mutex_unlock(&queue_lock);
	__asm__ volatile("");
}

// ---- The first step: a handler hands it work ------------------------------------------------------------------------

TARGET_NOINLINE static void handle_session(int request)
{
	enqueue(request);
	__asm__ volatile("");
}

TARGET_NOINLINE static void handle_ping(int request)
{
	table[request % 64] |= 0;
	__asm__ volatile("");
}

static void *serve(void *requests)
{
	pthread_setname_np(pthread_self(), "server");
	for (int i = 0; i < *(int *)requests; i++) {
		handle_ping(i);
		handle_session(i);
	}
	return NULL;
}

static pthread_barrier_t held;

static void *hold(void *unused)
{
	pthread_mutex_lock(&busy);
	pthread_barrier_wait(&held);
	target_await_sleep(&waiter_tid);
	usleep(10000);
	pthread_mutex_unlock(&busy);
	return unused;
}

static void run_server(int requests)
{
	pthread_t server, worker;

	sem_init(&written, 0, 0);
	sem_init(&never, 0, 0);
	TARGET_CHECK(pthread_create(&worker, NULL, consumer, NULL) == 0);
	TARGET_CHECK(pthread_create(&server, NULL, serve, &requests) == 0);
	pthread_join(server, NULL);
	for (int i = 0; i < requests; i++)
		while (sem_wait(&written) < 0)
			;
}

// ---- Generations ---------------------------------------------------------------------------------------------------

static void wait_for_input(void)
{
	printf("ready %d\n", (int)getpid());
	fflush(stdout);
	while (getchar() != EOF)
		;
	_exit(0);
}

static void *generation(void *left);

TARGET_NOINLINE static void make_generation(int *left)
{
	pthread_t thread;

	TARGET_CHECK(pthread_create(&thread, NULL, generation, left) == 0);
	pthread_join(thread, NULL);
	__asm__ volatile("");
}

static void *generation(void *left)
{
	if (--*(int *)left > 0)
		make_generation(left);
	else if (waits)
		wait_for_input();
	else if (locks) {
		lock_busy();
		target_burn(500);
		pthread_mutex_unlock(&busy);
	} else
		target_burn(500);
	return NULL;
}

static void *spin_thread(void *unused)
{
	target_burn(500);
	return unused;
}

TARGET_NOINLINE static void grandchild(void)
{
	pthread_t thread;

	TARGET_CHECK(pthread_create(&thread, NULL, spin_thread, NULL) == 0);
	pthread_join(thread, NULL);
	__asm__ volatile("");
}

TARGET_NOINLINE static void fork_once(int generations)
{
	pid_t pid = fork();

	TARGET_CHECK(pid >= 0);
	if (pid > 0) {
		TARGET_CHECK(waitpid(pid, NULL, 0) == pid);
		return;
	}
	if (generations > 1)
		fork_once(generations - 1);
	else
		grandchild();
	exit(0);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "threads";
	int number = argc > 2 ? atoi(argv[2]) : 20;

	waits = strcmp(what, "deep") == 0;
	if (strcmp(what, "chain") == 0 || waits) {
		make_generation(&number);
	} else if (strcmp(what, "fork") == 0) {
		fork_once(2);
	} else if (strcmp(what, "heap") == 0) {
		allocates = true;
		run_server(1);
	} else if (strcmp(what, "lock") == 0 || strcmp(what, "locked") == 0) {
		pthread_t holder;

		locks = true;
		pthread_barrier_init(&held, NULL, 2);
		TARGET_CHECK(pthread_create(&holder, NULL, hold, NULL) == 0);
		pthread_barrier_wait(&held);
		if (strcmp(what, "lock") == 0)
			run_server(1);
		else
			make_generation(&number);
		pthread_join(holder, NULL);
	} else if (strcmp(what, "work") == 0) {
		spin_ms = 500;
		run_server(1);
	} else {
		run_server(number);
		while (!target_others_sleep()) // all are where they wait for ever
			usleep(200);
		wait_for_input();
	}
	return 0;
}
