// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// wake_history.h: what the event trace of one process says of each thread's waits: since when it waits, how often it was woken before, by whom
// last, and how long it used to take. Pure: items in, answers out. One thread at a time.

#ifndef PROFD_COLLECTOR_WAKE_HISTORY_H
#define PROFD_COLLECTOR_WAKE_HISTORY_H

#include <stdbool.h>
#include <stdint.h>

struct trace_item;
struct wake_history;

struct wake_life {
	uint32_t tid;
	uint64_t started_ns;      // CLOCK_MONOTONIC, as all times; 0: before the trace began
	uint64_t parked_ns;       // it waits since; 0: it does not, or did before the trace began
	uint64_t object;          // what it waits for
	uint64_t last_ns;         // its last event; 0: it had none
	uint64_t woken;           // times that a wait of it ended, and not by time
	uint64_t last_woken_ns;   // 0: never
	uint64_t longest_ns;      // between two of these
	uint64_t object_woken_ns; // somebody last let those go on who wait for that object; 0: never seen
	uint32_t waker_tid;       // who that was, or who ended its last wait; 0: not known
};

struct wake_history *wake_history_create(void);                                     // NULL: no memory
void wake_history_destroy(struct wake_history *history);                            // accepts NULL
void wake_history_add(struct wake_history *history, const struct trace_item *item); // in order of time
// false: it is not known, or there was no memory for it.
bool wake_history_find(const struct wake_history *history, uint32_t tid, struct wake_life *ret_life);
uint64_t wake_history_begin_ns(const struct wake_history *history);  // time of the first item; 0: there was none
uint64_t wake_history_forgotten(const struct wake_history *history); // items that there was no memory for

#endif
