// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// events.c: see events.h; the protocol is in wire_events.h. Any thread of the target, also in signal handlers.

#include "profd/events.h"

#include "profd/agent.h"
#include "profd/clock.h"
#include "profd/raw.h"
#include "profd/threads.h"

union profd_events_page profd_events_page;

// A thread that is in no slot, early or late in its life, has none of its own to be known by.
static uint32_t own_tid(uint32_t slot)
{
	uint32_t tid = 0;

	if (slot != PROFD_NO_SLOT && profd_agent.region.header)
		tid = WIRE_SLOT_TID(__atomic_load_n(&profd_agent.region.slots[slot].state_tid, __ATOMIC_RELAXED));
	return tid ? tid : (uint32_t)profd_raw0(SYS_gettid);
}

#define AHEAD 2 // cells: the next cache line

// Is that another writer's, of a later lap than ours? Positions are compared by their difference: no cell is left alone for half of what they count.
static bool is_later(uint32_t seen, uint64_t position)
{
	return (seen & 3) != WIRE_EVENT_FREE && (int32_t)((seen & ~3u) - WIRE_EVENT_STATE(position, 0)) > 0;
}

// Nobody else writes to a cell that is BUSY. It may stay so for good, where a signal handler was left by longjmp in the middle: then
// each lap loses one event there. Who was overtaken since he took his position, for he got no CPU, must not put an old event in a new one's place.
static bool claim(struct wire_event *cell, uint64_t position)
{
	uint32_t seen = __atomic_load_n(&cell->state, __ATOMIC_RELAXED);

	return (seen & 3) != WIRE_EVENT_BUSY && !is_later(seen, position) &&
	       __atomic_compare_exchange_n(&cell->state, &seen, WIRE_EVENT_STATE(position, WIRE_EVENT_BUSY), false,
					   __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

struct profd_event_place profd_events_write(uint32_t tid, uint64_t time_ns, uint64_t what, uint32_t other,
					    uint32_t context)
{
	const struct profd_events *events = &profd_events_page.events;
	uint32_t slot = profd_thread_slot;
	uint32_t shard = (slot == PROFD_NO_SLOT ? 0 : slot) & (events->nshards - 1);
	uint64_t position = __atomic_fetch_add(&events->shards[shard].head, 1, __ATOMIC_RELAXED);
	struct wire_event *cells = &events->cells[(uint64_t)shard * events->ncells];
	struct wire_event *cell = &cells[position & (events->ncells - 1)];

	// Of a file that was gone round once the next cell is in no cache: it comes while the thread does what it does.
	__builtin_prefetch(&cells[(position + AHEAD) & (events->ncells - 1)], 1);
	if (!claim(cell, position))
		return (struct profd_event_place){position, shard};
	// A reader that sees one of these has the cell's BUSY in sight, too: it looks at the state again afterwards.
	__atomic_thread_fence(__ATOMIC_RELEASE);
	__atomic_store_n(&cell->time_ns, time_ns, __ATOMIC_RELAXED);
	__atomic_store_n(&cell->what, what, __ATOMIC_RELAXED);
	__atomic_store_n(&cell->tid, tid ? tid : own_tid(slot), __ATOMIC_RELAXED);
	__atomic_store_n(&cell->other, other, __ATOMIC_RELAXED);
	__atomic_store_n(&cell->context, context, __ATOMIC_RELAXED);
	__atomic_store_n(&cell->state, WIRE_EVENT_STATE(position, WIRE_EVENT_DONE), __ATOMIC_RELEASE);
	return (struct profd_event_place){position, shard};
}

static bool change(struct wire_event *cell, uint64_t position, enum wire_event_state from, enum wire_event_state to)
{
	uint32_t state = WIRE_EVENT_STATE(position, from);

	return __atomic_compare_exchange_n(&cell->state, &state, WIRE_EVENT_STATE(position, to), false,
					   __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

// A fork's child may have a file of its own by now, where other events are: none of the same time.
bool profd_events_take_back(struct profd_event_place place, uint64_t time_ns)
{
	const struct profd_events *events = &profd_events_page.events;
	struct wire_event_shard *shard;
	struct wire_event *cell;
	uint64_t head = place.position + 1;

	if (!profd_events_are_on())
		return false;
	place.shard &= events->nshards - 1;
	shard = &events->shards[place.shard];
	cell = &events->cells[(uint64_t)place.shard * events->ncells + (place.position & (events->ncells - 1))];
	if (__atomic_load_n(&cell->time_ns, __ATOMIC_RELAXED) != time_ns ||
	    !change(cell, place.position, WIRE_EVENT_DONE, WIRE_EVENT_BUSY))
		return false;
	if (__atomic_load_n(&shard->seen, __ATOMIC_SEQ_CST) > place.position) {
		__atomic_store_n(&cell->state, WIRE_EVENT_STATE(place.position, WIRE_EVENT_DONE), __ATOMIC_RELEASE);
		return false;
	}
	__atomic_store_n(&cell->state, WIRE_EVENT_STATE(place.position, WIRE_EVENT_GONE), __ATOMIC_RELEASE);
	// The next event comes to its place, a line that is in this CPU's cache.
	if (!__atomic_compare_exchange_n(&shard->head, &head, place.position, false, __ATOMIC_SEQ_CST,
					 __ATOMIC_RELAXED) &&
	    change(cell, place.position, WIRE_EVENT_GONE, WIRE_EVENT_BUSY)) {
		__atomic_store_n(&cell->what, WIRE_EVENT_WHAT(WIRE_EVENT_TAKEN_BACK, 0, 0), __ATOMIC_RELAXED);
		__atomic_store_n(&cell->state, WIRE_EVENT_STATE(place.position, WIRE_EVENT_DONE), __ATOMIC_RELEASE);
	}
	return true;
}

void profd_events_put_name(uint32_t tid, const char *name)
{
	uint64_t what = (uint64_t)WIRE_EVENT_NAME << 56;
	uint32_t other = 0, context = 0;

	for (uint32_t i = 0; i < WIRE_EVENT_NAME_BYTES && name[i]; i++) {
		uint8_t byte = (uint8_t)name[i];

		if (i < 7)
			what |= (uint64_t)byte << (48 - 8 * i);
		else if (i < 11)
			other |= (uint32_t)byte << 8 * (i - 7);
		else
			context |= (uint32_t)byte << 8 * (i - 11);
	}
	profd_events_write(tid, profd_clock_now_ns(), what, other, context);
}
