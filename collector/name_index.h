// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// name_index.h: which units a name table has, where their code is, and which of them are wanted. Part of name_compiler.c.

#ifndef PROFD_COLLECTOR_NAME_INDEX_H
#define PROFD_COLLECTOR_NAME_INDEX_H

#include "collector/dwarf_file.h"
#include "collector/dwarf_unit.h"
#include "collector/interval_map.h"
#include "collector/name_table.h"
#include "collector/symbol_table.h"

#define NAME_PAGE_EDGES 256u

// Which units are wanted: for each address the first that may have it, or each that may; or all that there are.
enum name_extent { NAME_FIRST_UNIT, NAME_EACH_UNIT, NAME_EVERYTHING };

// A unit to compile, and the addresses in it that somebody looks for.
struct name_job {
	uint32_t unit;
	uint32_t first, count; // of wanted
};

struct name_index {
	struct dwarf_span span; // of all code
	const struct dwarf_file *dwarf;
	const struct symbol_table *symbols; // NULL: none
	struct name_range *ranges;          // by start
	size_t nranges, ranges_capacity;
	uint32_t *pages;
	size_t npages;
	struct name_job *jobs;
	size_t njobs;
	uint64_t *wanted; // what the jobs refer to
	size_t nwanted;
};

// The executable segments of a file. False: none, or more than 4 GiB.
bool name_index_span(const struct elf_file *file, struct dwarf_span *ret_span);
// span, dwarf and symbols are set; the rest is zero. 0, −ENOMEM, −EFBIG. Either way, finish frees.
int name_index_init(struct name_index *index, const uint64_t *addresses, size_t count, enum name_extent extent);
void name_index_finish(struct name_index *index);

#endif
