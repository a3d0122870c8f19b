// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// contexts.h: what threads work for: who made them, woke them, or handed them their work, as chains of contexts in the shared region
// (wire.h's pool). Any thread of the target; not the handler, which only copies wire_slot.work. Lock-free, no allocation.

#ifndef PROFD_CONTEXTS_H
#define PROFD_CONTEXTS_H

#include <stddef.h>
#include <stdint.h>

#include "profd/agent.h"
#include "profd/caller.h"
#include "profd/pool.h"
#include "profd/threads.h"
#include "profd/wire.h"

static inline struct profd_pool profd_contexts_pool(void)
{
	const struct profd_region *region = &profd_agent.region;

	return (struct profd_pool){region->pool_index, region->pool_words, &region->header->pool_used,
				   &region->header->pool_labels};
}

// The calling thread's slot; NULL: it has none, and is not told apart.
static inline struct wire_slot *profd_contexts_slot(void)
{
	return profd_thread_slot == PROFD_NO_SLOT ? NULL : &profd_agent.region.slots[profd_thread_slot];
}

// WIRE_WORK of the calling thread. One store changes it, so that the handler never finds half of it.
static inline uint64_t profd_contexts_work(void)
{
	const struct wire_slot *slot = profd_contexts_slot();

	return slot ? __atomic_load_n(&slot->work, __ATOMIC_RELAXED) : 0;
}

// The same but for a lock's seam (wire_pool_context.lock): what is handed on, and what outlasts the lock.
uint64_t profd_contexts_own_work(void);
// Takes that seam away, if there is one. Nothing else that is written to the slot meanwhile is lost: a child that nobody told of has its parent's slot.
void profd_contexts_drop_lock(void);

// ---- Who was woken, when wakers are switched off --------------------------------------------------------------------
//
// A thread that was woken works under its waker until it is told of its next wait; and with wakers off it never is. So whoever switches them
// off takes the wakers away from all threads, and a thread that was about to write its own at that moment sees to it itself: it writes, then
// looks here; the other writes here, then looks at what is written. One of the two comes second.

enum profd_contexts_woken {
	PROFD_WOKEN_NEVER,   // wakers were never on: no thread works under one
	PROFD_WOKEN_KEPT,    // they are
	PROFD_WOKEN_DROPPED, // they were, and no thread is to work under one any more
};
extern uint32_t profd_contexts_woken __attribute__((visibility("hidden"))); // atomic

// One thread at a time calls these. keep: before the first thread is told of a waker. drop: when none is any more; of all threads, who go
// back to what they were born with. What the program gave (profd_enter) stays, and so does what a context has below it.
void profd_contexts_keep_woken(void);
void profd_contexts_drop_woken(void);
// The same of a word that is shared as a slot's is: with WIRE_WORK, of something that a thread worked on which was born with that context.
void profd_contexts_drop_woken_of(uint64_t *work, uint32_t born_with);
void profd_contexts_look_at_own(void); // the calling thread's part

static inline void profd_contexts_set_work(uint64_t work)
{
	struct wire_slot *slot = profd_contexts_slot();

	if (!slot)
		return;
	if (!__atomic_load_n(&profd_contexts_woken, __ATOMIC_RELAXED)) {
		__atomic_store_n(&slot->work, work, __ATOMIC_RELEASE);
		return;
	}
	__atomic_exchange_n(&slot->work, work, __ATOMIC_SEQ_CST);
	profd_contexts_look_at_own();
}

// The number of the caller's stack in the pool. 0: there is no room (counted), or this thread is in no slot. words: see profd_caller_walk_words;
// NULL: not asked for.
struct profd_walk_words;
uint32_t profd_contexts_stack(struct profd_caller caller, struct profd_walk_words *words);
// The number of a context: a stack of the pool, and what its thread worked for (0: nothing). A chain that would get longer than
// WIRE_GENERATIONS loses its oldest. 0: no stack, or no room (counted).
uint32_t profd_contexts_add(enum wire_context_kind kind, uint32_t stack, uint32_t parent);
// The number of a lock's seam: the stack that gave the lock back, over what the thread works for that has it now. 0: as above.
uint32_t profd_contexts_add_lock(uint32_t stack, uint32_t parent);
// Both: the caller's stack, under what the calling thread works for now.
uint32_t profd_contexts_note(enum wire_context_kind kind, struct profd_caller caller);
struct wire_pool_context *profd_contexts_find(uint32_t context); // NULL: there is none

// ---- fork -----------------------------------------------------------------------------------------------------------

// What the parent's thread works for, with the stack that forks, goes over into the child's own region, and so does what its tasks work for.
// before_fork in the parent. In the child, which takes its parent's region away (keep_parents) and gets one of its own: restore, which
// returns the context in the new one, and carry, as often as one likes; then release_parents.
void profd_contexts_before_fork(struct profd_caller caller);
void profd_contexts_keep_parents(
	struct profd_region *region); // all that is not needed is unmapped; region has no header then
uint32_t profd_contexts_restore(void);
uint64_t profd_contexts_carry(uint64_t work); // WIRE_WORK of the parent's region, as one of this process's
void profd_contexts_release_parents(void);

#endif
