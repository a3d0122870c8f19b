// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// creators.c: see creators.h.
//
// Threads that ended joinable: an entry is made before it is known whether the thread is detached, and taken back if so. Whoever
// detaches it meanwhile finds the entry; whoever joins it comes later than all of that.

#include "profd/creators.h"

#include <stdbool.h>
#include <string.h>

#include "profd/agent.h"
#include "profd/channel.h"
#include "profd/modules.h"
#include "profd/threads.h"

#define PROBES 32u
#define TABLES_WAIT_MS 20
#define ENDED 8192u // a power of two; what does not fit is not known to be unjoined

static struct {
	uint64_t thread; // atomic; 0: free
	uint32_t creator;
} ended[ENDED];

static bool any_ended; // atomic

// A fork's child has its parent's entries; a program that starts has none, and need not touch the memory.
void profd_creators_init(void)
{
	if (any_ended)
		memset(ended, 0, sizeof(ended));
	any_ended = false;
}

// ---- Stacks --------------------------------------------------------------------------------------------------------

static uint64_t hash_pcs(const uint64_t *pcs, uint32_t npcs)
{
	uint64_t hash = 0xcbf29ce484222325u;

	for (uint32_t i = 0; i < npcs; i++) {
		hash = (hash ^ pcs[i]) * 0x9e3779b97f4a7c15u;
		hash ^= hash >> 29;
	}
	return hash > WIRE_CREATOR_BUSY ? hash : hash + 2;
}

static void fill(struct wire_creator *creator, const uint64_t *pcs, uint32_t npcs, uint8_t stop)
{
	creator->npcs = (uint16_t)npcs;
	creator->stop = stop;
	memcpy(creator->pcs, pcs, npcs * sizeof(*pcs));
}

// Equal hashes count as equal stacks: one in 2^64 is not.
static uint32_t find_or_add(const uint64_t *pcs, uint32_t npcs, uint8_t stop)
{
	const struct profd_region *region = &profd_agent.region;
	uint64_t hash = hash_pcs(pcs, npcs);

	for (uint32_t i = 0; i < PROBES; i++) {
		uint32_t index = (uint32_t)(hash + i) & (WIRE_CREATORS - 1);
		struct wire_creator *creator = &region->creators[index];
		uint64_t seen = 0;

		if (__atomic_compare_exchange_n(&creator->hash, &seen, WIRE_CREATOR_BUSY, false, __ATOMIC_ACQUIRE,
						__ATOMIC_ACQUIRE)) {
			fill(creator, pcs, npcs, stop);
			__atomic_store_n(&creator->hash, hash, __ATOMIC_RELEASE);
			return index + 1;
		}
		if (seen == hash)
			return index + 1;
	}
	__atomic_fetch_add(&region->header->creators_lost, 1, __ATOMIC_RELAXED);
	return 0;
}

uint32_t profd_creators_note(struct profd_caller caller)
{
	uint64_t pcs[WIRE_CREATOR_FRAMES];
	uint32_t npcs;
	uint8_t stop;

	if (profd_thread_slot == PROFD_NO_SLOT)
		return 0;
	profd_channel_want_tables(__atomic_load_n(&profd_modules_current, __ATOMIC_RELAXED) ? 0 : TABLES_WAIT_MS);
	npcs = profd_caller_walk(caller, pcs, WIRE_CREATOR_FRAMES, &stop);
	return find_or_add(pcs, npcs, stop);
}

static struct wire_creator *creator_at(uint32_t creator)
{
	return &profd_agent.region.creators[creator - 1];
}

void profd_creators_count(uint32_t creator)
{
	if (creator)
		__atomic_fetch_add(&creator_at(creator)->created, 1, __ATOMIC_RELAXED);
}

// ---- Threads that ended --------------------------------------------------------------------------------------------

static uint32_t first_probe(uint64_t thread)
{
	return (uint32_t)((thread >> 6) * 0x9e3779b1u >> 8) & (ENDED - 1);
}

static void add_ended(uint64_t thread, uint32_t creator)
{
	__atomic_store_n(&any_ended, true, __ATOMIC_RELAXED);
	for (uint32_t i = 0; i < PROBES; i++) {
		uint32_t at = (first_probe(thread) + i) & (ENDED - 1);
		uint64_t none = 0;

		if (!__atomic_compare_exchange_n(&ended[at].thread, &none, WIRE_CREATOR_BUSY, false, __ATOMIC_ACQUIRE,
						 __ATOMIC_RELAXED))
			continue;
		ended[at].creator = creator;
		__atomic_fetch_add(&creator_at(creator)->unjoined, 1, __ATOMIC_RELAXED);
		__atomic_store_n(&ended[at].thread, thread, __ATOMIC_RELEASE);
		return;
	}
}

void profd_creators_thread_released(pthread_t thread)
{
	for (uint32_t i = 0; i < PROBES; i++) {
		uint32_t at = (first_probe(thread) + i) & (ENDED - 1), creator;
		uint64_t seen = thread;

		if (__atomic_load_n(&ended[at].thread, __ATOMIC_ACQUIRE) != thread)
			continue;
		creator = ended[at].creator;
		if (__atomic_compare_exchange_n(&ended[at].thread, &seen, 0, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			__atomic_fetch_sub(&creator_at(creator)->unjoined, 1, __ATOMIC_RELAXED);
		return;
	}
}

static bool is_detached(void)
{
	pthread_attr_t attr;
	int state = PTHREAD_CREATE_DETACHED;

	if (pthread_getattr_np(pthread_self(), &attr) != 0)
		return true;
	pthread_attr_getdetachstate(&attr, &state);
	pthread_attr_destroy(&attr);
	return state == PTHREAD_CREATE_DETACHED;
}

void profd_creators_thread_ends(uint32_t creator)
{
	pthread_t self = pthread_self();

	if (!creator)
		return;
	add_ended(self, creator);
	if (is_detached())
		profd_creators_thread_released(self);
}
