// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// dwarf_unit.c: see dwarf_unit.h. Everything that a hostile file could make endless has a limit: scopes, ranges, nesting, hops.

#include "collector/dwarf_unit.h"

#include <dwarf.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "collector/dwarf_ranges.h"
#include "collector/dwarf_unit_names.h"

#define MAX_DEPTH 256
#define MAX_SCOPES (1u << 23)
#define MAX_RANGES (1u << 24)
#define MAX_FILES (1u << 20)

// ---- Reading the tree ----------------------------------------------------------------------------------------------

struct level {
	uint32_t scope; // around the children
	uint32_t depth; // of inlining
};

struct walk {
	struct dwarf_unit *unit;
	const struct dwarf_cu *cu;
	bool types_have_code; // functions may be defined inside types
	uint64_t budget;      // of ranges
	uint32_t rank;        // of the ranges that are added
	uint64_t entry;       // the first of them; 0: none yet
	struct level levels[MAX_DEPTH];
	size_t top;
};

static uint32_t number_of(const struct die *die, enum die_slot slot)
{
	return die_has(die, slot) && die->values[slot].number <= INT32_MAX ? (uint32_t)die->values[slot].number : 0;
}

static bool add_scope(struct walk *walk, const struct die *die, uint32_t parent)
{
	struct dwarf_unit *unit = walk->unit;
	struct dwarf_scope scope = {.parent = parent};

	if (unit->nscopes == unit->scopes_capacity) {
		size_t capacity = unit->scopes_capacity ? unit->scopes_capacity * 2 : 128;
		struct dwarf_scope *grown =
			capacity <= MAX_SCOPES ? reallocarray(unit->scopes, capacity, sizeof(*grown)) : NULL;

		if (!grown)
			return false;
		unit->scopes = grown;
		unit->scopes_capacity = capacity;
	}
	if (!dwarf_unit_function(unit, walk->cu, die, &scope.function))
		return false;
	if (die->tag == DW_TAG_inlined_subroutine) {
		scope.call.line = number_of(die, DIE_CALL_LINE);
		scope.call.file = die_has(die, DIE_CALL_FILE) ? number_of(die, DIE_CALL_FILE) : DWARF_NO_FILE;
	}
	unit->scopes[unit->nscopes++] = scope;
	return true;
}

// Code that the linker dropped is said to be at 0, or outside of what is code.
static bool add_place(void *context, uint64_t start, uint64_t end)
{
	struct walk *walk = context;
	struct dwarf_unit *unit = walk->unit;

	if (start == 0 || start < unit->span.start || start >= unit->span.end)
		return true;
	if (!walk->entry)
		walk->entry = start;
	return interval_map_add(&unit->places, start, end < unit->span.end ? end : unit->span.end,
				(uint32_t)unit->nscopes - 1, walk->rank, MAX_RANGES) == 0;
}

static bool has_code(const struct die *die)
{
	return die_has(die, DIE_RANGES) || (die_has(die, DIE_LOW_PC) && die_has(die, DIE_HIGH_PC));
}

static bool add_code(struct walk *walk, const struct die *die, uint32_t parent, uint32_t rank)
{
	struct dwarf_unit *unit = walk->unit;
	struct dwarf_function *function;

	if (!add_scope(walk, die, parent))
		return false;
	walk->rank = rank;
	walk->entry = 0;
	if (!dwarf_ranges_of_die(walk->cu, die, &walk->budget, add_place, walk))
		return false;
	function = &unit->functions[unit->scopes[unit->nscopes - 1].function];
	if (die->tag == DW_TAG_subprogram && !function->entry)
		function->entry = walk->entry;
	return true;
}

// Notes the DIE's code; *level says on entry what is around it, then what is around its children.
static bool visit(struct walk *walk, const struct die *die, struct level *level)
{
	uint32_t parent = INTERVAL_NONE;

	if (die->tag == DW_TAG_subprogram)
		level->depth = 0;
	else if (die->tag == DW_TAG_inlined_subroutine)
		parent = level->scope;
	else
		return true;
	if (!has_code(die) || (die->tag == DW_TAG_inlined_subroutine && parent == INTERVAL_NONE)) {
		// A declaration or an abstract instance: no code is below. An inlined one whose code was optimized away.
		if (die->tag == DW_TAG_subprogram)
			level->scope = INTERVAL_NONE;
		return true;
	}
	if (parent != INTERVAL_NONE)
		level->depth++;
	level->scope = (uint32_t)walk->unit->nscopes;
	return add_code(walk, die, parent, level->depth);
}

