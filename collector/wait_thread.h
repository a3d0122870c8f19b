// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// wait_thread.h: from a thread's id as its own process knows it, which is what locks have in them, to the one we know it by. They
// differ when the process lives in a PID namespace below ours. Reads /proc; remembers what it found, for one snapshot.

#ifndef PROFD_COLLECTOR_WAIT_THREAD_H
#define PROFD_COLLECTOR_WAIT_THREAD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct wait_threads;

struct wait_threads *wait_threads_create(pid_t pid);     // NULL: no memory
void wait_threads_destroy(struct wait_threads *threads); // accepts NULL

// 0: it is no thread of the process, or that is not known.
uint32_t wait_threads_find(struct wait_threads *threads, uint32_t own_tid);
// Whether ids mean the same to the process and to us.
bool wait_threads_same_ids(struct wait_threads *threads);

// The last id on the line "NSpid:" of a /proc/…/status, and how many there are; 0: there is no such line.
unsigned wait_thread_parse(const char *status, uint32_t *ret_own_tid);

#endif
