// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// wait_thread.c: see wait_thread.h.

#include "collector/wait_thread.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "collector/intern.h"

#define MAX_TASKS 200000u
#define MAX_BYTES ((size_t)16 << 20) // of all that is remembered
#define MAX_LEVELS 32u               // of namespaces: the kernel's limit
#define KNOWN 256u                   // threads that have been asked for; a power of two
#define STATUS_SIZE 16384            // before "NSpid:" only the line "Groups:" can be long

struct thread {
	uint32_t own_tid;
	uint32_t tid;
};

struct wait_threads {
	pid_t pid;
	unsigned levels; // of ids that the process has; 0: not known
	bool levels_read, read;
	struct intern_budget budget;
	struct intern threads; // only when there are several levels
	uint32_t lives[KNOWN]; // ids of threads that were there, each at its place; 0: none
};

struct wait_threads *wait_threads_create(pid_t pid)
{
	struct wait_threads *threads = calloc(1, sizeof(*threads));

	if (!threads)
		return NULL;
	threads->pid = pid;
	threads->budget.max = MAX_BYTES;
	intern_init(&threads->threads, sizeof(struct thread), sizeof(uint32_t), &threads->budget);
	return threads;
}

void wait_threads_destroy(struct wait_threads *threads)
{
	if (!threads)
		return;
	intern_finish(&threads->threads);
	free(threads);
}

unsigned wait_thread_parse(const char *status, uint32_t *ret_own_tid)
{
	static const char key[] = "\nNSpid:";
	const char *at = strstr(status, key);
	unsigned levels = 0;
	uint32_t last = 0;

	if (!at)
		return 0;
	at += strlen(key);
	while (*at == '\t' && at[1] >= '0' && at[1] <= '9' && levels < MAX_LEVELS + 1) {
		char *end;
		unsigned long value = strtoul(at + 1, &end, 10);

		if (value == 0 || value > INT32_MAX)
			return 0;
		last = (uint32_t)value;
		at = end;
		levels++;
	}
	if (levels == 0 || *at != '\n') // cut off
		return 0;
	*ret_own_tid = last;
	return levels;
}

static unsigned read_levels(const char *path, uint32_t *ret_own_tid)
{
	char status[STATUS_SIZE];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t size = 0;
	ssize_t n;

	if (fd < 0)
		return 0;
	while (size < sizeof(status) - 1 && (n = read(fd, status + size, sizeof(status) - 1 - size)) > 0)
		size += (size_t)n;
	close(fd);
	status[size] = '\0';
	return wait_thread_parse(status, ret_own_tid);
}

static unsigned levels_of(struct wait_threads *threads)
{
	char path[64];
	uint32_t own;

	if (!threads->levels_read) {
		threads->levels_read = true;
		snprintf(path, sizeof(path), "/proc/%d/status", (int)threads->pid);
		threads->levels = read_levels(path, &own);
	}
	return threads->levels;
}

static void add_thread(struct wait_threads *threads, uint32_t tid)
{
	char path[64];
	uint32_t own, index;

	snprintf(path, sizeof(path), "/proc/%d/task/%" PRIu32 "/status", (int)threads->pid, tid);
	if (read_levels(path, &own) != threads->levels)
		return;
	index = intern_add(&threads->threads, &own, NULL);
	if (index != INTERN_NONE)
		((struct thread *)intern_item(&threads->threads, index))->tid = tid;
}

static void read_threads(struct wait_threads *threads)
{
	const struct dirent *entry;
	char path[64];
	DIR *directory;

	threads->read = true;
	snprintf(path, sizeof(path), "/proc/%d/task", (int)threads->pid);
	directory = opendir(path);
	if (!directory)
		return;
	for (unsigned n = 0; n < MAX_TASKS && (entry = readdir(directory)); n++) {
		unsigned long tid = strtoul(entry->d_name, NULL, 10);

		if (tid > 0 && tid <= INT32_MAX)
			add_thread(threads, (uint32_t)tid);
	}
	closedir(directory);
}

bool wait_threads_same_ids(struct wait_threads *threads)
{
	return levels_of(threads) == 1;
}

static bool is_there(struct wait_threads *threads, uint32_t tid)
{
	uint32_t *known = &threads->lives[tid % KNOWN];
	char path[64];

	if (*known == tid)
		return true;
	snprintf(path, sizeof(path), "/proc/%d/task/%" PRIu32, (int)threads->pid, tid);
	if (access(path, F_OK) != 0)
		return false;
	*known = tid;
	return true;
}

uint32_t wait_threads_find(struct wait_threads *threads, uint32_t own_tid)
{
	uint32_t index;

	if (own_tid == 0 || levels_of(threads) == 0)
		return 0;
	if (wait_threads_same_ids(threads))
		return is_there(threads, own_tid) ? own_tid : 0;
	if (!threads->read)
		read_threads(threads);
	index = intern_find(&threads->threads, &own_tid);
	return index == INTERN_NONE ? 0 : ((const struct thread *)intern_item(&threads->threads, index))->tid;
}
