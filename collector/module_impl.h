// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// module_impl.h: what a module is; for module.c and module_names.c alone.

#ifndef PROFD_COLLECTOR_MODULE_IMPL_H
#define PROFD_COLLECTOR_MODULE_IMPL_H

#include <pthread.h>
#include <stdbool.h>
#include <time.h>

#include "collector/debuginfod.h"
#include "collector/elf_file.h"
#include "collector/module.h"
#include "collector/module_open.h"

struct symbolizer;
struct target_root;

struct segment {
	uint64_t vaddr, offset, size; // size: in the file
	uint64_t memory_size;
	bool executable, writable;
};

struct module {
	int refs;            // atomic; the cache holds one
	struct module *next; // of the cache; newest first
	uint64_t inode;
	uint32_t dev_major, dev_minor;
	pid_t pid; // who had it mapped first; it may be gone
	char *path;
	char *debug_dirs, *downloads;  // downloads: NULL: there are none
	struct target_root *root;      // of the process that it was opened for, where that is not ours; NULL
	struct debuginfod *debuginfod; // the cache's; NULL: none
	bool sought;                   // atomic
	char build_id[ELF_BUILD_ID_HEX];
	enum module_open_by by;
	int fd;                  // file.fd, which never changes; −1: the vDSO
	struct timespec written; // when it was opened
	off_t file_size;
	struct segment *segments;
	size_t nsegments;

	pthread_mutex_t lock; // guards what follows
	struct elf_file file;
	struct symbolizer *symbolizer;
	enum debuginfod_state download; // as of when it was last asked for
	char download_reason[DEBUGINFOD_REASON];
	struct table_cache *tables; // for its names; NULL: nowhere
	bool table_tried;
	int table_fd, table_error;
	uint64_t table_size;
	char *package; // NULL: not known yet
};

// Whoever can write the file may lie in its build ID, and so about the tables of another file of that build ID.
bool module_may_cache(const struct module *module, uint32_t *ret_machine);

#endif
