// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// current_trace.h: which trace the calling thread has now: the one place that says so. Handler; also any thread of the target.

#ifndef PROFD_CURRENT_TRACE_H
#define PROFD_CURRENT_TRACE_H

#include <stddef.h>

#include "profd/otel_trace.h"
#include "profd/wire.h"

// What an OpenTelemetry SDK says goes before what the program told us; that are the thread's own words: it wrote them, or is in the
// middle of it. slot: the thread's own; NULL: it has none. buffer: for the former. NULL: none.
static inline const struct wire_trace *profd_current_trace(const struct wire_slot *slot, struct wire_trace *buffer)
{
	if (profd_otel_trace_read(buffer))
		return buffer;
	if (!slot || !__atomic_load_n(&slot->has_trace, __ATOMIC_RELAXED) ||
	    (__atomic_load_n(&slot->trace_turn, __ATOMIC_RELAXED) & 1))
		return NULL;
	return &slot->trace;
}

#endif
