// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// modules.c: see modules.h. Helper thread only, but for profd_modules_current, which handlers read.

#include "profd/modules.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "profd/agent.h"
#include "profd/own_map.h"
#include "profd/threads.h"

#define MAX_MODULES 65536u

// A mapped table, shared by the sets that name it.
struct table {
	const struct wire_table *base;
	uint64_t size;
	uint32_t sets; // how many sets name it
};

struct set {
	struct profd_module_set view; // first: what handlers see is this struct
	struct set *next_retired;
	struct table **tables; // parallel to view.modules
	struct profd_module *modules;
	uint32_t capacity;
};

const struct profd_module_set *profd_modules_current;
uint64_t profd_modules_serial;
static struct set *retired;

static void table_drop(struct table *table)
{
	if (--table->sets)
		return;
	profd_own_unmap((void *)(uintptr_t)table->base, table->size);
	free(table);
}

static void set_free(struct set *set)
{
	for (uint32_t i = 0; i < set->view.count; i++)
		table_drop(set->tables[i]);
	free(set->view.cache);
	free(set->tables);
	free(set->modules);
	free(set);
}

static struct set *set_create(uint32_t capacity)
{
	struct set *set = calloc(1, sizeof(*set));

	if (!set)
		return NULL;
	set->tables = calloc(capacity + 1, sizeof(*set->tables));
	set->modules = calloc(capacity + 1, sizeof(*set->modules));
	set->capacity = capacity;
	set->view.modules = set->modules;
	set->view.cache = calloc(PROFD_UNWIND_CACHE_ENTRIES, sizeof(*set->view.cache)); // none is as good, only slower
	if (!set->tables || !set->modules) {
		set_free(set);
		return NULL;
	}
	return set;
}

static void set_append(struct set *set, const struct profd_module *module, struct table *table)
{
	set->modules[set->view.count] = *module;
	set->tables[set->view.count++] = table;
	table->sets++;
}

// A copy of the current set without what overlaps [start, end), with `module` (may be NULL) in its place.
static struct set *set_derive(uint64_t start, uint64_t end, const struct profd_module *module, struct table *table)
{
	const struct set *old = (const struct set *)profd_modules_current;
	struct set *set = set_create((old ? old->view.count : 0) + 1);
	uint32_t i = 0, n = old ? old->view.count : 0;

	if (!set)
		return NULL;
	for (; i < n && old->modules[i].start < start; i++)
		if (old->modules[i].end <= start)
			set_append(set, &old->modules[i], old->tables[i]);
	if (module)
		set_append(set, module, table);
	for (; i < n; i++)
		if (old->modules[i].start >= end)
			set_append(set, &old->modules[i], old->tables[i]);
	return set;
}

static void publish(struct set *set)
{
	static uint64_t last_serial;
	struct set *old = (struct set *)(uintptr_t)profd_modules_current;

	set->view.serial = ++last_serial;
	__atomic_store_n(&profd_modules_current, &set->view, __ATOMIC_SEQ_CST);
	__atomic_store_n(&profd_modules_serial, set->view.serial, __ATOMIC_SEQ_CST);
	if (old) {
		old->next_retired = retired;
		retired = old;
	}
	profd_modules_reclaim();
}

static struct table *table_map(uint64_t size, int fd)
{
	struct table *table = calloc(1, sizeof(*table));
	void *base;

	if (!table)
		return NULL;
	if (profd_own_map(size, PROT_READ, MAP_SHARED, fd, &base) < 0) {
		free(table);
		return NULL;
	}
	table->base = base;
	table->size = size;
	return table;
}

int profd_modules_add(const struct wire_table_msg *message, int fd)
{
	struct profd_module module = {.start = message->start, .end = message->end, .bias = message->bias};
	const struct set *old = (const struct set *)profd_modules_current;
	struct table *table;
	struct set *set;

	if (message->start >= message->end || (old && old->view.count >= MAX_MODULES))
		return -EINVAL;
	table = table_map(message->size, fd);
	if (!table)
		return -errno;
	table->sets = 1; // ours, until the set has it
	if (profd_table_check(table->base, table->size) < 0) {
		table_drop(table);
		return -EINVAL;
	}
	module.table = table->base;
	set = set_derive(message->start, message->end, &module, table);
	if (set)
		publish(set);
	table_drop(table);
	return set ? 0 : -ENOMEM;
}

void profd_modules_forget(uint64_t start, uint64_t end)
{
	struct set *set = profd_modules_current ? set_derive(start, end, NULL, NULL) : NULL;

	if (set)
		publish(set);
}

static bool in_use(const struct set *set)
{
	uint32_t used = __atomic_load_n(&profd_agent.region.header->slots_used, __ATOMIC_SEQ_CST);

	for (uint32_t i = 0; i < used && i < profd_agent.region.nslots; i++) {
		struct profd_slot_private *private = profd_slot_private(&profd_agent.region.slots[i]);

		if (__atomic_load_n(&private->modules, __ATOMIC_SEQ_CST) == (uintptr_t)set)
			return true;
	}
	return false;
}

void profd_modules_reclaim(void)
{
	struct set **link = &retired;

	while (*link) {
		struct set *set = *link;

		if (in_use(set)) {
			link = &set->next_retired;
			continue;
		}
		*link = set->next_retired;
		set_free(set);
	}
}
