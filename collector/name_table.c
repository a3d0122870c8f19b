// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// name_table.c: see name_table.h.

#include "collector/name_table.h"

#include <errno.h>
#include <stdint.h>

#define SCAN_BACK 64 // ranges of units hardly ever overlap; of those that do, so many are looked at

// ---- Opening -------------------------------------------------------------------------------------------------------

static bool fits(const struct name_header *header, uint64_t at, uint64_t count, uint64_t item)
{
	return at % 4 == 0 && at >= sizeof(*header) && at <= header->size && count <= (header->size - at) / item;
}

static uint64_t unit_words(const struct name_unit *unit)
{
	return 2ULL * unit->nedges + 2ULL * unit->nrows + 3ULL * unit->nscopes + 3ULL * unit->nfunctions + unit->nfiles;
}

static bool are_units_sound(const struct name_block *block)
{
	const struct name_header *header = block->header;

	for (uint32_t i = 0; i < header->nunits; i++) {
		const struct name_unit *unit = &block->units[i];

		if (unit->at != 0 && (!fits(header, unit->at, unit_words(unit), 4) || unit->line_bits > 31))
			return false;
	}
	for (uint32_t i = 0; i < header->nranges; i++)
		if (block->ranges[i].unit >= header->ndwarf)
			return false;
	return true;
}

static bool is_header_sound(const struct name_header *header, size_t size)
{
	return header->magic == NAME_MAGIC && header->version == NAME_VERSION && header->size <= size &&
	       header->size <= NAME_MAX_SIZE && header->size >= sizeof(*header) && header->size % 8 == 0 &&
	       (uint64_t)header->ndwarf + header->npages == header->nunits &&
	       fits(header, header->ranges_at, header->nranges, sizeof(struct name_range)) &&
	       fits(header, header->pages_at, header->npages, sizeof(uint32_t)) &&
	       fits(header, header->units_at, header->nunits, sizeof(struct name_unit)) && header->strings_size > 0 &&
	       fits(header, header->strings_at, header->strings_size, 1);
}

int name_block_open(const void *data, size_t size, struct name_block *ret_block)
{
	const struct name_header *header = data;
	struct name_block block = {.data = data, .header = header};

	if (size < sizeof(*header) || (uintptr_t)data % 8 != 0 || !is_header_sound(header, size))
		return -EINVAL;
	block.ranges = (const struct name_range *)(block.data + header->ranges_at);
	block.pages = (const uint32_t *)(block.data + header->pages_at);
	block.units = (const struct name_unit *)(block.data + header->units_at);
	block.strings = (const char *)block.data + header->strings_at;
	if (block.strings[0] != '\0' || block.strings[header->strings_size - 1] != '\0' || !are_units_sound(&block))
		return -EINVAL;
	*ret_block = block;
	return 0;
}

// ---- Which unit ----------------------------------------------------------------------------------------------------

// How many of `starts` are ≤ address. Without a branch in the loop: addresses come in no order.
static uint32_t count_upto(const uint32_t *starts, uint32_t count, uint32_t address)
{
	const uint32_t *at = starts;

	if (count == 0)
		return 0;
	while (count > 1) {
		uint32_t half = count / 2;

		at += at[half - 1] <= address ? half : 0;
		count -= half;
	}
	return (uint32_t)(at - starts) + (*at <= address);
}

static uint32_t count_ranges_upto(const struct name_block *block, uint32_t address)
{
	uint32_t low = 0, high = block->header->nranges;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (block->ranges[middle].start <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool relative(const struct name_block *block, uint64_t vaddr, uint32_t *ret_address)
{
	if (vaddr < block->header->base || vaddr - block->header->base > UINT32_MAX)
		return false;
	*ret_address = (uint32_t)(vaddr - block->header->base);
	return true;
}

size_t name_block_units_at(const struct name_block *block, uint64_t vaddr, uint32_t units[NAME_MAX_OVERLAP + 1])
{
	uint32_t address, upto, page;
	size_t count = 0;

	if (!relative(block, vaddr, &address))
		return 0;
	upto = count_ranges_upto(block, address);
	for (uint32_t i = 0; i < SCAN_BACK && upto > 0 && count < NAME_MAX_OVERLAP; i++, upto--)
		if (address < block->ranges[upto - 1].end)
			units[count++] = block->ranges[upto - 1].unit;
	page = count_upto(block->pages, block->header->npages, address);
	if (page > 0)
		units[count++] = block->header->ndwarf + page - 1;
	return count;
}

// ---- In a unit -----------------------------------------------------------------------------------------------------

struct unit_view {
	const struct name_block *block;
	const struct name_unit *unit;
	const uint32_t *edges, *edge_scopes, *rows, *places, *files;
	const struct name_scope *scopes;
	const struct name_function *functions;
};

static struct unit_view view_unit(const struct name_block *block, uint32_t number)
{
	const struct name_unit *unit = &block->units[number];
	const uint32_t *at = (const uint32_t *)(block->data + unit->at);
	struct unit_view view = {.block = block, .unit = unit, .edges = at};

	view.edge_scopes = at += unit->nedges;
	view.rows = at += unit->nedges;
	view.places = at += unit->nrows;
	view.scopes = (const struct name_scope *)(at += unit->nrows);
	view.functions = (const struct name_function *)(at += 3 * (size_t)unit->nscopes);
	view.files = at + 3 * (size_t)unit->nfunctions;
	return view;
}

static const char *string_at(const struct name_block *block, uint32_t offset)
{
	return offset < block->header->strings_size ? block->strings + offset : "";
}

static void set_place(const struct unit_view *view, uint32_t place, struct name_frame *frame)
{
	uint32_t bits = view->unit->line_bits, file = place >> bits;

	frame->line = place & ((1u << bits) - 1);
	frame->file = file > 0 && file <= view->unit->nfiles ? string_at(view->block, view->files[file - 1]) : "";
}

static void set_function(const struct unit_view *view, uint32_t number, struct name_frame *frame)
{
	const struct name_function *function = &view->functions[number];

	if (number >= view->unit->nfunctions)
		return;
	if (function->name)
		frame->name = string_at(view->block, function->name);
	if (function->system_name)
		frame->system_name = string_at(view->block, function->system_name);
	frame->start_line = function->start_line & ~NAME_TO_DEMANGLE;
	frame->to_demangle = (function->start_line & NAME_TO_DEMANGLE) != 0;
}

size_t name_block_find(const struct name_block *block, uint32_t unit, uint64_t vaddr, struct name_frame *frames,
		       size_t max)
{
	struct unit_view view = view_unit(block, unit);
	uint32_t address, upto, scope = NAME_NONE, place = 0;
	size_t count = 0;

	if (!relative(block, vaddr, &address) || max == 0)
		return 0;
	upto = count_upto(view.edges, view.unit->nedges, address);
	if (upto > 0)
		scope = view.edge_scopes[upto - 1];
	upto = count_upto(view.rows, view.unit->nrows, address);
	if (upto > 0)
		place = view.places[upto - 1];
	frames[0] = (struct name_frame){.file = ""};
	set_place(&view, place, &frames[0]);
	if (scope >= view.unit->nscopes)
		return frames[0].file[0] ? 1 : 0;
	for (;;) {
		const struct name_scope *at = &view.scopes[scope];

		set_function(&view, at->function, &frames[count++]);
		if (at->parent >= scope || count == max)
			return count;
		frames[count] = (struct name_frame){.file = ""};
		set_place(&view, at->call_place, &frames[count]);
		scope = at->parent;
	}
}
