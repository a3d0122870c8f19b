// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// debug_file.h: finds the debug info that belongs to an ELF file: its own, a separate file by build ID or .gnu_debuglink,
// dwz's supplementary file, MiniDebugInfo.

#ifndef PROFD_COLLECTOR_DEBUG_FILE_H
#define PROFD_COLLECTOR_DEBUG_FILE_H

#include <stdbool.h>

#include "collector/elf_file.h"

// Does the file have .debug_info (compressed or not)?
bool debug_file_has_dwarf(const struct elf_file *file);
// The separate debug file of main (whose path and build ID are given), looked for in dirs ("/usr/lib/debug:…") below root
// ("" or "/proc/PID/root"). Only one with the same build ID, or the CRC of the debuglink, is taken. 0 or −ENOENT.
int debug_file_find(const struct elf_file *main, const char *path, const char *build_id, const char *dirs,
		    const char *root, struct elf_file *ret_file);
// Unpacks .gnu_debugdata. 0 or −ENOENT, −ENOMEM, −EINVAL (damaged).
int debug_file_mini(const struct elf_file *main, struct elf_file *ret_file);
// The supplementary file that dwz made, when file refers to one: below dirs, else where it says. 0 or −ENOENT.
int debug_file_alt(const struct elf_file *file, const char *dirs, const char *root, struct elf_file *ret_file);

#endif
