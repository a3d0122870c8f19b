// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_heap.c: programs that know what they allocate. Each prints lines "FUNCTION in-use-objects in-use-bytes allocated-objects
// allocated-bytes": what a heap profile ought to say of stacks with that function when the program ends, or waits for its input to end.

#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/select.h>
#include <sys/wait.h>

#include "tests/e2e/target.h"

#define MILLION 1000000

// Atomic: threads count, too.
struct truth {
	long in_use_objects, in_use_bytes, objects, bytes;
};

static void came(struct truth *truth, size_t bytes)
{
	__atomic_add_fetch(&truth->in_use_objects, 1, __ATOMIC_RELAXED);
	__atomic_add_fetch(&truth->in_use_bytes, (long)bytes, __ATOMIC_RELAXED);
	__atomic_add_fetch(&truth->objects, 1, __ATOMIC_RELAXED);
	__atomic_add_fetch(&truth->bytes, (long)bytes, __ATOMIC_RELAXED);
}

static void went(struct truth *truth, size_t bytes)
{
	__atomic_sub_fetch(&truth->in_use_objects, 1, __ATOMIC_RELAXED);
	__atomic_sub_fetch(&truth->in_use_bytes, (long)bytes, __ATOMIC_RELAXED);
}

static void tell(const char *function, const struct truth *truth)
{
	printf("%s %ld %ld %ld %ld\n", function, truth->in_use_objects, truth->in_use_bytes, truth->objects,
	       truth->bytes);
}

static void *kept(void *object)
{
	if (!object)
		abort();
	*(volatile char *)object = 1;
	return object;
}

static uint32_t next_random(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}

// ---- Known sizes ---------------------------------------------------------------------------------------------------

#define KEEP 20000

static void *keep[4][KEEP];

// Allocates `count` objects, of which the last KEEP live.
#define ALLOCATES(name, which, size_expression)                          \
	TARGET_NOINLINE static void name(struct truth *truth, int count) \
	{                                                                \
		static size_t sizes[KEEP];                               \
		uint32_t random = 42;                                    \
                                                                         \
		for (int i = 0; i < count; i++) {                        \
			void **place = &keep[which][i % KEEP];           \
			size_t bytes = (size_expression);                \
                                                                         \
			(void)next_random(&random);                      \
			if (*place) {                                    \
				went(truth, sizes[i % KEEP]);            \
				free(*place);                            \
			}                                                \
			*place = kept(malloc(bytes));                    \
			sizes[i % KEEP] = bytes;                         \
			came(truth, bytes);                              \
		}                                                        \
	}

ALLOCATES(heap_small, 0, 24)
ALLOCATES(heap_middle, 1, 1000)
ALLOCATES(heap_large, 2, i % 100 ? 512 : 20000)
ALLOCATES(heap_mixed, 3, 1 + random % 3000)

static int run_known(int argc, char **argv)
{
	static struct truth small, middle, large, mixed;
	int times = (int)target_number(argc, argv, 1, 10);

	heap_small(&small, times * 40 * KEEP);
	heap_middle(&middle, times * KEEP);
	heap_large(&large, times * KEEP);
	heap_mixed(&mixed, times * KEEP);
	tell("heap_small", &small);
	tell("heap_middle", &middle);
	tell("heap_large", &large);
	tell("heap_mixed", &mixed);
	return argc > 2 ? target_wait_for_end() : 0;
}

// ---- realloc -------------------------------------------------------------------------------------------------------

TARGET_NOINLINE static void heap_realloc(struct truth *truth)
{
	void *objects[1000] = {NULL};
	size_t bytes[1000] = {0};
	uint32_t random = 1;

	for (int i = 0; i < 100000; i++) {
		int which = (int)(next_random(&random) % 1000);
		size_t wanted = 1 + next_random(&random) % 4000;

		if (objects[which])
			went(truth, bytes[which]);
		objects[which] = kept(realloc(objects[which], wanted)); // in place, or moved
		bytes[which] = wanted;
		came(truth, wanted);
	}
	for (int i = 0; i < 500; i++) {
		if (objects[i])
			went(truth, bytes[i]);
		if (i % 2)
			free(objects[i]);
		else if (objects[i] && realloc(objects[i], 0)) // frees, in glibc
			abort();
	}
	// What cannot be had leaves the object as it was.
	for (int i = 500; i < 600; i++) {
		size_t volatile too_much = SIZE_MAX / 2;

		if (objects[i] && realloc(objects[i], too_much))
			abort();
	}
}

