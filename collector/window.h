// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// window.h: one consumer of the sample stream: a request's seconds, or a whole run. Opened and closed by any thread (an HTTP
// connection's, the CLI's); filled by the collector's loop thread (collector.h). Several windows share one stream of samples; each
// has its own targets and its own totals.

#ifndef PROFD_COLLECTOR_WINDOW_H
#define PROFD_COLLECTOR_WINDOW_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "formats/profile_view.h"
#include "profd/wire.h"

struct collector;
struct profile;
struct window;

struct trace;

struct window_options {
	pid_t pid; // only this target (its session of now: not what it becomes by exec); 0: all, those to come too
	uint32_t rate_hz; // asked, 1..WIRE_MAX_RATE_HZ; with a trace also 0: no samples
	struct trace *
		trace; // the window's events and samples go there (trace.h); NULL: the samples are counted. Outlives the window
	struct profile_view view;
};

// One reason more than walks end for: callers may be missing in between.
#define WINDOW_STOP_SKIPPED WIRE_STOP_COUNT
#define WINDOW_STOP_COUNT (WIRE_STOP_COUNT + 1)

struct window_stats {
	uint64_t samples;                    // weight: 1 + overrun each
	uint64_t records;                    // samples as delivered by the handler, and kept
	uint64_t unwanted;                   // not kept: they have not the labels asked for
	uint64_t cpu_ns;                     // CPU time that the samples stand for
	uint64_t generated, dropped[3];      // in the targets' rings during the window; dropped by enum wire_drop
	uint64_t dropped_aggregate;          // samples not kept because the window reached its memory limit
	uint64_t stop_ns[WINDOW_STOP_COUNT]; // cpu_ns by why the walks ended
	uint32_t threads;                    // distinct threads with a sample
	uint32_t targets;                    // processes with a sample
	uint64_t period_ns;                  // the finest period in effect during the window
	uint64_t threads_unsampled;          // in the targets; timer_errno says why (0: not known)
	int timer_errno;
	uint32_t clock; // enum wire_clock: the finest in effect in any target
	int perf_errno; // why some thread has no perf event although it was to have one; 0: all have
	uint64_t contexts_lost, labels_lost; // that had no room, since the targets started
	uint64_t slowed;                     // times that a thread's rate was lowered to keep to --max-overhead
	int64_t start_ns, end_ns;            // since the epoch
};

// 0; −ESRCH no such target; −EBUSY too many windows; −EINVAL rate; −ESHUTDOWN the collector stops; −ENOMEM. Its targets have been told to
// sample when it returns, but for those whose unwind tables take longer than two seconds to build: they follow.
int window_open(struct collector *collector, const struct window_options *options, struct window **ret_window);
// Why a walk ended (enum wire_stop), in words; "" where the stack is complete. No other stop is let in by the ring's reader.
const char *window_stop_reason(uint32_t stop);
// What the stacks that do not reach their thread's start stand for, in percent of the CPU time.
double window_truncated_percent(const struct window_stats *stats);
// Samples that were really taken for a second of CPU; 0: none.
double window_reached_hz(const struct window_stats *stats);
// Why a thread that was to have a perf event has a timer (window_stats.perf_errno), in words.
const char *window_perf_reason(int perf_errno);
// True once the window's target is gone, or the collector stops. A window over all targets waits for others to come.
bool window_ended(struct window *window);
// An fd that becomes readable when the window has ended. The window's own; poll only.
int window_fd(struct window *window);
// Has the names read of what was gathered since it was called last, so that less is left to do after window_stop. While it is open; may
// take as long as window_profile.
void window_prepare(struct window *window);
// Stops filling it: drains the rings (for good where the target is dead), disarms what nobody else needs. Call once before
// window_profile. Waits up to two seconds for the mappings of targets that have only just come.
void window_stop(struct window *window);
// Symbolizes what was gathered; may take long; not on the loop thread. NULL when out of memory. The caller destroys the profile.
struct profile *window_profile(struct window *window);
void window_stats(struct window *window, struct window_stats *ret_stats); // at any time
// Accepts NULL; stops it when still open. May be called after collector_destroy: what a window needs lives as long as it.
void window_destroy(struct window *window);

#endif
