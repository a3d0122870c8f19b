// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// dwarf_lines.c: see dwarf_lines.h.

#include "collector/dwarf_lines.h"

#include <dwarf.h>
#include <errno.h>
#include <stdlib.h>

#define MAX_ROWS (1u << 26)
#define MAX_FILES (1u << 20)
#define MAX_FORMATS 64

struct sequence {
	uint64_t start, end;
	size_t first, count; // rows
};

struct program {
	struct dwarf_lines *lines;
	const struct dwarf_cu *cu;
	struct dwarf_cursor cursor; // the program
	uint64_t start, end;        // where code can be
	uint8_t address_size, offset_size, min_length, max_ops, line_range, opcode_base;
	int8_t line_base;
	const uint8_t *lengths; // of the standard opcodes
	// The state machine.
	uint64_t address, op_index;
	uint32_t file, line;
	size_t sequence_first;
	struct sequence *sequences;
	size_t nsequences, sequences_capacity;
	bool no_memory;
};

// ---- The header ----------------------------------------------------------------------------------------------------

static void *grow(void *items, size_t count, size_t *capacity, size_t size, size_t max)
{
	size_t wanted = *capacity ? *capacity * 2 : 64;
	void *grown;

	if (count < *capacity)
		return items;
	grown = count < max ? reallocarray(items, wanted, size) : NULL;
	if (grown)
		*capacity = wanted;
	return grown;
}

static bool add_dir(struct dwarf_lines *lines, const char *dir)
{
	const char **grown = grow(lines->dirs, lines->ndirs, &lines->dirs_capacity, sizeof(char *), MAX_FILES);

	if (!grown)
		return false;
	lines->dirs = grown;
	grown[lines->ndirs++] = dir;
	return true;
}

static bool add_file(struct dwarf_lines *lines, const char *name, uint64_t dir)
{
	struct dwarf_line_file *grown =
		grow(lines->files, lines->nfiles, &lines->files_capacity, sizeof(*grown), MAX_FILES);

	if (!grown)
		return false;
	lines->files = grown;
	grown[lines->nfiles++] = (struct dwarf_line_file){name, dir};
	return true;
}

// Versions 2 to 4. Directory 0 is the unit's; there is no file 0.
static bool read_old_names(struct program *program)
{
	struct dwarf_cursor *cursor = &program->cursor;
	const char *name;

	if (!add_dir(program->lines, NULL) || !add_file(program->lines, NULL, 0))
		return false;
	while ((name = dwarf_cursor_string(cursor)) && *name)
		if (!add_dir(program->lines, name))
			return false;
	while ((name = dwarf_cursor_string(cursor)) && *name) {
		uint64_t dir = dwarf_cursor_uleb(cursor);

		dwarf_cursor_uleb(cursor); // time of modification
		dwarf_cursor_uleb(cursor); // size
		if (!add_file(program->lines, name, dir))
			return false;
	}
	return !cursor->failed;
}

struct format {
	uint64_t type;
	uint16_t form;
};

static size_t read_formats(struct dwarf_cursor *cursor, struct format formats[MAX_FORMATS])
{
	size_t count = dwarf_cursor_number(cursor, 1);

	if (count > MAX_FORMATS) {
		dwarf_cursor_fail(cursor);
		return 0;
	}
	for (size_t i = 0; i < count; i++) {
		uint64_t form;

		formats[i].type = dwarf_cursor_uleb(cursor);
		form = dwarf_cursor_uleb(cursor);
		formats[i].form = form <= UINT16_MAX ? (uint16_t)form : 0;
	}
	return count;
}

static void read_entry(struct program *program, const struct format *formats, size_t count,
		       struct dwarf_line_file *entry)
{
	struct dwarf_cu sized = *program->cu; // forms have the line table's sizes

	sized.offset_size = program->offset_size;
	for (size_t i = 0; i < count; i++) {
		struct die_value value = {.form = formats[i].form};

		value.number = dwarf_form_take(&sized, &value.form, &program->cursor);
		if (formats[i].type == DW_LNCT_path)
			entry->name = dwarf_string(program->cu, &value);
		else if (formats[i].type == DW_LNCT_directory_index)
			entry->dir = value.number;
	}
}

static bool read_new_list(struct program *program, bool files)
{
	struct format formats[MAX_FORMATS];
	size_t nformats = read_formats(&program->cursor, formats);
	uint64_t count = dwarf_cursor_uleb(&program->cursor);

	if (count > MAX_FILES || (nformats == 0 && count > 0))
		return false;
	for (uint64_t i = 0; i < count && !program->cursor.failed; i++) {
		struct dwarf_line_file entry = {0};

		read_entry(program, formats, nformats, &entry);
		if (!(files ? add_file(program->lines, entry.name, entry.dir) : add_dir(program->lines, entry.name)))
			return false;
	}
	return !program->cursor.failed;
}

