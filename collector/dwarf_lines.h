// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// dwarf_lines.h: a unit's line table: its files, and its rows sorted by address. DWARF 5, section 6.2; versions 2 to 5.

#ifndef PROFD_COLLECTOR_DWARF_LINES_H
#define PROFD_COLLECTOR_DWARF_LINES_H

#include "collector/dwarf_file.h"

#define DWARF_NO_FILE UINT32_MAX // of a row: the end of a sequence

struct dwarf_line_file {
	const char *name;
	uint64_t dir; // an index of dirs
};

struct dwarf_row {
	uint64_t address;
	uint32_t file, line;
};

struct dwarf_lines {
	const char **dirs;
	size_t ndirs, dirs_capacity;
	struct dwarf_line_file *files; // as the program numbers them: before version 5, number 0 is empty
	size_t nfiles, files_capacity;
	struct dwarf_row *rows; // by address; of several at one address, the last one holds
	size_t nrows, rows_capacity;
	unsigned version;
};

// Zeroed is empty; reading again reuses what was allocated. with_rows: or the files alone. start, end: where code can be; sequences
// that begin elsewhere are not there (the linker dropped them). 0; −ENOENT: none; −EINVAL: damaged (what was read before, stays);
// −ENOMEM.
int dwarf_lines_read(struct dwarf_lines *lines, const struct dwarf_cu *cu, uint64_t start, uint64_t end,
		     bool with_rows);
void dwarf_lines_finish(struct dwarf_lines *lines);

#endif
