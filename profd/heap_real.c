// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// heap_real.c: finds the real allocator (interpose_heap.h). Any thread, at the first call of any of its functions, or at the constructor.
//
// dlsym may allocate, which comes back to here: what it asks for while it looks is given out of a small block of our own. The allocator
// must never be asked to free that, so if there was any, its free and realloc are called through ours from then on.

#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "profd/interpose_heap.h"

#define EARLY_BYTES (64u << 10)
#define EARLY_ALIGNMENT 16u

#define X(type, name, args) static profd_heap_##name##_fn first_##name;
PROFD_HEAP_REALS(X)
#undef X

struct profd_heap_reals profd_heap_reals = {
#define X(type, name, args) .name = first_##name,
	PROFD_HEAP_REALS(X)
#undef X
};

static __thread bool finding;

// ---- What dlsym is given -------------------------------------------------------------------------------------------

static uint8_t early[EARLY_BYTES] __attribute__((aligned(4096)));
static uint32_t early_used; // atomic

static bool is_early(const void *object)
{
	return (const uint8_t *)object >= early && (const uint8_t *)object < early + EARLY_BYTES;
}

// Its size is in front of it. Zeroed, and never given again.
static void *early_alloc(size_t alignment, size_t bytes)
{
	uint32_t at, need;

	if (alignment < EARLY_ALIGNMENT)
		alignment = EARLY_ALIGNMENT;
	if (bytes > EARLY_BYTES || alignment > EARLY_BYTES / 4)
		return NULL;
	need = (uint32_t)(bytes + 2 * alignment);
	at = __atomic_fetch_add(&early_used, need, __ATOMIC_RELAXED);
	if (at > EARLY_BYTES || need > EARLY_BYTES - at) {
		errno = ENOMEM;
		return NULL;
	}
	at = (uint32_t)((at + 2 * alignment - 1) & ~(alignment - 1));
	memcpy(&early[at - sizeof(bytes)], &bytes, sizeof(bytes));
	return &early[at];
}

static void copy_early(const void *object, void *to, size_t bytes)
{
	size_t old_bytes;

	memcpy(&old_bytes, (const uint8_t *)object - sizeof(old_bytes), sizeof(old_bytes));
	memcpy(to, object, old_bytes < bytes ? old_bytes : bytes);
}

static void (*found_free)(void *);
static void *(*found_realloc)(void *, size_t);

static void late_free(void *object)
{
	if (!is_early(object))
		found_free(object);
}

static void *late_realloc(void *object, size_t bytes)
{
	void *moved;

	if (!is_early(object))
		return found_realloc(object, bytes);
	moved = profd_heap_reals.malloc(bytes);
	if (moved)
		copy_early(object, moved, bytes);
	return moved;
}

// ---- Finding -------------------------------------------------------------------------------------------------------

void profd_heap_reals_find(void)
{
	struct profd_heap_reals found;

	finding = true;
#define X(type, name, args) found.name = (profd_heap_##name##_fn *)dlsym(RTLD_NEXT, #name);
	PROFD_HEAP_REALS(X)
#undef X
	finding = false;
	if (__atomic_load_n(&early_used, __ATOMIC_RELAXED)) {
		found_free = found.free;
		found_realloc = found.realloc;
		found.free = late_free;
		found.realloc = late_realloc;
	}
	// One that libc does not have, nobody can have linked to.
#define X(type, name, args) \
	if (found.name)     \
		__atomic_store_n(&profd_heap_reals.name, found.name, __ATOMIC_RELEASE);
	PROFD_HEAP_REALS(X)
#undef X
}

static void *first_malloc(size_t bytes)
{
	if (finding)
		return early_alloc(0, bytes);
	profd_heap_reals_find();
	return profd_heap_reals.malloc(bytes);
}

static void *first_calloc(size_t count, size_t bytes)
{
	size_t all;

	if (finding)
		return __builtin_mul_overflow(count, bytes, &all) ? NULL : early_alloc(0, all);
	profd_heap_reals_find();
	return profd_heap_reals.calloc(count, bytes);
}

static void *first_realloc(void *object, size_t bytes)
{
	void *moved;

	if (!finding) {
		profd_heap_reals_find();
		return profd_heap_reals.realloc(object, bytes);
	}
	moved = early_alloc(0, bytes);
	if (moved && object)
		copy_early(object, moved, bytes);
	return moved;
}

static void first_free(void *object)
{
	if (finding || !object)
		return;
	profd_heap_reals_find();
	profd_heap_reals.free(object);
}

static int first_posix_memalign(void **ret_object, size_t alignment, size_t bytes)
{
	if (!finding) {
		profd_heap_reals_find();
		return profd_heap_reals.posix_memalign(ret_object, alignment, bytes);
	}
	*ret_object = early_alloc(alignment, bytes);
	return *ret_object ? 0 : ENOMEM;
}

static void *first_aligned_alloc(size_t alignment, size_t bytes)
{
	if (finding)
		return early_alloc(alignment, bytes);
	profd_heap_reals_find();
	return profd_heap_reals.aligned_alloc(alignment, bytes);
}

static void *first_memalign(size_t alignment, size_t bytes)
{
	if (finding)
		return early_alloc(alignment, bytes);
	profd_heap_reals_find();
	return profd_heap_reals.memalign(alignment, bytes);
}

static void *first_valloc(size_t bytes)
{
	if (finding)
		return early_alloc(4096, bytes);
	profd_heap_reals_find();
	return profd_heap_reals.valloc(bytes);
}

static void *first_pvalloc(size_t bytes)
{
	if (finding)
		return early_alloc(4096, (bytes + 4095) & ~(size_t)4095);
	profd_heap_reals_find();
	return profd_heap_reals.pvalloc(bytes);
}
