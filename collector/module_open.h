// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// module_open.h: opens the very file that a process has mapped, never another one that happens to bear its name.

#ifndef PROFD_COLLECTOR_MODULE_OPEN_H
#define PROFD_COLLECTOR_MODULE_OPEN_H

#include <sys/types.h>

#include "collector/elf_file.h"
#include "collector/maps.h"

// 0 with the open ELF file, or −errno as module_cache_get says.
int module_open(pid_t pid, const struct maps_entry *entry, struct elf_file *ret_file);

#endif