static bool may_have_code_below(const struct walk *walk, const struct die *die)
{
	switch (die->tag) {
	case DW_TAG_class_type:
	case DW_TAG_structure_type:
	case DW_TAG_union_type:
	case DW_TAG_interface_type:
		return walk->types_have_code;
	case DW_TAG_subprogram:
		return !die_has(die, DIE_DECLARATION);
	case DW_TAG_enumeration_type:
	case DW_TAG_array_type:
	case DW_TAG_subroutine_type:
	case DW_TAG_call_site:
	case DW_TAG_GNU_call_site:
	case DW_TAG_GNU_formal_parameter_pack:
		return false;
	default:
		return true;
	}
}

static bool read_tree(struct walk *walk)
{
	struct die_reader *reader = &walk->unit->reader;
	struct die die;

	while (die_reader_next(reader, &die)) {
		struct level level = walk->levels[walk->top];

		if (die.tag == 0) {
			if (walk->top <= 1)
				break;
			walk->top--;
			continue;
		}
		if (!visit(walk, &die, &level))
			return false;
		if (!die.has_children)
			continue;
		if (!may_have_code_below(walk, &die) && die_reader_skip_children(reader, &die))
			continue;
		if (walk->top + 1 == MAX_DEPTH)
			break;
		walk->levels[++walk->top] = level;
	}
	return true;
}

// In C++ a lambda's body is inside its closure's type.
static bool types_have_code(uint16_t language)
{
	switch (language) {
	case DW_LANG_C89:
	case DW_LANG_C:
	case DW_LANG_C99:
	case DW_LANG_C11:
		return false;
	default:
		return true;
	}
}

static int read_code(struct dwarf_unit *unit, const struct dwarf_cu *cu)
{
	struct walk *walk = malloc(sizeof(*walk));
	int error = walk ? die_reader_start(&unit->reader, cu) : -ENOMEM;

	if (!error) {
		walk->unit = unit;
		walk->cu = cu;
		walk->budget = MAX_RANGES;
		walk->types_have_code = types_have_code(cu->language);
		walk->top = 0;
		walk->levels[0] = (struct level){INTERVAL_NONE, 0};
		error = read_tree(walk) && interval_map_build(&unit->places) == 0 ? 0 : -ENOMEM;
	}
	free(walk);
	return error;
}

// ---- Source files --------------------------------------------------------------------------------------------------

static bool is_relative(const char *path)
{
	return path && path[0] != '/';
}

// A relative path is given the unit's directory, unless that is relative, too: then a build has rewritten both to be what they are.
static char *file_path(const struct dwarf_lines *lines, const struct dwarf_cu *cu, uint32_t number)
{
	const struct dwarf_line_file *file = &lines->files[number];
	const char *name = file->name, *dir = file->dir < lines->ndirs ? lines->dirs[file->dir] : NULL;
	char path[2 * PATH_MAX];
	bool in_dir = is_relative(name) && dir && dir[0];
	bool in_unit = is_relative(name) && (!in_dir || is_relative(dir)) && cu->dir && cu->dir[0] == '/';

	if (!name || !name[0])
		return NULL;
	if (snprintf(path, sizeof(path), "%s%s%s%s%s", in_unit ? cu->dir : "", in_unit ? "/" : "", in_dir ? dir : "",
		     in_dir ? "/" : "", name) >= (int)sizeof(path))
		return strndup(name, PATH_MAX);
	return strdup(path);
}

static uint32_t add_file(struct dwarf_unit *unit, char *path)
{
	if (unit->nfiles == unit->files_capacity) {
		size_t capacity = unit->files_capacity ? unit->files_capacity * 2 : 64;
		char **grown = capacity <= MAX_FILES ? reallocarray(unit->files, capacity, sizeof(char *)) : NULL;

		if (!grown) {
			free(path);
			return 0;
		}
		unit->files = grown;
		unit->files_capacity = capacity;
	}
	unit->files[unit->nfiles++] = path;
	return (uint32_t)unit->nfiles;
}

