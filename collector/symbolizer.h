// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// symbolizer.h: everything that names addresses of one ELF file, by the best source there is: DWARF (its own or separate),
// .symtab, MiniDebugInfo, .dynsym. Not thread-safe: the module's lock guards it.

#ifndef PROFD_COLLECTOR_SYMBOLIZER_H
#define PROFD_COLLECTOR_SYMBOLIZER_H

#include "collector/elf_file.h"
#include "collector/module.h"

struct symbolizer;

// file stays the caller's and must outlive the symbolizer. path: as mapped; debug_dirs: colon-separated; root: "" or
// "/proc/PID/root". NULL when out of memory.
struct symbolizer *symbolizer_create(const struct elf_file *file, const char *path, const char *build_id,
				     const char *debug_dirs, const char *root);
void symbolizer_destroy(struct symbolizer *symbolizer); // accepts NULL
enum module_symbols symbolizer_source(const struct symbolizer *symbolizer);
// As module_symbolize; strings live as long as the symbolizer. Answers are remembered.
size_t symbolizer_find(struct symbolizer *symbolizer, uint64_t vaddr, struct module_frame *frames, size_t max);

#endif
