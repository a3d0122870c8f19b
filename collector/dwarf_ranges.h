// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// dwarf_ranges.h: the addresses that a DIE covers: low and high PC, .debug_ranges, .debug_rnglists. DWARF 5, section 2.17.

#ifndef PROFD_COLLECTOR_DWARF_RANGES_H
#define PROFD_COLLECTOR_DWARF_RANGES_H

#include "collector/dwarf_file.h"

// What is called for each range that is not empty; false ends it.
typedef bool (*dwarf_range_sink)(void *context, uint64_t start, uint64_t end);

// budget: list entries that may still be read; counts down. Many DIEs may share a list: without it, that is a way to be kept busy.
// False when the sink ended it, or the budget.
bool dwarf_ranges_of_die(const struct dwarf_cu *cu, const struct die *die, uint64_t *budget, dwarf_range_sink sink,
			 void *context);
bool dwarf_ranges_of_unit(const struct dwarf_cu *cu, uint64_t *budget, dwarf_range_sink sink, void *context);

#endif
