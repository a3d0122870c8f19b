// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_maps.c: programs that map memory themselves and know of what. Each prints lines as target_heap.c does: "heap_FUNCTION in-use-objects
// in-use-bytes allocated-objects allocated-bytes", of what a function mapped, whoever unmapped it.

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "tests/e2e/target.h"

#define PAGE 4096L
#define KIB 1024L
#define MIB (KIB * KIB)
#define ANONYMOUS (MAP_PRIVATE | MAP_ANONYMOUS)
#define READ_WRITE (PROT_READ | PROT_WRITE)

static char *mapped(void *base)
{
	TARGET_CHECK(base != MAP_FAILED);
	return base;
}

static void tell(const char *function, long in_use_objects, long in_use_bytes, long objects, long bytes)
{
	printf("heap_%s %ld %ld %ld %ld\n", function, in_use_objects, in_use_bytes, objects, bytes);
}

// ---- Known sizes -----------------------------------------------------------------------------------------------------

TARGET_NOINLINE static char *heap_plain(long bytes, int flags)
{
	char *base = mapped(mmap(NULL, (size_t)bytes, READ_WRITE, flags | MAP_ANONYMOUS, -1, 0));

	base[0] = base[bytes - 1] = 1;
	return base;
}

TARGET_NOINLINE static char *heap_trimmed(void)
{
	return mapped(mmap64(NULL, 10 * PAGE, READ_WRITE, ANONYMOUS, -1, 0));
}

TARGET_NOINLINE static void heap_over(char *at)
{
	mapped(mmap(at, 4 * PAGE, READ_WRITE, ANONYMOUS | MAP_FIXED, -1, 0));
}

TARGET_NOINLINE static char *heap_reserved(void)
{
	return mapped(mmap(NULL, 64 * KIB * MIB, PROT_NONE, ANONYMOUS | MAP_NORESERVE, -1, 0));
}

TARGET_NOINLINE static void heap_used(char *at)
{
	TARGET_CHECK(mprotect(at, MIB, READ_WRITE) == 0);
	at[0] = at[MIB - 1] = 1;
}

TARGET_NOINLINE static char *heap_moved(char *old)
{
	char *base = mapped(mremap(old, 16 * PAGE, 64 * PAGE, MREMAP_MAYMOVE));

	TARGET_CHECK(base[0] == 1); // its content came along
	return base;
}

TARGET_NOINLINE static char *heap_left(char *old)
{
	return mapped(mremap(old, 64 * PAGE, 64 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP));
}

TARGET_NOINLINE static char *heap_file(void)
{
	FILE *file = fopen("/proc/self/exe", "r");
	char *base;

	TARGET_CHECK(file);
	base = mapped(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fileno(file), 0));
	fclose(file);
	return base;
}

// What must fail fails as it did, with its errno, and changes nothing.
TARGET_NOINLINE static void heap_failing(char *base)
{
	errno = 0;
	TARGET_CHECK(munmap(base + 1, PAGE) == -1 && errno == EINVAL);
	errno = 0;
	TARGET_CHECK(mmap(NULL, 0, READ_WRITE, ANONYMOUS, -1, 0) == MAP_FAILED && errno == EINVAL);
	errno = 0;
	TARGET_CHECK(mremap(base, PAGE, (size_t)1 << 45, MREMAP_MAYMOVE) == MAP_FAILED && errno == ENOMEM);
	errno = 0;
	TARGET_CHECK(mprotect(base + 1, PAGE, PROT_NONE) == -1 && errno == EINVAL);
	errno = 77;
	TARGET_CHECK(munmap(mapped(mmap(NULL, PAGE, READ_WRITE, ANONYMOUS, -1, 0)), PAGE) == 0 && errno == 77);
}

static char *made[8];

static void make(void)
{
	char *trimmed = heap_trimmed(), *reserved = heap_reserved(), *old = heap_plain(16 * PAGE, MAP_PRIVATE);

	TARGET_CHECK(munmap(trimmed, PAGE) == 0);                // its front
	TARGET_CHECK(munmap(trimmed + 8 * PAGE, 2 * PAGE) == 0); // its back
	TARGET_CHECK(munmap(trimmed + 4 * PAGE, PAGE) == 0);     // its middle: 1, 2, 3 and 5, 6, 7 are left
	heap_over(trimmed + 6 * PAGE);                           // and of these 6 and 7 go
	heap_used(reserved + MIB);
	heap_used(reserved + 512 * MIB);
	TARGET_CHECK(mprotect(reserved + 512 * MIB, MIB / 2, PROT_NONE) == 0);
	made[0] = heap_plain(3 * MIB, MAP_PRIVATE);
	made[1] = heap_plain(5 * MIB, MAP_SHARED);
	made[2] = trimmed;
	made[3] = reserved;
	made[4] = heap_file();
	heap_failing(made[0]);
	made[5] = heap_moved(old);
	made[6] = heap_left(made[5]);
	TARGET_CHECK(mremap(made[6], 64 * PAGE, 32 * PAGE, 0) == made[6]); // smaller, in place
}

