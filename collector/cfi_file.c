// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cfi_file.c: see cfi_file.h.

#include "collector/cfi_file.h"

#include <errno.h>
#include <gelf.h>
#include <string.h>

#define MAX_TEXT (1ULL << 30)    // bytes of executable segments, from first to last
#define MAX_SECTION (1ULL << 30) // bytes of CFI that we look at
#define MAX_SEGMENTS 65536u
#define MAX_DYNAMIC (1u << 20) // bytes of a dynamic section

// −ENOTSUP: a machine, a word size or a byte order that we do not know.
static int find_arch(Elf *elf, enum cfi_arch *ret_arch)
{
	GElf_Ehdr header;

	if (!gelf_getehdr(elf, &header))
		return -EINVAL;
	if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB ||
	    (header.e_machine != EM_X86_64 && header.e_machine != EM_AARCH64))
		return -ENOTSUP;
	*ret_arch = header.e_machine == EM_AARCH64 ? CFI_ARCH_AARCH64 : CFI_ARCH_X86_64;
	return 0;
}

int cfi_file_text(Elf *elf, uint64_t *ret_start, uint64_t *ret_end)
{
	uint64_t start = UINT64_MAX, end = 0;
	enum cfi_arch arch;
	size_t count;
	int error = find_arch(elf, &arch);

	if (error)
		return error;
	if (elf_getphdrnum(elf, &count) < 0)
		return -EINVAL;
	for (size_t i = 0; i < count && i < MAX_SEGMENTS; i++) {
		GElf_Phdr segment;

		if (!gelf_getphdr(elf, (int)i, &segment) || segment.p_type != PT_LOAD || !(segment.p_flags & PF_X) ||
		    segment.p_vaddr + segment.p_memsz < segment.p_vaddr)
			continue;
		if (segment.p_vaddr < start)
			start = segment.p_vaddr;
		if (segment.p_vaddr + segment.p_memsz > end)
			end = segment.p_vaddr + segment.p_memsz;
	}
	if (end <= start || end - start > MAX_TEXT)
		return -EINVAL;
	*ret_start = start;
	*ret_end = end;
	return 0;
}

static bool needs_others(Elf *elf, const GElf_Phdr *dynamic)
{
	Elf_Data *data = dynamic->p_filesz > MAX_DYNAMIC
				 ? NULL
				 : elf_getdata_rawchunk(elf, (int64_t)dynamic->p_offset, dynamic->p_filesz, ELF_T_DYN);
	GElf_Dyn entry;

	for (int i = 0; data && gelf_getdyn(data, i, &entry) && entry.d_tag != DT_NULL; i++)
		if (entry.d_tag == DT_NEEDED)
			return true;
	return false;
}

// A dynamic program names its interpreter; neither a static one nor the dynamic linker needs a library.
bool cfi_file_entry(Elf *elf, uint64_t *ret_entry)
{
	GElf_Phdr segment;
	GElf_Ehdr header;
	bool needs = false;
	size_t count;

	if (!gelf_getehdr(elf, &header) || elf_getphdrnum(elf, &count) < 0)
		return false;
	*ret_entry = header.e_entry;
	for (size_t i = 0; i < count && i < MAX_SEGMENTS; i++) {
		if (!gelf_getphdr(elf, (int)i, &segment))
			continue;
		if (segment.p_type == PT_INTERP)
			return true;
		if (segment.p_type == PT_DYNAMIC)
			needs = needs_others(elf, &segment);
	}
	return !needs;
}

// The whole of a section by that name; false: there is none, or it holds nothing.
static bool find_section(Elf *elf, const char *wanted, struct cfi_section *ret_section)
{
	Elf_Scn *scn = NULL;
	GElf_Shdr header;
	Elf_Data *data;
	size_t names;

	if (elf_getshdrstrndx(elf, &names) < 0)
		return false;
	while ((scn = elf_nextscn(elf, scn))) {
		const char *name = gelf_getshdr(scn, &header) ? elf_strptr(elf, names, header.sh_name) : NULL;

		if (name && strcmp(name, wanted) == 0)
			break;
	}
	if (!scn || header.sh_type == SHT_NOBITS || header.sh_size > MAX_SECTION)
		return false;
	if ((header.sh_flags & SHF_COMPRESSED) && elf_compress(scn, 0, 0) < 0)
		return false;
	data = elf_rawdata(scn, NULL);
	if (!data || !data->d_buf || data->d_size > MAX_SECTION)
		return false;
	ret_section->data = data->d_buf;
	ret_section->size = data->d_size;
	ret_section->vaddr = header.sh_addr;
	return true;
}

