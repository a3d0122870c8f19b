// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// die_reader.h: the DIEs of one unit in the order of the file, each with the few attributes that say where code is. libdw reads a
// DIE three or four times to get from it to the next, under a lock; this reads it once. Units and abbreviations are libdw's.
//
// Every byte read lies inside the unit. Not thread-safe.

#ifndef PROFD_COLLECTOR_DIE_READER_H
#define PROFD_COLLECTOR_DIE_READER_H

#include <elfutils/libdw.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct die_abbrev;

#define DIE_NO_FILE UINT32_MAX

struct die {
	uint64_t offset; // for dwarf_offdie
	uint16_t tag;    // 0: the end of a list of siblings
	bool has_children;
	bool has_low, has_high, high_is_size, has_ranges;
	uint64_t low, high;
	uint32_t call_file; // DIE_NO_FILE: not given
	uint32_t call_line; // 0: not given
	uint64_t sibling;   // offset of; 0: not given
};

struct die_reader {
	Dwarf *dwarf;
	Dwarf_CU *cu;
	const uint8_t *section; // .debug_info, from its start
	uint64_t start;         // of the unit, offset
	const uint8_t *at, *end;
	uint8_t version, address_size, offset_size;
	struct die_abbrev **abbrevs; // by code
	size_t nabbrevs;
};

// root: the unit's DIE; the first one read. 0 or −EINVAL. Either way, finish frees.
int die_reader_init(struct die_reader *reader, Dwarf_Die *root);
void die_reader_finish(struct die_reader *reader);
// False at the unit's end, and for good when it makes no sense any more.
bool die_reader_next(struct die_reader *reader, struct die *ret_die);
// Goes on after the children of the die read last. False: it does not say where that is.
bool die_reader_skip_children(struct die_reader *reader, const struct die *die);

#endif
