// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// creators.c: see creators.h.
//
// Threads that ended joinable: an entry is made before it is known whether the thread is detached, and taken back if so. Whoever
// detaches it meanwhile finds the entry; whoever joins it comes later than all of that. Whether it is, the thread is told by whoever detaches
// it, for libc, asked for it (pthread_getattr_np), would allocate, and where sanitizers stand in for malloc, an ending thread must not.

#include "profd/creators.h"

#include <stdbool.h>
#include <string.h>

#include "profd/agent.h"
#include "profd/channel.h"
#include "profd/contexts.h"
#include "profd/modules.h"
#include "profd/threads.h"

#define PROBES 32u
#define BUSY 1u
#define TABLES_WAIT_MS 500 // a few are enough, but not for tables that nobody has made yet, or on a busy machine
#define ENDED 8192u        // a power of two; what does not fit is not known to be unjoined

static struct {
	uint64_t thread; // atomic; 0: free, BUSY: being written
	uint32_t context;
} ended[ENDED];

static bool any_ended; // atomic

// A fork's child has its parent's entries; a program that starts has none, and need not touch the memory.
void profd_creators_init(void)
{
	if (any_ended)
		memset(ended, 0, sizeof(ended));
	any_ended = false;
}

uint32_t profd_creators_note(struct profd_caller caller)
{
	if (profd_thread_slot == PROFD_NO_SLOT)
		return 0;
	profd_channel_want_tables(__atomic_load_n(&profd_modules_current, __ATOMIC_RELAXED) ? 0 : TABLES_WAIT_MS);
	return profd_contexts_note(WIRE_CONTEXT_CREATED, caller);
}

void profd_creators_count(uint32_t context)
{
	struct wire_pool_context *item = profd_contexts_find(context);

	if (item)
		__atomic_fetch_add(&item->created, 1, __ATOMIC_RELAXED);
}

// ---- Threads that ended --------------------------------------------------------------------------------------------

static uint32_t first_probe(uint64_t thread)
{
	return (uint32_t)((thread >> 6) * 0x9e3779b1u >> 8) & (ENDED - 1);
}

static void add_ended(uint64_t thread, uint32_t context, struct wire_pool_context *item)
{
	__atomic_store_n(&any_ended, true, __ATOMIC_RELAXED);
	for (uint32_t i = 0; i < PROBES; i++) {
		uint32_t at = (first_probe(thread) + i) & (ENDED - 1);
		uint64_t none = 0;

		if (!__atomic_compare_exchange_n(&ended[at].thread, &none, BUSY, false, __ATOMIC_ACQUIRE,
						 __ATOMIC_RELAXED))
			continue;
		ended[at].context = context;
		__atomic_fetch_add(&item->unjoined, 1, __ATOMIC_RELAXED);
		__atomic_store_n(&ended[at].thread, thread, __ATOMIC_RELEASE);
		return;
	}
}

void profd_creators_thread_released(pthread_t thread)
{
	for (uint32_t i = 0; i < PROBES; i++) {
		uint32_t at = (first_probe(thread) + i) & (ENDED - 1);
		struct wire_pool_context *item;
		uint64_t seen = thread;

		if (__atomic_load_n(&ended[at].thread, __ATOMIC_ACQUIRE) != thread)
			continue;
		item = profd_contexts_find(ended[at].context);
		if (__atomic_compare_exchange_n(&ended[at].thread, &seen, 0, false, __ATOMIC_ACQ_REL,
						__ATOMIC_RELAXED) &&
		    item)
			__atomic_fetch_sub(&item->unjoined, 1, __ATOMIC_RELAXED);
		return;
	}
}

static __thread bool detached; // atomic; false at first, before anybody can know the thread

void profd_creators_thread_begins_detached(void)
{
	__atomic_store_n(&detached, true, __ATOMIC_SEQ_CST);
}

// Thread-local variables of the initial-exec model are as far from one thread's descriptor as from another's.
void profd_creators_thread_is_detached(pthread_t thread)
{
	bool *its_own = (bool *)(thread + ((uintptr_t)&detached -
					   (uintptr_t)pthread_self())); // NOLINT(performance-no-int-to-ptr)

	__atomic_store_n(its_own, true, __ATOMIC_SEQ_CST);
}

void profd_creators_thread_ends(uint32_t context)
{
	struct wire_pool_context *item = profd_contexts_find(context);
	pthread_t self = pthread_self();

	if (!item)
		return;
	add_ended(self, context, item);
	if (__atomic_load_n(&detached, __ATOMIC_SEQ_CST))
		profd_creators_thread_released(self);
}
