// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// snapshot_tasks.h: the stacks of a process's suspended tasks (coroutines, fibers: wire_task) for its thread dumps. A task is not stopped
// while it is read; whether it stood still is known from a second reading of its agent's table.

#ifndef PROFD_COLLECTOR_SNAPSHOT_TASKS_H
#define PROFD_COLLECTOR_SNAPSHOT_TASKS_H

#include <stdint.h>
#include <sys/types.h>

struct origin_task;
struct origins;
struct thread_dump;
struct walk_image;

// In a dump a task is a thread with this number, which none of the kernel's can have, and its index.
#define SNAPSHOT_TASK_BASE (1u << 31)

struct snapshot_task {
	const struct origin_task *task; // of the origins
	uint8_t stop;                   // enum wire_stop
	uint32_t npcs;                  // 0: not walked, its stack pointer is not in its stack
	uint64_t *pcs; // return addresses, but for those with WIRE_PC_EXACT; where it suspended itself first
};

struct snapshot_tasks {
	uint32_t count;
	struct snapshot_task *tasks;
};

// origins: NULL for none. 0 or −ENOMEM.
int snapshot_tasks_walk(pid_t pid, const struct walk_image *image, const struct origins *origins,
			struct snapshot_tasks *ret_tasks);
void snapshot_tasks_finish(struct snapshot_tasks *tasks); // accepts a zeroed one
// Takes the stacks away from those tasks in a dump that did not stay suspended from `before`, which it was made with, to `after`. NULL: not
// known to have. 0 or −ENOMEM.
int snapshot_tasks_confirm(struct thread_dump *dump, const struct origins *before, const struct origins *after);

#endif
