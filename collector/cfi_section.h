// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cfi_section.h: finds the FDEs of a .eh_frame or .debug_frame section. Any thread; works on the caller's data only.

#ifndef PROFD_COLLECTOR_CFI_SECTION_H
#define PROFD_COLLECTOR_CFI_SECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "collector/cfi_program.h"

struct cfi_section {
	const uint8_t *data; // not trusted
	size_t size;
	uint64_t vaddr; // of data[0]; pc-relative pointers count from there
	bool is_eh_frame;
	enum cfi_arch arch;
};

// Returns false to stop.
typedef bool (*cfi_section_visit)(void *context, const struct cfi_fde *fde);

// Calls visit for each FDE whose CIE and range make sense, in the section's order. What makes no sense is passed over; an
// entry whose length does not fit ends the scan.
void cfi_section_each(const struct cfi_section *section, cfi_section_visit visit, void *context);

#endif