static void unmake(void)
{
	static const long bytes[8] = {3 * MIB, 5 * MIB, 10 * PAGE, 64 * KIB * MIB, PAGE, 64 * PAGE, 32 * PAGE};

	for (int i = 0; i < 7; i++)
		TARGET_CHECK(munmap(made[i], (size_t)bytes[i]) == 0);
}

// known [FREED [WAIT]]
static int run_known(int argc, char **argv)
{
	bool freed = target_number(argc, argv, 1, 0) != 0;
	long one = freed ? 0 : 1;

	make();
	if (freed)
		unmake();
	tell("plain", 2 * one, 8 * MIB * one, 3, 8 * MIB + 16 * PAGE);
	tell("trimmed", one, 4 * PAGE * one, 1, 10 * PAGE);
	tell("over", one, 4 * PAGE * one, 1, 4 * PAGE);
	tell("reserved", 0, 0, 0, 0);
	tell("used", 2 * one, (MIB + MIB / 2) * one, 2, 2 * MIB);
	tell("moved", one, 64 * PAGE * one, 1, 64 * PAGE);
	tell("left", one, 32 * PAGE * one, 1, 64 * PAGE);
	tell("file", 0, 0, 0, 0);
	tell("failing", 0, 0, 1, PAGE);
	return argc > 2 ? target_wait_for_end() : 0;
}

// ---- Threads, signal handlers, children ------------------------------------------------------------------------------

#define ROUNDS 3000

static volatile sig_atomic_t handled;
static long handler_maps;

TARGET_NOINLINE static void heap_handler(int number)
{
	int error = errno;
	char *base = mmap(NULL, 3 * PAGE, READ_WRITE, ANONYMOUS, -1, 0);

	(void)number;
	if (base == MAP_FAILED || munmap(base + PAGE, PAGE) != 0 || munmap(base, 3 * PAGE) != 0)
		abort();
	__atomic_add_fetch(&handler_maps, 1, __ATOMIC_RELAXED);
	handled = 1;
	errno = error;
}

TARGET_NOINLINE static void *heap_thread(void *unused)
{
	for (int i = 0; i < ROUNDS; i++) {
		char *base = mapped(mmap(NULL, 8 * PAGE, READ_WRITE, ANONYMOUS, -1, 0));

		base[5 * PAGE] = 1;
		TARGET_CHECK(munmap(base + 2 * PAGE, 2 * PAGE) == 0);
		TARGET_CHECK(mprotect(base, PAGE, PROT_NONE) == 0);
		TARGET_CHECK(munmap(base, 8 * PAGE) == 0);
	}
	return unused;
}

TARGET_NOINLINE static void heap_child(char *inherited)
{
	char *base = mapped(mmap(NULL, 7 * PAGE, READ_WRITE, ANONYMOUS, -1, 0));

	if (munmap(inherited, PAGE) != 0 || munmap(base, 7 * PAGE) != 0)
		_exit(1);
	_exit(7);
}

static void *make_children(void *inherited)
{
	for (int i = 0; i < 30; i++) {
		pid_t pid = fork();
		int status;

		if (pid == 0)
			heap_child(inherited);
		TARGET_CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 7);
	}
	return NULL;
}

// All at once: threads that map and unmap, forks in the middle of that, and a handler that maps in the middle of anything.
static int run_busy(int argc, char **argv)
{
	const struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
	char *inherited = heap_plain(2 * PAGE, MAP_PRIVATE);
	pthread_t threads[4];

	(void)argc;
	(void)argv;
	signal(SIGALRM, heap_handler);
	setitimer(ITIMER_REAL, &often, NULL);
	for (int i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, heap_thread, NULL);
	pthread_create(&threads[3], NULL, make_children, inherited);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	while (!handled)
		target_spin();
	setitimer(ITIMER_REAL, &never, NULL);
	signal(SIGALRM, SIG_IGN);
	tell("plain", 1, 2 * PAGE, 1, 2 * PAGE);
	tell("thread", 0, 0, 3L * ROUNDS, 3L * ROUNDS * 8 * PAGE);
	tell("handler", 0, 0, handler_maps, handler_maps * 3 * PAGE);
	return 0;
}

// ---- Leaks -------------------------------------------------------------------------------------------------------------

TARGET_NOINLINE static void heap_lost(void)
{
	char *base = mapped(mmap(NULL, 6 * MIB, READ_WRITE, ANONYMOUS, -1, 0));

	TARGET_CHECK(munmap(base + 2 * MIB, MIB) == 0);
}

static int run_lost(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	heap_lost();
	return 0;
}

static const struct target_case cases[] = {
	{"known", run_known},
	{"busy", run_busy},
	{"lost", run_lost},
};

TARGET_MAIN(cases)
