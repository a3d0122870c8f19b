// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// dwarf_unit.h: one compilation unit, read once: see dwarf_index.h, whose lock and limits hold here, too.

#ifndef PROFD_COLLECTOR_DWARF_UNIT_H
#define PROFD_COLLECTOR_DWARF_UNIT_H

#include "collector/dwarf_index.h"

struct dwarf_unit;

// die: the unit's DIEs; skeleton: the unit that has the line table (the same one unless DWARF is split).
struct dwarf_unit *dwarf_unit_create(const Dwarf_Die *die, const Dwarf_Die *skeleton);
void dwarf_unit_destroy(struct dwarf_unit *unit); // accepts NULL
size_t dwarf_unit_find(struct dwarf_unit *unit, uint64_t vaddr, struct dwarf_frame *frames, size_t max);

#endif
