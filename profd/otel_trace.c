// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// otel_trace.c: see otel_trace.h. Handler, but for the init. The record is the program's: it is read as memory that may not be there.

#include "profd/otel_trace.h"

#include "profd/safe_read.h"

// OTEP 4947, "Thread-Local Context Record", up to its attributes.
struct record {
	uint8_t trace_id[16];
	uint8_t span_id[8];
	uint8_t valid;
	uint8_t trace_flags;
	uint16_t attrs_data_size;
};
_Static_assert(sizeof(struct record) == 28, "record");

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

// Both copies are loops over bytes: no call of memcpy, which is libc's.
bool profd_otel_trace_read(struct wire_trace *ret_trace)
{
	struct record record;
	uint64_t address = distance ? record_address() : 0;
	uint8_t any = 0;

	if (!address || !profd_safe_read_bytes(address, &record, sizeof(record)) || record.valid != 1)
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
