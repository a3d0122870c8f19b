// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// task_reader.c: see task_reader.h.

#include "collector/task_reader.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int task_reader_open(pid_t pid, struct task_reader *ret_reader)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	ret_reader->task_fd = fd;
	return 0;
}

void task_reader_close(struct task_reader *reader)
{
	if (reader->task_fd >= 0)
		close(reader->task_fd);
	reader->task_fd = -1;
}

static int compare_tids(const void *a, const void *b)
{
	uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;

	return (left > right) - (left < right);
}

int task_reader_each(const struct task_reader *reader, task_reader_taker *take, void *context)
{
	int fd = openat(reader->task_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_Alignas(struct dirent64) char buf[8192];
	uint32_t tids[sizeof(buf) / (offsetof(struct dirent64, d_name) + 2)];
	bool more = true;
	ssize_t size;
	int r;

	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	while (more && (size = getdents64(fd, buf, sizeof(buf))) > 0) {
		size_t count = 0;

		for (ssize_t at = 0; at < size;) {
			const struct dirent64 *entry = (const void *)(buf + at);
			unsigned long tid = strtoul(entry->d_name, NULL, 10);

			if (tid > 0 && tid <= INT32_MAX)
				tids[count++] = (uint32_t)tid;
			at += entry->d_reclen;
		}
		more = take(context, tids, count);
	}
	r = more && size < 0 && errno != ENOENT ? -errno : 0; // ENOENT: it has ended just now
	close(fd);
	return r;
}

struct tid_list {
	uint32_t *tids;
	size_t count, capacity;
	int error;
};

static bool append_tids(void *context, const uint32_t *tids, size_t count)
{
	struct tid_list *list = context;

	if (list->count + count > list->capacity) {
		size_t capacity = list->capacity * 2 > list->count + count ? list->capacity * 2 : list->count + count;
		uint32_t *grown = reallocarray(list->tids, capacity, sizeof(*grown));

		if (!grown) {
			list->error = -ENOMEM;
			return false;
		}
		list->tids = grown;
		list->capacity = capacity;
	}
	memcpy(list->tids + list->count, tids, count * sizeof(*tids));
	list->count += count;
	return true;
}

int task_reader_list(const struct task_reader *reader, uint32_t **ret_tids, size_t *ret_count)
{
	struct tid_list list = {0};
	int r = task_reader_each(reader, append_tids, &list);

	if (r == 0)
		r = list.error;
	if (r == 0 && list.count == 0)
		r = -ESRCH;
	if (r < 0) {
		free(list.tids);
		return r;
	}
	qsort(list.tids, list.count, sizeof(*list.tids), compare_tids);
	*ret_tids = list.tids;
	*ret_count = list.count;
	return 0;
}

// The kernel counts a directory for each thread, and the two that every directory has.
ssize_t task_reader_count(const struct task_reader *reader)
{
	struct stat status;

	if (fstat(reader->task_fd, &status) < 0)
		return -errno;
	return status.st_nlink > 2 ? (ssize_t)status.st_nlink - 2 : -ESRCH;
}

// "TID/NAME", at the end of path. By hand: of 10,000 threads, printf() makes itself felt.
static const char *make_path(uint32_t tid, const char *name, char path[48])
{
	size_t length = strlen(name);
	char *at = path + 48 - length - 1;

	memcpy(at, name, length + 1);
	*--at = '/';
	do
		*--at = (char)('0' + tid % 10);
	while (tid /= 10);
	return at;
}

// A file of the thread's, as text. Its length or −errno.
static ssize_t read_task(const struct task_reader *reader, uint32_t tid, const char *name, char *buf, size_t size)
{
	char path[48];
	ssize_t n;
	int fd;

	fd = openat(reader->task_fd, make_path(tid, name, path), O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, buf, size - 1);
	if (n < 0)
		n = -errno;
	close(fd);
	buf[n > 0 ? n : 0] = '\0';
	return n == 0 ? -ESRCH : n;
}

// "running", "-1 SP PC", or "NR ARG… SP PC".
int task_reader_place(const struct task_reader *reader, uint32_t tid, struct task_place *ret_place)
{
	char buf[256], *at = buf, *end;
	uint64_t values[9];
	unsigned n = 0;
	int64_t nr;
	ssize_t size = read_task(reader, tid, "syscall", buf, sizeof(buf));

	if (size < 0)
		return (int)size;
	*ret_place = (struct task_place){.nr = -1};
	if (strncmp(buf, "running", 7) == 0) {
		ret_place->running = true;
		return 0;
	}
	nr = strtoll(at, &end, 10);
	for (at = end; n < 9; n++, at = end) {
		values[n] = strtoull(at, &end, 16);
		if (end == at)
			break;
	}
	if (n != 8 && n != 2)
		return -EIO;
	ret_place->in_syscall = n == 8;
	ret_place->nr = nr;
	memcpy(ret_place->args, values, (n - 2) * sizeof(values[0]));
	ret_place->sp = values[n - 2];
	ret_place->pc = values[n - 1];
	return 0;
}

// A number of milliseconds with six decimals, in ns. Behind the first line (find_name): the thread's name may be a member's, and may have
// a '\n', but not both behind what is looked for here.
static bool find_ms(const char *text, const char *name, int64_t *ret_ns)
{
	const char *at = strstr(text, "#threads: ");
	char *end;
	int64_t ms;

	at = at ? strchr(at, '\n') : NULL;
	at = at ? strstr(at, name) : NULL;
	at = at ? strchr(at, ':') : NULL;
	if (!at)
		return false;
	ms = strtoll(at + 1, &end, 10);
	*ret_ns = ms * 1000000 + (*end == '.' ? strtol(end + 1, NULL, 10) : 0);
	return true;
}

// "NAME (TID, #threads: N)" is the file's first line; the name may have anything in it.
static void find_name(const char *text, uint32_t tid, char ret_name[16])
{
	char behind[32];
	const char *end;

	snprintf(behind, sizeof(behind), " (%" PRIu32 ", #threads: ", tid);
	end = strstr(text, behind);
	if (end && end - text < 16) {
		memcpy(ret_name, text, (size_t)(end - text));
		ret_name[end - text] = '\0';
	}
}

int task_reader_times(const struct task_reader *reader, uint32_t tid, char *ret_name, struct task_times *ret_times)
{
	char buf[1024];
	int64_t run_ns, last_ran_ns;
	ssize_t size;

	*ret_times = (struct task_times){.last_ran_ns = -1};
	if (ret_name && read_task(reader, tid, "sched", buf, sizeof(buf)) > 0 &&
	    find_ms(buf, "se.exec_start", &last_ran_ns) && find_ms(buf, "se.sum_exec_runtime", &run_ns)) {
		find_name(buf, tid, ret_name);
		ret_times->run_ns = (uint64_t)run_ns;
		ret_times->last_ran_ns = last_ran_ns;
		return 0;
	}
	size = read_task(reader, tid, "schedstat", buf, sizeof(buf));
	if (size < 0)
		return (int)size;
	ret_times->run_ns = strtoull(buf, NULL, 10);
	return 0;
}

// A place is that of a thread that waits, whose CPU time is whole: what it used before the same time at the same place, it would have by
// now.
int task_reader_check_unmoved(const struct task_reader *reader, uint32_t tid, const struct task_times *times,
			      const struct task_place *place)
{
	struct task_times now;
	struct task_place here;
	int r = task_reader_place(reader, tid, &here);

	if (r < 0)
		return r;
	if (place->running || here.running || here.nr != place->nr || here.sp != place->sp || here.pc != place->pc)
		return -EAGAIN;
	r = task_reader_times(reader, tid, NULL, &now);
	if (r < 0)
		return r;
	return now.run_ns == times->run_ns ? 0 : -EAGAIN;
}

char task_reader_state(const struct task_reader *reader, uint32_t tid)
{
	char buf[512];
	const char *end;

	if (read_task(reader, tid, "stat", buf, sizeof(buf)) < 0)
		return '\0';
	end = strrchr(buf, ')'); // the name may have any character
	return end && end[1] == ' ' ? end[2] : '\0';
}

void task_reader_name(const struct task_reader *reader, uint32_t tid, char ret_name[16])
{
	char buf[64];

	ret_name[0] = '\0';
	if (read_task(reader, tid, "comm", buf, sizeof(buf)) < 0)
		return;
	buf[strcspn(buf, "\n")] = '\0';
	snprintf(ret_name, 16, "%.15s", buf);
}

static int64_t own_clock_ns(void)
{
	char buf[1024];
	int64_t now_ns = -1;
	int fd = open("/proc/thread-self/sched", O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -1;
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	if (n <= 0)
		return -1;
	buf[n] = '\0';
	return find_ms(buf, "se.exec_start", &now_ns) ? now_ns : -1;
}

// Each CPU has its own clock, which leaves out what the hypervisor and interrupts took. Which one a thread's time is by, nobody says
// cheaply: by the one that is furthest behind, it waits for no longer than it does.
int64_t task_reader_now_ns(void)
{
	cpu_set_t before, one;
	int64_t now_ns = own_clock_ns();

	if (now_ns < 0 || sched_getaffinity(0, sizeof(before), &before) < 0)
		return now_ns;
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		int64_t other_ns;

		if (!CPU_ISSET(cpu, &before))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		other_ns = sched_setaffinity(0, sizeof(one), &one) == 0 ? own_clock_ns() : now_ns;
		if (other_ns < now_ns)
			now_ns = other_ns;
	}
	sched_setaffinity(0, sizeof(before), &before);
	return now_ns;
}
