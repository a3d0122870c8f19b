// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// thread_scan_impl.h: what the files of a scan share: a pass over all threads of a process (thread_scan.c), and what is done with each of
// them (thread_visit.c).

#ifndef PROFD_COLLECTOR_THREAD_SCAN_IMPL_H
#define PROFD_COLLECTOR_THREAD_SCAN_IMPL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "collector/stillness.h"
#include "collector/task_reader.h"
#include "collector/task_table.h"
#include "collector/thread_list.h"
#include "collector/thread_scan.h"
#include "profd/wire.h"

#define CHUNK_PCS 65536u

struct thread_walker;
struct walk_image;

struct thread_scan_chunk {
	struct thread_scan_chunk *next;
	size_t used;
	uint64_t pcs[CHUNK_PCS];
};

struct worker;
// Of one thread. 0; 1: nothing more is to be done; −errno.
typedef int visit_fn(struct worker *worker, struct thread_scan_record *record);

struct pass {
	pid_t pid;
	visit_fn *look; // at each of a batch, before any of them is visited; NULL: not
	visit_fn *visit;
	bool still_since; // the last scan began, no thread ran but for scan->still.movers
	struct task_reader reader;
	// Of all threads at once, before they are read, and after; empty: there is none
	struct task_table table, after;
	const struct walk_image *image;
	const struct thread_scan *last;
	struct thread_scan *scan;
	int64_t now_ns;       // CLOCK_MONOTONIC
	int64_t sched_now_ns; // the clock of task_times.last_ran_ns
	bool stopped;         // the whole process
	struct thread_list list;
	int error; // atomic: the first that concerns all
};

struct worker {
	struct pass *pass;
	struct thread_walker *walker;
	struct thread_scan_chunk *chunks;
	pthread_t thread;
	uint64_t pcs[WIRE_MAX_FRAMES];
};

// What is the same as last time is taken over: 1. Otherwise the thread's place is read.
visit_fn thread_visit_look;
bool thread_visit_has_stack(const struct thread_scan_record *record);
// Its stack, by its place.
visit_fn thread_visit_read;
// Reads a thread again that has run since.
visit_fn thread_visit_verify;
// The stacks of those that run, as long as that may take. 0 or −ENOMEM.
int thread_visit_running(struct worker *worker);

#endif