static bool read_sizes(struct program *program)
{
	struct dwarf_cursor *cursor = &program->cursor;
	uint64_t length;

	program->offset_size = 4;
	length = dwarf_cursor_number(cursor, 4);
	if (length == 0xffffffff) {
		program->offset_size = 8;
		length = dwarf_cursor_number(cursor, 8);
	}
	if (cursor->failed || length > (uint64_t)(cursor->end - cursor->at))
		return false;
	cursor->end = cursor->at + length;
	program->lines->version = (unsigned)dwarf_cursor_number(cursor, 2);
	program->address_size = program->cu->address_size;
	if (program->lines->version >= 5) {
		program->address_size = (uint8_t)dwarf_cursor_number(cursor, 1);
		dwarf_cursor_number(cursor, 1); // segment selectors
	}
	return program->lines->version >= 2 && program->lines->version <= 5 && program->address_size <= 8;
}

static bool read_header(struct program *program)
{
	struct dwarf_cursor *cursor = &program->cursor;
	const uint8_t *begin;
	uint64_t length;

	if (!read_sizes(program))
		return false;
	length = dwarf_cursor_number(cursor, program->offset_size);
	if (cursor->failed || length > (uint64_t)(cursor->end - cursor->at))
		return false;
	begin = cursor->at + length;
	program->min_length = (uint8_t)dwarf_cursor_number(cursor, 1);
	program->max_ops = program->lines->version >= 4 ? (uint8_t)dwarf_cursor_number(cursor, 1) : 1;
	dwarf_cursor_number(cursor, 1); // default_is_stmt
	program->line_base = (int8_t)dwarf_cursor_number(cursor, 1);
	program->line_range = (uint8_t)dwarf_cursor_number(cursor, 1);
	program->opcode_base = (uint8_t)dwarf_cursor_number(cursor, 1);
	program->lengths = cursor->at;
	dwarf_cursor_skip(cursor, program->opcode_base ? program->opcode_base - 1u : 0);
	if (cursor->failed || program->line_range == 0 || program->max_ops == 0)
		return false;
	if (program->lines->version >= 5 ? !read_new_list(program, false) || !read_new_list(program, true)
					 : !read_old_names(program))
		return false;
	cursor->at = begin;
	return true;
}

// ---- The program ---------------------------------------------------------------------------------------------------

static void reset(struct program *program)
{
	program->address = program->op_index = 0;
	program->file = program->line = 1;
	program->sequence_first = program->lines->nrows;
}

static bool add_row(struct program *program, uint32_t file)
{
	struct dwarf_lines *lines = program->lines;
	struct dwarf_row *last = lines->nrows > program->sequence_first ? &lines->rows[lines->nrows - 1] : NULL, *grown;
	const struct dwarf_row row = {program->address, file, program->line};

	// What says the same as the row before says nothing; at the same address, the later row holds.
	if (last && last->file == file && last->line == row.line && last->address <= row.address)
		return true;
	if (last && last->address == row.address) {
		*last = row;
		return true;
	}
	grown = grow(lines->rows, lines->nrows, &lines->rows_capacity, sizeof(row), MAX_ROWS);
	program->no_memory = !grown;
	if (!grown)
		return false;
	lines->rows = grown;
	grown[lines->nrows++] = row;
	return true;
}

static int by_address(const void *a, const void *b)
{
	const struct dwarf_row *x = a, *y = b;

	return (x->address > y->address) - (x->address < y->address);
}

// Rows of a sequence ascend, or it is damaged.
static bool is_ascending(const struct dwarf_row *rows, size_t count)
{
	for (size_t i = 1; i < count; i++)
		if (by_address(&rows[i - 1], &rows[i]) > 0)
			return false;
	return true;
}

static bool end_sequence(struct program *program)
{
	struct dwarf_lines *lines = program->lines;
	size_t first = program->sequence_first, count;
	struct sequence *grown;

	if (!add_row(program, DWARF_NO_FILE))
		return false;
	count = lines->nrows - first;
	if (lines->rows[first].address < program->start || lines->rows[first].address >= program->end ||
	    lines->rows[first].address == 0 || !is_ascending(lines->rows + first, count)) {
		lines->nrows = first;
		reset(program);
		return true;
	}
	grown = grow(program->sequences, program->nsequences, &program->sequences_capacity, sizeof(*grown), MAX_ROWS);
	program->no_memory = !grown;
	if (!grown)
		return false;
	program->sequences = grown;
	grown[program->nsequences++] =
		(struct sequence){lines->rows[first].address, lines->rows[lines->nrows - 1].address, first, count};
	reset(program);
	return true;
}

static void advance(struct program *program, uint64_t operations)
{
	if (program->max_ops == 1) {
		program->address += program->min_length * operations;
		return;
	}
	operations += program->op_index;
	program->address += program->min_length * (operations / program->max_ops);
	program->op_index = operations % program->max_ops;
}

