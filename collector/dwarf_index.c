// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// dwarf_index.c: see dwarf_index.h. Everything that a hostile file could make endless has a limit: units, blocks, nesting.

#include "collector/dwarf_index.h"

#include <dwarf.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "collector/dwarf_unit.h"

#define MAX_UNITS (1u << 20)
#define MAX_RANGES (1u << 22)
#define SCAN_BACK 64 // ranges of units hardly ever overlap; of those that do, so many are looked at

struct range {
	uint64_t start, end;
	uint32_t unit;
};

struct unit {
	Dwarf_Die die;      // of the unit, or of its split-DWARF part
	Dwarf_Die skeleton; // has the line table
	struct dwarf_unit *parsed;
	bool failed;
};

struct dwarf_index {
	struct unit *units;
	size_t nunits, units_capacity;
	struct range *ranges;
	size_t nranges, ranges_capacity;
	size_t ranges_read;
};

static bool add_range(struct dwarf_index *index, uint64_t start, uint64_t end, uint32_t unit)
{
	if (start >= end || start == 0) // code that the linker dropped starts at 0
		return true;
	if (index->nranges == index->ranges_capacity) {
		size_t capacity = index->ranges_capacity ? index->ranges_capacity * 2 : 256;
		struct range *grown = capacity <= MAX_RANGES ? realloc(index->ranges, capacity * sizeof(*grown)) : NULL;

		if (!grown)
			return false;
		index->ranges = grown;
		index->ranges_capacity = capacity;
	}
	index->ranges[index->nranges++] = (struct range){start, end, unit};
	return true;
}

static bool add_unit(struct dwarf_index *index, const Dwarf_Die *die, const Dwarf_Die *skeleton)
{
	if (index->nunits == index->units_capacity) {
		size_t capacity = index->units_capacity ? index->units_capacity * 2 : 64;
		struct unit *grown = capacity <= MAX_UNITS ? realloc(index->units, capacity * sizeof(*grown)) : NULL;

		if (!grown)
			return false;
		index->units = grown;
		index->units_capacity = capacity;
	}
	index->units[index->nunits++] = (struct unit){.die = *die, .skeleton = *skeleton};
	return true;
}

static bool add_unit_ranges(struct dwarf_index *index, Dwarf_Die *die)
{
	uint32_t unit = (uint32_t)index->nunits - 1;
	Dwarf_Addr base, start, end;
	ptrdiff_t offset = 0;

	// Empty ranges count, too: many units may share a list of them.
	while ((offset = dwarf_ranges(die, offset, &base, &start, &end)) > 0)
		if (++index->ranges_read > MAX_RANGES || !add_range(index, start, end, unit))
			return false;
	return true;
}

static int by_start(const void *a, const void *b)
{
	const struct range *x = a, *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	return (x->unit > y->unit) - (x->unit < y->unit);
}

static const char *unit_string(Dwarf_Die *die, unsigned name)
{
	Dwarf_Attribute attribute;

	return dwarf_formstring(dwarf_attr(die, name, &attribute));
}

// libdw opens a unit's .dwo file by the path that the unit says, and maps it. So it must be a file, and of somebody who could do us
// harm in easier ways than by cutting it short while we read.
static bool is_split_trusted(Dwarf_Die *skeleton)
{
	const char *dir = unit_string(skeleton, DW_AT_comp_dir);
	const char *name = unit_string(skeleton, DW_AT_dwo_name);
	char path[PATH_MAX];
	struct stat st;

	if (!name)
		name = unit_string(skeleton, DW_AT_GNU_dwo_name);
	if (!name || (name[0] != '/' && (!dir || dir[0] != '/')) ||
	    snprintf(path, sizeof(path), "%s%s%s", name[0] == '/' ? "" : dir, name[0] == '/' ? "" : "/", name) >=
		    (int)sizeof(path))
		return false;
	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && (st.st_uid == 0 || st.st_uid == geteuid());
}

// The unit's part in the .dwo file; false: there is none that we can take.
static bool find_split(Dwarf_CU *cu, Dwarf_Die *skeleton, Dwarf_Die *ret_split)
{
	return is_split_trusted(skeleton) && dwarf_cu_info(cu, NULL, NULL, NULL, ret_split, NULL, NULL, NULL) == 0 &&
	       dwarf_tag(ret_split) == DW_TAG_compile_unit;
}

static bool collect_units(struct dwarf_index *index, Dwarf *dwarf)
{
	Dwarf_CU *cu = NULL;
	Dwarf_Die die, split;
	uint8_t type;

	while (dwarf_get_units(dwarf, cu, &cu, NULL, &type, &die, NULL) == 0) {
		if (type != DW_UT_compile && type != DW_UT_skeleton)
			continue;
		if (type != DW_UT_skeleton || !find_split(cu, &die, &split))
			split = die;
		if (!add_unit(index, &split, &die) || !add_unit_ranges(index, &die))
			return false;
	}
	return index->nranges > 0;
}

struct dwarf_index *dwarf_index_create(Dwarf *dwarf)
{
	struct dwarf_index *index = calloc(1, sizeof(*index));

	if (!index || !collect_units(index, dwarf)) {
		dwarf_index_destroy(index);
		return NULL;
	}
	qsort(index->ranges, index->nranges, sizeof(*index->ranges), by_start);
	return index;
}

void dwarf_index_destroy(struct dwarf_index *index)
{
	if (!index)
		return;
	for (size_t i = 0; i < index->nunits; i++)
		dwarf_unit_destroy(index->units[i].parsed);
	free(index->units);
	free(index->ranges);
	free(index);
}

static struct dwarf_unit *unit_at(struct dwarf_index *index, uint32_t number)
{
	struct unit *unit = &index->units[number];

	if (!unit->parsed && !unit->failed) {
		unit->parsed = dwarf_unit_create(&unit->die, &unit->skeleton);
		unit->failed = !unit->parsed;
	}
	return unit->parsed;
}

size_t dwarf_index_find(struct dwarf_index *index, uint64_t vaddr, struct dwarf_frame *frames, size_t max)
{
	size_t low = 0, high = index->nranges;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (index->ranges[middle].start <= vaddr)
			low = middle + 1;
		else
			high = middle;
	}
	for (size_t i = 0; i < SCAN_BACK && low > 0; i++, low--) {
		const struct range *range = &index->ranges[low - 1];
		struct dwarf_unit *unit = vaddr < range->end ? unit_at(index, range->unit) : NULL;
		size_t count = unit ? dwarf_unit_find(unit, vaddr, frames, max) : 0;

		if (count)
			return count;
	}
	return 0;
}
