// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// threads.h: the thread table: slots of the shared region (wire_slot), one for each thread that may be sampled.
//
// Lock-free for all: a thread joins by popping a free slot (or taking the next fresh one) and leaves by pushing it back;
// readers (helper, handler, collector) never hold anything up. A slot's generation rises at each release, so that a
// reader who saw the same state_tid before and after has seen one thread. The free list is a Treiber stack whose head
// carries a tag against ABA.
//
// timer_word is the one thing two parties change: the thread itself, at its start and end, and the helper, when sampling
// starts, stops or changes its rate. Whoever sets BUSY owns the kernel timer until it takes BUSY off. A thread that ends
// while the helper is busy with its slot leaves DYING behind and goes; the helper then does the rest.

#ifndef PROFD_THREADS_H
#define PROFD_THREADS_H

#include <stdbool.h>
#include <stdint.h>

#include "profd/wire.h"

// Bits of timer_word; the kernel timer's id + 1 is above them (0: no timer), or PROFD_TIMER_PERF (perf_event.h).
#define PROFD_TIMER_BUSY 1u
#define PROFD_TIMER_DYING 2u
#define PROFD_TIMER_ID_SHIFT 2
#define PROFD_TIMER_PERF (0x3fffffffu << PROFD_TIMER_ID_SHIFT)

// A thread that is about to exec must have no perf event: a signal that is pending then would meet the new image. It asks,
// the helper answers (timer.c).
enum profd_hold { PROFD_HOLD_NONE, PROFD_HOLD_ASKED, PROFD_HOLD_DONE };

// What wire_slot.private_words hold.
struct profd_slot_private {
	uint64_t stack_low, stack_high; // the thread's own stack; 0,0: not known
	uint64_t modules;               // hazard: the module set that this thread reads now; 0: none
	uint64_t first_due_ns;          // the timer's first expiry, on the thread's CPU clock
	uint64_t weight_seen;           // expiries that the handler has been told of since
	uint32_t timer_word;            // atomic
	uint32_t next_free;             // free list: index + 1; meaningful while free
	uint32_t period_ns;             // of this thread: that in force << slowdown; 0: not sampled
	uint32_t hold;                  // atomic futex; enum profd_hold
	// By the thread's handler alone; handler_ns and covered_ns only grow, until the slot is another thread's.
	uint64_t handler_ns; // time that it took, about
	uint64_t covered_ns; // CPU time that its samples stand for
	uint32_t usual_ns;   // what one sample takes, smoothed
	// atomic: CPU time due when a timer was replaced, which the next sample stands for, too
	uint32_t owed_us;
	// The governor's: what it saw of handler_ns and covered_ns the last time.
	uint64_t judged_handler_ns;
	uint32_t judged_covered_us;
	uint8_t slowdown; // the governor's: the period is shifted left by this
	uint8_t signals;  // perf events' that the handler had, modulo 256
	uint8_t samples;  // that the handler took, modulo 256
};
_Static_assert(sizeof(struct profd_slot_private) == sizeof(((struct wire_slot *)0)->private_words), "slot");

#define PROFD_NO_SLOT UINT32_MAX

struct profd_thread_stack {
	uint64_t low, high;
};

// Who made a thread; 0, 0: not known.
struct profd_thread_origin {
	uint32_t creator, tid; // as in wire_slot; creator is also what the thread works for at first
};

static inline struct profd_slot_private *profd_slot_private(struct wire_slot *slot)
{
	return (struct profd_slot_private *)slot->private_words;
}

// The region is new: no thread is in the table yet. Not in the handler.
void profd_threads_init(void);
// Adds thread tid (any thread of the target may call, also for another tid). Returns its slot or PROFD_NO_SLOT (counted).
uint32_t profd_threads_join(uint32_t tid, struct profd_thread_stack stack, struct profd_thread_origin origin);
// Takes the thread out, its timer first. By the thread itself at its end, or by the helper for one that is gone.
void profd_threads_leave(uint32_t slot);
// Gives the slot back; only for timer.c, once the timer is gone.
void profd_threads_release(uint32_t slot);
void profd_threads_set_name(uint32_t tid, const char *name);
// The id of the thread whose own stack ends there; 0: there is none.
uint32_t profd_threads_find(uint64_t stack_high);
// Helper: joins threads that /proc/self/task has and we do not (raw clone, made before us), and takes out those that are
// gone without having left. Cheap when the counts agree.
void profd_threads_scan(void);

// atomic: threads that pthread_create has been asked for and that have not joined by themselves yet. /proc may list them
// already: while there are any, the scan adopts nobody, or they would be in the table twice.
extern uint32_t profd_threads_starting;

// The calling thread's slot; PROFD_NO_SLOT when it has none.
extern __thread uint32_t profd_thread_slot;

// The helper, from its first instruction on: its descriptors are of a table of its own, their numbers are none of the program's.
extern __thread bool profd_thread_is_helper;

#endif
