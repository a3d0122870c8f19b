// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// interpose_map.h: the functions by which a program maps memory, which the agent stands in front of (interpose_map.c), and the way to the real
// ones: whatever comes next in the search order. What libc itself maps (malloc's arenas, stacks of threads) does not come by here, nor does what
// programs map by syscall(2).
//
// Until they are found, at our constructor, the pointers lead to the bare system calls (map_real.c): programs may map before it, and dlsym may
// call an allocator that does. Nothing here is ever NULL, so a call through them needs no test.

#ifndef PROFD_INTERPOSE_MAP_H
#define PROFD_INTERPOSE_MAP_H

#include <stddef.h>
#include <sys/types.h>

#include "profd/live.h"

// mmap64 is mmap. mremap's last argument is there with two of its flags only, and always handed on.
#define PROFD_MAP_REALS(X)                                       \
	X(void *, mmap, (void *, size_t, int, int, int, off_t))  \
	X(int, munmap, (void *, size_t))                         \
	X(void *, mremap, (void *, size_t, size_t, int, void *)) \
	X(int, mprotect, (void *, size_t, int))

#define X(type, name, args) typedef type profd_map_##name##_fn args;
PROFD_MAP_REALS(X)
#undef X
struct profd_map_reals {
#define X(type, name, args) profd_map_##name##_fn *name; // NOLINT(bugprone-macro-parentheses)
	_Alignas(64) PROFD_MAP_REALS(X)
#undef X
};
extern struct profd_map_reals profd_map_reals PROFD_NEAR;

// At the constructor.
void profd_map_reals_find(void);

#endif
