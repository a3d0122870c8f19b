// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// zombies.h: which threads live and will never be woken again, as far as two witnesses agree:
//
//  - the snapshots (thread_watch.h): a group of threads with the same stack, creator and state did not run for a whole window: same PC, same
//    SP, no CPU time; nor did any other thread at that place;
//  - the trace (wake_history.h): each of them lives and waits, and nobody let go on who waits for that object, in the window or for much longer
//    than it used to take.
//
// What waits for time (sleep, timed waits) or for the world outside (files, sockets, signals, children) is never called a zombie: no
// trace could tell.

#ifndef PROFD_COLLECTOR_ZOMBIES_H
#define PROFD_COLLECTOR_ZOMBIES_H

#include <stdint.h>

struct thread_dump;
struct wake_history;
struct writer;

struct zombies_window {
	uint64_t begin_ns, end_ns; // CLOCK_MONOTONIC: between the two snapshots
	uint64_t lost;             // events that the trace lacks
};

// Why groups that did not run are not called zombies.
enum zombies_doubt {
	ZOMBIES_OUTSIDE, // they wait for the world outside
	ZOMBIES_WOKEN,   // somebody lets them go on, or they have events in the window
	ZOMBIES_SLOW,    // they used to wait as long before they were woken
	ZOMBIES_LOST,    // the trace lost events
	ZOMBIES_DOUBTS
};

struct zombies_counts {
	uint32_t groups, threads; // zombies
	uint32_t doubted[ZOMBIES_DOUBTS];
};

// Leaves of dump's verdicts those on zombies alone, and of these the ones that the trace agrees to, each with the evidence. 0 or −ENOMEM.
int zombies_judge(struct thread_dump *dump, const struct wake_history *history, const struct zombies_window *window,
		  struct zombies_counts *ret_counts);
// The verdicts as text, and what was doubted; flushes. 0 or −errno.
int zombies_write(const struct thread_dump *dump, const struct zombies_window *window,
		  const struct zombies_counts *counts, struct writer *writer);

#endif
