// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// interpose_map.c: mmap and its like. Any thread of the target, in any context. Off, each is a test and a jump to the real one; on, a jump to
// mappings.c, which so is called from where these were. As interpose_heap.c, compiled without frame pointers.

// mmap and mmap64 are two symbols.
#undef _FILE_OFFSET_BITS

#include <sys/mman.h>

#include "profd/interpose.h"
#include "profd/interpose_map.h"
#include "profd/mappings.h"

PROFD_EXPORT void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
	return profd_mappings_on() ? profd_mappings_mmap(address, length, protection, flags, fd, offset)
				   : profd_map_reals.mmap(address, length, protection, flags, fd, offset);
}

PROFD_EXPORT void *mmap64(void *address, size_t length, int protection, int flags, int fd, off64_t offset)
{
	return profd_mappings_on() ? profd_mappings_mmap(address, length, protection, flags, fd, offset)
				   : profd_map_reals.mmap(address, length, protection, flags, fd, offset);
}

PROFD_EXPORT int munmap(void *address, size_t length)
{
	return profd_mappings_on() ? profd_mappings_munmap(address, length) : profd_map_reals.munmap(address, length);
}

// libc declares it with `...`, by which there would be no jump.
PROFD_EXPORT void *profd_mremap(void *old, size_t old_length, size_t length, int flags, void *to) __asm__("mremap");
PROFD_EXPORT void *profd_mremap(void *old, size_t old_length, size_t length, int flags, void *to)
{
	return profd_mappings_on() ? profd_mappings_mremap(old, old_length, length, flags, to)
				   : profd_map_reals.mremap(old, old_length, length, flags, to);
}

PROFD_EXPORT int mprotect(void *address, size_t length, int protection)
{
	return profd_mappings_on() ? profd_mappings_mprotect(address, length, protection)
				   : profd_map_reals.mprotect(address, length, protection);
}
