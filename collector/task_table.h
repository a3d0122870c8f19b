// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// task_table.h: what task_reader.h reads of each thread out of files, of all threads of a process at once: 10,000 of them in 8 ms, where
// the files take 200. By a program that the kernel runs for each thread (a BPF iterator, Linux 6.1), which needs CAP_BPF and CAP_PERFMON;
// who has not, or is in a PID namespace of its own, reads files. Nothing of the thread's is touched. Where
// threads end meanwhile, any number may be missing: one that ends as the kernel is at it ends the table. Any thread.

#ifndef PROFD_COLLECTOR_TASK_TABLE_H
#define PROFD_COLLECTOR_TASK_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "collector/task_reader.h"

struct task_row {
	uint32_t tid;
	char name[16];
	struct task_times times;
	uint64_t switches; // how often it began to wait
	bool waits;        // all this is of one moment, at which it waited
	bool has_place;    // and place is where: not on every machine
	struct task_place place;
};

struct task_table {
	size_t count;
	struct task_row *rows; // by tid
};

// 0 or −errno: not here, whatever the reason. On success the caller frees with task_table_finish.
int task_table_read(pid_t pid, struct task_table *ret_table);
void task_table_finish(struct task_table *table); // accepts an empty one
// NULL: it was not there.
const struct task_row *task_table_find(const struct task_table *table, uint32_t tid);

#endif
