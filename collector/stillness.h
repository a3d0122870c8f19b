// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// stillness.h: has any thread of a process run, but for a few that are known to? One number tells, however many threads there are: the
// process's CPU time less that of those few. Equal numbers at two moments: no other thread ran in between, was made or ended. As with a
// thread's own CPU time, what a thread has used since the scheduler's last look (a tick) is not in it yet.

#ifndef PROFD_COLLECTOR_STILLNESS_H
#define PROFD_COLLECTOR_STILLNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "collector/task_reader.h"

#define STILLNESS_MOVERS 64u

struct stillness {
	uint32_t movers[STILLNESS_MOVERS]; // threads that may run, by id, ascending
	size_t nmovers;
	uint64_t rest_ns; // CPU time of all others, those that have ended included
	bool known;
};

// Adds a thread to those that may run. False: there are too many.
bool stillness_add_mover(struct stillness *stillness, uint32_t tid);
bool stillness_has_mover(const struct stillness *stillness, uint32_t tid);
// Finds rest_ns; known is false where it cannot be told: the movers run all the time, one has ended, the kernel does not say.
void stillness_read(struct stillness *stillness, pid_t pid, const struct task_reader *reader);
// Of two with the same movers.
bool stillness_is_same(const struct stillness *before, const struct stillness *after);

#endif
