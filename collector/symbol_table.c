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
#include "collector/plt_names.h"

#define MAX_SYMBOLS (16u << 20)
#define PLT_RANK 255 // what has a symbol of its own is called by that

// While sorting: of several symbols at one address, the one to show comes first.
struct candidate {
	struct symbol symbol;
	uint64_t section_end;
	uint8_t rank; // lower is better
};

#define MAX_SOURCES 4

struct names {
	char *text;
	size_t size;
};

struct symbol_table {
	struct names names[MAX_SOURCES];
	struct symbol *symbols; // sorted, no two with the same start
	size_t count;
	size_t nplt; // candidates from PLTs
	bool has_plt_alone;
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

static size_t collect(const struct elf_file *file, Elf_Data *data, size_t total, const struct names *names,
		      struct candidate *candidates)
{
	size_t count = 0;

	for (size_t i = 1; i < total; i++) {
		struct candidate *candidate = &candidates[count];
		GElf_Sym sym;

		if (!gelf_getsym(data, (int)i, &sym) || sym.st_name >= names->size ||
		    !is_code(file->elf, &sym, &candidate->section_end) || !is_name(names->text + sym.st_name))
			continue;
		candidate->symbol.start = sym.st_value;
		candidate->symbol.end = sym.st_value + sym.st_size;
		if (candidate->symbol.end < sym.st_value || candidate->symbol.end > candidate->section_end)
			candidate->symbol.end = candidate->section_end;
		candidate->symbol.name = without_version(names->text + sym.st_name);
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

static bool copy_names(const struct elf_file *file, uint32_t link, struct names *names)
{
	Elf_Scn *scn = elf_getscn(file->elf, link);
	Elf_Data *data = scn ? elf_getdata(scn, NULL) : NULL;

	if (!data || !data->d_buf || !data->d_size)
		return false;
	names->text = malloc(data->d_size + 1);
	if (!names->text)
		return false;
	memcpy(names->text, data->d_buf, data->d_size);
	names->text[data->d_size] = 0;
	names->size = data->d_size;
	return true;
}

// While it is filled.
struct filling {
	struct symbol_table *table;
	struct candidate *candidates;
	size_t count;
};

static void add_section(const struct elf_file *file, Elf_Scn *scn, const GElf_Shdr *header, struct names *names,
			struct filling *filling)
{
	Elf_Data *data = elf_getdata(scn, NULL);
	size_t total = data && header->sh_entsize == sizeof(Elf64_Sym) ? data->d_size / sizeof(Elf64_Sym) : 0;
	struct candidate *grown;

	if (total < 2 || total > MAX_SYMBOLS || !copy_names(file, header->sh_link, names))
		return;
	grown = reallocarray(filling->candidates, filling->count + total, sizeof(*grown));
	if (!grown)
		return;
	filling->candidates = grown;
	filling->count += collect(file, data, total, names, grown + filling->count);
}

static void add_plt(const struct elf_file *file, struct names *names, struct filling *filling)
{
	struct plt_names plt;
	struct candidate *grown = NULL;

	if (plt_names_read(file, &plt) == 0 && plt.count > 0)
		grown = reallocarray(filling->candidates, filling->count + plt.count, sizeof(*grown));
	if (grown) {
		filling->candidates = grown;
		names->text = plt.text;
		names->size = plt.text_size;
		plt.text = NULL;
		for (size_t i = 0; i < plt.count; i++)
			grown[filling->count++] = (struct candidate){
				.symbol = {plt.items[i].start, plt.items[i].end, names->text + plt.items[i].name},
				.section_end = plt.items[i].end,
				.rank = PLT_RANK};
		filling->table->nplt += plt.count;
	}
	plt_names_finish(&plt);
}

static void add_source(const struct symbol_source *source, struct names *names, struct filling *filling)
{
	Elf_Scn *scn = NULL;
	GElf_Shdr header;

	if (source->section_type == SYMBOL_SOURCE_PLT) {
		add_plt(source->file, names, filling);
		return;
	}

	while ((scn = elf_nextscn(source->file->elf, scn)))
		if (gelf_getshdr(scn, &header) && header.sh_type == source->section_type) {
			add_section(source->file, scn, &header, names, filling);
			return; // there is one of a type
		}
}

struct symbol_table *symbol_table_create(const struct symbol_source *sources, size_t count)
{
	struct filling filling = {.table = calloc(1, sizeof(*filling.table))};
	struct symbol_table *table = filling.table;
	bool settled;

	if (!table)
		return NULL;
	for (size_t i = 0; i < count && i < MAX_SOURCES; i++)
		add_source(&sources[i], &table->names[i], &filling);
	table->has_plt_alone = filling.count == table->nplt;
	table->symbols = calloc(filling.count + 1, sizeof(*table->symbols));
	settled = table->symbols && filling.count > 0 && settle(table, filling.candidates, filling.count);
	free(filling.candidates);
	if (settled && table->count > 0)
		return table;
	symbol_table_destroy(table);
	return NULL;
}

bool symbol_table_has_plt_alone(const struct symbol_table *table)
{
	return table->has_plt_alone;
}

void symbol_table_destroy(struct symbol_table *table)
{
	if (!table)
		return;
	interval_map_finish(&table->places);
	for (size_t i = 0; i < MAX_SOURCES; i++)
		free(table->names[i].text);
	free(table->symbols);
	free(table);
}

const struct symbol *symbol_table_find(const struct symbol_table *table, uint64_t vaddr)
{
	uint32_t index = interval_map_find(&table->places, vaddr);

	return index == INTERVAL_NONE ? NULL : &table->symbols[index];
}

size_t symbol_table_edges(const struct symbol_table *table, const struct interval_edge **ret_edges)
{
	*ret_edges = table->places.edges;
	return table->places.edges ? table->places.count : 0;
}

const struct symbol *symbol_table_get(const struct symbol_table *table, uint32_t number)
{
	return number < table->count ? &table->symbols[number] : NULL;
}
