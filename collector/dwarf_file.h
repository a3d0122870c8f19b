// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// dwarf_file.h: the units of one file's .debug_info, and what the forms of their attributes mean: strings, addresses, references.
// DWARF 2 to 5, split or not; type units are left out, for no code is in them. Immutable after opening: any thread.

#ifndef PROFD_COLLECTOR_DWARF_FILE_H
#define PROFD_COLLECTOR_DWARF_FILE_H

#include "collector/die_reader.h"
#include "collector/dwarf_sections.h"

#define DWARF_NONE UINT64_MAX

struct dwarf_file;

// Where a .dwp file keeps what one unit would have in a .dwo file of its own. Else: everything.
struct dwarf_shares {
	struct dwarf_bytes parts[DWARF_SECTIONS];
};

struct dwarf_cu {
	const struct dwarf_file *file;
	const struct dwarf_cu *skeleton;   // of a split unit: whose addresses and lines are meant; NULL: not split
	const struct dwarf_shares *shares; // NULL: the file's sections
	uint64_t offset, root, end;        // of the unit, of its first DIE, in .debug_info
	uint64_t abbrevs;                  // offset in .debug_abbrev
	uint64_t str_offsets_base, addr_base, rnglists_base, ranges_base;
	uint64_t lines; // offset in .debug_line; DWARF_NONE
	uint64_t low_pc, dwo_id;
	const char *dir, *dwo_name; // NULL: not known, not split
	struct die_value low, high, ranges;
	uint32_t present; // of low, high, ranges: as in struct die
	uint16_t tag, language;
	uint8_t version, address_size, offset_size, type;
};

struct dwarf_file {
	struct dwarf_sections sections;
	struct dwarf_cu *units; // by offset
	size_t count;
	struct dwarf_shares *shares; // of a .dwp file's units, in the order of its index
	size_t nshares;
	const struct dwarf_file *alt; // dwz's; NULL: none. Not owned
};

// ret_file must stay where it is until it is closed; takes over the sections. What is damaged ends the list of units.
void dwarf_file_init(struct dwarf_file *ret_file, struct dwarf_sections *sections);
void dwarf_file_close(struct dwarf_file *file); // accepts a zeroed one
// Has it functions, or skeletons of units that may? False: lines at most, as of assembler.
bool dwarf_file_has_functions(const struct dwarf_file *file);

// Bytes of a form; −1: varies, or not known.
int dwarf_form_size(const struct dwarf_cu *cu, uint16_t form);
// Reads an attribute's value; *form is not DW_FORM_indirect afterwards.
uint64_t dwarf_form_take(const struct dwarf_cu *cu, uint16_t *form, struct dwarf_cursor *cursor);

// The part of a section that the unit means.
const struct dwarf_bytes *dwarf_cu_section(const struct dwarf_cu *cu, enum dwarf_section section);
// NULL: none, or damaged. Ends with a NUL inside the file.
const char *dwarf_string(const struct dwarf_cu *cu, const struct die_value *value);
const char *dwarf_string_at(const struct dwarf_bytes *section, uint64_t offset);
bool dwarf_is_address(uint16_t form);
bool dwarf_address(const struct dwarf_cu *cu, const struct die_value *value, uint64_t *ret_address);
bool dwarf_address_by_index(const struct dwarf_cu *cu, uint64_t index, uint64_t *ret_address);
// The unit that a reference leads into, and the offset there. NULL: nowhere.
const struct dwarf_cu *dwarf_reference(const struct dwarf_cu *cu, const struct die_value *value, uint64_t *ret_offset);

#endif
