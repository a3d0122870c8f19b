// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// new_real.c: finds the real operators new and delete (interpose_new.h), at the first call of any of them. Any thread.

#include <dlfcn.h>
#include <stdlib.h>

#include "profd/interpose.h"
#include "profd/interpose_heap.h"
#include "profd/interpose_new.h"

static void find_all(void);

#define X(name)                                                              \
	static void *first_##name(uintptr_t bytes, uintptr_t a, uintptr_t b) \
	{                                                                    \
		find_all();                                                  \
		return profd_new_reals.name(bytes, a, b);                    \
	}
PROFD_NEWS(X)
#undef X
#define X(name)                                                          \
	static void first_##name(void *object, uintptr_t a, uintptr_t b) \
	{                                                                \
		find_all();                                              \
		profd_new_reals.name(object, a, b);                      \
	}
PROFD_DELETES(X)
#undef X

struct profd_new_reals profd_new_reals = {
#define X(name) .name = first_##name,
	PROFD_NEWS(X) PROFD_DELETES(X)
#undef X
};

// ---- Where there are none ------------------------------------------------------------------------------------------

static void *stand_in_new(uintptr_t bytes, uintptr_t a, uintptr_t b)
{
	void *object = malloc(bytes ? bytes : 1);

	(void)a;
	(void)b;
	if (!object)
		abort(); // there is no one to throw std::bad_alloc
	return object;
}

static void *stand_in_nothrow(uintptr_t bytes, uintptr_t a, uintptr_t b)
{
	(void)a;
	(void)b;
	return malloc(bytes ? bytes : 1);
}

static void *stand_in_aligned_nothrow(uintptr_t bytes, uintptr_t alignment, uintptr_t b)
{
	void *object = NULL;

	(void)b;
	if (alignment < sizeof(void *))
		alignment = sizeof(void *);
	return posix_memalign(&object, alignment, bytes ? bytes : 1) == 0 ? object : NULL;
}

static void *stand_in_aligned(uintptr_t bytes, uintptr_t alignment, uintptr_t b)
{
	void *object = stand_in_aligned_nothrow(bytes, alignment, b);

	if (!object)
		abort();
	return object;
}

static void stand_in_delete(void *object, uintptr_t a, uintptr_t b)
{
	(void)a;
	(void)b;
	free(object);
}

// What a name's arguments are, its end tells.
static profd_new_fn *stand_in_for(const char *name)
{
	bool aligned = false, nothrow = false;

	for (; *name; name++) {
		aligned |= *name == 'S' && name[1] == 't' && name[2] == '1';
		nothrow |= *name == 'R';
	}
	if (aligned)
		return nothrow ? stand_in_aligned_nothrow : stand_in_aligned;
	return nothrow ? stand_in_nothrow : stand_in_new;
}

// ---- Finding -------------------------------------------------------------------------------------------------------

// A runtime that was loaded for a plugin alone; it stays loaded.
static void *runtime(void)
{
	void *handle = PROFD_REAL(dlopen)("libstdc++.so.6", RTLD_LAZY | RTLD_NOLOAD);

	return handle ? handle : PROFD_REAL(dlopen)("libc++.so.1", RTLD_LAZY | RTLD_NOLOAD);
}

static const void *home_of(const void *function)
{
	Dl_info info;

	return function && dladdr(function, &info) ? info.dli_fbase : NULL;
}

static void *find(void *handle, const char *name)
{
	return handle ? dlsym(handle, name) : NULL;
}

// All of one home, or what they hand each other would not fit together.
static void find_all(void)
{
	const void *allocator = home_of((const void *)(uintptr_t)profd_heap_reals.malloc);
	void *handle = dlsym(RTLD_NEXT, "_Znwm") ? RTLD_NEXT : runtime();
	uint64_t counts = 0;
	void *found;

#define X(name)                                                                \
	found = find(handle, #name);                                           \
	if (found && home_of(found) == allocator)                              \
		counts |= 1ULL << PROFD_NEW_##name | 1ULL << PROFD_NEW_DELETE; \
	__atomic_store_n(&profd_new_reals.name, found ? (profd_new_fn *)found : stand_in_for(#name), __ATOMIC_RELEASE);
	PROFD_NEWS(X)
#undef X
#define X(name)                      \
	found = find(handle, #name); \
	__atomic_store_n(&profd_new_reals.name, found ? (profd_delete_fn *)found : stand_in_delete, __ATOMIC_RELEASE);
	PROFD_DELETES(X)
#undef X
	__atomic_store_n(&profd_new_reals.counts, counts, __ATOMIC_RELEASE);
}
