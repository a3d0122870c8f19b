// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// dwarf_unit.c: see dwarf_unit.h. The DIE tree is walked with a stack of our own, bounded in depth.

#include "collector/dwarf_unit.h"

#include <dwarf.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DEPTH 256
#define MAX_BLOCKS (1u << 22)
#define MAX_DIES (1u << 24)

// A range of a function (depth 0) or of a subroutine inlined into the function before it (depth ≥ 1).
struct block {
	uint64_t start, end;
	Dwarf_Die die;
	uint32_t depth;
	uint32_t order;    // preorder of the DIE
	uint32_t function; // while reading: order of the function that it belongs to
};

struct dwarf_unit {
	Dwarf_Die skeleton;
	Dwarf_Files *files;
	size_t nfiles;
	struct block *blocks; // sorted by (start of the function's range, …): see compare
	size_t count, capacity;
	size_t *functions; // indices of depth-0 blocks
	size_t nfunctions;
};

static bool add_block(struct dwarf_unit *unit, const struct block *block)
{
	if (unit->count == unit->capacity) {
		size_t capacity = unit->capacity ? unit->capacity * 2 : 128;
		struct block *grown = capacity <= MAX_BLOCKS ? realloc(unit->blocks, capacity * sizeof(*grown)) : NULL;

		if (!grown)
			return false;
		unit->blocks = grown;
		unit->capacity = capacity;
	}
	unit->blocks[unit->count++] = *block;
	return true;
}

static bool add_ranges(struct dwarf_unit *unit, Dwarf_Die *die, uint32_t depth, uint32_t order, uint32_t function)
{
	struct block block = {.die = *die, .depth = depth, .order = order, .function = function};
	Dwarf_Addr base;
	ptrdiff_t offset = 0;

	while ((offset = dwarf_ranges(die, offset, &base, &block.start, &block.end)) > 0)
		if (block.start < block.end && block.start != 0 && !add_block(unit, &block))
			return false;
	return true;
}

// ---- Reading the tree ----------------------------------------------------------------------------------------------

struct level {
	Dwarf_Die die;
	uint32_t depth;    // of inlining, for its children
	uint32_t function; // order of the function around; UINT32_MAX: none
};

// May something with code be below?
static bool has_code_below(Dwarf_Die *die, int tag)
{
	switch (tag) {
	case DW_TAG_subprogram:
		// An abstract instance or a declaration: its code is elsewhere.
		return dwarf_hasattr(die, DW_AT_low_pc) || dwarf_hasattr(die, DW_AT_ranges);
	case DW_TAG_inlined_subroutine:
	case DW_TAG_lexical_block:
	case DW_TAG_namespace:
	case DW_TAG_module:
	case DW_TAG_class_type:
	case DW_TAG_structure_type:
	case DW_TAG_union_type:
	case DW_TAG_enumeration_type:
	case DW_TAG_try_block:
	case DW_TAG_catch_block:
	case DW_TAG_with_stmt:
		return true;
	default:
		return false;
	}
}

// Notes the DIE's code and says how its children are nested.
static bool visit(struct dwarf_unit *unit, const struct level *around, uint32_t order, struct level *level)
{
	int tag = dwarf_tag(&level->die);

	level->depth = around->depth;
	level->function = around->function;
	if (tag == DW_TAG_subprogram) {
		level->depth = 0;
		level->function = order;
		return add_ranges(unit, &level->die, 0, order, order);
	}
	if (tag == DW_TAG_inlined_subroutine && around->function != UINT32_MAX) {
		level->depth = around->depth + 1;
		return add_ranges(unit, &level->die, level->depth, order, around->function);
	}
	return true;
}

static bool read_tree(struct dwarf_unit *unit, const Dwarf_Die *root)
{
	struct level *levels = calloc(MAX_DEPTH, sizeof(*levels));
	uint32_t order = 0;
	int top = 0;
	bool ok = levels != NULL;

	if (!levels)
		return false;
	levels[0] = (struct level){.die = *root, .function = UINT32_MAX};
	if (dwarf_child(&levels[0].die, &levels[1].die) == 0)
		top = 1;
	while (ok && top > 0 && order < MAX_DIES) {
		struct level *level = &levels[top];
		int tag = dwarf_tag(&level->die);
		bool below = has_code_below(&level->die, tag);

		ok = !below || visit(unit, &levels[top - 1], order, level);
		order++;
		if (below && top + 1 < MAX_DEPTH && dwarf_child(&level->die, &levels[top + 1].die) == 0) {
			top++;
			continue;
		}
		while (top > 0 && dwarf_siblingof(&levels[top].die, &levels[top].die) != 0)
			top--;
	}
	free(levels);
	return ok;
}

// Functions by start; then what is inlined into a function's DIE, in preorder. A function of several ranges has several
// blocks; its inlined blocks are sorted to the range they lie in.
static int compare(const void *a, const void *b)
{
	const struct block *x = a, *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	if (x->depth != y->depth)
		return x->depth < y->depth ? -1 : 1;
	return (x->order > y->order) - (x->order < y->order);
}

static bool sort_blocks(struct dwarf_unit *unit)
{
	qsort(unit->blocks, unit->count, sizeof(*unit->blocks), compare);
	unit->functions = calloc(unit->count + 1, sizeof(*unit->functions));
	if (!unit->functions)
		return false;
	for (size_t i = 0; i < unit->count; i++)
		if (unit->blocks[i].depth == 0)
			unit->functions[unit->nfunctions++] = i;
	return true;
}

