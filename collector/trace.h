// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// trace.h: what a tracing window gathers, on its way from the collector's loop to who writes it: a queue of items in order of time, bounded.
//
//   loop (collector's lock held)                       consumer (any one thread)
//   trace_add … trace_add, in any order ─► pending
//   trace_flush(source, until): sorted, what that      trace_take ─► trace_feed.h ─► formats/trace.h
//   target did before `until` ─► queue
//
// Whoever drains a target says with `until` up to when he has all of it: what is younger may still lack something, and waits for the
// next flush. A flight recorder (keep_ns) is given what the targets' files and flight_samples.h have when a target ends, or it does itself; it
// keeps all as pending, and forgets what is older than keep_ns (but not names, nor waits that last), until trace_finish. What finds no room is
// counted, and so is what the targets' files had lost, and what says that it is still to come.

#ifndef PROFD_COLLECTOR_TRACE_H
#define PROFD_COLLECTOR_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "collector/event_reader.h"
#include "profd/wire.h"

// What an item is, besides enum wire_event_type.
enum trace_item_kind {
	TRACE_ITEM_SAMPLE = WIRE_EVENT_COUNT, // object: CPU time that it stands for; stack
	TRACE_ITEM_GONE, // the process has ended, or is another program by now: none of its threads is there any more
	TRACE_ITEM_STOP, // it lives, and what its threads did last goes on: no more of it is in this trace
};

struct trace_item {
	uint64_t time_ns;
	uint32_t source; // session.id
	uint32_t tid;
	union {
		struct {
			uint64_t object;
			uint32_t other;
			uint32_t stack; // a node of the window's aggregate; 0: none
		};
		char name[16];
	};
	uint8_t kind, reason;
	uint32_t order; // trace_add's own: of items of one time
};

struct trace_options {
	uint64_t keep_ns; // a flight recorder, for the last so long; 0: everything
	bool from_oldest; // begins with what the targets' files have already
	bool passive;     // takes what there is, and asks no target to trace
	uint32_t mib;     // of each target's file; 0: the usual
};

struct trace_counts {
	struct event_counts events;
	uint64_t samples;
	uint64_t dropped;   // items that found no room in the queue
	uint64_t recording; // targets that were writing events when they were read last
	uint64_t without;   // targets that could not trace
	int without_errno;  // why, of the last one
	uint64_t cut;       // targets of whose samples there was no memory for the oldest ones that were asked for
};

struct trace;

struct trace *trace_create(const struct trace_options *options); // NULL: no memory
void trace_destroy(struct trace *trace);                         // accepts NULL
const struct trace_options *trace_options(const struct trace *trace);

// Collector's lock held.
void trace_add(struct trace *trace, const struct trace_item *item);
void trace_flush(struct trace *trace, uint32_t source, uint64_t until_ns);
void trace_finish(struct trace *trace);                   // all that is pending; nothing more will come
struct trace_counts *trace_counting(struct trace *trace); // to add to

// The consumer. Never waits. Returns how many, at most max.
size_t trace_take(struct trace *trace, struct trace_item *items, size_t max);
void trace_read_counts(struct trace *trace, struct trace_counts *ret_counts);

#endif
