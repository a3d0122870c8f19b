// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// otel_trace.c: see otel_trace.h. Handler, but for the init and the place. The record is the program's: it is read as memory that may not be there.

#include "profd/otel_trace.h"

#include "profd/safe_read.h"
#include "profd/thread_pointer.h"

static int64_t distance; // of the variable from the thread pointer; 0: there is none

void profd_otel_trace_init(void)
{
#ifdef __x86_64__
	__asm__(".weak otel_thread_ctx_v1\n\tmovq otel_thread_ctx_v1@gottpoff(%%rip), %0" : "=r"(distance));
#endif
}

static uint64_t record_address(void)
{
	uint64_t address = 0;

#ifdef __x86_64__
	__asm__ volatile("movq %%fs:(%1), %0" : "=r"(address) : "r"(distance));
#endif
	return address;
}

uint64_t profd_otel_trace_place(void)
{
	return distance ? profd_thread_pointer() + (uint64_t)distance : 0;
}

// Both copies are loops over bytes: no call of memcpy, which is libc's.
bool profd_otel_trace_read(struct wire_trace *ret_trace)
{
	struct wire_otel_record record;
	uint64_t address = distance ? record_address() : 0;
	uint8_t any = 0;

	if (!address || !profd_safe_read_bytes(address, &record, sizeof(record)) || record.valid != WIRE_OTEL_VALID)
		return false;
	for (uint32_t i = 0; i < sizeof(record.trace_id); i++)
		any |= __atomic_load_n(&record.trace_id[i], __ATOMIC_RELAXED);
	if (!any)
		return false;
	for (uint32_t i = 0; i < sizeof(record.trace_id); i++)
		__atomic_store_n(&ret_trace->trace_id[i], record.trace_id[i], __ATOMIC_RELAXED);
	for (uint32_t i = 0; i < sizeof(record.span_id); i++)
		__atomic_store_n(&ret_trace->span_id[i], record.span_id[i], __ATOMIC_RELAXED);
	ret_trace->flags = record.trace_flags & WIRE_TRACE_SAMPLED;
	for (uint32_t i = 0; i < sizeof(ret_trace->reserved); i++)
		__atomic_store_n(&ret_trace->reserved[i], 0, __ATOMIC_RELAXED);
	return true;
}
