// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// dwarf_unit.c: see dwarf_unit.h. The DIE tree is read once, in the order of the file, into
//
//   scopes[]   functions and inlined subroutines, each with the one it is inlined into
//   places     address → innermost scope, flat (interval_map.h)
//
// so that a lookup is one binary search, and a walk up the scopes.

#include "collector/dwarf_unit.h"

#include <dwarf.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/die_reader.h"
#include "collector/interval_map.h"

#define MAX_DEPTH 256
#define MAX_SCOPES (1u << 23)
#define MAX_RANGES (1u << 24)
#define MAX_HOPS 16 // from a DIE to the one that has its name
#define NO_SCOPE UINT32_MAX

struct scope {
	uint64_t offset; // of the DIE
	uint32_t parent; // the scope it is inlined into; NO_SCOPE: a function
	uint32_t call_file, call_line;
};

// The source files of a line table.
struct files {
	Dwarf_Files *table;
	size_t count;
	char **joined; // paths that libdw leaves relative, with the unit's directory before them; NULL until asked for
};

struct dwarf_unit {
	Dwarf *dwarf;
	Dwarf_Die skeleton;
	const char *dir;          // the unit was compiled in; NULL: not known
	struct files files;       // that call sites mean
	struct files split_files; // that lines mean, when they are others: the skeleton's
	struct scope *scopes;
	size_t nscopes, capacity;
	struct interval_map places; // to indices of scopes
	size_t ranges_read;
};

// ---- Reading the tree ----------------------------------------------------------------------------------------------

struct level {
	uint32_t scope; // around the children
	uint32_t depth; // of inlining
};

struct walk {
	struct dwarf_unit *unit;
	struct die_reader reader;
	bool types_have_code; // functions may be defined inside types
	struct level levels[MAX_DEPTH];
	size_t top;
};

static bool add_scope(struct dwarf_unit *unit, const struct die *die, uint32_t parent)
{
	if (unit->nscopes == unit->capacity) {
		size_t capacity = unit->capacity ? unit->capacity * 2 : 128;
		struct scope *grown = capacity <= MAX_SCOPES ? realloc(unit->scopes, capacity * sizeof(*grown)) : NULL;

		if (!grown)
			return false;
		unit->scopes = grown;
		unit->capacity = capacity;
	}
	unit->scopes[unit->nscopes++] = (struct scope){die->offset, parent, die->call_file, die->call_line};
	return true;
}

// Code that the linker dropped is said to be at 0.
static bool add_place(struct dwarf_unit *unit, uint64_t start, uint64_t end, uint32_t rank)
{
	return start == 0 ||
	       interval_map_add(&unit->places, start, end, (uint32_t)unit->nscopes - 1, rank, MAX_RANGES) == 0;
}

static bool add_ranges(struct dwarf_unit *unit, uint64_t offset, uint32_t rank)
{
	Dwarf_Addr base, start, end;
	ptrdiff_t next = 0;
	Dwarf_Die die;

	if (!dwarf_offdie(unit->dwarf, offset, &die))
		return true;
	// Empty ranges count, too: many DIEs may share a list of them.
	while ((next = dwarf_ranges(&die, next, &base, &start, &end)) > 0)
		if (++unit->ranges_read > MAX_RANGES || !add_place(unit, start, end, rank))
			return false;
	return true;
}

static bool has_code(const struct die *die)
{
	return die->has_ranges || (die->has_low && die->has_high);
}

static bool add_code(struct dwarf_unit *unit, const struct die *die, uint32_t parent, uint32_t rank)
{
	if (!add_scope(unit, die, parent))
		return false;
	if (die->has_ranges)
		return add_ranges(unit, die->offset, rank);
	return add_place(unit, die->low, die->high_is_size ? die->low + die->high : die->high, rank);
}

