// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// dwarf_unit_names.c: see dwarf_unit_names.h.

#include "collector/dwarf_unit_names.h"

#include <dwarf.h>
#include <stdlib.h>

#define MAX_HOPS 16 // from a DIE to the one that has its name
#define MAX_FUNCTIONS (1u << 23)

// A DIE somewhere in this file or dwz's.
struct spot {
	const struct dwarf_cu *cu;
	uint64_t offset;
};

static uint64_t key_of(const struct dwarf_cu *cu, const struct spot *spot)
{
	return spot->offset << 1 | (spot->cu->file != cu->file);
}

// ---- Reading names -------------------------------------------------------------------------------------------------

// Readers keep the abbreviations of the units they were at last.
static struct die_reader *reader_at(struct dwarf_unit *unit, const struct spot *spot)
{
	struct die_reader *reader = &unit->names[(spot->cu->offset * 0x9e3779b97f4a7c15ULL >> 32) % DWARF_UNIT_READERS];

	if (reader->cu != spot->cu && die_reader_start(reader, spot->cu) < 0)
		return NULL;
	return die_reader_seek(reader, spot->offset) ? reader : NULL;
}

static bool go_to_origin(const struct die *die, struct spot *spot)
{
	if (!die_has(die, DIE_ORIGIN))
		return false;
	spot->cu = dwarf_reference(spot->cu, &die->values[DIE_ORIGIN], &spot->offset);
	return spot->cu != NULL;
}

static void take_names(const struct dwarf_cu *cu, const struct die *die, struct dwarf_function *function)
{
	if (!function->name && die_has(die, DIE_NAME))
		function->name = dwarf_string(cu, &die->values[DIE_NAME]);
	if (!function->linkage_name && die_has(die, DIE_LINKAGE_NAME))
		function->linkage_name = dwarf_string(cu, &die->values[DIE_LINKAGE_NAME]);
	if (!function->start_line && die_has(die, DIE_DECL_LINE) && die->values[DIE_DECL_LINE].number <= INT32_MAX)
		function->start_line = (uint32_t)die->values[DIE_DECL_LINE].number;
}

// What a DIE does not say itself, its abstract instance or declaration does.
static void read_names(struct dwarf_unit *unit, struct spot spot, struct dwarf_function *function)
{
	for (int hop = 0; hop < MAX_HOPS; hop++) {
		struct die_reader *reader = reader_at(unit, &spot);
		struct die die;

		if (!reader || !die_reader_next(reader, &die) || die.tag != DW_TAG_subprogram)
			return;
		take_names(spot.cu, &die, function);
		if ((function->name && function->linkage_name && function->start_line) || !go_to_origin(&die, &spot))
			return;
	}
}

// ---- Each once -----------------------------------------------------------------------------------------------------

static size_t place_of(const struct dwarf_unit *unit, uint64_t key)
{
	size_t i = (key * 0x9e3779b97f4a7c15ULL >> 20) & (unit->origins_capacity - 1);

	while (unit->origins[i] && unit->origins[i] != key)
		i = (i + 1) & (unit->origins_capacity - 1);
	return i;
}

static bool grow_origins(struct dwarf_unit *unit)
{
	struct dwarf_unit old = *unit;
	size_t capacity = old.origins_capacity ? old.origins_capacity * 2 : 1024;

	unit->origins = calloc(capacity, sizeof(uint64_t));
	unit->origin_functions = calloc(capacity, sizeof(uint32_t));
	if (!unit->origins || !unit->origin_functions) {
		free(unit->origins);
		free(unit->origin_functions);
		unit->origins = old.origins;
		unit->origin_functions = old.origin_functions;
		return false;
	}
	unit->origins_capacity = capacity;
	for (size_t i = 0; i < old.origins_capacity; i++) {
		if (old.origins[i]) {
			size_t place = place_of(unit, old.origins[i]);

			unit->origins[place] = old.origins[i];
			unit->origin_functions[place] = old.origin_functions[i];
		}
	}
	free(old.origins);
	free(old.origin_functions);
	return true;
}

static bool add_function(struct dwarf_unit *unit, const struct dwarf_function *function)
{
	if (unit->nfunctions == unit->functions_capacity) {
		size_t capacity = unit->functions_capacity ? unit->functions_capacity * 2 : 256;
		struct dwarf_function *grown =
			capacity <= MAX_FUNCTIONS ? reallocarray(unit->functions, capacity, sizeof(*grown)) : NULL;

		if (!grown)
			return false;
		unit->functions = grown;
		unit->functions_capacity = capacity;
	}
	unit->functions[unit->nfunctions++] = *function;
	return true;
}

// An inlined instance is its origin's; any other is one of its own, for it may have a linkage name of its own (of a constructor's
// several bodies).
static struct spot find_spot(const struct dwarf_cu *cu, const struct die *die)
{
	struct spot spot = {cu, die->offset};

	if (die->tag == DW_TAG_inlined_subroutine && !go_to_origin(die, &spot))
		spot = (struct spot){cu, die->offset};
	return spot;
}

bool dwarf_unit_function(struct dwarf_unit *unit, const struct dwarf_cu *cu, const struct die *die,
			 uint32_t *ret_number)
{
	struct spot spot = find_spot(cu, die);
	struct dwarf_function function = {0};
	uint64_t key = key_of(cu, &spot);
	size_t place;

	if (unit->norigins * 2 >= unit->origins_capacity && !grow_origins(unit))
		return false;
	place = place_of(unit, key);
	if (!unit->origins[place]) {
		read_names(unit, spot, &function);
		if (!add_function(unit, &function))
			return false;
		unit->origins[place] = key;
		unit->origin_functions[place] = (uint32_t)unit->nfunctions - 1;
		unit->norigins++;
	}
	*ret_number = unit->origin_functions[place];
	return true;
}

void dwarf_unit_forget_functions(struct dwarf_unit *unit)
{
	unit->nfunctions = unit->norigins = 0;
	if (unit->origins_capacity > 1u << 16) { // after a large unit, small ones would only clear it
		free(unit->origins);
		free(unit->origin_functions);
		unit->origins = NULL;
		unit->origin_functions = NULL;
		unit->origins_capacity = 0;
	} else if (unit->origins) {
		memset(unit->origins, 0, unit->origins_capacity * sizeof(uint64_t));
	}
}

void dwarf_unit_finish_functions(struct dwarf_unit *unit)
{
	free(unit->origins);
	free(unit->origin_functions);
	free(unit->functions);
	for (size_t i = 0; i < DWARF_UNIT_READERS; i++)
		die_reader_finish(&unit->names[i]);
}
