// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cfi_plt.h: rules for the procedure linkage table of an aarch64 file, which linkers leave without CFI (x86-64's has some).

#ifndef PROFD_COLLECTOR_CFI_PLT_H
#define PROFD_COLLECTOR_CFI_PLT_H

#include "collector/cfi_section.h"

// section: the bytes of a PLT. Calls row for its parts in order of address; together they cover it. Every entry leaves SP and x30
// alone but for those that call the dynamic linker: these push two registers and jump away.
void cfi_plt_each(const struct cfi_section *section, cfi_row row, void *context);

#endif
