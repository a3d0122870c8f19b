// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// name_split.h: the part of a split unit that is in a .dwo file, or in a .dwp file that has many of them.

#ifndef PROFD_COLLECTOR_NAME_SPLIT_H
#define PROFD_COLLECTOR_NAME_SPLIT_H

#include <pthread.h>

#include "collector/dwarf_file.h"
#include "collector/name_compiler.h"

struct name_package; // an opened .dwp

// One thread's, for one unit after the other. Zeroed is empty.
struct name_split {
	struct elf_file elf;
	struct dwarf_file file;
	struct dwarf_cu unit; // a copy, tied to its skeleton
};

struct name_package *name_package_open(const struct elf_file *file); // NULL: none
void name_package_close(struct name_package *package);               // accepts NULL

// The unit to read in place of skeleton; skeleton itself when there is none that we can have. Valid until the next call. lock is held
// while sources->open_split runs.
const struct dwarf_cu *name_split_find(struct name_split *split, const struct name_sources *sources,
				       struct name_package *package, pthread_mutex_t *lock,
				       const struct dwarf_cu *skeleton);
void name_split_finish(struct name_split *split);

#endif
