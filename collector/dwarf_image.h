// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// dwarf_image.h: of an ELF file, those debug sections that names and lines come from, unpacked, as an ELF image in memory for
// libdw. libdw by itself unpacks all sections one after another, also the third (locations, macros) that nobody here reads; and
// what it has read from a file it may read again later, when the file is another. Links to other files are left out: libdw would
// follow them anywhere (see dwarf_setalt for the one that was checked).

#ifndef PROFD_COLLECTOR_DWARF_IMAGE_H
#define PROFD_COLLECTOR_DWARF_IMAGE_H

#include "collector/elf_file.h"

// Large compressed sections are unpacked in threads of its own, which end before it returns. 0 or −ENOENT: no .debug_info;
// −EINVAL: damaged; −EFBIG: unpacked, it is larger than we take; −ENOMEM.
int dwarf_image_open(const struct elf_file *file, struct elf_file *ret_image);

#endif
