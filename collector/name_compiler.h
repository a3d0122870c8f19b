// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// name_compiler.h: makes a block of a name table (name_table.h) out of ELF symbols and DWARF: of those units that are wanted, or of
// all when there is not much. Reads files that nobody vouches for; meant to run in a process that may die (name_worker.h). Uses
// threads of its own, which end before it returns.

#ifndef PROFD_COLLECTOR_NAME_COMPILER_H
#define PROFD_COLLECTOR_NAME_COMPILER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "collector/elf_file.h"

struct target_root;

// What names come from. Files that are not there: NULL.
struct name_sources {
	const struct elf_file *file;    // what is mapped
	const struct elf_file *debug;   // a separate file with its DWARF, perhaps its .symtab
	const struct elf_file *alt;     // dwz's
	const struct elf_file *package; // .dwp
	const struct target_root *root; // where .dwo files may lie, for who opens them; NULL: in ours
	// Opens a .dwo file, for reading; the descriptor or −errno. Called by one thread at a time. NULL: none can be had.
	int (*open_split)(void *context, const char *dir, const char *name);
	void *context;
};

struct name_request {
	struct name_sources sources;
	const uint64_t *addresses; // wanted; in any order
	size_t count;
	// Several units may say that an address is theirs. Most often the first is right, and the others are not read; where it was not,
	// ask again for all of them.
	bool each_unit;
	bool symbols_alone;   // DWARF is not read: it was too much
	uint64_t identity[2]; // of the sources, for the header
};

// Writes the block to fd, from where it stands on. 0 or −errno. Files that name nothing make a block, too.
int name_compile(const struct name_request *request, int fd);

#endif
