// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// debug_file.h: finds the debug info that belongs to an ELF file: its own, a separate file by build ID or .gnu_debuglink,
// dwz's supplementary file, MiniDebugInfo.

#ifndef PROFD_COLLECTOR_DEBUG_FILE_H
#define PROFD_COLLECTOR_DEBUG_FILE_H

#include <stdbool.h>

#include "collector/elf_file.h"

struct target_root;

// Where debug files are looked for. What it points to is the caller's.
struct debug_places {
	const char *dirs;               // colon-separated, each built as /usr/lib/debug is; below either root
	const struct target_root *root; // the process's own root directory, looked at before ours; NULL: ours is its
	const char *downloads; // where debuginfod's client keeps BUILDID/debuginfo, looked at last; NULL: nowhere
};

// Does the file have .debug_info (compressed or not)?
bool debug_file_has_dwarf(const struct elf_file *file);
// The separate debug file of main, whose path (as mapped) and build ID are given. Only one with the same build ID, or the CRC of the
// debuglink, is taken. 0 or −ENOENT.
int debug_file_find(const struct elf_file *main, const char *path, const char *build_id,
		    const struct debug_places *places, struct elf_file *ret_file);
// The one that debuginfod's client has downloaded to `downloads`. 0, −ENOENT; −EINVAL: there is something else by that name.
int debug_file_downloaded(const char *build_id, const char *downloads, struct elf_file *ret_file);
// Unpacks .gnu_debugdata. 0 or −ENOENT, −ENOMEM, −EINVAL (damaged).
int debug_file_mini(const struct elf_file *main, struct elf_file *ret_file);
// The supplementary file that dwz made, when file refers to one: below dirs, else where it says. 0 or −ENOENT.
int debug_file_alt(const struct elf_file *file, const struct debug_places *places, struct elf_file *ret_file);
// The package of .dwo files (PATH.dwp): beside the program, or below the directories. The descriptor or −ENOENT.
int debug_file_package(const char *path, const struct debug_places *places);

#endif
