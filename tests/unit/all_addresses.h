// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// all_addresses.h: an unwind table that claims all addresses, which would need more pages than a number can count: 2^48, or none.

#ifndef PROFD_TESTS_ALL_ADDRESSES_H
#define PROFD_TESTS_ALL_ADDRESSES_H

#include <stdint.h>

#include "profd/wire.h"

struct all_addresses {
	struct wire_table table;
	struct wire_rule rule;
	uint32_t pages[1];
};

static inline struct all_addresses all_addresses_make(void)
{
	return (struct all_addresses){.table = {.magic = WIRE_TABLE_MAGIC,
						.version = WIRE_TABLE_VERSION,
						.machine = WIRE_MACHINE_X86_64,
						.size = sizeof(struct all_addresses),
						.text_end = UINT64_MAX,
						.nrules = 1}};
}

#endif
