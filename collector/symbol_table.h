// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// symbol_table.h: functions of an ELF symbol table, sorted once, looked up by vaddr. Immutable after creation: any thread.

#ifndef PROFD_COLLECTOR_SYMBOL_TABLE_H
#define PROFD_COLLECTOR_SYMBOL_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct elf_file;
struct interval_edge;
struct symbol_table;

struct symbol {
	uint64_t start, end;
	const char *name; // the table's
};

// Where symbols are: a file's SHT_SYMTAB or SHT_DYNSYM, or its PLT, whose entries are called by what they jump to ("memcpy@plt").
#define SYMBOL_SOURCE_PLT SHT_NULL
struct symbol_source {
	const struct elf_file *file;
	uint32_t section_type;
};

// Of several sources, as if they were one. NULL when there are no symbols, or out of memory.
struct symbol_table *symbol_table_create(const struct symbol_source *sources, size_t count);
// Are there entries of a PLT, and nothing else?
bool symbol_table_has_plt_alone(const struct symbol_table *table);
void symbol_table_destroy(struct symbol_table *table); // accepts NULL
// The innermost function that covers vaddr, or NULL. A symbol without size reaches to the next symbol or its section's end, unless
// it is a label inside a function. Of several names for one address: global before weak before local, then the fewest
// underscores before it, then the alphabet.
const struct symbol *symbol_table_find(const struct symbol_table *table, uint64_t vaddr);
// All that find knows: from each edge up to the next one, the symbol of that number; INTERVAL_NONE: none.
size_t symbol_table_edges(const struct symbol_table *table, const struct interval_edge **ret_edges);
const struct symbol *symbol_table_get(const struct symbol_table *table, uint32_t number);

#endif