static bool run_extended(struct program *program)
{
	struct dwarf_cursor *cursor = &program->cursor;
	uint64_t length = dwarf_cursor_uleb(cursor);
	const uint8_t *next;
	bool ok = true;

	if (cursor->failed || length == 0 || length > (uint64_t)(cursor->end - cursor->at))
		return false;
	next = cursor->at + length;
	switch (dwarf_cursor_number(cursor, 1)) {
	case DW_LNE_end_sequence:
		ok = end_sequence(program);
		break;
	case DW_LNE_set_address:
		program->address = dwarf_cursor_number(cursor, length - 1 <= 8 ? (unsigned)length - 1 : 0);
		program->op_index = 0;
		break;
	case DW_LNE_define_file: {
		const char *name = dwarf_cursor_string(cursor);

		ok = name && add_file(program->lines, name, dwarf_cursor_uleb(cursor));
		break;
	}
	default:
		break;
	}
	cursor->at = next;
	return ok;
}

static bool run_standard(struct program *program, uint8_t opcode)
{
	struct dwarf_cursor *cursor = &program->cursor;

	switch (opcode) {
	case DW_LNS_copy:
		return add_row(program, program->file);
	case DW_LNS_advance_pc:
		advance(program, dwarf_cursor_uleb(cursor));
		return true;
	case DW_LNS_advance_line:
		program->line += (uint32_t)dwarf_cursor_sleb(cursor);
		return true;
	case DW_LNS_set_file: {
		uint64_t file = dwarf_cursor_uleb(cursor);

		program->file = file < MAX_FILES ? (uint32_t)file : MAX_FILES;
		return true;
	}
	case DW_LNS_const_add_pc:
		advance(program, (255u - program->opcode_base) / program->line_range);
		return true;
	case DW_LNS_fixed_advance_pc:
		program->address += dwarf_cursor_number(cursor, 2);
		program->op_index = 0;
		return true;
	case DW_LNS_set_column:
	case DW_LNS_set_isa:
		dwarf_cursor_uleb(cursor);
		return true;
	case DW_LNS_negate_stmt:
	case DW_LNS_set_basic_block:
	case DW_LNS_set_prologue_end:
	case DW_LNS_set_epilogue_begin:
		return true;
	default: // unknown: the header says how many operands
		for (uint8_t i = 0; i < program->lengths[opcode - 1]; i++)
			dwarf_cursor_uleb(cursor);
		return true;
	}
}

static bool run_special(struct program *program, uint8_t opcode)
{
	uint8_t adjusted = (uint8_t)(opcode - program->opcode_base);

	advance(program, adjusted / program->line_range);
	program->line += (uint32_t)(program->line_base + adjusted % program->line_range);
	return add_row(program, program->file);
}

static bool run(struct program *program)
{
	reset(program);
	while (program->cursor.at < program->cursor.end) {
		uint8_t opcode = *program->cursor.at++;
		bool ok = opcode >= program->opcode_base ? run_special(program, opcode)
			  : opcode == 0                  ? run_extended(program)
							 : run_standard(program, opcode);

		if (!ok || program->cursor.failed)
			break;
	}
	// A sequence without an end.
	program->lines->nrows = program->sequence_first;
	return !program->no_memory;
}

// ---- In order ------------------------------------------------------------------------------------------------------

static int by_start(const void *a, const void *b)
{
	const struct sequence *x = a, *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	return (x->first > y->first) - (x->first < y->first);
}

static bool are_in_order(const struct program *program)
{
	for (size_t i = 1; i < program->nsequences; i++)
		if (program->sequences[i].start < program->sequences[i - 1].end)
			return false;
	return true;
}

// Of sequences that overlap, the one that begins first holds.
static bool put_in_order(struct program *program)
{
	struct dwarf_lines *lines = program->lines;
	struct dwarf_row *sorted;
	uint64_t covered = 0;
	size_t count = 0;

	if (are_in_order(program))
		return true;
	sorted = reallocarray(NULL, lines->nrows, sizeof(*sorted));
	if (!sorted)
		return false;
	qsort(program->sequences, program->nsequences, sizeof(*program->sequences), by_start);
	for (size_t i = 0; i < program->nsequences; i++) {
		const struct sequence *sequence = &program->sequences[i];

		if (sequence->start < covered)
			continue;
		memcpy(sorted + count, lines->rows + sequence->first, sequence->count * sizeof(*sorted));
		count += sequence->count;
		covered = sequence->end;
	}
	free(lines->rows);
	lines->rows = sorted;
	lines->rows_capacity = lines->nrows;
	lines->nrows = count;
	return true;
}

int dwarf_lines_read(struct dwarf_lines *lines, const struct dwarf_cu *cu, uint64_t start, uint64_t end, bool with_rows)
{
	struct program program = {.lines = lines, .cu = cu, .start = start, .end = end};
	int error = 0;

	lines->ndirs = lines->nfiles = lines->nrows = 0;
	if (cu->lines == DWARF_NONE)
		return -ENOENT;
	program.cursor = dwarf_cursor_at(dwarf_cu_section(cu, DWARF_LINE), cu->lines);
	if (!read_header(&program))
		return -EINVAL;
	if (with_rows && (!run(&program) || !put_in_order(&program)))
		error = -ENOMEM;
	free(program.sequences);
	return error;
}

void dwarf_lines_finish(struct dwarf_lines *lines)
{
	free(lines->dirs);
	free(lines->files);
	free(lines->rows);
	*lines = (struct dwarf_lines){0};
}
