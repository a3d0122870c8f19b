// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// die_reader.h: the DIEs of a unit, one by one in the order of the file or by offset, each with the attributes that say where code is
// and what it is called. Everything else is skipped as fast as the abbreviations allow. DWARF 5, section 7.5.
//
// Every byte read lies inside the unit. One reader is one thread's.

#ifndef PROFD_COLLECTOR_DIE_READER_H
#define PROFD_COLLECTOR_DIE_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "collector/dwarf_cursor.h"

struct dwarf_cu;

// The attributes that are kept. Which ones depends on the tag: those of a unit, of code, or of any other DIE (DIE_SIBLING).
enum die_slot {
	DIE_SIBLING,
	DIE_NAME,
	DIE_LINKAGE_NAME,
	DIE_LOW_PC,
	DIE_HIGH_PC,
	DIE_RANGES,
	DIE_ORIGIN, // DW_AT_abstract_origin or DW_AT_specification
	DIE_DECL_LINE,
	DIE_CALL_FILE,
	DIE_CALL_LINE,
	DIE_DECLARATION,
	DIE_COMP_DIR,
	DIE_STMT_LIST,
	DIE_LANGUAGE,
	DIE_STR_OFFSETS_BASE,
	DIE_ADDR_BASE,
	DIE_RNGLISTS_BASE,
	DIE_RANGES_BASE, // DW_AT_GNU_ranges_base
	DIE_DWO_NAME,
	DIE_DWO_ID,
	DIE_SLOTS
};

struct die_value {
	uint64_t number; // DW_FORM_string: a pointer to it
	uint16_t form;
};

struct die {
	uint64_t offset; // in .debug_info
	uint16_t tag;    // 0: the end of a list of siblings
	bool has_children;
	uint32_t present; // a bit for each slot
	struct die_value values[DIE_SLOTS];
};

// The abbreviations of a unit, and what was worked out from them.
struct die_abbrevs {
	const void *of; // the section; with the following, what they were read for
	uint64_t offset;
	uint32_t sizes;
	struct die_abbrev *entries;
	size_t count, capacity;
	struct die_spec *specs;
	size_t nspecs, specs_capacity;
};

struct die_reader {
	const struct dwarf_cu *cu;
	const uint8_t *section; // .debug_info, from its start
	struct dwarf_cursor cursor;
	struct die_abbrevs abbrevs;
};

static inline bool die_has(const struct die *die, enum die_slot slot)
{
	return die->present >> slot & 1;
}

// Zeroed is empty; a reader may be used for one unit after the other. 0, −EINVAL or −ENOMEM.
int die_reader_start(struct die_reader *reader, const struct dwarf_cu *cu);
void die_reader_finish(struct die_reader *reader);
// False at the unit's end, and for good when it makes no sense any more.
bool die_reader_next(struct die_reader *reader, struct die *ret_die);
// Goes on after the children of the DIE read last. False: it does not say where that is.
bool die_reader_skip_children(struct die_reader *reader, const struct die *die);
// Goes on at an offset in .debug_info.
bool die_reader_seek(struct die_reader *reader, uint64_t offset);

#endif
