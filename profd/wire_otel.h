// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// wire_otel.h: what an OpenTelemetry SDK publishes of a thread (OTEP 4947, "Thread-Local Context Record"), up to its attributes. It is the
// program's, and neither the agent nor the collector writes it; a part of wire.h, for both read it.

#ifndef PROFD_WIRE_OTEL_H
#define PROFD_WIRE_OTEL_H

#include <stdint.h>

// The thread-local variable otel_thread_ctx_v1 points to it, or is NULL.
struct wire_otel_record {
	uint8_t trace_id[16]; // all 0: there is none
	uint8_t span_id[8];
	uint8_t valid; // WIRE_OTEL_VALID; else it is being changed, or means nothing
	uint8_t trace_flags;
	uint16_t attrs_data_size;
};
#define WIRE_OTEL_VALID 1u
_Static_assert(sizeof(struct wire_otel_record) == 28, "OTEP 4947");

#endif
