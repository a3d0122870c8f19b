// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// symbol_table.c: see symbol_table.h.

#include "collector/symbol_table.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "collector/elf_file.h"
#include "collector/interval_map.h"

#define MAX_SYMBOLS (16u << 20)

// While sorting: of several symbols at one address, the one to show comes first.
struct candidate {
	struct symbol symbol;
	uint64_t section_end;
	uint8_t rank; // lower is better
};

struct symbol_table {
	char *names;
	size_t names_size;
	struct symbol *symbols; // sorted, no two with the same start
	size_t count;
	struct interval_map places; // to indices of symbols
};

static uint8_t rank(const GElf_Sym *sym)
{
	uint8_t binding = GELF_ST_BIND(sym->st_info);
	uint8_t value = binding == STB_GLOBAL ? 0 : binding == STB_WEAK ? 1 : 2;

	if (GELF_ST_TYPE(sym->st_info) == STT_NOTYPE)
		value += 4;
	return value + (sym->st_size ? 0 : 8);
}

static bool is_code(Elf *elf, const GElf_Sym *sym, uint64_t *ret_section_end)
{
	uint8_t type = GELF_ST_TYPE(sym->st_info);
	GElf_Shdr header;
	Elf_Scn *scn;

	if (type != STT_FUNC && type != STT_GNU_IFUNC && type != STT_NOTYPE)
		return false;
	if (sym->st_shndx == SHN_UNDEF || sym->st_shndx >= SHN_LORESERVE)
		return false;
	scn = elf_getscn(elf, sym->st_shndx);
	if (!scn || !gelf_getshdr(scn, &header) || !(header.sh_flags & SHF_EXECINSTR))
		return false;
	if (sym->st_value < header.sh_addr || sym->st_value - header.sh_addr >= header.sh_size)
		return false;
	*ret_section_end = header.sh_addr + header.sh_size;
	return true;
}

// Mapping symbols ($x, $d.12) and assembler-local labels (.L) name no function; Swift's names begin with $, too.
static bool is_name(const char *name)
{
	if (name[0] == '$' && strchr("adtx", name[1]))
		return name[1] != '\0' && name[2] != '\0' && name[2] != '.';
	return name[0] != '\0' && strncmp(name, ".L", 2) != 0;
}

// malloc rather than __libc_malloc: the one with the fewest underscores before it.
static int compare_names(const char *x, const char *y)
{
	size_t a = strspn(x, "_"), b = strspn(y, "_");

	return a != b ? (a > b) - (a < b) : strcmp(x, y);
}

static int compare(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	if (x->symbol.start != y->symbol.start)
		return x->symbol.start < y->symbol.start ? -1 : 1;
	if (x->rank != y->rank)
		return x->rank < y->rank ? -1 : 1;
	return compare_names(x->symbol.name, y->symbol.name);
}

// "memcpy@@GLIBC_2.14": the version is not of the name. names is our copy.
static const char *without_version(char *name)
{
	char *version = strchr(name, '@');

	if (version && version != name)
		*version = '\0';
	return name;
}

static size_t collect(const struct elf_file *file, Elf_Data *data, size_t total, struct symbol_table *table,
		      struct candidate *candidates)
{
	size_t count = 0;

	for (size_t i = 1; i < total; i++) {
		struct candidate *candidate = &candidates[count];
		GElf_Sym sym;

		if (!gelf_getsym(data, (int)i, &sym) || sym.st_name >= table->names_size ||
		    !is_code(file->elf, &sym, &candidate->section_end) || !is_name(table->names + sym.st_name))
			continue;
		candidate->symbol.start = sym.st_value;
		candidate->symbol.end = sym.st_value + sym.st_size;
		if (candidate->symbol.end < sym.st_value || candidate->symbol.end > candidate->section_end)
			candidate->symbol.end = candidate->section_end;
		candidate->symbol.name = without_version(table->names + sym.st_name);
		candidate->rank = rank(&sym);
		count++;
	}
	return count;
}

// Without a size, a symbol reaches to the next one's start, or the section's end.
static uint64_t find_end(const struct candidate *candidates, size_t count, size_t i)
{
	const struct candidate *of = &candidates[i];

	while (i < count && candidates[i].symbol.start == of->symbol.start)
		i++;
	return i < count && candidates[i].symbol.start < of->section_end ? candidates[i].symbol.start : of->section_end;
}

// Keeps the best of each address. A label without a size inside a function that has one is a part of it.
static bool settle(struct symbol_table *table, struct candidate *candidates, size_t count)
{
	uint64_t covered = 0;

	qsort(candidates, count, sizeof(*candidates), compare);
	for (size_t i = 0; i < count; i++) {
		struct symbol *symbol = &candidates[i].symbol;
		bool sized = symbol->end > symbol->start;

		if (table->count > 0 && table->symbols[table->count - 1].start == symbol->start)
			continue;
		if (!sized && symbol->start < covered)
			continue;
		if (sized && symbol->end > covered)
			covered = symbol->end;
		if (!sized)
			symbol->end = find_end(candidates, count, i);
		table->symbols[table->count++] = *symbol;
		if (interval_map_add(&table->places, symbol->start, symbol->end, (uint32_t)table->count - 1, 0, count) <
		    0)
			return false;
	}
	return interval_map_build(&table->places) == 0;
}

static bool copy_names(const struct elf_file *file, uint32_t link, struct symbol_table *table)
{
	Elf_Scn *scn = elf_getscn(file->elf, link);
	Elf_Data *data = scn ? elf_getdata(scn, NULL) : NULL;

	if (!data || !data->d_buf || !data->d_size)
		return false;
	table->names = malloc(data->d_size + 1);
	if (!table->names)
		return false;
	memcpy(table->names, data->d_buf, data->d_size);
	table->names[data->d_size] = 0;
	table->names_size = data->d_size;
	return true;
}

static bool fill(const struct elf_file *file, Elf_Scn *scn, const GElf_Shdr *header, struct symbol_table *table)
{
	Elf_Data *data = elf_getdata(scn, NULL);
	size_t total = data && header->sh_entsize == sizeof(Elf64_Sym) ? data->d_size / sizeof(Elf64_Sym) : 0;
	struct candidate *candidates;
	bool settled;
	size_t count;

	if (total < 2 || total > MAX_SYMBOLS || !copy_names(file, header->sh_link, table))
		return false;
	candidates = calloc(total, sizeof(*candidates));
	if (!candidates)
		return false;
	count = collect(file, data, total, table, candidates);
	table->symbols = calloc(count + 1, sizeof(*table->symbols));
	settled = table->symbols && settle(table, candidates, count);
	free(candidates);
	return settled && table->count > 0;
}

struct symbol_table *symbol_table_create(const struct elf_file *file, uint32_t section_type)
{
	struct symbol_table *table = calloc(1, sizeof(*table));
	Elf_Scn *scn = NULL;

	while (table && (scn = elf_nextscn(file->elf, scn))) {
		GElf_Shdr header;

		if (!gelf_getshdr(scn, &header) || header.sh_type != section_type)
			continue;
		if (fill(file, scn, &header, table))
			return table;
		break; // there is one of a type
	}
	symbol_table_destroy(table);
	return NULL;
}

void symbol_table_destroy(struct symbol_table *table)
{
	if (!table)
		return;
	interval_map_finish(&table->places);
	free(table->names);
	free(table->symbols);
	free(table);
}

const struct symbol *symbol_table_find(const struct symbol_table *table, uint64_t vaddr)
{
	uint32_t index = interval_map_find(&table->places, vaddr);

	return index == INTERVAL_NONE ? NULL : &table->symbols[index];
}
