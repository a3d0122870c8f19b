// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// wait_memory.h: the memory of a process whose threads wait, read for one snapshot. Thousands of them may wait for one lock: what was read
// is remembered, some of it, and so is that there is nothing. Not thread-safe.

#ifndef PROFD_COLLECTOR_WAIT_MEMORY_H
#define PROFD_COLLECTOR_WAIT_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct wait_memory;

struct wait_memory *wait_memory_create(pid_t pid);    // NULL: no memory
void wait_memory_destroy(struct wait_memory *memory); // accepts NULL
// Any size; false: not all of it is there.
bool wait_memory_read(struct wait_memory *memory, uint64_t address, void *data, size_t size);

#endif
