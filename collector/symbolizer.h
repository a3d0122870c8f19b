// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// symbolizer.h: everything that names addresses of one ELF file, by the best source there is: DWARF (its own or separate),
// .symtab, MiniDebugInfo, .dynsym. It looks up in a name table (name_table.h), which it takes from the cache on disk; what that lacks is
// compiled by a process of its own (name_worker.h) and put there. Not thread-safe: the module's lock guards it.

#ifndef PROFD_COLLECTOR_SYMBOLIZER_H
#define PROFD_COLLECTOR_SYMBOLIZER_H

#include "collector/debug_file.h"
#include "collector/elf_file.h"
#include "collector/module.h"

struct symbolizer;
struct table_cache;

// file stays the caller's; it and what places points to must outlive the symbolizer. path: as mapped. tables: where names are kept; NULL:
// nowhere. NULL when out of memory.
struct symbolizer *symbolizer_create(const struct elf_file *file, const char *path, const char *build_id,
				     const struct debug_places *places, struct table_cache *tables);
void symbolizer_destroy(struct symbolizer *symbolizer); // accepts NULL
// Before an answer is begun: takes debug info that has come, or changed, since; tries again what failed, if it is time to. at_once: there is
// reason to think that it has come.
void symbolizer_look_again(struct symbolizer *symbolizer, bool at_once);
bool symbolizer_has_dwarf(const struct symbolizer *symbolizer);
enum module_symbols symbolizer_source(struct symbolizer *symbolizer);
// Makes ready for lookups of these addresses, all at once: a lookup of an address that was not named here may take as long as this.
void symbolizer_prepare(struct symbolizer *symbolizer, const uint64_t *vaddrs, size_t count);
// As module_symbolize; strings live as long as the symbolizer.
size_t symbolizer_find(struct symbolizer *symbolizer, uint64_t vaddr, struct module_frame *frames, size_t max);
// Why there are names missing that should not be; NULL: none are. Told once.
const char *symbolizer_take_error(struct symbolizer *symbolizer);
// The same, told each time; *ret_retry_s: in so many seconds it is tried again, at the earliest.
bool symbolizer_has_symbols_alone(
	const struct symbolizer *symbolizer); // it names functions nevertheless, by ELF symbols
const char *symbolizer_error(const struct symbolizer *symbolizer, int64_t *ret_retry_s);

#endif
