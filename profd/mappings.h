// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// mappings.h: the memory that the program maps itself, as a part of its heap (wire_heap_by): what was mapped where, and what of it is still there.
// Any thread of the target, in its signal handlers as well; behind interpose_map.c, which jumps here while this is on.
//
// In use is what the program can access: private and shared anonymous memory, from the call that maps it until it is unmapped, mapped over,
// or made PROT_NONE. An address space that is only reserved (PROT_NONE) is known, and counts when mprotect makes it accessible, as an
// allocation of whoever did. Mappings of files are no memory in this sense. What mremap grows or moves is freed, and allocated by it, as with
// realloc.
//
// Nothing is sampled: these are system calls. Each is made once, with what the program gave, signals as the program has them, and no lock of ours
// held: what a call may free is taken out before it, for another thread may be given the address before it returns, and put back if it fails.

#ifndef PROFD_MAPPINGS_H
#define PROFD_MAPPINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "profd/live.h"

// Bits of profd_mappings_wanted.
#define PROFD_MAPPINGS_FOLLOWED 1u // what is known is followed
#define PROFD_MAPPINGS_RECORDED 2u // what comes is counted

// atomic; the one word that the interposed functions look at. Written by the helper, and where profiling ends.
extern uint32_t profd_mappings_wanted PROFD_NEAR;

static inline bool profd_mappings_on(void)
{
	return __builtin_expect(__atomic_load_n(&profd_mappings_wanted, __ATOMIC_RELAXED) != 0, 0);
}

// Called from where the interposed functions were, which jump here.
void *profd_mappings_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset);
int profd_mappings_munmap(void *address, size_t length);
void *profd_mappings_mremap(void *old, size_t old_length, size_t length, int flags, void *to);
int profd_mappings_mprotect(void *address, size_t length, int protection);

// Counts from now on, or no more: then what is known is followed still. Helper; there is a store. −ENOMEM: it stays off.
int profd_mappings_set(bool on);
// Until the next time that it is switched on, nothing is touched any more by calls that begin now.
void profd_mappings_stop(void);
// In a fork's child: nothing is known, and nobody holds the lock.
void profd_mappings_forget(void);

#endif
