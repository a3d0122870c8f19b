// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cfi_table.h: compiles an ELF file's call frame information (.eh_frame; .debug_frame for ranges that lacks) into the
// compact table of wire.h.

#ifndef PROFD_COLLECTOR_CFI_TABLE_H
#define PROFD_COLLECTOR_CFI_TABLE_H

#include <libelf.h>
#include <stddef.h>
#include <stdint.h>

struct wire_table;

// elf: an open Elf of any kind (file or memory, e.g. the vDSO). On success *ret_table is one malloc'ed block of *ret_size
// bytes, as wire.h lays it out; the caller frees it. −ENODATA: no CFI; −ENOTSUP: machine; −EINVAL: damaged; −ENOMEM.
// Nothing in the file is trusted; memory is bounded by the sections' sizes.
int cfi_table_build(Elf *elf, struct wire_table **ret_table, size_t *ret_size);

// Is this block of size bytes a table whose every index stays inside it? Used by tests and before a cached one is taken.
int cfi_table_check(const struct wire_table *table, size_t size);

#endif
