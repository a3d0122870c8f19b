// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// name_wants.c: see name_wants.h.

#include "collector/name_wants.h"

#include <stdlib.h>

#include "collector/mapping.h"
#include "collector/module.h"
#include "profd/wire.h"

#define MAX_WANTS (1u << 24)

struct name_want {
	struct module *module;
	uint64_t vaddr;
};

void name_wants_add(struct name_wants *wants, const struct mapping *mapping, uint64_t pc)
{
	uint64_t address = pc & ~WIRE_PC_EXACT;

	if (!mapping || !mapping->module)
		return;
	if (!(pc & WIRE_PC_EXACT) && address > 0) // a return address is looked up as the last byte of its call
		address--;
	if (wants->count == wants->capacity) {
		size_t capacity = wants->capacity ? wants->capacity * 2 : 1024;
		struct name_want *grown =
			capacity <= MAX_WANTS ? reallocarray(wants->wants, capacity, sizeof(*grown)) : NULL;

		if (!grown)
			return;
		wants->wants = grown;
		wants->capacity = capacity;
	}
	wants->wants[wants->count++] = (struct name_want){mapping->module, address - mapping->bias};
}

void name_wants_add_stack(struct name_wants *wants, const struct mapping_set *mappings, const uint64_t *pcs,
			  uint32_t npcs, bool leaf_is_exact)
{
	for (uint32_t i = 0; i < npcs; i++) {
		bool exact = (i == 0 && leaf_is_exact) || (pcs[i] & WIRE_PC_EXACT);
		uint64_t pc = pcs[i] & ~WIRE_PC_EXACT;

		name_wants_add(wants, mapping_set_find(mappings, pc - (exact || pc == 0 ? 0 : 1)),
			       pc | (exact ? WIRE_PC_EXACT : 0));
	}
}

static int by_module(const void *a, const void *b)
{
	const struct name_want *x = a, *y = b;

	if (x->module != y->module)
		return (uintptr_t)x->module < (uintptr_t)y->module ? -1 : 1;
	return (x->vaddr > y->vaddr) - (x->vaddr < y->vaddr);
}

void name_wants_prepare(struct name_wants *wants)
{
	uint64_t *vaddrs = calloc(wants->count + 1, sizeof(*vaddrs));

	if (wants->count)
		qsort(wants->wants, wants->count, sizeof(*wants->wants), by_module);
	for (size_t i = 0; vaddrs && i < wants->count;) {
		struct module *module = wants->wants[i].module;
		size_t n = 0;

		for (; i < wants->count && wants->wants[i].module == module; i++)
			if (n == 0 || vaddrs[n - 1] != wants->wants[i].vaddr)
				vaddrs[n++] = wants->wants[i].vaddr;
		module_prepare(module, vaddrs, n);
	}
	free(vaddrs);
	free(wants->wants);
	*wants = (struct name_wants){0};
}
