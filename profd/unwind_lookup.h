// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// unwind_lookup.h: the parts of an unwind table (wire.h), and the rule of an address. Handler.

#ifndef PROFD_UNWIND_LOOKUP_H
#define PROFD_UNWIND_LOOKUP_H

#include <stddef.h>
#include <stdint.h>

#include "profd/wire.h"

static inline const struct wire_rule *profd_lookup_rules(const struct wire_table *table)
{
	return (const struct wire_rule *)(table + 1);
}

static inline const uint32_t *profd_lookup_pages(const struct wire_table *table)
{
	return (const uint32_t *)(profd_lookup_rules(table) + table->nrules);
}

static inline const struct wire_row *profd_lookup_rows(const struct wire_table *table)
{
	return (const struct wire_row *)(profd_lookup_pages(table) + table->npages + 1);
}

// The indices were checked when the table was mapped.
static inline const struct wire_rule *profd_lookup_rule(const struct wire_table *table, uint64_t vaddr)
{
	const struct wire_row *rows = profd_lookup_rows(table);
	const uint32_t *pages = profd_lookup_pages(table);
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

		if (rows[middle].off <= offset)
			low = middle;
		else
			high = middle;
	}
	return low < high ? &profd_lookup_rules(table)[rows[low].rule] : NULL;
}

#endif