// Of a segment's file bytes, those from vaddr to its end.
static Elf_Data *segment_tail(Elf *elf, uint64_t vaddr)
{
	GElf_Phdr segment;
	size_t count;

	if (elf_getphdrnum(elf, &count) < 0)
		return NULL;
	for (size_t i = 0; i < count && i < MAX_SEGMENTS; i++) {
		uint64_t skip;

		if (!gelf_getphdr(elf, (int)i, &segment) || segment.p_type != PT_LOAD || vaddr < segment.p_vaddr ||
		    vaddr - segment.p_vaddr >= segment.p_filesz)
			continue;
		skip = vaddr - segment.p_vaddr;
		if (segment.p_filesz - skip > MAX_SECTION || segment.p_offset > INT64_MAX - skip)
			return NULL;
		return elf_getdata_rawchunk(elf, (int64_t)(segment.p_offset + skip), segment.p_filesz - skip,
					    ELF_T_BYTE);
	}
	return NULL;
}

// A file without section headers (sstrip, some packers) still has what the run-time unwinder uses: PT_GNU_EH_FRAME, whose
// second field points to .eh_frame (pc-relative, 4 bytes, as every linker writes it). Where that ends, nobody says: the
// scan ends at the first entry that does not fit.
static bool find_by_header(Elf *elf, struct cfi_section *ret_section)
{
	static const uint8_t usual[2] = {1, 0x1b}; // version; DW_EH_PE_pcrel | DW_EH_PE_sdata4
	GElf_Phdr segment;
	Elf_Data *data;
	size_t count;
	int32_t distance;

	if (elf_getphdrnum(elf, &count) < 0)
		return false;
	for (size_t i = 0; i < count && i < MAX_SEGMENTS; i++) {
		if (!gelf_getphdr(elf, (int)i, &segment) || segment.p_type != PT_GNU_EH_FRAME)
			continue;
		data = segment_tail(elf, segment.p_vaddr);
		if (!data || data->d_size < 8 || memcmp(data->d_buf, usual, sizeof(usual)) != 0)
			return false;
		memcpy(&distance, (const uint8_t *)data->d_buf + 4, sizeof(distance));
		ret_section->vaddr = segment.p_vaddr + 4 + (uint64_t)(int64_t)distance;
		data = segment_tail(elf, ret_section->vaddr);
		ret_section->data = data ? data->d_buf : NULL;
		ret_section->size = data ? data->d_size : 0;
		return data && data->d_buf;
	}
	return false;
}

bool cfi_file_eh_frame(Elf *elf, struct cfi_section *ret_section)
{
	ret_section->is_eh_frame = true;
	if (find_arch(elf, &ret_section->arch) < 0)
		return false;
	return find_section(elf, ".eh_frame", ret_section) || find_by_header(elf, ret_section);
}

bool cfi_file_debug_frame(Elf *elf, struct cfi_section *ret_section)
{
	ret_section->is_eh_frame = false;
	return find_arch(elf, &ret_section->arch) == 0 && find_section(elf, ".debug_frame", ret_section);
}

bool cfi_file_plt(Elf *elf, struct cfi_section *ret_section)
{
	ret_section->is_eh_frame = false;
	return find_arch(elf, &ret_section->arch) == 0 && ret_section->arch == CFI_ARCH_AARCH64 &&
	       find_section(elf, ".plt", ret_section);
}

bool cfi_file_code(Elf *elf, uint64_t vaddr, struct cfi_section *ret_code)
{
	Elf_Data *data = find_arch(elf, &ret_code->arch) == 0 ? segment_tail(elf, vaddr) : NULL;

	if (!data || !data->d_buf)
		return false;
	ret_code->data = data->d_buf;
	ret_code->size = data->d_size;
	ret_code->vaddr = vaddr;
	ret_code->is_eh_frame = false;
	return true;
}
