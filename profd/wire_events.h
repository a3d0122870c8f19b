// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// wire_events.h: the event trace: what happened to threads, and when. A part of wire.h, which includes it.
//
// The events are in a memfd of its own, made by the agent when tracing is first switched on (WIRE_MSG_EVENTS), and never taken away again:
//
//   0          struct wire_events
//   shards_off struct wire_event_shard [nshards]
//   cells_off  struct wire_event [nshards][ncells]
//
// Each shard is a flight recorder: a writer takes the next position and overwrites what was there a lap before. Nobody waits, nobody asks
// whether there is a reader, and what was written last is there even when the target has died. Readers have positions of their own:
//
//   writer (any thread, also in a signal handler)       reader
//   1 P = head++                                        1 P < head; what is below head − ncells was overwritten: lost, and counted
//   2 claim cell P & (ncells − 1): CAS of its state     2 the state says DONE and P (acquire), or it is not written yet, or lost
//     to BUSY, P. Somebody is still in it, a lap        3 copy the words
//     behind, or has overtaken us: let it be            4 the state is the same as before (acquire): whole; else lost
//   3 store the words; 4 state = DONE, P (release)
//
// An event can be taken back by who wrote it, as if it had never been, if nobody has read it: a call that may wait has a PARK, and waited for nothing.
// Readers say in `seen` what they read before they read it:
//
//   writer                                              reader
//   1 CAS of the cell's state from DONE, P to BUSY, P   0 seen = head, then a full fence
//   2 seen > P: state = DONE, P; it stays               1 … as above; a cell that is GONE or BUSY, P is not written yet
//   3 state = GONE, P
//   4 CAS of head from P + 1 to P: gone, and the next event comes there. Else others came after it:
//     CAS of the state from GONE, P to BUSY, P, type = TAKEN_BACK, state = DONE, P
//
// Either the reader finds the cell BUSY or GONE, or the writer finds himself seen. So head goes back over cells that are not DONE alone, and not over what somebody has read:
// who begins to read says `seen`, too, and begins with the first of the last cells that are not DONE. A copy of the file (event_process.c) says nothing to the writers: its last
// events, which may be taken back, are left to the next copy.
//
// Accounting, per shard: head = events offered; offered = read + taken back + lost + without sense, whoever reads, and over whatever span he reads.

#ifndef PROFD_WIRE_EVENTS_H
#define PROFD_WIRE_EVENTS_H

#include <stdint.h>

#include "profd/wire_waits.h"

#define WIRE_EVENTS_MAGIC 0x74766564666f7270ULL // "profdevt"
#define WIRE_EVENTS_VERSION 3u
#define WIRE_EVENTS_MAX_SHARDS 256u
#define WIRE_EVENTS_MIN_CELLS 128u // a power of two, as each number of cells
#define WIRE_EVENTS_MAX_MIB 1024u
#define WIRE_EVENTS_DEFAULT_MIB 16u

enum wire_event_type {
	WIRE_EVENT_NONE,
	WIRE_EVENT_CREATE, // a thread is about to be made; object: what START of the new one has as object, too
	WIRE_EVENT_START,  // a thread begins; other: who made it; context: the stack that made it
	WIRE_EVENT_EXIT,   // it ends
	WIRE_EVENT_NAME,   // it has another name: WIRE_EVENT_NAME_BYTES of it are in reason, object, other and context
	WIRE_EVENT_PARK,   // it begins to wait; reason: enum wire_wait; object
	// it goes on; reason and object as before; other: who woke it, WIRE_EVENT_NOBODY: time, a signal or an error did; 0: not known; context: his stack
	WIRE_EVENT_UNPARK,
	WIRE_EVENT_WAKE,       // it lets one that waits for object go on (or would, if there is one)
	WIRE_EVENT_TAKEN_BACK, // none at all
	WIRE_EVENT_COUNT
};

#define WIRE_EVENT_NOBODY UINT32_MAX

// One event, in half a cache line. All words are atomics.
struct wire_event {
	uint32_t state; // low 2 bits: enum wire_event_state; the others: the position's low 30 bits
	uint32_t context;
	uint64_t time_ns; // CLOCK_MONOTONIC
	uint64_t what;    // WIRE_EVENT_WHAT
	uint32_t tid, other;
};
enum wire_event_state { WIRE_EVENT_FREE, WIRE_EVENT_BUSY, WIRE_EVENT_DONE, WIRE_EVENT_GONE };
#define WIRE_EVENT_STATE(position, state) ((uint32_t)(position) << 2 | (uint32_t)(state))

// type in bits 63..56, reason in 55..48, the object below: user addresses have no more bits.
#define WIRE_EVENT_WHAT(type, reason, object) \
	((uint64_t)(type) << 56 | (uint64_t)(reason) << 48 | ((uint64_t)(object)&0xffffffffffffULL))
#define WIRE_EVENT_TYPE(what) ((uint32_t)((what) >> 56))
#define WIRE_EVENT_REASON(what) ((uint32_t)((what) >> 48) & 0xffu)
#define WIRE_EVENT_OBJECT(what) ((what)&0xffffffffffffULL)

// A name (15 bytes and a NUL, as the kernel keeps it): byte 0 in bits 55..48 of `what`, bytes 1 to 6 below, 7 to 10 in other, 11 to 14
// in context; the last ones in the high bits.
#define WIRE_EVENT_NAME_BYTES 15u
static inline uint8_t wire_event_name_byte(uint64_t what, uint32_t other, uint32_t context, uint32_t i)
{
	if (i < 7)
		return (uint8_t)(what >> (48 - 8 * i));
	return (uint8_t)(i < 11 ? other >> 8 * (i - 7) : context >> 8 * (i - 11));
}

struct wire_event_shard {
	_Alignas(64) uint64_t head; // atomic; events ever offered, without those that were taken back again
	_Alignas(64) uint64_t seen; // atomic; readers': below it, events are read
};

struct wire_events {
	uint64_t magic;
	uint32_t version;
	uint32_t pid;
	uint64_t size; // of the whole
	uint64_t shards_off, cells_off;
	uint32_t nshards, ncells; // ncells: of each shard
	uint64_t start_ns;        // CLOCK_MONOTONIC
	uint32_t flight_s; // the target's own wish (PROFD_TRACE=flight:SECONDS): keep so much to be asked for; 0: none
	uint32_t flight_rate_hz; // and so many samples for each second of CPU time; 0: none
};

#define WIRE_EVENTS_ASSERT(what) _Static_assert(what, #what)
WIRE_EVENTS_ASSERT(sizeof(struct wire_event) == 32);
WIRE_EVENTS_ASSERT(sizeof(struct wire_event_shard) == 128);
WIRE_EVENTS_ASSERT(sizeof(struct wire_events) <= 4096);
#undef WIRE_EVENTS_ASSERT

#endif
