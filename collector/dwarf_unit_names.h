// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// dwarf_unit_names.h: what the functions of a unit are called. A DIE says it itself, or the ones it refers to do: its abstract
// instance, its declaration, perhaps in another unit (LTO) or another file (dwz). Each is looked up once. Part of dwarf_unit.c.

#ifndef PROFD_COLLECTOR_DWARF_UNIT_NAMES_H
#define PROFD_COLLECTOR_DWARF_UNIT_NAMES_H

#include "collector/dwarf_unit.h"

// The number in unit->functions of the function that a DIE is an instance of. False: no memory.
bool dwarf_unit_function(struct dwarf_unit *unit, const struct dwarf_cu *cu, const struct die *die,
			 uint32_t *ret_number);
void dwarf_unit_forget_functions(struct dwarf_unit *unit);
void dwarf_unit_finish_functions(struct dwarf_unit *unit);

#endif
