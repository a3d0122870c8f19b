// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// debug_sources.h: the files besides a module's own that its names are read from, opened: separate debug info, dwz's part of it, a package
// of .dwo files; and what tells them from other ones. Not thread-safe: the module's lock guards it.

#ifndef PROFD_COLLECTOR_DEBUG_SOURCES_H
#define PROFD_COLLECTOR_DEBUG_SOURCES_H

#include <stdbool.h>
#include <stdint.h>

#include "collector/debug_file.h"
#include "collector/elf_file.h"

struct debug_sources {
	struct elf_file debug, alt, package; // elf NULL: none
	bool has_dwarf;                      // in the file itself or in debug
	uint64_t file_size;                  // of the module's own
	uint64_t identity[2];                // a hash: tables made from other files have another one
};

// path: as mapped. Names are kept by build ID: a package of .dwo files counts only when it is root's or ours.
void debug_sources_open(struct debug_sources *ret_sources, const struct elf_file *file, const char *path,
			const char *build_id, const struct debug_places *places);
void debug_sources_close(struct debug_sources *sources); // accepts a zeroed one
// Was one of them written to since it was opened?
bool debug_sources_written(const struct debug_sources *sources);
// That, or replaced or removed.
bool debug_sources_changed(const struct debug_sources *sources);

#endif
