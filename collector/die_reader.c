// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// die_reader.c: see die_reader.h. DWARF 5, section 7.5.

#include "collector/die_reader.h"

#include <dwarf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_CODE (1u << 20)
#define MAX_ATTRIBUTES 512
#define NO_FORM UINT16_MAX // no DIE that has it can be read

// An attribute, or several in a row that nobody wants and whose size is known.
struct spec {
	uint16_t name, form; // form 0: skip `constant` bytes
	bool wanted;
	uint64_t constant; // DW_FORM_implicit_const
};

struct die_abbrev {
	uint16_t tag, nspecs;
	bool has_children;
	struct spec specs[];
};

// ---- Numbers -------------------------------------------------------------------------------------------------------

static bool take(struct die_reader *reader, size_t size, uint64_t *ret_value)
{
	uint64_t value = 0;

	if (size > (size_t)(reader->end - reader->at))
		return false;
	memcpy(&value, reader->at, size < sizeof(value) ? size : sizeof(value)); // little-endian: elf_file.c sees to it
	reader->at += size;
	*ret_value = value;
	return true;
}

static bool take_uleb(struct die_reader *reader, uint64_t *ret_value)
{
	uint64_t value = 0;

	for (unsigned shift = 0; reader->at < reader->end; shift += 7) {
		uint8_t byte = *reader->at++;

		if (shift < 64)
			value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80)) {
			*ret_value = value;
			return true;
		}
	}
	return false;
}

static bool take_block(struct die_reader *reader, uint64_t size)
{
	if (size > (uint64_t)(reader->end - reader->at))
		return false;
	reader->at += size;
	return true;
}

// ---- Forms ---------------------------------------------------------------------------------------------------------

// Bytes of a form; −1: varies.
static int form_size(const struct die_reader *reader, uint16_t form)
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
		return reader->address_size;
	case DW_FORM_ref_addr:
		return reader->version <= 2 ? reader->address_size : reader->offset_size;
	case DW_FORM_strp:
	case DW_FORM_line_strp:
	case DW_FORM_strp_sup:
	case DW_FORM_sec_offset:
	case DW_FORM_GNU_ref_alt:
	case DW_FORM_GNU_strp_alt:
		return reader->offset_size;
	default:
		return -1;
	}
}

static bool skip_varying(struct die_reader *reader, uint16_t form, uint64_t *ret_value)
{
	const uint8_t *nul;

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
		return take_uleb(reader, ret_value);
	case DW_FORM_string:
		nul = memchr(reader->at, 0, (size_t)(reader->end - reader->at));
		if (nul)
			reader->at = nul + 1;
		return nul != NULL;
	case DW_FORM_block1:
		return take(reader, 1, ret_value) && take_block(reader, *ret_value);
	case DW_FORM_block2:
		return take(reader, 2, ret_value) && take_block(reader, *ret_value);
	case DW_FORM_block4:
		return take(reader, 4, ret_value) && take_block(reader, *ret_value);
	case DW_FORM_block:
	case DW_FORM_exprloc:
		return take_uleb(reader, ret_value) && take_block(reader, *ret_value);
	default:
		return false;
	}
}

static bool take_form(struct die_reader *reader, uint16_t *form, uint64_t *ret_value)
{
	int size;

	if (*form == DW_FORM_indirect) {
		uint64_t code;

		// An indirect form to an indirect or implicit one is not allowed.
		if (!take_uleb(reader, &code) || code == DW_FORM_indirect || code == DW_FORM_implicit_const ||
		    code > UINT16_MAX)
			return false;
		*form = (uint16_t)code;
	}
	size = form_size(reader, *form);
	return size >= 0 ? take(reader, (size_t)size, ret_value) : skip_varying(reader, *form, ret_value);
}

// ---- Abbreviations -------------------------------------------------------------------------------------------------

// The fewer, the faster: most of DWARF is types and variables.
static bool is_wanted(uint16_t tag, unsigned name)
{
	switch (name) {
	case DW_AT_low_pc:
	case DW_AT_high_pc:
	case DW_AT_ranges:
		return tag == DW_TAG_subprogram || tag == DW_TAG_inlined_subroutine;
	case DW_AT_call_file:
	case DW_AT_call_line:
		return tag == DW_TAG_inlined_subroutine;
	case DW_AT_sibling:
		return tag != DW_TAG_subprogram && tag != DW_TAG_inlined_subroutine && tag != DW_TAG_lexical_block &&
		       tag != DW_TAG_compile_unit;
	default:
		return false;
	}
}

