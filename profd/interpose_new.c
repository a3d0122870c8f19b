// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// interpose_new.c: see interpose_new.h. As interpose_heap.c: any thread of the target; each ends in a jump.

#include "profd/interpose_new.h"

#include "profd/heap.h"
#include "profd/interpose.h"

static inline bool counts(enum profd_new which)
{
	return __builtin_expect((profd_new_reals.counts & 1ULL << which) != 0, 0);
}

#define X(name)                                                                   \
	PROFD_EXPORT profd_new_fn name;                                           \
	PROFD_EXPORT void *name(uintptr_t bytes, uintptr_t a, uintptr_t b)        \
	{                                                                         \
		if (counts(PROFD_NEW_##name) && profd_heap_is_due(bytes))         \
			return profd_heap_new(bytes, a, b, profd_new_reals.name); \
		return profd_new_reals.name(bytes, a, b);                         \
	}
PROFD_NEWS(X)
#undef X

#define X(name)                                                                \
	PROFD_EXPORT profd_delete_fn name;                                     \
	PROFD_EXPORT void name(void *object, uintptr_t a, uintptr_t b)         \
	{                                                                      \
		if (counts(PROFD_NEW_DELETE) && profd_heap_may_have(object))   \
			profd_heap_delete(object, a, b, profd_new_reals.name); \
		else                                                           \
			profd_new_reals.name(object, a, b);                    \
	}
PROFD_DELETES(X)
#undef X
