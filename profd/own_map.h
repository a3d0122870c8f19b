// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// own_map.h: the agent's own mappings, by system calls of its own: libc's mmap and munmap are functions that we stand in front of
// (interpose_map.c), and ours are none of the program's. Any context; errno stays.

#ifndef PROFD_OWN_MAP_H
#define PROFD_OWN_MAP_H

#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include "profd/raw.h"

// fd −1: memory of nobody else's (MAP_ANONYMOUS is added). 0 or −errno.
static inline int profd_own_map(size_t bytes, int protection, int flags, int fd, void **ret_base)
{
	long base = profd_raw6(SYS_mmap, 0, (long)bytes, protection, fd < 0 ? flags | MAP_ANONYMOUS : flags, fd, 0);

	if (base < 0 && base > -4096)
		return (int)base;
	*ret_base = (void *)base; // NOLINT(performance-no-int-to-ptr)
	return 0;
}

// NULL: there is nothing to do.
static inline void profd_own_unmap(void *base, size_t bytes)
{
	if (base)
		profd_raw3(SYS_munmap, (long)base, (long)bytes, 0);
}

#endif
