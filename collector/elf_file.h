// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// elf_file.h: an ELF image, from a file or from memory, opened for reading through libelf without mapping it (a file that is
// truncated while we read is an error, not a SIGBUS). Not thread-safe: one owner at a time.

#ifndef PROFD_COLLECTOR_ELF_FILE_H
#define PROFD_COLLECTOR_ELF_FILE_H

#include <gelf.h>
#include <libelf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ELF_BUILD_ID_HEX 129 // longest build ID in hex, with NUL

struct elf_file {
	Elf *elf;     // NULL: not open
	int fd;       // −1: from memory
	void *memory; // owned; NULL: from a file
};

// Opens a regular file for reading; anything else by that path (a FIFO that would hold us, a device that would start something) is
// left alone. The descriptor, or −errno; −ENOENT when it is no regular file.
int elf_file_open_path(const char *path);
// The same below another root directory, an O_PATH descriptor: links in the path lead no further than there. root −1: ours.
int elf_file_open_at(int root, const char *path);
int elf_file_open_directory_at(int root, const char *path); // likewise, of a directory

// Takes over fd (closed on failure too). 0, −ENOEXEC not ELF, −ENOTSUP not 64-bit little-endian, −ENOMEM.
int elf_file_open(int fd, struct elf_file *ret_file);
// Takes over malloc'ed memory (freed on failure too).
int elf_file_open_memory(void *memory, size_t size, struct elf_file *ret_file);
void elf_file_close(struct elf_file *file); // accepts a zeroed one

// The section of that name, with its header; NULL: none.
Elf_Scn *elf_file_section(const struct elf_file *file, const char *name, GElf_Shdr *ret_header);
// Lowercase hex; "" when there is none.
void elf_file_build_id(const struct elf_file *file, char hex[ELF_BUILD_ID_HEX]);

#endif
