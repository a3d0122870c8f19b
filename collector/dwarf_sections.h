// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// dwarf_sections.h: those debug sections of an ELF file that names and lines come from, unpacked. What is not compressed is mapped
// and costs only what is read of it; sections that nobody here reads (locations, macros) cost nothing.
//
// The file may be cut short while it is mapped: a SIGBUS then. So this runs in a process that may die (name_worker.h), or on an ELF
// file in memory. Immutable after opening: any thread.

#ifndef PROFD_COLLECTOR_DWARF_SECTIONS_H
#define PROFD_COLLECTOR_DWARF_SECTIONS_H

#include "collector/elf_file.h"

enum dwarf_section {
	DWARF_INFO,
	DWARF_ABBREV,
	DWARF_LINE,
	DWARF_LINE_STR,
	DWARF_STR,
	DWARF_RANGES,
	DWARF_RNGLISTS,
	DWARF_ADDR,
	DWARF_STR_OFFSETS,
	DWARF_CU_INDEX, // of a .dwp file
	DWARF_SECTIONS
};

struct dwarf_bytes {
	const uint8_t *data;
	size_t size;
};

struct dwarf_sections {
	struct dwarf_bytes parts[DWARF_SECTIONS]; // {NULL, 0}: not there, or damaged
	void *map, *unpacked;                     // what they are in; NULL: not needed
	size_t map_size, unpacked_size;
};

// split: the sections whose names end in ".dwo". Large compressed sections are unpacked in threads of its own, which end before it
// returns. An ELF file in memory must outlive the sections. 0 or −ENOENT: no .debug_info; −EINVAL: damaged; −EFBIG: unpacked, it is
// larger than we take; −ENOMEM.
int dwarf_sections_open(const struct elf_file *file, bool split, struct dwarf_sections *ret_sections);
void dwarf_sections_close(struct dwarf_sections *sections); // accepts a zeroed one

#endif
