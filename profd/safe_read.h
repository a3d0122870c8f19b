// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// safe_read.h: loads from the target's memory that cannot fault (process_vm_readv on ourselves, raw). Handler.

#ifndef PROFD_SAFE_READ_H
#define PROFD_SAFE_READ_H

#include <stdbool.h>
#include <stdint.h>

// Once, at start, not in the handler: learns our pid (again after fork).
void profd_safe_read_init(void);
// false when the 8 bytes at address cannot be read. errno is not touched.
bool profd_safe_read(uint64_t address, uint64_t *ret_value);
// size bytes at address, at most 4096. false when not all can be read; then *data is as it was or partly written.
bool profd_safe_read_bytes(uint64_t address, void *data, uint32_t size);
// The words before and at each address, in one system call. How many, from the first on, could be read. count: 1 to PROFD_SAFE_READ_MAX.
#define PROFD_SAFE_READ_MAX 16u
uint32_t profd_safe_read_around(const uint64_t *addresses, uint32_t count, uint64_t (*ret_words)[2]);

#endif
