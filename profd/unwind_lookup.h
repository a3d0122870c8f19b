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
	const uint16_t *offsets = wire_table_offsets(table);
	const uint32_t *pages = wire_table_pages(table);
	uint32_t page, low, high;
	uint16_t offset;

	if (vaddr < table->text_start || vaddr >= table->text_end)
		return NULL;
	page = (uint32_t)((vaddr - table->text_start) >> WIRE_TABLE_PAGE_BITS);
	offset = (uint16_t)vaddr;
	low = pages[page];
	high = pages[page + 1];
	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;

		if (offsets[middle] <= offset)
			low = middle;
		else
			high = middle;
	}
	return low < high ? wire_table_row_rule(table, low) : NULL;
}

#endif