static bool reserve_numbers(struct dwarf_unit_files *numbers, size_t count)
{
	uint32_t *grown = numbers->numbers;

	if (count > numbers->capacity) {
		grown = reallocarray(grown, count, sizeof(uint32_t));
		if (!grown)
			return false;
		numbers->numbers = grown;
		numbers->capacity = count;
	}
	if (count)
		memset(grown, 0xff, count * sizeof(uint32_t));
	return true;
}

// Ours, from the program's number; 0: not known.
static uint32_t file_number(struct dwarf_unit *unit, const struct dwarf_lines *lines, struct dwarf_unit_files *numbers,
			    const struct dwarf_cu *cu, uint32_t number)
{
	if (number >= lines->nfiles)
		return 0;
	if (numbers->numbers[number] == UINT32_MAX) {
		char *path = file_path(lines, cu, number);

		numbers->numbers[number] = path ? add_file(unit, path) : 0;
	}
	return numbers->numbers[number];
}

static int read_lines(struct dwarf_unit *unit, const struct dwarf_cu *cu)
{
	const struct dwarf_cu *with_lines = cu->skeleton ? cu->skeleton : cu;
	struct dwarf_cu split = *cu;

	if (dwarf_lines_read(&unit->lines, with_lines, unit->span.start, unit->span.end, true) == -ENOMEM ||
	    !reserve_numbers(&unit->row_numbers, unit->lines.nfiles))
		return -ENOMEM;
	for (size_t i = 0; i < unit->lines.nrows; i++)
		unit->lines.rows[i].file =
			file_number(unit, &unit->lines, &unit->row_numbers, with_lines, unit->lines.rows[i].file);
	if (!cu->skeleton || !dwarf_cu_section(cu, DWARF_LINE)->data)
		return 0;
	// A split unit numbers the files of its call sites by a table of its own.
	split.lines = split.lines == DWARF_NONE ? 0 : split.lines;
	if (!split.dir)
		split.dir = with_lines->dir;
	return dwarf_lines_read(&unit->call_lines, &split, 0, 0, false) == -ENOMEM ||
			       !reserve_numbers(&unit->call_numbers, unit->call_lines.nfiles)
		       ? -ENOMEM
		       : 0;
}

static void number_calls(struct dwarf_unit *unit, const struct dwarf_cu *cu)
{
	const struct dwarf_cu *with_lines = cu->skeleton ? cu->skeleton : cu;
	bool own = unit->call_lines.nfiles > 0;

	for (size_t i = 0; i < unit->nscopes; i++) {
		struct dwarf_place *call = &unit->scopes[i].call;

		if (unit->scopes[i].parent == INTERVAL_NONE)
			continue;
		call->file = own ? file_number(unit, &unit->call_lines, &unit->call_numbers, with_lines, call->file)
				 : file_number(unit, &unit->lines, &unit->row_numbers, with_lines, call->file);
	}
}

// ---- Units ---------------------------------------------------------------------------------------------------------

static void note_wanted(struct dwarf_unit *unit, const uint64_t *wanted, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint32_t scope = interval_map_find(&unit->places, wanted[i]);

		for (; scope != INTERVAL_NONE; scope = unit->scopes[scope].parent)
			unit->functions[unit->scopes[scope].function].wanted = true;
	}
}

static void clear(struct dwarf_unit *unit)
{
	for (size_t i = 0; i < unit->nfiles; i++)
		free(unit->files[i]);
	interval_map_finish(&unit->places);
	unit->nfiles = unit->nscopes = 0;
	unit->lines.nrows = unit->lines.nfiles = unit->call_lines.nfiles = 0;
	dwarf_unit_forget_functions(unit);
}

int dwarf_unit_read(struct dwarf_unit *unit, const struct dwarf_cu *cu, const uint64_t *wanted, size_t nwanted)
{
	int error;

	clear(unit);
	error = read_code(unit, cu);
	if (!error)
		error = read_lines(unit, cu);
	if (error)
		return error;
	number_calls(unit, cu);
	note_wanted(unit, wanted, nwanted);
	return 0;
}

void dwarf_unit_finish(struct dwarf_unit *unit)
{
	clear(unit);
	dwarf_lines_finish(&unit->lines);
	dwarf_lines_finish(&unit->call_lines);
	dwarf_unit_finish_functions(unit);
	die_reader_finish(&unit->reader);
	free(unit->scopes);
	free(unit->files);
	free(unit->row_numbers.numbers);
	free(unit->call_numbers.numbers);
}
