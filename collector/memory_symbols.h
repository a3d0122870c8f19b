// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// memory_symbols.h: the addresses of a library's exported symbols, from the memory of a process that has it mapped: it may be in another
// container, or deleted. Nothing that is read is trusted. Any thread.

#ifndef PROFD_COLLECTOR_MEMORY_SYMBOLS_H
#define PROFD_COLLECTOR_MEMORY_SYMBOLS_H

#include <stdbool.h>
#include <stdint.h>

struct wait_memory;

struct memory_symbols {
	struct wait_memory *memory;
	uint64_t bias; // address − vaddr; the ELF header is there
	uint64_t symbols, strings, hash;
};

// False: no ELF file that we can search. memory: must outlive it.
bool memory_symbols_open(struct memory_symbols *symbols, struct wait_memory *memory, uint64_t bias);
bool memory_symbols_find(const struct memory_symbols *symbols, const char *name, uint64_t *ret_address);

#endif
