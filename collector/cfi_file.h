// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cfi_file.h: where in an ELF file the executable code and its call frame information lie. Any thread that owns the Elf.

#ifndef PROFD_COLLECTOR_CFI_FILE_H
#define PROFD_COLLECTOR_CFI_FILE_H

#include <libelf.h>
#include <stdbool.h>
#include <stdint.h>

#include "collector/cfi_section.h"

// From the first to the last byte of the executable segments. −ENOTSUP: machine; −EINVAL: no or absurd segments.
int cfi_file_text(Elf *elf, uint64_t *ret_start, uint64_t *ret_end);

// Where a program or the dynamic linker begins. False for a shared library: its linker may have put anything there.
bool cfi_file_entry(Elf *elf, uint64_t *ret_entry);

// False: there is none. The data is the Elf's.
bool cfi_file_eh_frame(Elf *elf, struct cfi_section *ret_section);
bool cfi_file_debug_frame(Elf *elf, struct cfi_section *ret_section);
// aarch64: the procedure linkage table's code. False on other machines.
bool cfi_file_plt(Elf *elf, struct cfi_section *ret_section);

// The bytes of the file from vaddr on, to the end of its segment; .vaddr is vaddr. False: there are none.
bool cfi_file_code(Elf *elf, uint64_t vaddr, struct cfi_section *ret_code);

#endif
