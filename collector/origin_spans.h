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

// Finds the spans of those threads that have an otel_at: has_span and span. Nothing is read if there is none. Without the collector's lock:
// with 10,000 threads it takes milliseconds. Returns whether there are any, which are then to be confirmed (origins_confirm_spans): a thread
// that has ended may have left its memory to another. Accepts NULL.
bool origin_spans_find(struct origins *origins, pid_t pid);

#endif
