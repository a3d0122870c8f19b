// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// task_table.c: see task_table.h.

#include "collector/task_table.h"

#include <errno.h>
#include <linux/bpf.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "collector/task_program.h"

#define FIRST_PID_NAMESPACE 0xeffffffcu // PROC_PID_INIT_INO of linux/proc_ns.h
#define MAX_ROWS (1u << 22)             // PID_MAX_LIMIT

// For as long as we live: to load it takes 4 ms.
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int program; // a descriptor or −errno

static void load_program(void)
{
	struct stat status;

	// Who may not asks no more: each time would be a line in the system's audit log.
	program = -EPERM;
	if (stat("/proc/self/ns/pid", &status) == 0 && status.st_ino == FIRST_PID_NAMESPACE)
		program = task_program_load();
}

static int bpf(int command, union bpf_attr *attr)
{
	int fd = (int)syscall(SYS_bpf, command, attr, sizeof(*attr));

	return fd < 0 ? -errno : fd;
}

// What the program writes for each thread of a process can be read from it.
static int open_iterator(pid_t pid)
{
	union bpf_iter_link_info info;
	union bpf_attr attr;
	int link, fd;

	memset(&info, 0, sizeof(info));
	info.task.pid = (uint32_t)pid;
	memset(&attr, 0, sizeof(attr));
	attr.link_create.prog_fd = (uint32_t)program;
	attr.link_create.attach_type = BPF_TRACE_ITER;
	attr.link_create.iter_info = (uintptr_t)&info;
	attr.link_create.iter_info_len = sizeof(info);
	link = bpf(BPF_LINK_CREATE, &attr);
	if (link < 0)
		return link;
	memset(&attr, 0, sizeof(attr));
	attr.iter_create.link_fd = (uint32_t)link;
	fd = bpf(BPF_ITER_CREATE, &attr);
	close(link);
	return fd;
}

static void take_row(const struct task_program_row *from, struct task_row *row)
{
	int number = (int)from->number;

	*row = (struct task_row){.tid = from->tid,
				 .times = {.run_ns = from->sum_exec_ns, .last_ran_ns = (int64_t)from->exec_start_ns},
				 .switches = from->switches,
				 .waits = from->waits,
				 .has_place = from->waits && TASK_PROGRAM_HAS_PLACES,
				 .place = {.in_syscall = number >= 0, .nr = number, .sp = from->sp, .pc = from->pc}};
	memcpy(row->name, from->name, sizeof(row->name) - 1);
	// As /proc/PID/task/TID/syscall: outside of a call, what is in its registers means something else.
	if (row->place.in_syscall)
		memcpy(row->place.args, from->args, sizeof(row->place.args));
}

static int grow(struct task_table *table, size_t *capacity, size_t wanted)
{
	size_t more = *capacity ? *capacity * 2 : 1024;
	struct task_row *rows;

	if (wanted <= *capacity)
		return 0;
	rows = more <= MAX_ROWS ? reallocarray(table->rows, more, sizeof(*rows)) : NULL;
	if (!rows)
		return -ENOMEM;
	table->rows = rows;
	*capacity = more;
	return 0;
}

// The kernel gives whole rows, as many as fit into what it has.
static int read_rows(int fd, struct task_table *table)
{
	struct task_program_row buf[256];
	size_t capacity = 0, used = 0;
	int r = 0;

	while (r == 0) {
		ssize_t n = read(fd, (char *)buf + used, sizeof(buf) - used);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		used += (size_t)n;
		for (size_t i = 0; i < used / sizeof(buf[0]) && r == 0; i++) {
			r = grow(table, &capacity, table->count + 1);
			if (r == 0)
				take_row(&buf[i], &table->rows[table->count++]);
		}
		memmove(buf, &buf[used / sizeof(buf[0])], used % sizeof(buf[0]));
		used %= sizeof(buf[0]);
	}
	return r;
}

static int compare_rows(const void *a, const void *b)
{
	const struct task_row *left = a, *right = b;

	return (left->tid > right->tid) - (left->tid < right->tid);
}

// The order in which threads are made is that of their ids, but where these begin anew.
static void sort(struct task_table *table)
{
	for (size_t i = 1; i < table->count; i++) {
		if (table->rows[i - 1].tid > table->rows[i].tid) {
			qsort(table->rows, table->count, sizeof(*table->rows), compare_rows);
			return;
		}
	}
}

int task_table_read(pid_t pid, struct task_table *ret_table)
{
	struct task_table table = {0};
	int fd, r;

	pthread_once(&once, load_program);
	fd = program < 0 ? program : open_iterator(pid);
	if (fd < 0)
		return fd;
	r = read_rows(fd, &table);
	close(fd);
	if (r == 0 && table.count == 0)
		r = -ESRCH;
	if (r < 0) {
		task_table_finish(&table);
		return r;
	}
	sort(&table);
	*ret_table = table;
	return 0;
}

void task_table_finish(struct task_table *table)
{
	free(table->rows);
	*table = (struct task_table){0};
}

const struct task_row *task_table_find(const struct task_table *table, uint32_t tid)
{
	size_t low = 0, high = table->count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (table->rows[middle].tid < tid)
			low = middle + 1;
		else
			high = middle;
	}
	return low < table->count && table->rows[low].tid == tid ? &table->rows[low] : NULL;
}