static void fill_spec(const struct die_reader *reader, struct die_abbrev *abbrev, unsigned name, unsigned form,
		      Dwarf_Sword constant)
{
	struct spec *last = abbrev->nspecs ? &abbrev->specs[abbrev->nspecs - 1] : NULL;
	bool wanted = is_wanted(abbrev->tag, name);
	int size = form <= UINT16_MAX ? form_size(reader, (uint16_t)form) : -1;

	if (form == 0 || form > UINT16_MAX)
		form = NO_FORM;
	if (wanted || size < 0)
		abbrev->specs[abbrev->nspecs++] =
			(struct spec){(uint16_t)name, (uint16_t)form, wanted, (uint64_t)constant};
	else if (last && last->form == 0)
		last->constant += (uint64_t)size;
	else
		abbrev->specs[abbrev->nspecs++] = (struct spec){.constant = (uint64_t)size};
}

// dwarf_getattrcnt of elfutils 0.188 takes the value of an implicit constant for an attribute: so, count them.
static size_t count_attributes(Dwarf_Abbrev *abbrev)
{
	unsigned name, form;
	Dwarf_Sword constant;
	Dwarf_Off offset;
	size_t count = 0;

	while (count < MAX_ATTRIBUTES &&
	       dwarf_getabbrevattr_data(abbrev, count, &name, &form, &constant, &offset) == 0 && (name || form))
		count++;
	return count;
}

// libdw reads the abbreviation of the DIE at offset.
static struct die_abbrev *read_abbrev(const struct die_reader *reader, uint64_t offset)
{
	struct die_abbrev *abbrev;
	unsigned name, form;
	Dwarf_Sword constant;
	Dwarf_Off unused;
	Dwarf_Die die;
	size_t count;
	int tag;

	if (!dwarf_offdie(reader->dwarf, offset, &die) || die.cu != reader->cu)
		return NULL;
	tag = dwarf_tag(&die);
	if (tag == DW_TAG_invalid)
		return NULL;
	count = count_attributes(die.abbrev);
	abbrev = calloc(1, sizeof(*abbrev) + count * sizeof(struct spec));
	if (!abbrev)
		return NULL;
	abbrev->tag = (uint16_t)tag;
	abbrev->has_children = dwarf_haschildren(&die) == 1;
	for (size_t i = 0; i < count; i++)
		if (dwarf_getabbrevattr_data(die.abbrev, i, &name, &form, &constant, &unused) == 0)
			fill_spec(reader, abbrev, name, form, constant);
	return abbrev;
}

static bool reserve_code(struct die_reader *reader, uint64_t code)
{
	size_t wanted = reader->nabbrevs ? reader->nabbrevs : 256;
	struct die_abbrev **grown;

	if (code < reader->nabbrevs)
		return true;
	if (code >= MAX_CODE)
		return false;
	while (wanted <= code)
		wanted *= 2;
	grown = reallocarray(reader->abbrevs, wanted, sizeof(struct die_abbrev *));
	if (!grown)
		return false;
	memset(grown + reader->nabbrevs, 0, (wanted - reader->nabbrevs) * sizeof(struct die_abbrev *));
	reader->abbrevs = grown;
	reader->nabbrevs = wanted;
	return true;
}

static const struct die_abbrev *find_abbrev(struct die_reader *reader, uint64_t code, uint64_t offset)
{
	if (!reserve_code(reader, code))
		return NULL;
	if (!reader->abbrevs[code])
		reader->abbrevs[code] = read_abbrev(reader, offset);
	return reader->abbrevs[code];
}

// ---- DIEs ----------------------------------------------------------------------------------------------------------

int die_reader_init(struct die_reader *reader, Dwarf_Die *root)
{
	Dwarf_Off next, abbrevs, offset = dwarf_dieoffset(root);
	Dwarf_Half version;
	size_t header;

	*reader = (struct die_reader){.dwarf = dwarf_cu_getdwarf(root->cu), .cu = root->cu};
	reader->start = offset - dwarf_cuoffset(root);
	if (dwarf_next_unit(reader->dwarf, reader->start, &next, &header, &version, &abbrevs, &reader->address_size,
			    &reader->offset_size, NULL, NULL) != 0 ||
	    next <= offset)
		return -EINVAL;
	reader->version = (uint8_t)version;
	reader->section = (const uint8_t *)root->addr - offset;
	reader->at = root->addr;
	reader->end = reader->section + next;
	if (reader->address_size > 8)
		return -EINVAL;
	return 0;
}

