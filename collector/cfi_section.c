// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cfi_section.c: see cfi_section.h. The formats: LSB core specification, 10.6 "Exception Frames"; DWARF 5, 6.4.1.

#include "collector/cfi_section.h"

#include <dwarf.h>
#include <string.h>

// FDEs that alternate between long CIEs make us read the same bytes again and again: what a scan may read, in all, is this
// many times the section. (Real ones: below 2.)
#define READ_FACTOR 32
#define READ_FLOOR (1u << 16)

// A CIE or an FDE, up to where the two differ.
struct entry {
	size_t next; // offset of the entry behind
	bool is_cie, is_fde;
	uint64_t cie_offset;       // of an FDE
	const uint8_t *body, *end; // what follows the CIE id or pointer
};

// A CIE, decoded. The last one is kept: FDEs come in runs of the same one.
struct cie {
	uint64_t offset;
	size_t size;
	bool usable;
	bool has_augmentation_size;
	uint8_t fde_encoding;
	struct cfi_fde template;
};

static bool read_bytes(const uint8_t **cursor, const uint8_t *end, unsigned size, uint64_t *ret_value)
{
	uint64_t value = 0;

	if ((size_t)(end - *cursor) < size)
		return false;
	memcpy(&value, *cursor, size); // little-endian, as the machines we know
	*cursor += size;
	*ret_value = value;
	return true;
}

// ---- Entries -------------------------------------------------------------------------------------------------------

// In .eh_frame an FDE's CIE pointer counts back from itself, and 0 marks a CIE; in .debug_frame it is an offset in the
// section, and all ones mark one.
static void classify(const struct cfi_section *section, const uint8_t *at, uint64_t id, bool wide, struct entry *entry)
{
	uint64_t position = (uint64_t)(at - section->data);

	if (section->is_eh_frame) {
		entry->is_cie = id == 0;
		entry->is_fde = id != 0 && id <= position;
		entry->cie_offset = position - id;
	} else {
		entry->is_cie = id == (wide ? UINT64_MAX : UINT32_MAX);
		entry->is_fde = !entry->is_cie;
		entry->cie_offset = id;
	}
}

// False: there is no entry at offset, and none can be behind. An entry that is neither CIE nor FDE is to be passed over, as
// is a length of 0: a terminator by the book, but linkers leave it between the parts of what they joined.
static bool read_entry(const struct cfi_section *section, uint64_t offset, struct entry *entry)
{
	const uint8_t *cursor = section->data + offset, *end = section->data + section->size, *at;
	uint64_t length, id;
	unsigned size = 4;

	memset(entry, 0, sizeof(*entry));
	if (!read_bytes(&cursor, end, 4, &length))
		return false;
	if (length == UINT32_MAX) {
		size = 8;
		if (!read_bytes(&cursor, end, 8, &length))
			return false;
	}
	if (length > (uint64_t)(end - cursor))
		return false;
	entry->end = cursor + length;
	entry->next = (size_t)(entry->end - section->data);
	at = cursor;
	if (read_bytes(&cursor, entry->end, size, &id))
		classify(section, at, id, size == 8, entry);
	entry->body = cursor;
	return true;
}

// ---- CIEs ----------------------------------------------------------------------------------------------------------

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

// "zR", "zPLR", "zRS"…: what each letter has in the augmentation data. The letters end with a NUL.
static bool read_augmentation(const char *letter, const uint8_t *data, const uint8_t *end, struct cie *cie)
{
	for (; *letter; letter++) {
		size_t skip = 0;

		switch (*letter) {
		case 'R':
			if (data >= end)
				return false;
			cie->fde_encoding = *data;
			skip = 1;
			break;
		case 'P': // an encoding and a pointer; aligned ones (nobody writes them) have padding between
			if (data >= end || *data == DW_EH_PE_aligned)
				return false;
			skip = 1 + encoded_size(*data);
			break;
		case 'L':
			skip = 1;
			break;
		case 'S':
			cie->template.signal_frame = true;
			break;
		case 'B': // aarch64: return addresses are signed with the other key
		case 'G': // aarch64: the stack is tagged
			break;
		default:
			return true; // what follows cannot change how rows are read
		}
		if (skip > (size_t)(end - data))
			return false;
		data += skip;
	}
	return true;
}

