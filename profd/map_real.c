// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// map_real.c: finds the real mmap and its like (interpose_map.h), and stands in for them until then. Any thread of the target.

#include <dlfcn.h>
#include <errno.h>
#include <sys/mman.h>

#include "profd/interpose_map.h"
#include "profd/raw.h"

static long checked(long result)
{
	if (result >= 0 || result <= -4096)
		return result;
	errno = (int)-result;
	return -1; // MAP_FAILED as well
}

static void *first_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
	// NOLINTNEXTLINE(performance-no-int-to-ptr)
	return (void *)checked(profd_raw6(SYS_mmap, (long)address, (long)length, protection, flags, fd, offset));
}

static int first_munmap(void *address, size_t length)
{
	return (int)checked(profd_raw3(SYS_munmap, (long)address, (long)length, 0));
}

static void *first_mremap(void *old, size_t old_length, size_t length, int flags, void *to)
{
	// NOLINTNEXTLINE(performance-no-int-to-ptr)
	return (void *)checked(profd_raw6(SYS_mremap, (long)old, (long)old_length, (long)length, flags, (long)to, 0));
}

static int first_mprotect(void *address, size_t length, int protection)
{
	return (int)checked(profd_raw3(SYS_mprotect, (long)address, (long)length, protection));
}

struct profd_map_reals profd_map_reals = {
#define X(type, name, args) .name = first_##name,
	PROFD_MAP_REALS(X)
#undef X
};

void profd_map_reals_find(void)
{
#define X(type, name, args)                                                                      \
	do {                                                                                     \
		profd_map_##name##_fn *found = (profd_map_##name##_fn *)dlsym(RTLD_NEXT, #name); \
                                                                                                 \
		if (found)                                                                       \
			__atomic_store_n(&profd_map_reals.name, found, __ATOMIC_RELEASE);        \
	} while (0);
	PROFD_MAP_REALS(X)
#undef X
}
