// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// kinship.h: which processes are, or were, targets, so that they and their descendants may join again as another user: a process
// that gave root up and then called exec is the same process, and its children are its children. Collector's lock held.
//
// A process is its PID and the time it started. The table is bounded: a PID is kept near its number modulo the size, where the dead make
// room for the living, and the newest holds when all live.

#ifndef PROFD_COLLECTOR_KINSHIP_H
#define PROFD_COLLECTOR_KINSHIP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define KINSHIP_SIZE 4096u

struct kinship {
	struct kinship_member {
		pid_t pid; // 0: none
		uint64_t start_ticks;
	} members[KINSHIP_SIZE];
};

void kinship_add(struct kinship *kinship, pid_t pid); // nothing, when it is gone already
// Is that process, or one of its ancestors, a member?
bool kinship_includes(const struct kinship *kinship, pid_t pid);

#endif
