// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// trace_names.c: see trace_names.h.

#include "formats/trace_names.h"

#include <stdlib.h>
#include <string.h>

#include "formats/grow.h"

struct key {
	const void *bytes;
	uint32_t size;
};

static bool is_equal(const void *context, uint32_t id, const void *key)
{
	const struct trace_names *names = context;
	const struct key *wanted = key;

	return names->sizes[id - 1] == wanted->size && memcmp(names->items[id - 1], wanted->bytes, wanted->size) == 0;
}

static bool make_room(struct trace_names *names)
{
	size_t needed = (size_t)names->count + 1;
	void *items = grow_array((void *)names->items, &names->items_capacity, needed, sizeof(*names->items));
	void *sizes;

	if (items)
		names->items = items;
	sizes = grow_array(names->sizes, &names->sizes_capacity, needed, sizeof(*names->sizes));
	if (sizes)
		names->sizes = sizes;
	return items && sizes && lookup_reserve(&names->lookup) == 0;
}

uint32_t trace_names_add(struct trace_names *names, const void *bytes, uint32_t size, bool *ret_new)
{
	const struct key key = {bytes, size};
	uint32_t hash, id;
	const void *copy;

	if (!names->lookup.seed)
		lookup_init(&names->lookup);
	hash = lookup_hash(&names->lookup, bytes, size);
	id = lookup_find(&names->lookup, hash, is_equal, names, &key);
	*ret_new = id == 0;
	if (id)
		return id;
	copy = arena_copy(&names->arena, bytes, size, 8);
	if (!copy || !make_room(names))
		return 0;
	names->items[names->count] = copy;
	names->sizes[names->count] = size;
	lookup_insert(&names->lookup, hash, ++names->count);
	return names->count;
}

void trace_names_finish(struct trace_names *names)
{
	arena_finish(&names->arena);
	lookup_finish(&names->lookup);
	free((void *)names->items);
	free(names->sizes);
	memset(names, 0, sizeof(*names));
}
