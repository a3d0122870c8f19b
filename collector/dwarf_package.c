// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// dwarf_package.c: see dwarf_package.h.

#include "collector/dwarf_package.h"

#include <stdlib.h>

#define MAX_COLUMNS 16u
#define MAX_ROWS (1u << 20)
#define MAX_SLOTS (1u << 22)

struct index {
	const struct dwarf_file *file;
	unsigned version;
	uint32_t columns, rows, slots;
	struct dwarf_cursor ids, offsets, sizes;
};

// Columns are numbered alike in both versions, but for what came new. DWARF_SECTIONS: not one of ours.
static enum dwarf_section section_of(const struct index *index, uint64_t id)
{
	switch (id) {
	case 1:
		return DWARF_INFO;
	case 3:
		return DWARF_ABBREV;
	case 4:
		return DWARF_LINE;
	case 6:
		return DWARF_STR_OFFSETS;
	case 8:
		return index->version >= 5 ? DWARF_RNGLISTS : DWARF_SECTIONS;
	default:
		return DWARF_SECTIONS;
	}
}

static bool open_index(const struct dwarf_file *file, struct index *index)
{
	struct dwarf_cursor cursor = dwarf_cursor_at(&file->sections.parts[DWARF_CU_INDEX], 0);
	uint64_t cells;

	index->file = file;
	index->version = (unsigned)dwarf_cursor_number(&cursor, 4) & 0xffff;
	index->columns = (uint32_t)dwarf_cursor_number(&cursor, 4);
	index->rows = (uint32_t)dwarf_cursor_number(&cursor, 4);
	index->slots = (uint32_t)dwarf_cursor_number(&cursor, 4);
	if (cursor.failed || index->columns > MAX_COLUMNS || index->rows > MAX_ROWS || index->slots > MAX_SLOTS)
		return false;
	cells = (uint64_t)index->columns * index->rows;
	dwarf_cursor_skip(&cursor, (uint64_t)index->slots * 12); // signatures, and their rows: we go by offset
	index->ids = cursor;
	dwarf_cursor_skip(&cursor, (uint64_t)index->columns * 4);
	index->offsets = cursor;
	dwarf_cursor_skip(&cursor, cells * 4);
	index->sizes = cursor;
	dwarf_cursor_skip(&cursor, cells * 4);
	return !cursor.failed;
}

static void set_share(const struct index *index, enum dwarf_section section, uint64_t offset, uint64_t size,
		      struct dwarf_shares *shares)
{
	const struct dwarf_bytes *whole = &index->file->sections.parts[section];

	if (offset <= whole->size && size <= whole->size - offset)
		shares->parts[section] = (struct dwarf_bytes){whole->data + offset, size};
}

static void read_row(struct index *index, struct dwarf_shares *shares)
{
	struct dwarf_cursor ids = index->ids;

	for (uint32_t i = 0; i < index->columns; i++) {
		enum dwarf_section section = section_of(index, dwarf_cursor_number(&ids, 4));
		uint64_t offset = dwarf_cursor_number(&index->offsets, 4), size = dwarf_cursor_number(&index->sizes, 4);

		if (section != DWARF_SECTIONS)
			set_share(index, section, offset, size, shares);
	}
}

static int by_info(const void *a, const void *b)
{
	const struct dwarf_shares *x = a, *y = b;

	return (x->parts[DWARF_INFO].data > y->parts[DWARF_INFO].data) -
	       (x->parts[DWARF_INFO].data < y->parts[DWARF_INFO].data);
}

void dwarf_package_read(struct dwarf_file *file)
{
	struct index index = {0};

	if (!open_index(file, &index) || index.rows == 0)
		return;
	file->shares = calloc(index.rows, sizeof(*file->shares));
	if (!file->shares)
		return;
	for (uint32_t row = 0; row < index.rows; row++)
		read_row(&index, &file->shares[row]);
	file->nshares = index.rows;
	qsort(file->shares, file->nshares, sizeof(*file->shares), by_info);
}

const struct dwarf_shares *dwarf_package_find(const struct dwarf_file *file, uint64_t offset)
{
	const struct dwarf_shares key = {
		.parts[DWARF_INFO].data = file->sections.parts[DWARF_INFO].data + offset,
	};

	return file->nshares ? bsearch(&key, file->shares, file->nshares, sizeof(key), by_info) : NULL;
}
