// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// name_table.h: names, inlined calls and lines of one build ID, flat: no pointers, offsets only, so that a file of it is mapped and
// used as it is. A table is one block, or several one after the other: each has some of the units, those that a profile wanted.
//
//   block    header │ ranges │ pages │ units │ unit … unit │ strings
//   ranges   {start, end, unit}, by start: the code of DWARF's units, all of them
//   pages    starts, ascending: the ELF symbols, cut into units of their own, numbered after DWARF's
//   units    {at, counts}; at 0: not in this block
//   unit     edge starts │ edge scopes │ row starts │ row places │ scopes │ functions │ files
//
// An address is found in the edges by binary search; that gives the innermost scope, which leads to those around it; another search
// in the rows gives the line. A place is file << line_bits | line; file 0: not known, else a number of `files`, from 1.
// Everything but the header is 32-bit; addresses are relative to the header's base.
//
// Nothing in a block is trusted: name_block_open checks where things are, each lookup what they say. Immutable: any thread.

#ifndef PROFD_COLLECTOR_NAME_TABLE_H
#define PROFD_COLLECTOR_NAME_TABLE_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NAME_MAGIC 0x73656d616e646670ULL // "pfdnames"
#define NAME_VERSION 1u
#define NAME_MAX_SIZE (1ULL << 31)
#define NAME_NONE UINT32_MAX

struct name_header {
	uint64_t magic;
	uint32_t version;
	uint32_t source;      // enum module_symbols
	uint64_t size;        // of the block; a multiple of 8
	uint64_t base;        // of addresses
	uint64_t identity[2]; // of the files it was made from
	uint32_t nranges, npages;
	uint32_t ndwarf, nunits; // nunits = ndwarf + npages
	uint32_t ranges_at, pages_at, units_at;
	uint32_t strings_at, strings_size; // the last byte is 0, the first string is ""
	uint32_t reserved;
};

struct name_range {
	uint32_t start, end, unit;
};

struct name_unit {
	uint32_t at;
	uint32_t nedges, nrows, nscopes, nfunctions, nfiles;
	uint32_t line_bits;
};

struct name_scope {
	uint32_t parent; // that it is inlined into, always a smaller number; NAME_NONE: a function
	uint32_t function;
	uint32_t call_place;
};

#define NAME_TO_DEMANGLE 0x80000000u // in start_line: name is what to show if system_name cannot be demangled
struct name_function {
	uint32_t name, system_name; // offsets of strings
	uint32_t start_line;
};

static_assert(sizeof(struct name_header) == 88, "of files");
static_assert(sizeof(struct name_range) == 12 && sizeof(struct name_unit) == 28, "of files");
static_assert(sizeof(struct name_scope) == 12 && sizeof(struct name_function) == 12, "of files");

// A block that was checked.
struct name_block {
	const uint8_t *data;
	const struct name_header *header;
	const struct name_range *ranges;
	const uint32_t *pages;
	const struct name_unit *units;
	const char *strings;
};

struct name_frame {
	const char *name, *system_name; // NULL: none in DWARF
	const char *file;               // ""; not known
	uint32_t line, start_line;      // 0: not known
	bool to_demangle;
};

// data must be aligned to 8 and stay. 0 or −EINVAL: not a sound block. A block may be followed by others: size is what there is.
int name_block_open(const void *data, size_t size, struct name_block *ret_block);

#define NAME_MAX_OVERLAP 16 // units that have code at one address, looked at
// The units that may have vaddr: DWARF's first, then the page of symbols. Returns how many, at most NAME_MAX_OVERLAP + 1.
size_t name_block_units_at(const struct name_block *block, uint64_t vaddr, uint32_t units[NAME_MAX_OVERLAP + 1]);
static inline bool name_block_has(const struct name_block *block, uint32_t unit)
{
	return unit < block->header->nunits && block->units[unit].at != 0;
}
// Frames at vaddr, innermost first, in a unit that the block has; 0: nothing there. With a line but no function (assembler): one frame
// without names.
size_t name_block_find(const struct name_block *block, uint32_t unit, uint64_t vaddr, struct name_frame *frames,
		       size_t max);

#endif
