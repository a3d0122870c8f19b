// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// origin_spans.h: the spans that an OpenTelemetry SDK publishes of a process's threads (OTEP 4947; profd/wire_otel.h), read out of its memory from
// outside, of all threads at once. Nothing that is found there is trusted: any address may be wrong, and a thread may end, or change its
// record, at any time.

#ifndef PROFD_COLLECTOR_ORIGIN_SPANS_H
#define PROFD_COLLECTOR_ORIGIN_SPANS_H

#include <stdbool.h>
#include <sys/types.h>

struct origins;
struct thread_scan;

// What need not be read again: who has not run since these origins were read, with their spans, has the same still.
struct origins_past {
	const struct origins *origins;  // of the same process; NULL: there are none
	const struct thread_scan *scan; // begun later: says who has run. NULL: nothing is to be read
};

// Finds the spans of those threads that have an otel_at: has_span and span. Nothing is read if there is none. Without the collector's lock:
// with 10,000 threads that have run it takes milliseconds. past: NULL: nothing is known. Returns whether there are any, which are then to
// be confirmed (origins_confirm_spans): a thread that has ended may have left its memory to another. Accepts NULL.
bool origin_spans_find(struct origins *origins, pid_t pid, const struct origins_past *past);

#endif
