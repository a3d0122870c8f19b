// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// dwarf_file.c: see dwarf_file.h. DWARF 5, sections 7.5 and 7.26 (string offsets), 7.27 (addresses).

#include "collector/dwarf_file.h"

#include <dwarf.h>
#include <stdlib.h>

#include "collector/dwarf_package.h"

#define MAX_UNITS (1u << 20)

// ---- Forms ---------------------------------------------------------------------------------------------------------

int dwarf_form_size(const struct dwarf_cu *cu, uint16_t form)
{
	switch (form) {
	case DW_FORM_flag_present:
	case DW_FORM_implicit_const:
		return 0;
	case DW_FORM_data1:
	case DW_FORM_ref1:
	case DW_FORM_flag:
	case DW_FORM_strx1:
	case DW_FORM_addrx1:
		return 1;
	case DW_FORM_data2:
	case DW_FORM_ref2:
	case DW_FORM_strx2:
	case DW_FORM_addrx2:
		return 2;
	case DW_FORM_strx3:
	case DW_FORM_addrx3:
		return 3;
	case DW_FORM_data4:
	case DW_FORM_ref4:
	case DW_FORM_strx4:
	case DW_FORM_addrx4:
	case DW_FORM_ref_sup4:
		return 4;
	case DW_FORM_data8:
	case DW_FORM_ref8:
	case DW_FORM_ref_sig8:
	case DW_FORM_ref_sup8:
		return 8;
	case DW_FORM_data16:
		return 16;
	case DW_FORM_addr:
		return cu->address_size;
	case DW_FORM_ref_addr:
		return cu->version <= 2 ? cu->address_size : cu->offset_size;
	case DW_FORM_strp:
	case DW_FORM_line_strp:
	case DW_FORM_strp_sup:
	case DW_FORM_sec_offset:
	case DW_FORM_GNU_ref_alt:
	case DW_FORM_GNU_strp_alt:
		return cu->offset_size;
	default:
		return -1;
	}
}

static uint64_t take_varying(uint16_t form, struct dwarf_cursor *cursor)
{
	switch (form) {
	case DW_FORM_udata:
	case DW_FORM_sdata: // of the wanted ones, none is negative
	case DW_FORM_ref_udata:
	case DW_FORM_strx:
	case DW_FORM_addrx:
	case DW_FORM_loclistx:
	case DW_FORM_rnglistx:
	case DW_FORM_GNU_addr_index:
	case DW_FORM_GNU_str_index:
		return dwarf_cursor_uleb(cursor);
	case DW_FORM_string:
		return (uint64_t)(uintptr_t)dwarf_cursor_string(cursor);
	case DW_FORM_block1:
		dwarf_cursor_skip(cursor, dwarf_cursor_number(cursor, 1));
		return 0;
	case DW_FORM_block2:
		dwarf_cursor_skip(cursor, dwarf_cursor_number(cursor, 2));
		return 0;
	case DW_FORM_block4:
		dwarf_cursor_skip(cursor, dwarf_cursor_number(cursor, 4));
		return 0;
	case DW_FORM_block:
	case DW_FORM_exprloc:
		dwarf_cursor_skip(cursor, dwarf_cursor_uleb(cursor));
		return 0;
	default:
		dwarf_cursor_fail(cursor);
		return 0;
	}
}

uint64_t dwarf_form_take(const struct dwarf_cu *cu, uint16_t *form, struct dwarf_cursor *cursor)
{
	int size;

	if (*form == DW_FORM_indirect) {
		uint64_t code = dwarf_cursor_uleb(cursor);

		// An indirect form to an indirect or implicit one is not allowed.
		if (code == DW_FORM_indirect || code == DW_FORM_implicit_const || code > UINT16_MAX) {
			dwarf_cursor_fail(cursor);
			return 0;
		}
		*form = (uint16_t)code;
	}
	size = dwarf_form_size(cu, *form);
	if (size == 16) {
		dwarf_cursor_skip(cursor, 16);
		return 0;
	}
	return size >= 0 ? dwarf_cursor_number(cursor, (unsigned)size) : take_varying(*form, cursor);
}

