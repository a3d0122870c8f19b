// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// fake_traces.h: what traced.c knows of the rest of the agent, for tests that link it: the calling thread's trace is what the test says. To be
// included once.

#ifndef PROFD_TESTS_UNIT_FAKE_TRACES_H
#define PROFD_TESTS_UNIT_FAKE_TRACES_H

#include <stdbool.h>
#include <string.h>

#include "profd/agent.h"
#include "profd/otel_trace.h"
#include "profd/threads.h"

struct profd_agent profd_agent;
__thread uint32_t profd_thread_slot = PROFD_NO_SLOT;
static __thread struct wire_trace fake_trace;
static __thread bool fake_has_trace;

bool profd_otel_trace_read(struct wire_trace *ret_trace)
{
	if (fake_has_trace)
		*ret_trace = fake_trace;
	return fake_has_trace;
}

// A trace and a span all of that byte; 0: none.
static inline void fake_set_trace(int digit, bool sampled)
{
	memset(fake_trace.trace_id, digit, sizeof(fake_trace.trace_id));
	memset(fake_trace.span_id, digit, sizeof(fake_trace.span_id));
	fake_trace.flags = sampled ? WIRE_TRACE_SAMPLED : 0;
	fake_has_trace = digit != 0;
}

#endif