static int run_realloc(int argc, char **argv)
{
	struct truth truth = {0};

	(void)argc;
	(void)argv;
	heap_realloc(&truth);
	tell("heap_realloc", &truth);
	return 0;
}

// ---- All functions -------------------------------------------------------------------------------------------------

// Each allocates once; `free_it` or not, the test compares the sum.
// has_pvalloc: jemalloc does not have it, and crashes when it is to free what libc's allocated.
TARGET_NOINLINE static void heap_family(struct truth *truth, int rounds, int free_it, int has_pvalloc)
{
	for (int i = 0; i < rounds; i++) {
		void *objects[10];
		size_t volatile four = 4;
		char *text = NULL;
		size_t sizes[10] = {100, 4 * 50, 300, 400, 512, 600, 700, 4096, 4 * 25, 6};

		objects[0] = malloc(sizes[0]);
		objects[1] = calloc(four, 50);
		objects[2] = realloc(NULL, sizes[2]);
		if (posix_memalign(&objects[3], 64, sizes[3]) != 0)
			abort();
		objects[4] = aligned_alloc(256, sizes[4]);
		objects[5] = memalign(128, sizes[5]);
		objects[6] = valloc(sizes[6]);
		objects[7] = has_pvalloc ? pvalloc(sizes[7]) : valloc(sizes[7]);
		objects[8] = reallocarray(NULL, four, 25);
		text = strdup("hello");
		objects[9] = text;
		for (int k = 0; k < 10; k++) {
			kept(objects[k]);
			came(truth, sizes[k]);
			if (free_it) {
				free(objects[k]);
				went(truth, sizes[k]);
			}
		}
		free(NULL);
	}
}

static int run_family(int argc, char **argv)
{
	struct truth truth = {0};

	heap_family(&truth, 1000, target_number(argc, argv, 1, 1) != 0, target_number(argc, argv, 2, 1) != 0);
	tell("heap_family", &truth);
	return 0;
}

// ---- Threads -------------------------------------------------------------------------------------------------------

#define OBJECTS 20000
static void *handed[4][OBJECTS]; // atomic
static pthread_key_t last_words;
static struct truth handed_truth, exit_truth;

TARGET_NOINLINE static void *heap_handed(void *argument)
{
	void **list = argument;

	for (int i = 0; i < OBJECTS; i++) {
		came(&handed_truth, 40);
		__atomic_store_n(&list[i], kept(malloc(40)), __ATOMIC_RELEASE);
	}
	pthread_setspecific(last_words, list);
	return NULL;
}

static void *free_handed(void *argument)
{
	void **list = argument;

	for (int i = 0; i < OBJECTS; i++) {
		void *object;

		while (!(object = __atomic_load_n(&list[i], __ATOMIC_ACQUIRE)))
			sched_yield();
		free(object);
		went(&handed_truth, 40);
	}
	return NULL;
}

// A destructor of thread-specific data allocates and frees, and comes again.
TARGET_NOINLINE static void heap_exit(void *unused)
{
	static __thread int times;
	void *object = kept(malloc(77));

	(void)unused;
	came(&exit_truth, 77);
	free(object);
	went(&exit_truth, 77);
	if (++times < 4)
		pthread_setspecific(last_words, unused);
}

