// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_creators.c: threads made in known places, joined and not, and locks that block each other.
//
// usage: target_creators     does one thing for each line of standard input, and answers "done"
//   start        a thread that waits, made seven calls deep
//   nested       a thread that makes another one that waits
//   join detach detached-attr leave       a thread that ends, and is joined (each way), detached, made detached, or left
//   deadlock     two threads that wait for each other, and one for itself
//   convoy       five threads that wait for a mutex of the main thread's

#include "target.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <threads.h>

static pthread_mutex_t a = PTHREAD_MUTEX_INITIALIZER, b = PTHREAD_MUTEX_INITIALIZER, own = PTHREAD_MUTEX_INITIALIZER,
		       busy = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t both;
static sem_t begun, never;
static long waiting[2];   // atomic; ids of the last two threads that began to wait
static unsigned nwaiting; // atomic

static void *wait_forever(void *name)
{
	pthread_setname_np(pthread_self(), name ? name : "waits");
	__atomic_store_n(&waiting[__atomic_fetch_add(&nwaiting, 1, __ATOMIC_RELAXED) % 2], syscall(SYS_gettid),
			 __ATOMIC_RELEASE);
	sem_post(&begun);
	while (sem_wait(&never) < 0)
		;
	return NULL;
}

// So many threads more wait where they will for ever.
static void wait_for_sleepers(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		sem_wait(&begun);
	for (unsigned i = 0; i < n; i++)
		while (!target_sleeps(&waiting[(nwaiting - 1 - i) % 2]))
			usleep(200);
}

static void *end(void *unused)
{
	return unused;
}

static int end_c11(void *unused)
{
	return unused != NULL;
}

TARGET_NOINLINE static void make_deep(int depth, void *(*function)(void *))
{
	pthread_t thread;

	if (depth > 0)
		make_deep(depth - 1, function);
	else
		TARGET_CHECK(pthread_create(&thread, NULL, function, NULL) == 0);
	__asm__ volatile("");
}

TARGET_NOINLINE static void start_workers(void)
{
	make_deep(5, wait_forever);
	wait_for_sleepers(1);
}

TARGET_NOINLINE static void make_inner(void)
{
	pthread_t thread;

	TARGET_CHECK(pthread_create(&thread, NULL, wait_forever, "inner") == 0);
}

static void *make_another(void *unused)
{
	make_inner();
	return wait_forever("outer");
}

TARGET_NOINLINE static void nest(void)
{
	make_deep(0, make_another);
	wait_for_sleepers(2);
}

TARGET_NOINLINE static void join_all(void)
{
	struct timespec late = {.tv_sec = time(NULL) + 1000};
	pthread_t thread;
	thrd_t other;
	int result;

	TARGET_CHECK(pthread_create(&thread, NULL, end, NULL) == 0 && pthread_join(thread, NULL) == 0);
	TARGET_CHECK(pthread_create(&thread, NULL, end, NULL) == 0 && pthread_timedjoin_np(thread, NULL, &late) == 0);
	TARGET_CHECK(pthread_create(&thread, NULL, end, NULL) == 0);
	while (pthread_tryjoin_np(thread, NULL) == EBUSY)
		sched_yield();
	TARGET_CHECK(thrd_create(&other, end_c11, NULL) == thrd_success && thrd_join(other, &result) == thrd_success);
}

TARGET_NOINLINE static void detach_all(void)
{
	pthread_t thread;
	thrd_t other;

	TARGET_CHECK(pthread_create(&thread, NULL, end, NULL) == 0 && pthread_detach(thread) == 0);
	TARGET_CHECK(thrd_create(&other, end_c11, NULL) == thrd_success && thrd_detach(other) == thrd_success);
}

TARGET_NOINLINE static void make_detached(void)
{
	pthread_attr_t attr;
	pthread_t thread;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	TARGET_CHECK(pthread_create(&thread, &attr, end, NULL) == 0);
}

TARGET_NOINLINE static void leave_unjoined(void)
{
	make_deep(0, end);
	__asm__ volatile(""); // no tail call
}

struct pair {
	pthread_mutex_t *first, *second;
};

static void *lock_both(void *pointer)
{
	const struct pair *pair = pointer;

	pthread_setname_np(pthread_self(), pair->first == &a ? "first" : "second");
	pthread_mutex_lock(pair->first);
	pthread_barrier_wait(&both);
	pthread_mutex_lock(pair->second);
	return NULL;
}

static void *lock_twice(void *unused)
{
	pthread_setname_np(pthread_self(), "alone");
	pthread_mutex_lock(&own);
	pthread_mutex_lock(&own);
	return NULL;
}

static void *lock_busy(void *unused)
{
	pthread_mutex_lock(&busy);
	return NULL;
}

static void deadlock(void)
{
	static struct pair ab = {&a, &b}, ba = {&b, &a};
	pthread_t thread;

	TARGET_CHECK(pthread_create(&thread, NULL, lock_both, &ab) == 0);
	TARGET_CHECK(pthread_create(&thread, NULL, lock_both, &ba) == 0);
	TARGET_CHECK(pthread_create(&thread, NULL, lock_twice, NULL) == 0);
}

static void convoy(void)
{
	pthread_mutex_lock(&busy);
	for (int i = 0; i < 5; i++)
		make_deep(0, lock_busy);
}

int main(void)
{
	static const struct {
		const char *name;
		void (*act)(void);
	} acts[] = {
		{"start", start_workers},
		{"nested", nest},
		{"join", join_all},
		{"detach", detach_all},
		{"detached-attr", make_detached},
		{"leave", leave_unjoined},
		{"deadlock", deadlock},
		{"convoy", convoy},
	};
	char line[64];

	pthread_barrier_init(&both, NULL, 2);
	sem_init(&begun, 0, 0);
	sem_init(&never, 0, 0);
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		for (size_t i = 0; i < sizeof(acts) / sizeof(acts[0]); i++)
			if (strcmp(acts[i].name, line) == 0)
				acts[i].act();
		puts("done");
		fflush(stdout);
	}
	_exit(0);
}
