// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// unwind_modules.h: a process's module set, made of /proc/PID/maps and the tables of the files named there, for the tests of the
// walkers and for tests/e2e/unwind_oracle.c.

#ifndef PROFD_TESTS_UNWIND_MODULES_H
#define PROFD_TESTS_UNWIND_MODULES_H

#include <fcntl.h>
#include <gelf.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "collector/cfi_table.h"
#include "collector/maps.h"
#include "profd/unwind.h"

#define UNWIND_MAX_MODULES 512

struct unwind_file {
	char *path;
	struct wire_table *table; // NULL: none could be made
	size_t phnum;
	GElf_Phdr phdrs[16];
};

struct unwind_modules {
	struct profd_module_set set;
	struct profd_module modules[UNWIND_MAX_MODULES];
	const struct unwind_file *owners[UNWIND_MAX_MODULES]; // the modules' files
	uint64_t cache[PROFD_UNWIND_CACHE_ENTRIES];
	struct unwind_file files[UNWIND_MAX_MODULES]; // kept when the set is read again
	size_t nfiles;
};

// The vDSO is not a file: its pages, from the process itself. The caller frees *ret_image after the Elf.
static inline Elf *unwind_open_vdso(int pid, uint64_t start, uint64_t end, char **ret_image)
{
	char path[64], *image = calloc(1, end - start);
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || !image || pread(fd, image, end - start, (off_t)start) != (ssize_t)(end - start)) {
		free(image);
		image = NULL;
	}
	if (fd >= 0)
		close(fd);
	*ret_image = image;
	return image ? elf_memory(image, end - start) : NULL;
}

static inline struct unwind_file *unwind_load_file(struct unwind_modules *all, int pid, const char *path,
						   uint64_t start, uint64_t end)
{
	struct unwind_file *file = &all->files[all->nfiles];
	bool vdso = strcmp(path, "[vdso]") == 0;
	char *image = NULL;
	int fd = vdso ? -1 : open(path, O_RDONLY | O_CLOEXEC);
	Elf *elf = vdso ? unwind_open_vdso(pid, start, end, &image) : elf_begin(fd, ELF_C_READ, NULL);
	size_t size;

	file->path = strdup(path);
	file->table = NULL;
	file->phnum = 0;
	if (elf && elf_getphdrnum(elf, &file->phnum) < 0)
		file->phnum = 0;
	if (file->phnum > 16)
		file->phnum = 16;
	for (size_t i = 0; i < file->phnum; i++)
		gelf_getphdr(elf, (int)i, &file->phdrs[i]);
	if (elf)
		cfi_table_build(elf, &file->table, &size);
	elf_end(elf);
	free(image);
	if (fd >= 0)
		close(fd);
	all->nfiles++;
	return file;
}

static inline struct unwind_file *unwind_find_file(struct unwind_modules *all, int pid, const char *path,
						   uint64_t start, uint64_t end)
{
	for (size_t i = 0; i < all->nfiles; i++)
		if (strcmp(all->files[i].path, path) == 0)
			return &all->files[i];
	return all->nfiles < UNWIND_MAX_MODULES ? unwind_load_file(all, pid, path, start, end) : NULL;
}

static inline void unwind_add_module(struct unwind_modules *all, const struct unwind_file *file, uint64_t start,
				     uint64_t end, uint64_t offset)
{
	struct profd_module *module = &all->modules[all->set.count];

	for (size_t i = 0; i < file->phnum; i++) {
		const GElf_Phdr *segment = &file->phdrs[i];

		if (segment->p_type != PT_LOAD || !(segment->p_flags & PF_X) ||
		    (segment->p_offset & ~0xfffULL) != offset)
			continue;
		module->start = start;
		module->end = end;
		module->bias = start - (segment->p_vaddr & ~0xfffULL);
		module->table = file->table;
		all->owners[all->set.count] = file;
		all->set.count++;
		return;
	}
}

// Reads the maps (again); the cache is emptied.
static inline void unwind_read_modules(struct unwind_modules *all, int pid)
{
	struct maps maps;

	all->set.count = 0;
	all->set.modules = all->modules;
	all->set.cache = all->cache;
	memset(all->cache, 0, sizeof(all->cache));
	if (maps_read(pid, &maps) < 0)
		return;
	for (size_t i = 0; i < maps.count && all->set.count < UNWIND_MAX_MODULES; i++) {
		const struct maps_entry *entry = &maps.entries[i];
		const struct unwind_file *file;

		if (entry->path[0] != '/' && strcmp(entry->path, "[vdso]") != 0)
			continue;
		file = unwind_find_file(all, pid, entry->path, entry->start, entry->end);
		if (file)
			unwind_add_module(all, file, entry->start, entry->end, entry->file_offset);
	}
	maps_finish(&maps);
}

static inline void unwind_forget_modules(struct unwind_modules *all)
{
	for (size_t i = 0; i < all->nfiles; i++) {
		free(all->files[i].path);
		free(all->files[i].table);
	}
	all->nfiles = 0;
}

#endif