static int run_threads(int argc, char **argv)
{
	pthread_t threads[8];

	(void)argc;
	(void)argv;
	pthread_key_create(&last_words, heap_exit);
	for (int i = 0; i < 4; i++) {
		pthread_create(&threads[i], NULL, heap_handed, handed[i]);
		pthread_create(&threads[4 + i], NULL, free_handed, handed[i]);
	}
	for (int i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	tell("heap_handed", &handed_truth);
	tell("heap_exit", &exit_truth);
	return 0;
}

// ---- A million -----------------------------------------------------------------------------------------------------

TARGET_NOINLINE static void heap_million(struct truth *truth, void **objects, int count)
{
	for (int i = 0; i < count; i++) {
		objects[i] = kept(malloc(48));
		came(truth, 48);
	}
}

// The list is no object of the heap.
static int run_million(int argc, char **argv)
{
	static void *objects[MILLION];
	struct truth truth = {0};

	heap_million(&truth, objects, MILLION);
	if (target_number(argc, argv, 1, 0))
		for (int i = 0; i < MILLION; i++) {
			free(objects[i]);
			went(&truth, 48);
		}
	tell("heap_million", &truth);
	return 0;
}

// ---- fork ----------------------------------------------------------------------------------------------------------

static struct truth parent_truth;
static volatile bool forking = true;

TARGET_NOINLINE static void heap_parent_round(void)
{
	void *objects[50];

	for (int i = 0; i < 50; i++) {
		objects[i] = kept(malloc(60));
		came(&parent_truth, 60);
	}
	for (int i = 0; i < 50; i++) {
		free(objects[i]);
		went(&parent_truth, 60);
	}
}

static void *heap_parent(void *unused)
{
	(void)unused;
	while (forking)
		heap_parent_round();
	return NULL;
}

// What its parent allocated, and what it allocates itself, is nothing to its parent's profile.
TARGET_NOINLINE static void heap_child(void *inherited)
{
	void *object = kept(malloc(5000));

	free(inherited);
	for (int i = 0; i < 100; i++)
		free(kept(malloc(300)));
	free(object);
}

static int run_fork(int argc, char **argv)
{
	void *object = kept(malloc(123));
	pthread_t threads[2];
	int rounds = (int)target_number(argc, argv, 1, 100);

	for (int i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, heap_parent, NULL);
	for (int i = 0; i < rounds; i++) {
		int status;
		pid_t pid = i % 2 ? vfork() : fork();

		if (pid == 0 && i % 2)
			_exit(7);
		if (pid == 0) {
			heap_child(object);
			_exit(7);
		}
		if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 7)
			return 1;
	}
	forking = false;
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	free(object);
	tell("heap_parent_round", &parent_truth);
	return 0;
}

// ---- Switched while it runs ----------------------------------------------------------------------------------------

TARGET_NOINLINE static void heap_switched(void)
{
	void *objects[100];

	for (int i = 0; i < 100; i++)
		objects[i] = kept(malloc(200));
	for (int i = 0; i < 100; i++)
		free(objects[i]);
}

// Allocates until its input ends, and then says that all is freed, and waits once more.
static int run_switched(int argc, char **argv)
{
	char byte;

	(void)argc;
	(void)argv;
	printf("ready\n");
	fflush(stdout);
	for (;;) {
		struct timespec moment = {0, 1000000};
		fd_set set;

		FD_ZERO(&set);
		FD_SET(STDIN_FILENO, &set);
		heap_switched();
		if (select(1, &set, NULL, NULL, &(struct timeval){0, 0}) == 1 && read(STDIN_FILENO, &byte, 1) <= 0)
			return 0;
		nanosleep(&moment, NULL);
	}
}

// ---- Leaks ---------------------------------------------------------------------------------------------------------

static void *leaked[2000];

TARGET_NOINLINE static void heap_leak_early(void)
{
	for (int i = 0; i < 1000; i++)
		leaked[i] = kept(malloc(2000));
}

TARGET_NOINLINE static void heap_leak_late(void)
{
	for (int i = 1000; i < 2000; i++)
		leaked[i] = kept(malloc(2000));
}

static int run_leaks(int argc, char **argv)
{
	struct timespec second = {(time_t)target_number(argc, argv, 1, 2), 0};

	heap_leak_early();
	nanosleep(&second, NULL);
	heap_leak_late();
	if (target_number(argc, argv, 2, 0))
		kill(getpid(), SIGKILL);
	return 0;
}

static const struct target_case cases[] = {
	{"known", run_known},     {"realloc", run_realloc}, {"family", run_family},     {"threads", run_threads},
	{"million", run_million}, {"fork", run_fork},       {"switched", run_switched}, {"leaks", run_leaks},
};

TARGET_MAIN(cases)
