// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// module_open.h: opens the very file that a process has mapped, never another one that happens to bear its name.

#ifndef PROFD_COLLECTOR_MODULE_OPEN_H
#define PROFD_COLLECTOR_MODULE_OPEN_H

#include <sys/types.h>

#include "collector/elf_file.h"
#include "collector/maps.h"

// How the file was known to be the mapped one.
enum module_open_by {
	MODULE_OPEN_INODE,    // our fd keeps the inode of the mapping from being reused
	MODULE_OPEN_BUILD_ID, // another inode: that of the mapping may go to any file, later
};

// 0 with the open ELF file, or −errno as module_cache_get says.
int module_open(pid_t pid, const struct maps_entry *entry, struct elf_file *ret_file, enum module_open_by *ret_by);
// Has the process this build ID in memory, in the file that entry maps? False when it cannot be read, or is "".
bool module_open_matches(pid_t pid, const struct maps_entry *entry, const char *build_id);

#endif