// Version, augmentation string and, from version 4 on, the sizes of addresses and segment selectors.
static bool read_cie_head(const uint8_t **cursor, const uint8_t *end, uint64_t *ret_version, const char **ret_letters)
{
	const uint8_t *nul;
	uint64_t sizes;

	if (!read_bytes(cursor, end, 1, ret_version) || (*ret_version != 1 && *ret_version != 3 && *ret_version != 4))
		return false;
	nul = memchr(*cursor, 0, (size_t)(end - *cursor));
	if (!nul)
		return false;
	*ret_letters = (const char *)*cursor;
	*cursor = nul + 1;
	return *ret_version < 4 || (read_bytes(cursor, end, 2, &sizes) && sizes == 8);
}

static bool decode_cie(const struct entry *entry, enum cfi_arch arch, struct cie *cie)
{
	const uint8_t *cursor = entry->body;
	uint64_t version, ra, size;
	const char *letters;

	if (!read_cie_head(&cursor, entry->end, &version, &letters) ||
	    !cfi_read_uleb(&cursor, entry->end, &cie->template.code_align) ||
	    !cfi_read_sleb(&cursor, entry->end, &cie->template.data_align))
		return false;
	if (!(version == 1 ? read_bytes(&cursor, entry->end, 1, &ra) : cfi_read_uleb(&cursor, entry->end, &ra)) ||
	    ra != cfi_arch_return_column(arch))
		return false;
	if (*letters) {
		if (*letters != 'z' || !cfi_read_uleb(&cursor, entry->end, &size) ||
		    size > (uint64_t)(entry->end - cursor) ||
		    !read_augmentation(letters + 1, cursor, cursor + size, cie))
			return false;
		cie->has_augmentation_size = true;
		cursor += size;
	}
	cie->template.arch = arch;
	cie->template.pointer_encoding = cie->fde_encoding;
	cie->template.initial = cursor;
	cie->template.initial_end = entry->end;
	return true;
}

// Adds to *work what reading it took.
static bool load_cie(const struct cfi_section *section, uint64_t offset, struct cie *cie, size_t *work)
{
	struct entry entry;

	if (cie->offset == offset)
		return cie->usable;
	memset(cie, 0, sizeof(*cie));
	cie->offset = offset;
	cie->fde_encoding = DW_EH_PE_absptr;
	if (offset >= section->size || !read_entry(section, offset, &entry) || !entry.is_cie)
		return false;
	*work += (size_t)(entry.end - entry.body);
	cie->usable = decode_cie(&entry, section->arch, cie);
	return cie->usable;
}

// ---- FDEs ----------------------------------------------------------------------------------------------------------

// Reads a pointer at *cursor (inside the section). Indirect and data-relative ones are not followed.
static bool read_pointer(const struct cfi_section *section, uint8_t encoding, const uint8_t **cursor,
			 const uint8_t *end, uint64_t *ret_value)
{
	uint64_t here = section->vaddr + (uint64_t)(*cursor - section->data), value;
	unsigned size = encoded_size(encoding);

	if (!size || (encoding & DW_EH_PE_indirect) || !read_bytes(cursor, end, size, &value))
		return false;
	if ((encoding & DW_EH_PE_signed) && size < 8) {
		unsigned shift = 64 - 8 * size;

		value = (uint64_t)((int64_t)(value << shift) >> shift);
	}
	if ((encoding & 0x70) == DW_EH_PE_pcrel)
		value += here;
	else if ((encoding & 0x70) != DW_EH_PE_absptr)
		return false;
	*ret_value = value;
	return true;
}

static bool decode_fde(const struct cfi_section *section, const struct entry *entry, const struct cie *cie,
		       struct cfi_fde *fde)
{
	const uint8_t *cursor = entry->body;
	uint64_t size, augmentation;

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
	return fde->end > fde->start;
}

void cfi_section_each(const struct cfi_section *section, cfi_section_visit visit, void *context)
{
	size_t budget = section->size < SIZE_MAX / READ_FACTOR / 2 ? section->size * READ_FACTOR + READ_FLOOR : 0;
	struct cie cie = {.offset = UINT64_MAX};
	struct entry entry;

	for (uint64_t offset = 0; offset < section->size; offset = entry.next) {
		struct cfi_fde fde;
		size_t work = 0;
		bool usable;

		if (!read_entry(section, offset, &entry))
			return;
		if (!entry.is_fde)
			continue;
		usable = load_cie(section, entry.cie_offset, &cie, &work) && decode_fde(section, &entry, &cie, &fde);
		if (usable)
			work += (size_t)(fde.initial_end - fde.initial);
		if (work > budget)
			return;
		budget -= work;
		if (usable && !visit(context, &fde))
			return;
	}
}
