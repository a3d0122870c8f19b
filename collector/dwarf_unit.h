// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// dwarf_unit.h: reads one compilation unit: its functions and inlined calls, flat by address, and its lines. What name_writer.h
// makes a unit of a name table from. A reader is one thread's, and reads one unit after the other.

#ifndef PROFD_COLLECTOR_DWARF_UNIT_H
#define PROFD_COLLECTOR_DWARF_UNIT_H

#include "collector/die_reader.h"
#include "collector/dwarf_file.h"
#include "collector/dwarf_lines.h"
#include "collector/interval_map.h"

#define DWARF_UNIT_READERS 16

struct dwarf_place {
	uint32_t file; // from 1, a number of files; 0: not known
	uint32_t line;
};

struct dwarf_scope {
	uint32_t parent; // that it is inlined into, a smaller number; INTERVAL_NONE: a function
	uint32_t function;
	struct dwarf_place call;
};

struct dwarf_function {
	const char *name, *linkage_name; // NULL: none
	uint32_t start_line;
	uint64_t entry; // the first address of an instance that is not inlined; 0: none seen
	bool wanted;    // somebody looks for an address in it
};

struct dwarf_unit_files {
	uint32_t *numbers; // by the program's number: ours; 0: not asked for yet
	size_t capacity;
};

// Where code can be: nothing else is taken.
struct dwarf_span {
	uint64_t start, end;
};

struct dwarf_unit {
	struct dwarf_span span;
	struct interval_map places; // to numbers of scopes
	struct dwarf_scope *scopes;
	size_t nscopes, scopes_capacity;
	struct dwarf_function *functions;
	size_t nfunctions, functions_capacity;
	struct dwarf_lines lines;      // rows: their files are ours, too
	struct dwarf_lines call_lines; // of a split unit: files that call sites mean
	char **files;
	size_t nfiles, files_capacity;
	// Scratch.
	struct die_reader reader, names[DWARF_UNIT_READERS];
	uint64_t *origins; // open addressing: DIE → function
	uint32_t *origin_functions;
	size_t norigins, origins_capacity;
	struct dwarf_unit_files row_numbers, call_numbers;
};

// Zeroed but for span is empty. wanted: addresses in it that somebody looks for. 0; −ENOMEM; −EINVAL: nothing to read.
int dwarf_unit_read(struct dwarf_unit *unit, const struct dwarf_cu *cu, const uint64_t *wanted, size_t nwanted);
void dwarf_unit_finish(struct dwarf_unit *unit);

#endif
