// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// thread_groups.h: how many threads have the same creator, stack and state, from one dump of a process to the next: what grows and
// grows is a leak. Not thread-safe.

#ifndef PROFD_COLLECTOR_THREAD_GROUPS_H
#define PROFD_COLLECTOR_THREAD_GROUPS_H

#include <stdbool.h>
#include <stdint.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

struct thread_dump;
struct thread_groups;

struct thread_groups *thread_groups_create(void);         // NULL: no memory
void thread_groups_destroy(struct thread_groups *groups); // accepts NULL

// Begins a dump; again: of the same threads as the last one, which is looked at once more and counts once. Then one thread after the other: stack, creator_stack (ids in that dump, 0: none) and state (interned there) are what
// its group is shown by; stack_hash is the same in every dump.
void thread_groups_begin(struct thread_groups *groups, bool again);
void thread_groups_count(struct thread_groups *groups, XXH128_hash_t stack_hash, uint32_t creator, uint32_t stack,
			 uint32_t creator_stack, const char *state);
// Ends it: adds a verdict for each group that grew THREAD_GROUPS_RISES times since it was first seen or last shrank. 0 or −ENOMEM.
#define THREAD_GROUPS_RISES 3
int thread_groups_end(struct thread_groups *groups, struct thread_dump *dump);

#endif
