// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// name_writer.h: makes one block of a name table (name_table.h). Units are put into words by any thread, each with a name_words of its
// own, and added under the caller's lock.

#ifndef PROFD_COLLECTOR_NAME_WRITER_H
#define PROFD_COLLECTOR_NAME_WRITER_H

#include "collector/dwarf_unit.h"
#include "collector/name_table.h"

// What a function is shown as. Valid until its unit is added.
struct name_label {
	const char *name, *system_name; // NULL: none
	uint32_t start_line;            // or'ed with NAME_TO_DEMANGLE: the system name can be made readable
	bool demangle_now;              // else it is left to who looks it up
};

// One unit, all but its strings. A plain value; zeroed is empty, and it is used for one unit after the other.
struct name_words {
	struct name_unit unit;
	uint32_t *words;
	size_t count, capacity;
	const struct name_label *labels; // of its functions; the caller's
	char *const *files;              // the caller's
};

struct name_writer {
	struct name_header header; // sizes and places: the writer's; the rest: the caller's
	struct name_range *ranges;
	uint32_t *pages;
	struct name_unit *units;
	uint32_t *words; // of all units
	size_t nwords, words_capacity;
	char *strings;
	size_t strings_size, strings_capacity;
	uint32_t *places; // of strings; open addressing
	size_t nplaces, places_capacity;
	uint32_t *readable; // by hash of a mangled name's offset: that, and the offset of what it reads as
	size_t nreadable, readable_capacity;
	struct {
		const char *string;
		uint32_t offset;
	} * recent; // by address: strings in debug sections stay where they are, and are met again
};

// The arrays are the caller's until finish; header.base, nranges, npages, ndwarf, nunits are set before. 0 or −ENOMEM.
int name_writer_init(struct name_writer *writer);
void name_writer_finish(struct name_writer *writer);

// 0, −ENOMEM or −EFBIG.
int name_words_of_dwarf(struct name_words *words, const struct dwarf_unit *unit, const struct name_label *labels,
			uint64_t base);
struct interval_edge;
// A page of symbols: edges lead to numbers of labels.
int name_words_of_symbols(struct name_words *words, const struct interval_edge *edges, size_t nedges,
			  const struct name_label *labels, size_t nlabels, uint64_t base);
void name_words_finish(struct name_words *words);

int name_writer_add(struct name_writer *writer, uint32_t number, const struct name_words *words);
// A unit in which nothing is: known to be empty.
int name_writer_add_empty(struct name_writer *writer, uint32_t number);
// Writes the block to fd, at its end. 0 or −errno.
int name_writer_write(struct name_writer *writer, int fd);

#endif
