// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// die_reader.c: see die_reader.h.

#include "collector/die_reader.h"

#include <dwarf.h>
#include <errno.h>
#include <stdlib.h>

#include "collector/dwarf_file.h"

#define MAX_ABBREVS (1u << 20)
#define MAX_ATTRIBUTES 512
#define SKIP UINT8_MAX

// An attribute, or several in a row that nobody wants and whose size is known: slot SKIP, form 0.
struct die_spec {
	uint8_t slot;
	uint16_t form;
	uint64_t constant; // bytes to skip, or DW_FORM_implicit_const's
};

struct die_abbrev {
	uint64_t code;
	uint16_t tag;
	bool has_children;
	uint32_t first, count; // of specs
};

// ---- Abbreviations -------------------------------------------------------------------------------------------------

static bool is_unit(uint16_t tag)
{
	return tag == DW_TAG_compile_unit || tag == DW_TAG_skeleton_unit || tag == DW_TAG_partial_unit;
}

static bool is_code(uint16_t tag)
{
	return tag == DW_TAG_subprogram || tag == DW_TAG_inlined_subroutine;
}

static uint8_t slot_of_code(uint64_t name)
{
	switch (name) {
	case DW_AT_sibling:
		return DIE_SIBLING;
	case DW_AT_name:
		return DIE_NAME;
	case DW_AT_linkage_name:
	case DW_AT_MIPS_linkage_name:
		return DIE_LINKAGE_NAME;
	case DW_AT_low_pc:
		return DIE_LOW_PC;
	case DW_AT_high_pc:
		return DIE_HIGH_PC;
	case DW_AT_ranges:
		return DIE_RANGES;
	case DW_AT_abstract_origin:
	case DW_AT_specification:
		return DIE_ORIGIN;
	case DW_AT_decl_line:
		return DIE_DECL_LINE;
	case DW_AT_call_file:
		return DIE_CALL_FILE;
	case DW_AT_call_line:
		return DIE_CALL_LINE;
	case DW_AT_declaration:
		return DIE_DECLARATION;
	default:
		return SKIP;
	}
}

static uint8_t slot_of_unit(uint64_t name)
{
	switch (name) {
	case DW_AT_name:
		return DIE_NAME;
	case DW_AT_low_pc:
		return DIE_LOW_PC;
	case DW_AT_high_pc:
		return DIE_HIGH_PC;
	case DW_AT_ranges:
		return DIE_RANGES;
	case DW_AT_comp_dir:
		return DIE_COMP_DIR;
	case DW_AT_stmt_list:
		return DIE_STMT_LIST;
	case DW_AT_language:
		return DIE_LANGUAGE;
	case DW_AT_str_offsets_base:
		return DIE_STR_OFFSETS_BASE;
	case DW_AT_addr_base:
	case DW_AT_GNU_addr_base:
		return DIE_ADDR_BASE;
	case DW_AT_rnglists_base:
		return DIE_RNGLISTS_BASE;
	case DW_AT_GNU_ranges_base:
		return DIE_RANGES_BASE;
	case DW_AT_dwo_name:
	case DW_AT_GNU_dwo_name:
		return DIE_DWO_NAME;
	case DW_AT_GNU_dwo_id:
		return DIE_DWO_ID;
	default:
		return SKIP;
	}
}

static uint8_t slot_of(uint16_t tag, uint64_t name)
{
	if (is_code(tag))
		return slot_of_code(name);
	if (is_unit(tag))
		return slot_of_unit(name);
	return name == DW_AT_sibling ? DIE_SIBLING : SKIP;
}

static void *grow(void *items, size_t count, size_t *capacity, size_t size)
{
	size_t wanted = *capacity ? *capacity * 2 : 64;
	void *grown;

	if (count < *capacity)
		return items;
	grown = reallocarray(items, wanted, size);
	if (grown)
		*capacity = wanted;
	return grown;
}

