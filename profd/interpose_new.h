// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// interpose_new.h: C++'s operators new and delete, for allocators that have their own and do not go through malloc: jemalloc, tcmalloc,
// mimalloc. Where the next operator new is not the allocator's (libstdc++'s, which calls malloc; a program's own), these do nothing but
// hand the call on.
//
// A library that was loaded for itself alone (a plugin, and libstdc++ with it) would find ours instead of its own: in a program without any, ours
// stand aside (new_aside.c). Where they cannot, the real ones are looked for among all that is loaded; in the last resort malloc stands in for them,
// and a program without memory ends.

#ifndef PROFD_INTERPOSE_NEW_H
#define PROFD_INTERPOSE_NEW_H

#include <stdint.h>

#include "profd/live.h"

// By their names as compilers mangle them; all are called with an object or its size, and up to two words more.
#define PROFD_NEWS(X)                         \
	X(_Znwm)                              \
	X(_Znam)                              \
	X(_ZnwmRKSt9nothrow_t)                \
	X(_ZnamRKSt9nothrow_t)                \
	X(_ZnwmSt11align_val_t)               \
	X(_ZnamSt11align_val_t)               \
	X(_ZnwmSt11align_val_tRKSt9nothrow_t) \
	X(_ZnamSt11align_val_tRKSt9nothrow_t)

#define PROFD_DELETES(X)                       \
	X(_ZdlPv)                              \
	X(_ZdaPv)                              \
	X(_ZdlPvm)                             \
	X(_ZdaPvm)                             \
	X(_ZdlPvRKSt9nothrow_t)                \
	X(_ZdaPvRKSt9nothrow_t)                \
	X(_ZdlPvSt11align_val_t)               \
	X(_ZdaPvSt11align_val_t)               \
	X(_ZdlPvmSt11align_val_t)              \
	X(_ZdaPvmSt11align_val_t)              \
	X(_ZdlPvSt11align_val_tRKSt9nothrow_t) \
	X(_ZdaPvSt11align_val_tRKSt9nothrow_t)

typedef void *profd_new_fn(uintptr_t bytes, uintptr_t a, uintptr_t b);
typedef void profd_delete_fn(void *object, uintptr_t a, uintptr_t b);

enum profd_new {
#define X(name) PROFD_NEW_##name,
	PROFD_NEWS(X)
#undef X
		PROFD_NEW_DELETE // all of them: one bit
};

// Never NULL: until the real ones are found, these find them.
struct profd_new_reals {
	// A bit of enum profd_new for each that is the allocator's own, which nobody else would see. An allocator may have some, and leave the
	// others to libstdc++, whose call of malloc is seen anyway.
	_Alignas(64) uint64_t counts;
#define X(name) profd_new_fn *name;
	PROFD_NEWS(X)
#undef X
#define X(name) profd_delete_fn *name;
	PROFD_DELETES(X)
#undef X
};
extern struct profd_new_reals profd_new_reals PROFD_NEAR;

// new_aside.c, at the constructor: if the program has no such operators, nobody is to find ours.
void profd_new_stand_aside(void);

#endif
