// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// name_split.c: see name_split.h.

#include "collector/name_split.h"

#include <dwarf.h>
#include <stdlib.h>

struct name_package {
	struct dwarf_file file;
	const struct dwarf_cu **units; // by dwo_id
};

static int by_id(const void *a, const void *b)
{
	const struct dwarf_cu *const *x = a, *const *y = b;

	return ((*x)->dwo_id > (*y)->dwo_id) - ((*x)->dwo_id < (*y)->dwo_id);
}

struct name_package *name_package_open(const struct elf_file *file)
{
	struct name_package *package = file ? calloc(1, sizeof(*package)) : NULL;
	struct dwarf_sections sections;

	if (!package)
		return NULL;
	if (dwarf_sections_open(file, true, &sections) < 0) {
		free(package);
		return NULL;
	}
	dwarf_file_init(&package->file, &sections);
	package->units = calloc(package->file.count + 1, sizeof(*package->units));
	if (!package->units) {
		name_package_close(package);
		return NULL;
	}
	for (size_t i = 0; i < package->file.count; i++)
		package->units[i] = &package->file.units[i];
	qsort(package->units, package->file.count, sizeof(*package->units), by_id);
	return package;
}

void name_package_close(struct name_package *package)
{
	if (!package)
		return;
	dwarf_file_close(&package->file);
	free(package->units);
	free(package);
}

static const struct dwarf_cu *find_in_package(const struct name_package *package, uint64_t id)
{
	const struct dwarf_cu wanted = {.dwo_id = id}, *key = &wanted;
	const struct dwarf_cu **found =
		bsearch(&key, package->units, package->file.count, sizeof(*package->units), by_id);

	return found ? *found : NULL;
}

static const struct dwarf_cu *find_in_file(const struct dwarf_file *file, uint64_t id)
{
	for (size_t i = 0; i < file->count; i++)
		if (file->units[i].tag == DW_TAG_compile_unit && file->units[i].dwo_id == id)
			return &file->units[i];
	return NULL;
}

void name_split_finish(struct name_split *split)
{
	dwarf_file_close(&split->file);
	if (split->elf.elf)
		elf_file_close(&split->elf);
	*split = (struct name_split){0};
}

static bool open_file(struct name_split *split, const struct name_sources *sources, pthread_mutex_t *lock,
		      const struct dwarf_cu *skeleton)
{
	struct dwarf_sections sections;
	int fd;

	pthread_mutex_lock(lock);
	fd = sources->open_split ? sources->open_split(sources->context, skeleton->dir, skeleton->dwo_name) : -1;
	pthread_mutex_unlock(lock);
	if (fd < 0 || elf_file_open(fd, &split->elf) < 0)
		return false;
	if (dwarf_sections_open(&split->elf, true, &sections) < 0)
		return false;
	dwarf_file_init(&split->file, &sections);
	return true;
}

const struct dwarf_cu *name_split_find(struct name_split *split, const struct name_sources *sources,
				       struct name_package *package, pthread_mutex_t *lock,
				       const struct dwarf_cu *skeleton)
{
	const struct dwarf_cu *found = NULL;

	if (!skeleton->dwo_name)
		return skeleton;
	name_split_finish(split);
	if (package)
		found = find_in_package(package, skeleton->dwo_id);
	if (!found && open_file(split, sources, lock, skeleton))
		found = find_in_file(&split->file, skeleton->dwo_id);
	if (!found || found->tag != DW_TAG_compile_unit)
		return skeleton;
	split->unit = *found;
	split->unit.skeleton = skeleton;
	return &split->unit;
}
