// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// interpose_heap.h: the allocator's functions that the agent stands in front of, and the way to the real ones: whatever comes next in the
// search order, be it libc's, or jemalloc's, preloaded or linked. What libc allocates itself (strdup, getline, fopen) comes through here
// as well: libc calls malloc by its symbol. So does C++'s operator new, unless the allocator has its own (interpose_new.h).
//
// Until they are found the pointers lead to functions that find them: programs allocate before our constructor runs. Nothing here is ever
// NULL, so a call through them needs no test.

#ifndef PROFD_INTERPOSE_HEAP_H
#define PROFD_INTERPOSE_HEAP_H

#include <stddef.h>

#include "profd/live.h"

#define PROFD_HEAP_REALS(X)                               \
	X(void *, malloc, (size_t))                       \
	X(void *, calloc, (size_t, size_t))               \
	X(void *, realloc, (void *, size_t))              \
	X(void, free, (void *))                           \
	X(int, posix_memalign, (void **, size_t, size_t)) \
	X(void *, aligned_alloc, (size_t, size_t))        \
	X(void *, memalign, (size_t, size_t))             \
	X(void *, valloc, (size_t))                       \
	X(void *, pvalloc, (size_t))

#define X(type, name, args) typedef type profd_heap_##name##_fn args;
PROFD_HEAP_REALS(X)
#undef X
struct profd_heap_reals {
#define X(type, name, args) profd_heap_##name##_fn *name; // NOLINT(bugprone-macro-parentheses)
	_Alignas(64) PROFD_HEAP_REALS(X)
#undef X
};
extern struct profd_heap_reals profd_heap_reals PROFD_NEAR;

// At the constructor, if nobody allocated before.
void profd_heap_reals_find(void);

#endif
