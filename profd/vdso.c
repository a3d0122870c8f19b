// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// vdso.c: see vdso.h. The vDSO is an ELF image in memory; its dynamic symbols are few, so a plain scan will do.
// vdso(7): the function is __vdso_clock_gettime, version LINUX_2.6 (the only version there is).

#include "profd/vdso.h"

#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>

struct image {
	uintptr_t bias;
	const ElfW(Sym) * symbols;
	const char *strings;
	uint32_t count;
};

static void read_dynamic(struct image *image, const ElfW(Dyn) * dynamic)
{
	for (; dynamic->d_tag != DT_NULL; dynamic++) {
		uintptr_t address = image->bias + dynamic->d_un.d_ptr;

		if (dynamic->d_tag == DT_SYMTAB)
			image->symbols = (const ElfW(Sym) *)address;
		else if (dynamic->d_tag == DT_STRTAB)
			image->strings = (const char *)address;
		else if (dynamic->d_tag == DT_HASH)
			image->count = ((const uint32_t *)address)[1];
	}
}

static bool read_image(struct image *image, const ElfW(Ehdr) * header)
{
	const ElfW(Phdr) *segments = (const ElfW(Phdr) *)((uintptr_t)header + header->e_phoff);
	const ElfW(Dyn) *dynamic = NULL;
	bool loaded = false;

	for (int i = 0; i < header->e_phnum; i++) {
		if (segments[i].p_type == PT_LOAD && !loaded) {
			image->bias = (uintptr_t)header + segments[i].p_offset - segments[i].p_vaddr;
			loaded = true;
		} else if (segments[i].p_type == PT_DYNAMIC) {
			dynamic = (const ElfW(Dyn) *)((uintptr_t)header + segments[i].p_offset);
		}
	}
	if (!loaded || !dynamic)
		return false;
	read_dynamic(image, dynamic);
	return image->symbols && image->strings && image->count;
}

profd_vdso_clock_gettime *profd_vdso_find_clock_gettime(void)
{
	const ElfW(Ehdr) *header = (const ElfW(Ehdr) *)getauxval(AT_SYSINFO_EHDR);
	struct image image = {0};

	if (!header || !read_image(&image, header))
		return NULL;
	for (uint32_t i = 0; i < image.count; i++) {
		const ElfW(Sym) *symbol = &image.symbols[i];

		if (symbol->st_shndx != SHN_UNDEF && !strcmp(image.strings + symbol->st_name, "__vdso_clock_gettime"))
			return (profd_vdso_clock_gettime *)(image.bias + symbol->st_value);
	}
	return NULL;
}
