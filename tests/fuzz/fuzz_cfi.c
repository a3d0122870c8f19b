// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// fuzz_cfi.c: call frame information → table. The first byte says what the rest is: an ELF image as it comes, or the contents of
// .eh_frame or .debug_frame, of x86-64 or aarch64, for which an image is made. Whatever comes out is a table that both the
// collector and the agent take for sound.

#include <elf.h>
#include <libelf.h>
#include <stdbool.h>
#include <string.h>

#include "collector/cfi_table.h"
#include "profd/unwind.h"
#include "profd/wire.h"
#include "tests/fuzz/fuzz.h"

#define TEXT_VADDR 0x1000u
#define TEXT_SIZE 0x3e000u
#define FRAME_VADDR 0x40000u

enum kind { KIND_IMAGE, KIND_DEBUG_FRAME = 1, KIND_AARCH64 = 2, KIND_FRAMES = 4 };

struct image {
	Elf64_Ehdr header;
	Elf64_Phdr text;
	Elf64_Shdr sections[3]; // none, the frames, names
	char names[32];
	uint8_t frames[];
};

static const char section_names[] = "\0.eh_frame\0.debug_frame\0.names";

static uint8_t *make_image(uint8_t kind, const uint8_t *frames, size_t size, size_t *ret_size)
{
	bool debug = kind & KIND_DEBUG_FRAME;
	struct image *image = calloc(1, sizeof(*image) + size);

	if (!image)
		return NULL;
	image->header =
		(Elf64_Ehdr){.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
			     .e_type = ET_DYN,
			     .e_machine = kind & KIND_AARCH64 ? EM_AARCH64 : EM_X86_64,
			     .e_version = EV_CURRENT,
			     .e_entry = TEXT_VADDR + 0x100,
			     .e_phoff = offsetof(struct image, text),
			     .e_shoff = offsetof(struct image, sections),
			     .e_ehsize = sizeof(Elf64_Ehdr),
			     .e_phentsize = sizeof(Elf64_Phdr),
			     .e_phnum = 1,
			     .e_shentsize = sizeof(Elf64_Shdr),
			     .e_shnum = 3,
			     .e_shstrndx = 2};
	// The segment's bytes in the file are the image itself: code is there to be read for padding.
	image->text = (Elf64_Phdr){.p_type = PT_LOAD,
				   .p_flags = PF_R | PF_X,
				   .p_vaddr = TEXT_VADDR,
				   .p_memsz = TEXT_SIZE,
				   .p_filesz = sizeof(*image) + size < TEXT_SIZE ? sizeof(*image) + size : TEXT_SIZE};
	image->sections[1] = (Elf64_Shdr){.sh_name = debug ? 11 : 1,
					  .sh_type = SHT_PROGBITS,
					  .sh_addr = debug ? 0 : FRAME_VADDR,
					  .sh_offset = sizeof(*image),
					  .sh_size = size};
	image->sections[2] = (Elf64_Shdr){.sh_name = 24,
					  .sh_type = SHT_STRTAB,
					  .sh_offset = offsetof(struct image, names),
					  .sh_size = sizeof(section_names)};
	memcpy(image->names, section_names, sizeof(section_names));
	memcpy(image->frames, frames, size);
	*ret_size = sizeof(*image) + size;
	return (uint8_t *)image;
}

uint64_t fuzz_got_through;

static void build(uint8_t *bytes, size_t size)
{
	Elf *elf = elf_memory((char *)bytes, size);
	struct wire_table *table;
	size_t table_size;

	if (!elf)
		return;
	if (cfi_table_build(elf, &table, &table_size) == 0) {
		fuzz_got_through++;
		FUZZ_CHECK(cfi_table_check(table, table_size) == 0);
		if (table->machine == WIRE_MACHINE_X86_64)
			FUZZ_CHECK(profd_table_check(table, table_size) == 0);
		free(table);
	}
	elf_end(elf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *bytes;
	size_t length = size ? size - 1 : 0;

	if (size < 2)
		return 0;
	elf_version(EV_CURRENT);
	if (data[0] & KIND_FRAMES) {
		bytes = make_image(data[0], data + 1, length, &length);
	} else {
		bytes = malloc(length); // libelf wants alignment, and may write
		if (bytes)
			memcpy(bytes, data + 1, length);
	}
	if (bytes)
		build(bytes, length);
	free(bytes);
	return 0;
}