// ---- What they mean ------------------------------------------------------------------------------------------------

const struct dwarf_bytes *dwarf_cu_section(const struct dwarf_cu *cu, enum dwarf_section section)
{
	return cu->shares ? &cu->shares->parts[section] : &cu->file->sections.parts[section];
}

const char *dwarf_string_at(const struct dwarf_bytes *section, uint64_t offset)
{
	const char *string;

	if (offset >= section->size)
		return NULL;
	string = (const char *)section->data + offset;
	if (section->data[section->size - 1] == 0 || memchr(string, 0, section->size - offset))
		return string;
	return NULL;
}

static const char *string_by_index(const struct dwarf_cu *cu, uint64_t index)
{
	const struct dwarf_bytes *offsets = dwarf_cu_section(cu, DWARF_STR_OFFSETS);
	uint64_t at = cu->str_offsets_base + index * cu->offset_size, offset;
	struct dwarf_cursor cursor;

	if (index > offsets->size || cu->str_offsets_base > offsets->size)
		return NULL;
	cursor = dwarf_cursor_at(offsets, at);
	offset = dwarf_cursor_number(&cursor, cu->offset_size);
	return cursor.failed ? NULL : dwarf_string_at(&cu->file->sections.parts[DWARF_STR], offset);
}

const char *dwarf_string(const struct dwarf_cu *cu, const struct die_value *value)
{
	switch (value->form) {
	case DW_FORM_string:
		return (const char *)(uintptr_t)value->number;
	case DW_FORM_strp:
		return dwarf_string_at(&cu->file->sections.parts[DWARF_STR], value->number);
	case DW_FORM_line_strp:
		return dwarf_string_at(&cu->file->sections.parts[DWARF_LINE_STR], value->number);
	case DW_FORM_strp_sup:
	case DW_FORM_GNU_strp_alt:
		return cu->file->alt ? dwarf_string_at(&cu->file->alt->sections.parts[DWARF_STR], value->number) : NULL;
	case DW_FORM_strx:
	case DW_FORM_strx1:
	case DW_FORM_strx2:
	case DW_FORM_strx3:
	case DW_FORM_strx4:
	case DW_FORM_GNU_str_index:
		return string_by_index(cu, value->number);
	default:
		return NULL;
	}
}

bool dwarf_is_address(uint16_t form)
{
	return form == DW_FORM_addr || form == DW_FORM_addrx || (form >= DW_FORM_addrx1 && form <= DW_FORM_addrx4) ||
	       form == DW_FORM_GNU_addr_index;
}

bool dwarf_address_by_index(const struct dwarf_cu *cu, uint64_t index, uint64_t *ret_address)
{
	const struct dwarf_cu *of = cu->skeleton ? cu->skeleton : cu;
	const struct dwarf_bytes *addresses = &of->file->sections.parts[DWARF_ADDR];
	struct dwarf_cursor cursor;
	uint64_t address;

	if (index > addresses->size || of->addr_base > addresses->size)
		return false;
	cursor = dwarf_cursor_at(addresses, of->addr_base + index * of->address_size);
	address = dwarf_cursor_number(&cursor, of->address_size);
	if (cursor.failed)
		return false;
	*ret_address = address;
	return true;
}

bool dwarf_address(const struct dwarf_cu *cu, const struct die_value *value, uint64_t *ret_address)
{
	if (!dwarf_is_address(value->form))
		return false;
	if (value->form != DW_FORM_addr)
		return dwarf_address_by_index(cu, value->number, ret_address);
	*ret_address = value->number;
	return true;
}

