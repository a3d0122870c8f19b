// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// tasks.h: coroutines and fibers that the program told of, in the shared region (wire_task), for thread dumps. Any thread of the target;
// not the handler. Lock-free, no allocation.

#ifndef PROFD_TASKS_H
#define PROFD_TASKS_H

#include <stdint.h>

#include "profd/caller.h"

// The region is new. Not while other threads run. A fork's child goes on with the tasks that its parent had at the fork, by the same numbers
// (contexts.h: what they work for is still to be had): those that were suspended are, in memory of the child's own; those that others of the parent's
// threads ran are nobody's, and count as running.
void profd_tasks_init(void);
// The task's number; 0: there is no room (counted).
uint32_t profd_tasks_add(const char *name, uint64_t stack, uint64_t size);
void profd_tasks_remove(uint32_t task);
void profd_tasks_suspend(uint32_t task, const char *state, struct profd_caller caller);
void profd_tasks_resume(uint32_t task);
// Behind profd_contexts_drop_woken, the same of what tasks work for.
void profd_tasks_drop_woken(void);

#endif