static bool add_spec(struct die_abbrevs *abbrevs, const struct die_spec *spec, uint32_t first)
{
	struct die_spec *last = abbrevs->nspecs > first ? &abbrevs->specs[abbrevs->nspecs - 1] : NULL, *grown;

	if (last && last->form == 0 && spec->form == 0) {
		last->constant += spec->constant;
		return true;
	}
	grown = grow(abbrevs->specs, abbrevs->nspecs, &abbrevs->specs_capacity, sizeof(*grown));
	if (!grown)
		return false;
	abbrevs->specs = grown;
	abbrevs->specs[abbrevs->nspecs++] = *spec;
	return true;
}

static bool read_specs(struct die_abbrevs *abbrevs, const struct dwarf_cu *cu, struct dwarf_cursor *cursor,
		       struct die_abbrev *entry)
{
	entry->first = (uint32_t)abbrevs->nspecs;
	for (size_t i = 0; i < MAX_ATTRIBUTES && !cursor->failed; i++) {
		uint64_t name = dwarf_cursor_uleb(cursor), form = dwarf_cursor_uleb(cursor);
		struct die_spec spec = {.slot = slot_of(entry->tag, name), .form = (uint16_t)form};
		int size = form <= UINT16_MAX ? dwarf_form_size(cu, (uint16_t)form) : -1;

		if (form == DW_FORM_implicit_const)
			spec.constant = (uint64_t)dwarf_cursor_sleb(cursor);
		if (name == 0 && form == 0) {
			entry->count = (uint32_t)(abbrevs->nspecs - entry->first);
			return !cursor->failed;
		}
		if (form == 0 || form > UINT16_MAX)
			return false;
		if (spec.slot == SKIP && size >= 0)
			spec = (struct die_spec){.slot = SKIP, .constant = (uint64_t)size};
		if (!add_spec(abbrevs, &spec, entry->first))
			return false;
	}
	return false;
}

static int by_code(const void *a, const void *b)
{
	const struct die_abbrev *x = a, *y = b;

	return (x->code > y->code) - (x->code < y->code);
}

static void read_abbrevs(struct die_abbrevs *abbrevs, const struct dwarf_cu *cu)
{
	struct dwarf_cursor cursor = dwarf_cursor_at(dwarf_cu_section(cu, DWARF_ABBREV), cu->abbrevs);
	bool sorted = true;

	while (abbrevs->count < MAX_ABBREVS) {
		struct die_abbrev entry = {.code = dwarf_cursor_uleb(&cursor)};
		struct die_abbrev *grown;
		uint64_t tag;

		if (entry.code == 0)
			break;
		tag = dwarf_cursor_uleb(&cursor);
		entry.tag = tag <= UINT16_MAX ? (uint16_t)tag : DW_TAG_hi_user;
		entry.has_children = dwarf_cursor_number(&cursor, 1) != 0;
		grown = grow(abbrevs->entries, abbrevs->count, &abbrevs->capacity, sizeof(*grown));
		if (!grown)
			break;
		abbrevs->entries = grown;
		if (!read_specs(abbrevs, cu, &cursor, &entry))
			break;
		sorted = sorted && (abbrevs->count == 0 || grown[abbrevs->count - 1].code < entry.code);
		grown[abbrevs->count++] = entry;
	}
	if (!sorted)
		qsort(abbrevs->entries, abbrevs->count, sizeof(*abbrevs->entries), by_code);
}

static uint32_t sizes_of(const struct dwarf_cu *cu)
{
	return (uint32_t)cu->version << 16 | (uint32_t)cu->address_size << 8 | cu->offset_size;
}

static void load_abbrevs(struct die_abbrevs *abbrevs, const struct dwarf_cu *cu)
{
	const void *of = dwarf_cu_section(cu, DWARF_ABBREV)->data;

	if (abbrevs->of == of && abbrevs->offset == cu->abbrevs && abbrevs->sizes == sizes_of(cu))
		return;
	abbrevs->of = of;
	abbrevs->offset = cu->abbrevs;
	abbrevs->sizes = sizes_of(cu);
	abbrevs->count = abbrevs->nspecs = 0;
	read_abbrevs(abbrevs, cu);
}

