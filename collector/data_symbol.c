// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// data_symbol.c: see data_symbol.h.

#include "collector/data_symbol.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "collector/demangle.h"
#include "collector/elf_file.h"

#define MAX_SYMBOLS (16u << 20)

// The smallest variable around the address; of equals, the one that others may use, too.
struct best {
	uint64_t start, size;
	size_t name;
	bool global, found;
};

static bool is_better(const GElf_Sym *symbol, const struct best *best)
{
	if (!best->found || symbol->st_size != best->size)
		return !best->found || symbol->st_size < best->size;
	return GELF_ST_BIND(symbol->st_info) == STB_GLOBAL && !best->global;
}

static struct best search(Elf_Data *data, size_t count, uint64_t vaddr)
{
	struct best best = {0};

	for (size_t i = 1; i < count; i++) {
		GElf_Sym symbol;

		if (!gelf_getsym(data, (int)i, &symbol) || GELF_ST_TYPE(symbol.st_info) != STT_OBJECT ||
		    symbol.st_shndx == SHN_UNDEF || vaddr < symbol.st_value ||
		    vaddr - symbol.st_value >= symbol.st_size || !is_better(&symbol, &best))
			continue;
		best = (struct best){symbol.st_value, symbol.st_size, symbol.st_name,
				     GELF_ST_BIND(symbol.st_info) == STB_GLOBAL, true};
	}
	return best;
}

static void put_name(char *buf, size_t size, const char *name, uint64_t offset)
{
	char *readable = demangle(name);
	int length = (int)(size > 24 ? size - 24 : 0); // room for the offset

	if (offset)
		snprintf(buf, size, "%.*s+0x%" PRIx64, length, readable ? readable : name, offset);
	else
		snprintf(buf, size, "%s", readable ? readable : name);
	free(readable);
}

static bool find_in(const struct elf_file *file, uint32_t type, uint64_t vaddr, char *buf, size_t size)
{
	Elf_Scn *scn = NULL;
	GElf_Shdr header;

	while ((scn = elf_nextscn(file->elf, scn))) {
		Elf_Data *data;
		struct best best;
		const char *name;
		size_t count;

		if (!gelf_getshdr(scn, &header) || header.sh_type != type || header.sh_entsize != sizeof(Elf64_Sym))
			continue;
		data = elf_getdata(scn, NULL);
		count = data ? data->d_size / sizeof(Elf64_Sym) : 0;
		best = search(data, count < MAX_SYMBOLS ? count : MAX_SYMBOLS, vaddr);
		name = best.found ? elf_strptr(file->elf, header.sh_link, best.name) : NULL;
		if (!name || !name[0])
			continue;
		put_name(buf, size, name, vaddr - best.start);
		return true;
	}
	return false;
}

bool data_symbol_find(const struct elf_file *file, uint64_t vaddr, char *buf, size_t size)
{
	return find_in(file, SHT_SYMTAB, vaddr, buf, size) || find_in(file, SHT_DYNSYM, vaddr, buf, size);
}
