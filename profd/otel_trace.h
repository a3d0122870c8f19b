// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// otel_trace.h: the span that a thread works on, as OpenTelemetry's SDKs publish it (OTEP 4947): the thread-local variable otel_thread_ctx_v1
// points to a record.
//
// The agent refers to that variable weakly and by the initial-exec model: where the program, or a library that it is linked with, has it,
// the dynamic linker writes its distance from the thread pointer, the same in every thread, when it loads the agent. So a handler reads it
// by one load, and nothing is ever allocated for it; and the collector, for snapshots, by reading the program's memory. A library that is loaded later (dlopen) comes too late for that, and is not read.

#ifndef PROFD_OTEL_TRACE_H
#define PROFD_OTEL_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "profd/wire.h"

// Once, at start; not in the handler.
void profd_otel_trace_init(void);
// The calling thread's span. Handler; also any thread of the target. false: it has none, or it is being changed.
bool profd_otel_trace_read(struct wire_trace *ret_trace);
// Where the calling thread's variable is, as long as the thread lives. 0: there is none. Any thread of the target.
uint64_t profd_otel_trace_place(void);

#endif