static const struct die_abbrev *find_abbrev(const struct die_abbrevs *abbrevs, uint64_t code)
{
	const struct die_abbrev key = {.code = code};

	// Compilers number them from 1 on.
	if (code - 1 < abbrevs->count && abbrevs->entries[code - 1].code == code)
		return &abbrevs->entries[code - 1];
	return abbrevs->count ? bsearch(&key, abbrevs->entries, abbrevs->count, sizeof(key), by_code) : NULL;
}

// ---- DIEs ----------------------------------------------------------------------------------------------------------

int die_reader_start(struct die_reader *reader, const struct dwarf_cu *cu)
{
	const struct dwarf_bytes *info = &cu->file->sections.parts[DWARF_INFO];

	reader->cu = cu;
	reader->section = info->data;
	reader->cursor = (struct dwarf_cursor){info->data + cu->root, info->data + cu->end, false};
	load_abbrevs(&reader->abbrevs, cu);
	return reader->abbrevs.count ? 0 : -EINVAL;
}

void die_reader_finish(struct die_reader *reader)
{
	free(reader->abbrevs.entries);
	free(reader->abbrevs.specs);
	*reader = (struct die_reader){0};
}

static bool take_attribute(struct die_reader *reader, const struct die_spec *spec, struct die *die)
{
	uint16_t form = spec->form;
	uint64_t value = dwarf_form_take(reader->cu, &form, &reader->cursor);

	if (spec->slot != SKIP) {
		die->present |= 1u << spec->slot;
		die->values[spec->slot] =
			(struct die_value){spec->form == DW_FORM_implicit_const ? spec->constant : value, form};
	}
	return !reader->cursor.failed;
}

static bool take_attributes(struct die_reader *reader, const struct die_abbrev *abbrev, struct die *die)
{
	const struct die_spec *spec = reader->abbrevs.specs + abbrev->first, *end = spec + abbrev->count;

	for (; spec < end; spec++) {
		if (spec->form == 0) {
			dwarf_cursor_skip(&reader->cursor, spec->constant);
			if (reader->cursor.failed)
				return false;
		} else if (!take_attribute(reader, spec, die)) {
			return false;
		}
	}
	return true;
}

bool die_reader_next(struct die_reader *reader, struct die *ret_die)
{
	struct dwarf_cursor *cursor = &reader->cursor;
	const struct die_abbrev *abbrev;
	uint64_t code;

	if (cursor->at >= cursor->end)
		return false;
	ret_die->offset = (uint64_t)(cursor->at - reader->section);
	ret_die->present = 0;
	ret_die->tag = 0;
	ret_die->has_children = false;
	code = dwarf_cursor_uleb(cursor);
	if (cursor->failed || code == 0)
		return !cursor->failed;
	abbrev = find_abbrev(&reader->abbrevs, code);
	if (!abbrev) {
		dwarf_cursor_fail(cursor);
		return false;
	}
	ret_die->tag = abbrev->tag;
	ret_die->has_children = abbrev->has_children;
	return take_attributes(reader, abbrev, ret_die);
}

bool die_reader_seek(struct die_reader *reader, uint64_t offset)
{
	if (offset < reader->cu->root || offset >= reader->cu->end)
		return false;
	reader->cursor.at = reader->section + offset;
	reader->cursor.end = reader->section + reader->cu->end;
	reader->cursor.failed = false;
	return true;
}

bool die_reader_skip_children(struct die_reader *reader, const struct die *die)
{
	uint64_t at = (uint64_t)(reader->cursor.at - reader->section), sibling;

	if (!die_has(die, DIE_SIBLING))
		return false;
	sibling = reader->cu->offset + die->values[DIE_SIBLING].number;
	// Backwards would be for ever.
	if (die->values[DIE_SIBLING].form == DW_FORM_ref_addr || sibling < at || sibling >= reader->cu->end)
		return false;
	reader->cursor.at = reader->section + sibling;
	return true;
}
