// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// mapping.c: see mapping.h.

#include "collector/mapping.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "collector/maps.h"
#include "collector/module.h"
#include "collector/process.h"

#define ATTEMPTS 3

static uint32_t last_id; // atomic

static bool is_agent(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && strncmp(slash + 1, "libprofd.so", 11) == 0 && (slash[12] == '\0' || slash[12] == '.');
}

static uint32_t next_id(void)
{
	uint32_t id = __atomic_add_fetch(&last_id, 1, __ATOMIC_RELAXED);

	return id ? id : __atomic_add_fetch(&last_id, 1, __ATOMIC_RELAXED);
}

struct mapping *mapping_create(uint64_t start, uint64_t end, uint64_t file_offset, const char *path)
{
	size_t length = strlen(path) + 1;
	struct mapping *mapping = calloc(1, sizeof(*mapping) + length);

	if (!mapping)
		return NULL;
	mapping->refs = 1;
	mapping->id = next_id();
	mapping->start = start;
	mapping->end = end;
	mapping->file_offset = file_offset;
	mapping->agent = is_agent(path);
	memcpy(mapping->path, path, length);
	return mapping;
}

struct mapping *mapping_ref(struct mapping *mapping)
{
	__atomic_fetch_add(&mapping->refs, 1, __ATOMIC_RELAXED);
	return mapping;
}

void mapping_unref(struct mapping *mapping)
{
	if (!mapping || __atomic_sub_fetch(&mapping->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	if (mapping->module)
		module_unref(mapping->module);
	free(mapping);
}

// The index of the last entry that starts at or before address; set->count when there is none.
static size_t find_index(const struct mapping_set *set, uint64_t address)
{
	size_t low = 0, high = set->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (set->entries[middle].mapping->start <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low > 0 ? low - 1 : set->count;
}

struct mapping *mapping_set_find(const struct mapping_set *set, uint64_t address)
{
	size_t i = find_index(set, address);

	return i < set->count && address < set->entries[i].mapping->end ? set->entries[i].mapping : NULL;
}

struct mapping_entry *mapping_set_entry(struct mapping_set *set, const struct mapping *mapping)
{
	size_t i = find_index(set, mapping->start);

	return i < set->count && set->entries[i].mapping == mapping ? &set->entries[i] : NULL;
}

static struct mapping_set *allocate(size_t count, uint32_t maps_gen)
{
	struct mapping_set *set = calloc(1, sizeof(*set) + count * sizeof(set->entries[0]));

	if (set)
		set->maps_gen = maps_gen;
	return set;
}

struct mapping_set *mapping_set_copy(const struct mapping_set *set, uint32_t maps_gen)
{
	struct mapping_set *copy = allocate(set->count, maps_gen);

	for (size_t i = 0; copy && i < set->count; i++)
		copy->entries[copy->count++].mapping = mapping_ref(set->entries[i].mapping);
	return copy;
}

static bool is_same(const struct mapping *mapping, const struct maps_entry *entry)
{
	return mapping->start == entry->start && mapping->end == entry->end &&
	       mapping->file_offset == entry->file_offset && mapping->inode == entry->inode &&
	       mapping->dev_major == entry->dev_major && mapping->dev_minor == entry->dev_minor &&
	       strcmp(mapping->path, entry->path) == 0;
}

static struct mapping *open_mapping(pid_t pid, const struct maps_entry *entry, struct module_cache *modules)
{
	struct mapping *mapping = mapping_create(entry->start, entry->end, entry->file_offset, entry->path);
	struct module *module;

	if (!mapping)
		return NULL;
	mapping->inode = entry->inode;
	mapping->dev_major = entry->dev_major;
	mapping->dev_minor = entry->dev_minor;
	if (entry->path[0] != '/' && strcmp(entry->path, "[vdso]") != 0)
		return mapping;
	if (module_cache_get(modules, pid, entry, &module) < 0)
		return mapping;
	if (module_bias(module, entry, &mapping->bias) == 0)
		mapping->module = module;
	else
		module_unref(module);
	return mapping;
}

// By a thread that lives, which may end just then. *pid becomes it: the files are to be had by it, too.
static int read_maps(pid_t *pid, struct maps *ret_maps)
{
	const pid_t process = *pid;
	int r = -ESRCH;

	for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
		*pid = process_living_task(process, 0);
		r = maps_read(*pid, ret_maps);
		if (r != -ESRCH && (r < 0 || ret_maps->count > 0))
			return r;
		if (r == 0 && attempt + 1 < ATTEMPTS)
			maps_finish(ret_maps);
	}
	return r;
}

int mapping_set_read(pid_t pid, uint32_t maps_gen, const struct mapping_set *previous, struct module_cache *modules,
		     struct mapping_set **ret_set)
{
	struct mapping_set *set = NULL;
	struct maps maps;
	int r = read_maps(&pid, &maps);

	if (r < 0)
		return r;
	set = allocate(maps.count, maps_gen);
	if (!set) {
		r = -ENOMEM;
		goto done;
	}
	for (size_t i = 0; i < maps.count; i++) {
		const struct maps_entry *entry = &maps.entries[i];
		struct mapping *mapping = previous ? mapping_set_find(previous, entry->start) : NULL;

		mapping = mapping && is_same(mapping, entry) ? mapping_ref(mapping) : open_mapping(pid, entry, modules);
		if (!mapping) {
			r = -ENOMEM;
			goto done;
		}
		set->entries[set->count++].mapping = mapping;
	}
	*ret_set = set;
	set = NULL;
done:
	mapping_set_destroy(set);
	maps_finish(&maps);
	return r;
}

void mapping_set_destroy(struct mapping_set *set)
{
	if (!set)
		return;
	for (size_t i = 0; i < set->count; i++)
		mapping_unref(set->entries[i].mapping);
	free(set);
}
