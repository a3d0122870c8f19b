// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// readable_names.c: see readable_names.h.

#include "collector/readable_names.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "collector/demangle.h"

// By where the mangled name is: in a name table, each string is once.
struct readable_name {
	const char *mangled;
	char *text; // NULL: it cannot be read
};

static struct readable_name *place_of(struct readable_name *places, size_t capacity, const char *mangled)
{
	size_t i = ((uintptr_t)mangled * 0x9e3779b97f4a7c15ULL >> 32) & (capacity - 1);

	while (places[i].mangled && places[i].mangled != mangled)
		i = (i + 1) & (capacity - 1);
	return &places[i];
}

static bool grow(struct readable_names *names)
{
	size_t capacity = names->capacity ? names->capacity * 2 : 256;
	struct readable_name *places = calloc(capacity, sizeof(*places));

	if (!places)
		return false;
	for (size_t i = 0; i < names->capacity; i++)
		if (names->places[i].mangled)
			*place_of(places, capacity, names->places[i].mangled) = names->places[i];
	free(names->places);
	names->places = places;
	names->capacity = capacity;
	return true;
}

const char *readable_names_get(struct readable_names *names, const char *mangled, const char *otherwise)
{
	struct readable_name *place;

	if (names->count * 2 >= names->capacity && !grow(names))
		return otherwise;
	place = place_of(names->places, names->capacity, mangled);
	if (!place->mangled) {
		*place = (struct readable_name){mangled, demangle_function(mangled)};
		names->count++;
	}
	return place->text ? place->text : otherwise;
}

void readable_names_finish(struct readable_names *names)
{
	for (size_t i = 0; i < names->capacity; i++)
		free(names->places[i].text);
	free(names->places);
	*names = (struct readable_names){0};
}
