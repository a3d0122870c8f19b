// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// trace_feed.h: turns a tracing window's items (trace.h) into tracks, slices and arrows (formats/trace.h): who was alive from when to when, who
// waited for what, whose wake-up or exit let him go on, which thread made which, and what ran. In the consumer's thread; names addresses,
// which may take long.
//
//   of an item │ on the thread's track                │ arrow
//   CREATE     │ instant "create thread"              │ begins, known by the new thread's token
//   START      │ slice "alive" begins                 │ ends
//   WAKE       │ instant "wake"                       │ begins, known by the object
//   PARK       │ slice "mutex lock", "cond wait", …   │
//   UNPARK     │ its end                              │ ends: of the object's last WAKE since the PARK, if time or an error was not its end
//   EXIT       │ instant "exit", end of all slices    │ begins, known by the thread, which joins wait for
//   sample     │ instant "on CPU" with its stack      │

#ifndef PROFD_COLLECTOR_TRACE_FEED_H
#define PROFD_COLLECTOR_TRACE_FEED_H

#include <stddef.h>
#include <stdint.h>

struct trace;
struct trace_format;
struct trace_feed;
struct window;
struct writer;

// window: one that fills trace; both outlive the feed. title is copied. NULL: no memory.
struct trace_feed *trace_feed_create(struct window *window, struct trace *trace, const struct trace_format *format,
				     const char *title);
void trace_feed_destroy(struct trace_feed *feed); // accepts NULL
// Writes what is in the queue now, some items at the most. 1: there may be more at once; 0: that was all for now; −errno.
int trace_feed_some(struct trace_feed *feed, struct writer *writer);
// After window_stop, and after the last item: 0 or −errno. Does not flush the writer.
int trace_feed_end(struct trace_feed *feed, struct writer *writer);

// What was written so far.
struct trace_feed_stats {
	uint64_t events, samples, threads, arrows;
};
void trace_feed_stats(const struct trace_feed *feed, struct trace_feed_stats *ret_stats);
// What was lost, in words: "nothing lost", or how many of what. buf may be cut.
const char *trace_feed_losses(struct trace_feed *feed, char *buf, size_t size);

#endif