static const struct dwarf_cu *unit_at(const struct dwarf_file *file, uint64_t offset)
{
	size_t low = 0, high = file ? file->count : 0;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (file->units[middle].root <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low > 0 && offset < file->units[low - 1].end ? &file->units[low - 1] : NULL;
}

const struct dwarf_cu *dwarf_reference(const struct dwarf_cu *cu, const struct die_value *value, uint64_t *ret_offset)
{
	*ret_offset = value->number;
	switch (value->form) {
	case DW_FORM_ref1:
	case DW_FORM_ref2:
	case DW_FORM_ref4:
	case DW_FORM_ref8:
	case DW_FORM_ref_udata:
		*ret_offset += cu->offset;
		return value->number < cu->end - cu->offset && *ret_offset >= cu->root ? cu : NULL;
	case DW_FORM_ref_addr:
		return unit_at(cu->file, value->number);
	case DW_FORM_ref_sup4:
	case DW_FORM_ref_sup8:
	case DW_FORM_GNU_ref_alt:
		return unit_at(cu->file->alt, value->number);
	default:
		return NULL;
	}
}

// ---- Units ---------------------------------------------------------------------------------------------------------

static void read_type(struct dwarf_cu *cu, struct dwarf_cursor *cursor)
{
	cu->type = (uint8_t)dwarf_cursor_number(cursor, 1);
	cu->address_size = (uint8_t)dwarf_cursor_number(cursor, 1);
	cu->abbrevs = dwarf_cursor_number(cursor, cu->offset_size);
	if (cu->type == DW_UT_skeleton || cu->type == DW_UT_split_compile)
		cu->dwo_id = dwarf_cursor_number(cursor, 8);
	else if (cu->type == DW_UT_type || cu->type == DW_UT_split_type)
		dwarf_cursor_skip(cursor, 8 + (uint64_t)cu->offset_size);
}

// Leaves the cursor at the next unit. False: no more of them.
static bool read_header(struct dwarf_cursor *cursor, const uint8_t *section, struct dwarf_cu *cu)
{
	uint64_t length;

	cu->offset = (uint64_t)(cursor->at - section);
	cu->offset_size = 4;
	length = dwarf_cursor_number(cursor, 4);
	if (length == 0xffffffff) {
		cu->offset_size = 8;
		length = dwarf_cursor_number(cursor, 8);
	}
	if (cursor->failed || length == 0 || length > (uint64_t)(cursor->end - cursor->at))
		return false;
	cu->end = (uint64_t)(cursor->at - section) + length;
	cu->version = (uint8_t)dwarf_cursor_number(cursor, 2);
	if (cu->version >= 5) {
		read_type(cu, cursor);
	} else {
		cu->type = DW_UT_compile;
		cu->abbrevs = dwarf_cursor_number(cursor, cu->offset_size);
		cu->address_size = (uint8_t)dwarf_cursor_number(cursor, 1);
	}
	cu->root = (uint64_t)(cursor->at - section);
	cursor->at = section + cu->end;
	return !cursor->failed && cu->root < cu->end;
}

static bool is_readable(const struct dwarf_cu *cu)
{
	return cu->version >= 2 && cu->version <= 5 && cu->address_size >= 1 && cu->address_size <= 8 &&
	       cu->type != DW_UT_type && cu->type != DW_UT_split_type;
}

// Before the first one, in a split unit of DWARF 5, there is a header.
static uint64_t first_offset(const struct dwarf_cu *cu, uint64_t header)
{
	return cu->version >= 5 ? (cu->offset_size == 8 ? header + 8 : header) : 0;
}

static uint64_t number_of(const struct die *die, enum die_slot slot, uint64_t otherwise)
{
	return die_has(die, slot) ? die->values[slot].number : otherwise;
}

// The bases come before what is relative to them.
static void take_root(struct dwarf_cu *cu, const struct die *die)
{
	uint64_t address;

	cu->tag = die->tag;
	cu->language = (uint16_t)number_of(die, DIE_LANGUAGE, 0);
	cu->lines = number_of(die, DIE_STMT_LIST, DWARF_NONE);
	cu->str_offsets_base = number_of(die, DIE_STR_OFFSETS_BASE, first_offset(cu, 8));
	cu->addr_base = number_of(die, DIE_ADDR_BASE, first_offset(cu, 8));
	cu->rnglists_base = number_of(die, DIE_RNGLISTS_BASE, first_offset(cu, 12));
	cu->ranges_base = number_of(die, DIE_RANGES_BASE, 0);
	cu->dwo_id = number_of(die, DIE_DWO_ID, cu->dwo_id);
	cu->dir = die_has(die, DIE_COMP_DIR) ? dwarf_string(cu, &die->values[DIE_COMP_DIR]) : NULL;
	cu->dwo_name = die_has(die, DIE_DWO_NAME) ? dwarf_string(cu, &die->values[DIE_DWO_NAME]) : NULL;
	cu->present = die->present & (1u << DIE_LOW_PC | 1u << DIE_HIGH_PC | 1u << DIE_RANGES);
	cu->low = die->values[DIE_LOW_PC];
	cu->high = die->values[DIE_HIGH_PC];
	cu->ranges = die->values[DIE_RANGES];
	if (die_has(die, DIE_LOW_PC) && dwarf_address(cu, &cu->low, &address))
		cu->low_pc = address;
}

// A unit whose first DIE cannot be read has no tag, and is left alone.
static void read_root(struct dwarf_cu *cu, struct die_reader *reader)
{
	struct die die = {0};

	cu->lines = DWARF_NONE;
	if (die_reader_start(reader, cu) == 0 && die_reader_next(reader, &die))
		take_root(cu, &die);
}

static bool add_unit(struct dwarf_file *file, size_t *capacity, const struct dwarf_cu *cu)
{
	if (file->count == *capacity) {
		size_t wanted = *capacity ? *capacity * 2 : 64;
		struct dwarf_cu *grown = wanted <= MAX_UNITS ? reallocarray(file->units, wanted, sizeof(*grown)) : NULL;

		if (!grown)
			return false;
		file->units = grown;
		*capacity = wanted;
	}
	file->units[file->count++] = *cu;
	return true;
}

void dwarf_file_init(struct dwarf_file *ret_file, struct dwarf_sections *sections)
{
	struct dwarf_cursor cursor;
	struct die_reader reader = {0};
	struct dwarf_cu cu = {0};
	size_t capacity = 0;

	*ret_file = (struct dwarf_file){.sections = *sections};
	*sections = (struct dwarf_sections){0};
	dwarf_package_read(ret_file);
	cursor = dwarf_cursor_at(&ret_file->sections.parts[DWARF_INFO], 0);
	while (read_header(&cursor, ret_file->sections.parts[DWARF_INFO].data, &cu)) {
		cu.file = ret_file;
		if (is_readable(&cu)) {
			cu.shares = dwarf_package_find(ret_file, cu.offset);
			read_root(&cu, &reader);
			if (!add_unit(ret_file, &capacity, &cu))
				break;
		}
		cu = (struct dwarf_cu){0};
	}
	die_reader_finish(&reader);
}

void dwarf_file_close(struct dwarf_file *file)
{
	dwarf_sections_close(&file->sections);
	free(file->units);
	free(file->shares);
	*file = (struct dwarf_file){0};
}

// Attributes of an abbreviation. True: one of them is that of a skeleton.
static bool skip_attributes(struct dwarf_cursor *cursor)
{
	bool skeleton = false;

	while (!cursor->failed) {
		uint64_t name = dwarf_cursor_uleb(cursor), form = dwarf_cursor_uleb(cursor);

		if (form == DW_FORM_implicit_const)
			(void)dwarf_cursor_sleb(cursor);
		skeleton |= name == DW_AT_dwo_name || name == DW_AT_GNU_dwo_name;
		if (name == 0 && form == 0)
			break;
	}
	return skeleton;
}

// What kinds of DIEs there are stands at the beginning of each unit's abbreviations: in most files the first few bytes tell.
bool dwarf_file_has_functions(const struct dwarf_file *file)
{
	struct dwarf_cursor cursor = dwarf_cursor_at(&file->sections.parts[DWARF_ABBREV], 0);

	while (!cursor.failed && cursor.at < cursor.end) {
		uint64_t tag;

		if (dwarf_cursor_uleb(&cursor) == 0) // the end of a unit's
			continue;
		tag = dwarf_cursor_uleb(&cursor);
		dwarf_cursor_skip(&cursor, 1);
		if (skip_attributes(&cursor) || tag == DW_TAG_subprogram || tag == DW_TAG_skeleton_unit)
			return true;
	}
	return false;
}