// Notes the DIE's code; *level says on entry what is around it, then what is around its children.
static bool visit(struct walk *walk, const struct die *die, struct level *level)
{
	uint32_t parent = NO_SCOPE;

	if (die->tag == DW_TAG_subprogram)
		level->depth = 0;
	else if (die->tag == DW_TAG_inlined_subroutine)
		parent = level->scope;
	else
		return true;
	if (!has_code(die) || (die->tag == DW_TAG_inlined_subroutine && parent == NO_SCOPE)) {
		// A declaration or an abstract instance: no code is below. An inlined one whose code was optimized away.
		if (die->tag == DW_TAG_subprogram)
			level->scope = NO_SCOPE;
		return true;
	}
	if (parent != NO_SCOPE)
		level->depth++;
	level->scope = (uint32_t)walk->unit->nscopes;
	return add_code(walk->unit, die, parent, level->depth);
}

static bool may_have_code_below(const struct walk *walk, const struct die *die)
{
	switch (die->tag) {
	case DW_TAG_class_type:
	case DW_TAG_structure_type:
	case DW_TAG_union_type:
	case DW_TAG_interface_type:
		return walk->types_have_code;
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
	struct die die;

	while (die_reader_next(&walk->reader, &die)) {
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
		if (!may_have_code_below(walk, &die) && die_reader_skip_children(&walk->reader, &die))
			continue;
		if (walk->top + 1 == MAX_DEPTH)
			break;
		walk->levels[++walk->top] = level;
	}
	return true;
}

// In C++ a lambda's body is inside its closure's type.
static bool types_have_code(Dwarf_Die *root)
{
	switch (dwarf_srclang(root)) {
	case DW_LANG_C89:
	case DW_LANG_C:
	case DW_LANG_C99:
	case DW_LANG_C11:
		return false;
	default:
		return true;
	}
}

static bool read_unit(struct dwarf_unit *unit, Dwarf_Die *root)
{
	struct walk *walk = calloc(1, sizeof(*walk));
	bool ok = false;

	if (!walk)
		return false;
	walk->unit = unit;
	walk->types_have_code = types_have_code(root);
	walk->levels[0] = (struct level){NO_SCOPE, 0};
	if (die_reader_init(&walk->reader, root) == 0)
		ok = read_tree(walk) && interval_map_build(&unit->places) == 0;
	die_reader_finish(&walk->reader);
	free(walk);
	return ok;
}

// ---- Source files --------------------------------------------------------------------------------------------------

static const char *string_attribute(Dwarf_Die *die, unsigned name)
{
	Dwarf_Attribute attribute;

	return dwarf_formstring(dwarf_attr(die, name, &attribute));
}

static void open_files(Dwarf_Die *die, struct files *files)
{
	if (dwarf_getsrcfiles(die, &files->table, &files->count) == 0)
		files->joined = calloc(files->count + 1, sizeof(char *));
	if (!files->joined)
		files->count = 0;
}

static void close_files(struct files *files)
{
	for (size_t i = 0; i < files->count; i++)
		free(files->joined[i]);
	free(files->joined);
}

// NULL: not known. A relative path is given the unit's directory, unless that is relative, too: then a build has rewritten both to be
// what they are.
static const char *file_path(const struct dwarf_unit *unit, const struct files *files, size_t number)
{
	const char *path = number < files->count ? dwarf_filesrc(files->table, number, NULL, NULL) : NULL;

	// Before DWARF 5 there was no file 0; libdw has this for it.
	if (path && strcmp(path, "???") == 0)
		return NULL;
	if (!path || path[0] == '/' || !unit->dir || unit->dir[0] != '/' || strnlen(path, PATH_MAX) == PATH_MAX ||
	    strnlen(unit->dir, PATH_MAX) == PATH_MAX)
		return path;
	if (!files->joined[number] && asprintf(&files->joined[number], "%s/%s", unit->dir, path) < 0)
		files->joined[number] = NULL;
	return files->joined[number] ? files->joined[number] : path;
}

// ---- Units ---------------------------------------------------------------------------------------------------------

struct dwarf_unit *dwarf_unit_create(const Dwarf_Die *die, const Dwarf_Die *skeleton)
{
	struct dwarf_unit *unit = calloc(1, sizeof(*unit));
	Dwarf_Die root = *die;

	if (!unit)
		return NULL;
	unit->dwarf = dwarf_cu_getdwarf(root.cu);
	unit->skeleton = *skeleton;
	if (!read_unit(unit, &root)) {
		dwarf_unit_destroy(unit);
		return NULL;
	}
	open_files(&root, &unit->files);
	if (die->cu != skeleton->cu)
		open_files(&unit->skeleton, &unit->split_files);
	unit->dir = string_attribute(&unit->skeleton, DW_AT_comp_dir);
	return unit;
}

void dwarf_unit_destroy(struct dwarf_unit *unit)
{
	if (!unit)
		return;
	close_files(&unit->files);
	close_files(&unit->split_files);
	interval_map_finish(&unit->places);
	free(unit->scopes);
	free(unit);
}

// ---- Looking up ----------------------------------------------------------------------------------------------------

static int number_attribute(Dwarf_Die *die, unsigned name)
{
	Dwarf_Attribute attribute;
	Dwarf_Word value;

	return dwarf_formudata(dwarf_attr(die, name, &attribute), &value) == 0 && value < INT32_MAX ? (int)value : 0;
}

static bool go_to_origin(Dwarf_Die *die)
{
	Dwarf_Attribute attribute;

	if (!dwarf_attr(die, DW_AT_abstract_origin, &attribute) && !dwarf_attr(die, DW_AT_specification, &attribute))
		return false;
	return dwarf_formref_die(&attribute, die) != NULL;
}

// What a DIE does not say itself, its abstract instance or declaration does.
static void fill_name(const struct dwarf_unit *unit, const struct scope *scope, struct dwarf_frame *frame)
{
	Dwarf_Die die;
	bool more = dwarf_offdie(unit->dwarf, scope->offset, &die) != NULL;

	for (int hop = 0; more && hop < MAX_HOPS; hop++) {
		if (!frame->name)
			frame->name = string_attribute(&die, DW_AT_name);
		if (!frame->linkage_name)
			frame->linkage_name = string_attribute(&die, DW_AT_linkage_name);
		if (!frame->linkage_name)
			frame->linkage_name = string_attribute(&die, DW_AT_MIPS_linkage_name);
		if (!frame->start_line)
			frame->start_line = number_attribute(&die, DW_AT_decl_line);
		more = (!frame->name || !frame->linkage_name || !frame->start_line) && go_to_origin(&die);
	}
}

static void fill_line(struct dwarf_unit *unit, uint64_t vaddr, struct dwarf_frame *frame)
{
	Dwarf_Line *line = dwarf_getsrc_die(&unit->skeleton, vaddr);
	Dwarf_Files *table;
	size_t number;

	if (!line || dwarf_line_file(line, &table, &number) != 0)
		return;
	frame->file = file_path(unit, table == unit->files.table ? &unit->files : &unit->split_files, number);
	if (dwarf_lineno(line, &frame->line) != 0)
		frame->line = 0;
}

// Where an inlined subroutine was called: the place of the frame around it.
static void fill_call_site(const struct dwarf_unit *unit, const struct scope *inlined, struct dwarf_frame *caller)
{
	caller->line = (int)inlined->call_line;
	caller->file = file_path(unit, &unit->files, inlined->call_file);
}

size_t dwarf_unit_find(struct dwarf_unit *unit, uint64_t vaddr, struct dwarf_frame *frames, size_t max)
{
	uint32_t index = interval_map_find(&unit->places, vaddr);
	const struct scope *inlined = NULL;
	size_t count = 0;

	if (max == 0)
		return 0;
	memset(&frames[0], 0, sizeof(frames[0]));
	fill_line(unit, vaddr, &frames[0]);
	if (index == INTERVAL_NONE)
		return frames[0].file ? 1 : 0;
	for (; index != NO_SCOPE && count < max; count++) {
		const struct scope *scope = &unit->scopes[index];

		if (count > 0)
			memset(&frames[count], 0, sizeof(frames[count]));
		if (inlined)
			fill_call_site(unit, inlined, &frames[count]);
		fill_name(unit, scope, &frames[count]);
		inlined = scope;
		index = scope->parent;
	}
	return count;
}
