// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cfi_section.c: see cfi_section.h. The format: LSB core specification, "Exception Frames"; DWARF 5, 6.4.1.

#include "collector/cfi_section.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <string.h>

// A CIE, decoded. The last one is kept: FDEs come in runs of the same one.
struct cie {
	Dwarf_Off offset;
	bool valid, usable;
	struct cfi_fde template;
	bool has_augmentation_size;
	uint8_t fde_encoding;
};

static const struct cie no_cie = {.offset = (Dwarf_Off)-1};

static unsigned encoded_size(uint8_t encoding)
{
	switch (encoding & 0x0f) {
	case DW_EH_PE_absptr:
	case DW_EH_PE_udata8:
	case DW_EH_PE_sdata8:
		return 8;
	case DW_EH_PE_udata4:
	case DW_EH_PE_sdata4:
		return 4;
	case DW_EH_PE_udata2:
	case DW_EH_PE_sdata2:
		return 2;
	default:
		return 0;
	}
}

// Reads a pointer at *cursor (inside the section). Indirect and data-relative ones are not followed.
static bool read_pointer(const struct cfi_section *section, uint8_t encoding, const uint8_t **cursor,
			 const uint8_t *end, uint64_t *ret_value)
{
	unsigned size = encoded_size(encoding);
	uint64_t value = 0;

	if (!size || (uint64_t)(end - *cursor) < size || (encoding & DW_EH_PE_indirect))
		return false;
	memcpy(&value, *cursor, size);
	if ((encoding & DW_EH_PE_signed) && size < 8) {
		unsigned shift = 64 - 8 * size;

		value = (uint64_t)((int64_t)(value << shift) >> shift);
	}
	if ((encoding & 0x70) == DW_EH_PE_pcrel)
		value += section->vaddr + (uint64_t)(*cursor - section->data);
	else if ((encoding & 0x70) != DW_EH_PE_absptr)
		return false;
	*cursor += size;
	*ret_value = value;
	return true;
}

// "zR", "zPLR", "zRS"…: what each letter has in the augmentation data.
static bool read_augmentation(const Dwarf_CIE *entry, struct cie *cie)
{
	const char *letter = entry->augmentation;
	const uint8_t *data = entry->augmentation_data;
	const uint8_t *end = data + entry->augmentation_data_size;
	uint64_t ignored;

	if (*letter == 0)
		return true;
	if (*letter++ != 'z')
		return false;
	cie->has_augmentation_size = true;
	for (; *letter; letter++) {
		switch (*letter) {
		case 'R':
			if (data >= end)
				return false;
			cie->fde_encoding = *data++;
			break;
		case 'P':
			if (data >= end)
				return false;
			ignored = *data++;
			data += encoded_size((uint8_t)ignored);
			break;
		case 'L':
			data++;
			break;
		case 'S':
			cie->template.signal_frame = true;
			break;
		default:
			return true; // what follows cannot change how rows are read
		}
	}
	return true;
}

static bool decode_cie(Dwarf_Off offset, const Dwarf_CIE *entry, struct cie *cie)
{
	*cie = no_cie;
	cie->offset = offset;
	cie->valid = true;
	cie->fde_encoding = DW_EH_PE_absptr;
	cie->template.code_align = entry->code_alignment_factor;
	cie->template.data_align = entry->data_alignment_factor;
	cie->template.ra_register = entry->return_address_register;
	cie->template.initial = entry->initial_instructions;
	cie->template.initial_end = entry->initial_instructions_end;
	cie->usable = entry->augmentation && read_augmentation(entry, cie);
	cie->template.pointer_encoding = cie->fde_encoding;
	return cie->usable;
}

static bool load_cie(const struct cfi_section *section, Dwarf_Off offset, struct cie *cie)
{
	Elf_Data data = {.d_buf = (void *)(uintptr_t)section->data, .d_size = section->size, .d_type = ELF_T_BYTE};
	Dwarf_CFI_Entry entry;
	Dwarf_Off next;

	if (cie->valid && cie->offset == offset)
		return cie->usable;
	if (offset >= section->size ||
	    dwarf_next_cfi(section->ident, &data, section->is_eh_frame, offset, &next, &entry) != 0 ||
	    !dwarf_cfi_cie_p(&entry)) {
		*cie = no_cie;
		return false;
	}
	return decode_cie(offset, &entry.cie, cie);
}

static bool decode_fde(const struct cfi_section *section, const Dwarf_FDE *entry, struct cie *cie, struct cfi_fde *fde)
{
	const uint8_t *cursor = entry->start;
	uint64_t size, augmentation;

	if (!load_cie(section, entry->CIE_pointer, cie))
		return false;
	*fde = cie->template;
	if (!read_pointer(section, cie->fde_encoding, &cursor, entry->end, &fde->start) ||
	    !read_pointer(section, cie->fde_encoding & 0x0f, &cursor, entry->end, &size))
		return false;
	fde->end = fde->start + size;
	if (cie->has_augmentation_size) {
		if (!cfi_read_uleb(&cursor, entry->end, &augmentation) ||
		    augmentation > (uint64_t)(entry->end - cursor))
			return false;
		cursor += augmentation;
	}
	fde->program = cursor;
	fde->program_end = entry->end;
	return size != 0 && fde->end > fde->start;
}

void cfi_section_each(const struct cfi_section *section, cfi_section_visit visit, void *context)
{
	Elf_Data data = {.d_buf = (void *)(uintptr_t)section->data, .d_size = section->size, .d_type = ELF_T_BYTE};
	struct cie cie = no_cie;
	Dwarf_Off offset = 0, next;

	while (offset < section->size) {
		Dwarf_CFI_Entry entry;
		struct cfi_fde fde;
		int result = dwarf_next_cfi(section->ident, &data, section->is_eh_frame, offset, &next, &entry);

		// −1 with a next offset: an entry that libdw does not understand (version, augmentation) is passed over.
		if (result > 0 || next <= offset)
			break;
		if (result == 0 && !dwarf_cfi_cie_p(&entry) && decode_fde(section, &entry.fde, &cie, &fde) &&
		    !visit(context, &fde))
			break;
		offset = next;
	}
}
