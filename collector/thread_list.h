// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// thread_list.h: the threads of a process, handed out to those that read them while the kernel still lists the others.

#ifndef PROFD_COLLECTOR_THREAD_LIST_H
#define PROFD_COLLECTOR_THREAD_LIST_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "collector/task_reader.h"

struct thread_scan;
struct thread_scan_record;

struct thread_list {
	const struct task_reader *reader;
	pthread_mutex_t lock;
	pthread_cond_t more;      // are listed, or all
	struct thread_scan *scan; // its records are the list; count: those that are listed so far
	size_t capacity, next;    // of records; the first that nobody has taken
	bool complete;
};

// The list of a scan without any records yet. 0 or −errno. End it in any case.
int thread_list_begin(struct thread_list *list, struct thread_scan *scan, const struct task_reader *reader);
// Of threads that are known.
int thread_list_begin_with(struct thread_list *list, struct thread_scan *scan, const uint32_t *tids, size_t count);
// By one thread: lists them all, while others take what is listed. 0 or −errno.
int thread_list_fill(struct thread_list *list);
// Any thread: the next records, at most max, as soon as there are any. How many; 0: no more.
size_t thread_list_take(struct thread_list *list, struct thread_scan_record **ret_records, size_t max);
// From the first on again, when all were taken.
void thread_list_rewind(struct thread_list *list);
// Drops the records whose tid is 0, and puts the rest in order.
void thread_list_end(struct thread_list *list);

#endif
