// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// plt_names.h: names for the entries of a PLT, which have no symbols of their own: "memcpy@plt", by what the entry jumps to. Nothing in the file
// is trusted. x86-64 and aarch64.

#ifndef PROFD_COLLECTOR_PLT_NAMES_H
#define PROFD_COLLECTOR_PLT_NAMES_H

#include <stddef.h>
#include <stdint.h>

#include "collector/elf_file.h"

struct plt_name {
	uint64_t start, end;
	uint32_t name; // offset in text
};

struct plt_names {
	struct plt_name *items; // by section, ascending in each
	size_t count, capacity;
	char *text; // each ends with NUL
	size_t text_size, text_capacity;
};

// 0 (count may be 0), or −ENOMEM. Either way, finish frees.
int plt_names_read(const struct elf_file *file, struct plt_names *ret_names);
void plt_names_finish(struct plt_names *names); // accepts a zeroed one

#endif
