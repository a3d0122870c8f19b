// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// unwind_lookup.h: the rule that an unwind table (wire.h) has for an address. Handler.

#ifndef PROFD_UNWIND_LOOKUP_H
#define PROFD_UNWIND_LOOKUP_H

#include <stddef.h>
#include <stdint.h>

#include "profd/wire.h"

// The indices were checked when the table was mapped.
static inline const struct wire_rule *profd_lookup_rule(const struct wire_table *table, uint64_t vaddr)
{
	uint32_t row;

	return wire_table_find_row(table, vaddr, &row) ? wire_table_row_rule(table, row) : NULL;
}

#endif
