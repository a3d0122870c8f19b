// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// dwarf_index.h: functions, inlined chains and lines by vaddr, out of DWARF, without walking scopes for each address:
//
//   units[]   address ranges of all compilation units, sorted; made at creation
//   unit      on its first hit, its DIE tree is read once into blocks[]: functions, each followed by its inlined
//             subroutines in preorder, sorted by start; names are resolved when a block is first hit
//
// Not thread-safe: libdw reads lazily; the module's lock guards it.

#ifndef PROFD_COLLECTOR_DWARF_INDEX_H
#define PROFD_COLLECTOR_DWARF_INDEX_H

#include <elfutils/libdw.h>
#include <stddef.h>
#include <stdint.h>

struct dwarf_index;

struct dwarf_frame {
	const char *name;         // DW_AT_name; NULL: none
	const char *linkage_name; // NULL: none
	const char *file;         // NULL: not known
	int line;                 // 0: not known
	int start_line;           // 0: not known
};

// dwarf stays the caller's and must outlive the index. NULL when out of memory or when it describes no code.
struct dwarf_index *dwarf_index_create(Dwarf *dwarf);
void dwarf_index_destroy(struct dwarf_index *index); // accepts NULL
// Frames at vaddr, innermost first; 0: no function there. With a line but no function (assembler source): one frame
// without a name.
size_t dwarf_index_find(struct dwarf_index *index, uint64_t vaddr, struct dwarf_frame *frames, size_t max);

#endif
