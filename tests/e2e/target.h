// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target.h: what the programs share that the end-to-end tests profile: work whose CPU time is known, and a table of cases
// of which the command line picks one. What they print is the same in every run, profiled or not: the tests compare it.

#ifndef PROFD_TESTS_E2E_TARGET_H
#define PROFD_TESTS_E2E_TARGET_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct target_case {
	const char *name;
	int (*run)(int argc, char **argv); // argv[0] is the case; returns the exit status
};

#define TARGET_NOINLINE __attribute__((noinline, noclone, unused))

static inline double target_clock_s(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

// Some microseconds of work that no compiler can drop.
TARGET_NOINLINE static void target_spin(void)
{
	for (int i = 0; i < 5000; i++)
		__asm__ volatile("" ::: "memory");
}

// Uses that much of the calling thread's CPU time.
TARGET_NOINLINE static void target_burn(double ms)
{
	double end = target_clock_s(CLOCK_THREAD_CPUTIME_ID) + ms / 1e3;

	while (target_clock_s(CLOCK_THREAD_CPUTIME_ID) < end)
		target_spin();
	__asm__ volatile(""); // no tail call
}

static inline long target_number(int argc, char **argv, int index, long otherwise)
{
	return argc > index ? strtol(argv[index], NULL, 10) : otherwise;
}

// The test looks while we wait: until it closes our input.
static inline int target_wait_for_end(void)
{
	char byte;

	printf("ready\n");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	return 0;
}

#define TARGET_CHECK(what)                                                             \
	do {                                                                           \
		if (!(what)) {                                                         \
			printf("line %d: %s: %s\n", __LINE__, #what, strerror(errno)); \
			exit(99);                                                      \
		}                                                                      \
	} while (0)

// Does the thread whose id is there sleep? One that has not written it yet does not. Another process's, too.
static inline int target_sleeps(const long *tid)
{
	char path[64], text[512] = "";
	const char *state;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%ld/stat", __atomic_load_n(tid, __ATOMIC_ACQUIRE));
	file = fopen(path, "r");
	if (!file)
		return 0;
	TARGET_CHECK(fgets(text, sizeof(text), file));
	fclose(file);
	state = strrchr(text, ')');
	return state && state[2] == 'S';
}

// Do all other threads of the process sleep?
static inline int target_others_sleep(void)
{
	DIR *tasks = opendir("/proc/self/task");
	const struct dirent *task;
	int all = 1;

	TARGET_CHECK(tasks);
	while (all && (task = readdir(tasks))) {
		long tid = strtol(task->d_name, NULL, 10);

		all = tid == 0 || tid == syscall(SYS_gettid) || target_sleeps(&tid);
	}
	closedir(tasks);
	return all;
}

// Until another thread sleeps: who writes its id there and then waits is where it waits, by then.
static inline void target_await_sleep(const long *tid)
{
	while (!target_sleeps(tid))
		usleep(100);
}

// How long the calling thread has run, or had to wait for a CPU. The rest of a span it slept, at the least.
static inline uint64_t target_awake_ns(void)
{
	char text[64] = "";
	unsigned long long delayed_ns = 0;
	struct timespec ran;
	int fd = (int)syscall(SYS_open, "/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC); // seen by no profiler

	if (fd >= 0) {
		if (syscall(SYS_read, fd, text, sizeof(text) - 1) > 0)
			sscanf(text, "%*u %llu", &delayed_ns);
		syscall(SYS_close, fd);
	}
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ran);
	return (uint64_t)ran.tv_sec * 1000000000u + (uint64_t)ran.tv_nsec + delayed_ns;
}

static inline int target_main(const struct target_case *cases, size_t count, int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && i < count; i++) {
		if (strcmp(cases[i].name, argv[1]) == 0)
			return cases[i].run(argc - 1, argv + 1);
	}
	fprintf(stderr, "%s: no such case\n", argv[0]);
	return 98;
}

#define TARGET_MAIN(cases)                                                                 \
	int main(int argc, char **argv)                                                    \
	{                                                                                  \
		return target_main(cases, sizeof(cases) / sizeof((cases)[0]), argc, argv); \
	}

#endif
