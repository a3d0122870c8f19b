// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// thread_walk.h: the stack of a thread of another process: of one that waits, from what its place says (PC, SP, and a system
// call's arguments) and a copy of its stack. The thread is neither
// stopped nor woken; whether it stayed where it was meanwhile is for the caller to find out (task_reader_times).

#ifndef PROFD_COLLECTOR_THREAD_WALK_H
#define PROFD_COLLECTOR_THREAD_WALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "collector/process.h"
#include "profd/wire.h"

#define THREAD_WALK_COPIES PROCESS_PIECES

struct mapping_set;
struct table_cache;
struct task_place;
struct thread_capture;
struct thread_walker;
struct walk_image;

// A process's code as the walks see it: its mappings' unwind tables. Shared by any number of walkers, and kept from snapshot to
// snapshot. mappings: must outlive it. Tables that are on no disk yet are built: may take long. NULL: no memory.
struct walk_image *walk_image_create(pid_t pid, const struct mapping_set *mappings, struct table_cache *tables);
void walk_image_destroy(struct walk_image *image); // accepts NULL

// One thread uses a walker at a time; pages of code that were read are kept in it. NULL: no memory.
struct thread_walker *thread_walker_create(pid_t pid, const struct walk_image *image);
void thread_walker_destroy(struct thread_walker *walker); // accepts NULL

// Copies the stacks above n ≤ THREAD_WALK_COPIES SPs at once, for the next walk from each of them: a walk after that one copies anew.
void thread_walker_copy(struct thread_walker *walker, const uint64_t *sps, unsigned n);
// Writes PCs, leaf first, callers that were interrupted with WIRE_PC_EXACT, to pcs[0..WIRE_MAX_FRAMES). Returns how many (≥ 1), and
// why the walk ended (enum wire_stop).
uint32_t thread_walker_walk(struct thread_walker *walker, const struct task_place *place, uint64_t *pcs,
			    uint8_t *ret_stop);
// What the last walk's copy of the stack has at address. False: not all of it.
bool thread_walker_copied(const struct thread_walker *walker, uint64_t address, void *data, size_t size);
// The same as thread_walker_walk for a call that will return to pc with these SP and FP: pcs are return addresses from the first on.
uint32_t thread_walker_walk_call(struct thread_walker *walker, uint64_t pc, uint64_t sp, uint64_t fp, uint64_t *pcs,
				 uint8_t *ret_stop);
// The same for a thread that ran, from what was captured of it; its stack above that counts as unreadable: the thread has gone on.
uint32_t thread_walker_walk_captured(struct thread_walker *walker, const struct thread_capture *capture, uint64_t *pcs,
				     uint8_t *ret_stop);

#endif
