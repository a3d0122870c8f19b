// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cfi_span.h: stretches of code that one rule holds for, while a table is compiled. Any thread; works on the caller's data only.

#ifndef PROFD_COLLECTOR_CFI_SPAN_H
#define PROFD_COLLECTOR_CFI_SPAN_H

#include <stddef.h>
#include <stdint.h>

struct cfi_span {
	uint64_t start, end; // vaddrs
	uint32_t rule;       // index
	uint32_t reserved;
};

// By start; spans that start together keep their order. No start may be below base. 0 or −ENOMEM (spans are as they were).
int cfi_span_sort(struct cfi_span *spans, size_t count, uint64_t base);

#endif
