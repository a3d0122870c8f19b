// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// dwarf_ranges.c: see dwarf_ranges.h.

#include "collector/dwarf_ranges.h"

#include <dwarf.h>

struct list {
	const struct dwarf_cu *cu;
	struct dwarf_cursor cursor;
	uint64_t base;
	uint64_t *budget;
	dwarf_range_sink sink;
	void *context;
};

static bool give(const struct list *list, uint64_t start, uint64_t end)
{
	return start >= end || list->sink(list->context, start, end);
}

static bool spend(struct list *list)
{
	if (*list->budget == 0)
		return false;
	--*list->budget;
	return true;
}

// ---- DWARF 5 -------------------------------------------------------------------------------------------------------

static uint64_t take_indexed(struct list *list)
{
	uint64_t address = 0;

	if (!dwarf_address_by_index(list->cu, dwarf_cursor_uleb(&list->cursor), &address))
		dwarf_cursor_fail(&list->cursor);
	return address;
}

static uint64_t take_plain(struct list *list)
{
	return dwarf_cursor_number(&list->cursor, list->cu->address_size);
}

// False: the end of the list, or of the sink's patience (*ret_ended).
static bool take_entry(struct list *list, bool *ret_ended)
{
	uint64_t start, end;

	switch (dwarf_cursor_number(&list->cursor, 1)) {
	case DW_RLE_base_addressx:
		list->base = take_indexed(list);
		return true;
	case DW_RLE_base_address:
		list->base = take_plain(list);
		return true;
	case DW_RLE_startx_endx:
		start = take_indexed(list);
		end = take_indexed(list);
		break;
	case DW_RLE_startx_length:
		start = take_indexed(list);
		end = start + dwarf_cursor_uleb(&list->cursor);
		break;
	case DW_RLE_offset_pair:
		start = list->base + dwarf_cursor_uleb(&list->cursor);
		end = list->base + dwarf_cursor_uleb(&list->cursor);
		break;
	case DW_RLE_start_end:
		start = take_plain(list);
		end = take_plain(list);
		break;
	case DW_RLE_start_length:
		start = take_plain(list);
		end = start + dwarf_cursor_uleb(&list->cursor);
		break;
	default: // DW_RLE_end_of_list
		return false;
	}
	if (list->cursor.failed)
		return false;
	*ret_ended = !give(list, start, end);
	return !*ret_ended;
}

static bool read_rnglist(struct list *list)
{
	bool ended = false;

	while (!ended && !list->cursor.failed) {
		if (!spend(list))
			return false;
		if (!take_entry(list, &ended))
			break;
	}
	return !ended;
}

static struct dwarf_cursor find_rnglist(const struct dwarf_cu *cu, const struct die_value *ranges)
{
	const struct dwarf_bytes *section = dwarf_cu_section(cu, DWARF_RNGLISTS);
	struct dwarf_cursor cursor;
	uint64_t offset;

	if (ranges->form != DW_FORM_rnglistx)
		return dwarf_cursor_at(section, ranges->number);
	if (ranges->number > section->size || cu->rnglists_base > section->size)
		return (struct dwarf_cursor){.failed = true};
	cursor = dwarf_cursor_at(section, cu->rnglists_base + ranges->number * cu->offset_size);
	offset = dwarf_cursor_number(&cursor, cu->offset_size);
	return cursor.failed ? cursor : dwarf_cursor_at(section, cu->rnglists_base + offset);
}

// ---- Before --------------------------------------------------------------------------------------------------------

static bool read_ranges(struct list *list)
{
	uint64_t all_ones = list->cu->address_size >= 8 ? UINT64_MAX : (1ULL << 8 * list->cu->address_size) - 1;

	for (;;) {
		uint64_t start = take_plain(list), end = take_plain(list);

		if (!spend(list))
			return false;
		if (list->cursor.failed || (start == 0 && end == 0))
			return true;
		if (start == all_ones)
			list->base = end;
		else if (!give(list, list->base + start, list->base + end))
			return false;
	}
}

static struct dwarf_cursor find_ranges(const struct dwarf_cu *cu, uint64_t offset)
{
	const struct dwarf_cu *of = cu->skeleton ? cu->skeleton : cu;
	uint64_t base = cu->skeleton ? of->ranges_base : 0;

	if (base > UINT64_MAX - offset)
		return (struct dwarf_cursor){.failed = true};
	return dwarf_cursor_at(&of->file->sections.parts[DWARF_RANGES], base + offset);
}

// ---- Which of them -------------------------------------------------------------------------------------------------

static bool read_list(struct list *list, const struct die_value *ranges)
{
	const struct dwarf_cu *cu = list->cu;

	list->base = cu->skeleton ? cu->skeleton->low_pc : cu->low_pc;
	list->cursor = cu->version >= 5 ? find_rnglist(cu, ranges) : find_ranges(cu, ranges->number);
	if (list->cursor.failed)
		return true;
	return cu->version >= 5 ? read_rnglist(list) : read_ranges(list);
}

static bool read_span(const struct list *list, const struct die_value *low, const struct die_value *high)
{
	uint64_t start, end;

	if (!dwarf_address(list->cu, low, &start))
		return true;
	if (!dwarf_is_address(high->form))
		end = start + high->number;
	else if (!dwarf_address(list->cu, high, &end))
		return true;
	return give(list, start, end);
}

static bool read_either(struct list *list, uint32_t present, const struct die_value *low, const struct die_value *high,
			const struct die_value *ranges)
{
	if (!spend(list))
		return false;
	if (present >> DIE_RANGES & 1)
		return read_list(list, ranges);
	if ((present >> DIE_LOW_PC & 1) && (present >> DIE_HIGH_PC & 1))
		return read_span(list, low, high);
	return true;
}

bool dwarf_ranges_of_die(const struct dwarf_cu *cu, const struct die *die, uint64_t *budget, dwarf_range_sink sink,
			 void *context)
{
	struct list list = {.cu = cu, .budget = budget, .sink = sink, .context = context};

	return read_either(&list, die->present, &die->values[DIE_LOW_PC], &die->values[DIE_HIGH_PC],
			   &die->values[DIE_RANGES]);
}

bool dwarf_ranges_of_unit(const struct dwarf_cu *cu, uint64_t *budget, dwarf_range_sink sink, void *context)
{
	struct list list = {.cu = cu, .budget = budget, .sink = sink, .context = context};

	return read_either(&list, cu->present, &cu->low, &cu->high, &cu->ranges);
}