struct dwarf_unit *dwarf_unit_create(const Dwarf_Die *die, const Dwarf_Die *skeleton)
{
	struct dwarf_unit *unit = calloc(1, sizeof(*unit));
	Dwarf_Die root = *die;

	if (!unit)
		return NULL;
	unit->skeleton = *skeleton;
	if (!read_tree(unit, &root) || !sort_blocks(unit)) {
		dwarf_unit_destroy(unit);
		return NULL;
	}
	if (dwarf_getsrcfiles(&root, &unit->files, &unit->nfiles) != 0)
		unit->nfiles = 0;
	return unit;
}

void dwarf_unit_destroy(struct dwarf_unit *unit)
{
	if (!unit)
		return;
	free(unit->blocks);
	free(unit->functions);
	free(unit);
}

// ---- Looking up ----------------------------------------------------------------------------------------------------

static const char *string_attribute(Dwarf_Die *die, unsigned name)
{
	Dwarf_Attribute attribute;

	return dwarf_formstring(dwarf_attr_integrate(die, name, &attribute));
}

static int number_attribute(Dwarf_Die *die, unsigned name, bool integrate)
{
	Dwarf_Attribute attribute;
	Dwarf_Word value;
	Dwarf_Attribute *found =
		integrate ? dwarf_attr_integrate(die, name, &attribute) : dwarf_attr(die, name, &attribute);

	return found && dwarf_formudata(found, &value) == 0 && value < INT32_MAX ? (int)value : 0;
}

static void fill_name(const struct block *block, struct dwarf_frame *frame)
{
	Dwarf_Die die = block->die;

	frame->name = string_attribute(&die, DW_AT_name);
	frame->linkage_name = string_attribute(&die, DW_AT_linkage_name);
	if (!frame->linkage_name)
		frame->linkage_name = string_attribute(&die, DW_AT_MIPS_linkage_name);
	frame->start_line = number_attribute(&die, DW_AT_decl_line, true);
}

// Where an inlined subroutine was called: the place of the frame around it.
static void fill_call_site(const struct dwarf_unit *unit, const struct block *inlined, struct dwarf_frame *caller)
{
	Dwarf_Die die = inlined->die;
	int file = number_attribute(&die, DW_AT_call_file, false);

	caller->line = number_attribute(&die, DW_AT_call_line, false);
	caller->file = unit->files && (size_t)file < unit->nfiles ? dwarf_filesrc(unit->files, (size_t)file, NULL, NULL)
								  : NULL;
}

static void fill_line(struct dwarf_unit *unit, uint64_t vaddr, struct dwarf_frame *frame)
{
	Dwarf_Line *line = dwarf_getsrc_die(&unit->skeleton, vaddr);

	if (!line)
		return;
	frame->file = dwarf_linesrc(line, NULL, NULL);
	if (dwarf_lineno(line, &frame->line) != 0)
		frame->line = 0;
}

// The innermost function range that covers vaddr (nested functions overlap their parents), as an index into functions.
static size_t find_function(const struct dwarf_unit *unit, uint64_t vaddr)
{
	size_t low = 0, high = unit->nfunctions;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (unit->blocks[unit->functions[middle]].start <= vaddr)
			low = middle + 1;
		else
			high = middle;
	}
	for (size_t i = 0; i < 16 && low > 0; i++, low--)
		if (vaddr < unit->blocks[unit->functions[low - 1]].end)
			return low - 1;
	return SIZE_MAX;
}

// The function's block and those of what is inlined there, outermost first, into chain. At most one a depth covers vaddr.
static size_t find_chain(const struct dwarf_unit *unit, size_t function, uint64_t vaddr,
			 const struct block *chain[MAX_DEPTH])
{
	const struct block *outermost = &unit->blocks[unit->functions[function]];
	size_t depth = 1;

	chain[0] = outermost;
	for (size_t i = unit->functions[function] + 1; i < unit->count && unit->blocks[i].start <= vaddr; i++) {
		const struct block *block = &unit->blocks[i];

		if (vaddr >= block->end || block->depth == 0 || block->function != outermost->order ||
		    block->depth >= MAX_DEPTH)
			continue;
		while (depth <= block->depth)
			chain[depth++] = NULL;
		chain[block->depth] = block;
	}
	size_t kept = 0;

	for (size_t i = 0; i < depth; i++)
		if (chain[i])
			chain[kept++] = chain[i];
	return kept;
}

size_t dwarf_unit_find(struct dwarf_unit *unit, uint64_t vaddr, struct dwarf_frame *frames, size_t max)
{
	const struct block *chain[MAX_DEPTH];
	size_t function = find_function(unit, vaddr);
	size_t depth, count;

	memset(frames, 0, sizeof(*frames));
	if (function == SIZE_MAX) {
		fill_line(unit, vaddr, &frames[0]);
		return frames[0].file ? 1 : 0;
	}
	depth = find_chain(unit, function, vaddr, chain);
	count = depth < max ? depth : max;
	for (size_t i = 0; i < count; i++) {
		memset(&frames[i], 0, sizeof(frames[i]));
		fill_name(chain[depth - 1 - i], &frames[i]);
		if (i == 0)
			fill_line(unit, vaddr, &frames[0]);
		else
			fill_call_site(unit, chain[depth - i], &frames[i]);
	}
	return count;
}