void die_reader_finish(struct die_reader *reader)
{
	for (size_t i = 0; i < reader->nabbrevs; i++)
		free(reader->abbrevs[i]);
	free(reader->abbrevs);
	reader->abbrevs = NULL;
	reader->nabbrevs = 0;
}

static bool is_address(uint16_t form)
{
	return form == DW_FORM_addr || form == DW_FORM_addrx || (form >= DW_FORM_addrx1 && form <= DW_FORM_addrx4) ||
	       form == DW_FORM_GNU_addr_index;
}

static bool is_reference(uint16_t form)
{
	return (form >= DW_FORM_ref1 && form <= DW_FORM_ref8) || form == DW_FORM_ref_udata;
}

// Indexed addresses are in a table that libdw finds.
static uint64_t address_value(const struct die_reader *reader, const struct die *die, uint16_t name, uint16_t form,
			      uint64_t value)
{
	Dwarf_Attribute attribute;
	Dwarf_Die found;
	Dwarf_Addr address;

	if (form == DW_FORM_addr)
		return value;
	if (!dwarf_offdie(reader->dwarf, die->offset, &found) || !dwarf_attr(&found, name, &attribute) ||
	    dwarf_formaddr(&attribute, &address) != 0)
		return 0;
	return address;
}

static void note(const struct die_reader *reader, struct die *die, uint16_t name, uint16_t form, uint64_t value)
{
	switch (name) {
	case DW_AT_low_pc:
		die->has_low = true;
		die->low = address_value(reader, die, name, form, value);
		break;
	case DW_AT_high_pc:
		die->has_high = true;
		die->high_is_size = !is_address(form);
		die->high = die->high_is_size ? value : address_value(reader, die, name, form, value);
		break;
	case DW_AT_ranges:
		die->has_ranges = true;
		break;
	case DW_AT_call_file:
		die->call_file = value < DIE_NO_FILE ? (uint32_t)value : DIE_NO_FILE;
		break;
	case DW_AT_call_line:
		die->call_line = value <= INT32_MAX ? (uint32_t)value : 0;
		break;
	case DW_AT_sibling:
		if (is_reference(form))
			die->sibling = reader->start + value;
		break;
	default:
		break;
	}
}

static bool take_attributes(struct die_reader *reader, const struct die_abbrev *abbrev, struct die *die)
{
	for (uint16_t i = 0; i < abbrev->nspecs; i++) {
		const struct spec *spec = &abbrev->specs[i];
		uint16_t form = spec->form;
		uint64_t value = 0;

		if (form == 0) {
			if (!take_block(reader, spec->constant))
				return false;
			continue;
		}
		if (!take_form(reader, &form, &value))
			return false;
		if (spec->wanted)
			note(reader, die, spec->name, form, form == DW_FORM_implicit_const ? spec->constant : value);
	}
	return true;
}

bool die_reader_next(struct die_reader *reader, struct die *ret_die)
{
	struct die die = {.offset = (uint64_t)(reader->at - reader->section), .call_file = DIE_NO_FILE};
	const struct die_abbrev *abbrev;
	uint64_t code;

	if (reader->at >= reader->end)
		return false;
	if (!take_uleb(reader, &code))
		goto damaged;
	if (code != 0) {
		abbrev = find_abbrev(reader, code, die.offset);
		if (!abbrev)
			goto damaged;
		die.tag = abbrev->tag;
		die.has_children = abbrev->has_children;
		if (!take_attributes(reader, abbrev, &die))
			goto damaged;
	}
	*ret_die = die;
	return true;
damaged:
	reader->at = reader->end;
	return false;
}

bool die_reader_skip_children(struct die_reader *reader, const struct die *die)
{
	uint64_t at = (uint64_t)(reader->at - reader->section), end = (uint64_t)(reader->end - reader->section);

	// Backwards would be for ever.
	if (die->sibling < at || die->sibling >= end)
		return false;
	reader->at = reader->section + die->sibling;
	return true;
}
