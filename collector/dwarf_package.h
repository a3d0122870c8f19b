// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// dwarf_package.h: the index of a .dwp file, which has many .dwo files in one: which part of each section is which unit's. DWARF 5,
// section 7.3.5, and GNU's version of it before (version 2).

#ifndef PROFD_COLLECTOR_DWARF_PACKAGE_H
#define PROFD_COLLECTOR_DWARF_PACKAGE_H

#include "collector/dwarf_file.h"

// Fills file->shares from its index; leaves them empty when there is none.
void dwarf_package_read(struct dwarf_file *file);
// The shares of the unit at an offset in .debug_info; NULL: not in a package.
const struct dwarf_shares *dwarf_package_find(const struct dwarf_file *file, uint64_t offset);

#endif
