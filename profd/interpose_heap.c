// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// interpose_heap.c: malloc and its like. Any thread of the target, in any context that the allocator allows. Each ends in a jump: off, and
// unsampled, to the real one; else to heap.c, which so is called from where these were. No frame, no call, nothing saved: this file is
// compiled without frame pointers, and is all that most allocations ever run of us.

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>

#include "profd/heap.h"
#include "profd/interpose.h"
#include "profd/interpose_heap.h"

PROFD_EXPORT void *malloc(size_t bytes)
{
	return profd_heap_is_due(bytes) ? profd_heap_malloc(bytes) : profd_heap_reals.malloc(bytes);
}

// What overflows is the real one's to refuse.
PROFD_EXPORT void *calloc(size_t count, size_t bytes)
{
	size_t all;

	if (!__builtin_mul_overflow(count, bytes, &all) && profd_heap_is_due(all))
		return profd_heap_calloc(count, bytes);
	return profd_heap_reals.calloc(count, bytes);
}

PROFD_EXPORT void *realloc(void *object, size_t bytes)
{
	bool due = profd_heap_is_due(bytes);

	if (due || profd_heap_may_have(object))
		return profd_heap_realloc(object, bytes, due);
	return profd_heap_reals.realloc(object, bytes);
}

// libc's would call realloc, another allocator's may not: here it does always.
PROFD_EXPORT void *reallocarray(void *object, size_t count, size_t bytes)
{
	size_t all;

	if (__builtin_mul_overflow(count, bytes, &all)) {
		errno = ENOMEM;
		return NULL;
	}
	return realloc(object, all);
}

PROFD_EXPORT void free(void *object)
{
	if (profd_heap_may_have(object))
		profd_heap_free(object);
	else
		profd_heap_reals.free(object);
}

PROFD_EXPORT int posix_memalign(void **ret_object, size_t alignment, size_t bytes)
{
	return profd_heap_is_due(bytes) ? profd_heap_posix_memalign(ret_object, alignment, bytes)
					: profd_heap_reals.posix_memalign(ret_object, alignment, bytes);
}

PROFD_EXPORT void *aligned_alloc(size_t alignment, size_t bytes)
{
	return profd_heap_is_due(bytes) ? profd_heap_aligned_alloc(alignment, bytes)
					: profd_heap_reals.aligned_alloc(alignment, bytes);
}

PROFD_EXPORT void *memalign(size_t alignment, size_t bytes)
{
	return profd_heap_is_due(bytes) ? profd_heap_memalign(alignment, bytes)
					: profd_heap_reals.memalign(alignment, bytes);
}

PROFD_EXPORT void *valloc(size_t bytes)
{
	return profd_heap_is_due(bytes) ? profd_heap_valloc(bytes) : profd_heap_reals.valloc(bytes);
}

PROFD_EXPORT void *pvalloc(size_t bytes)
{
	return profd_heap_is_due(bytes) ? profd_heap_pvalloc(bytes) : profd_heap_reals.pvalloc(bytes);
}
