// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// name_set.c: see name_set.h.

#include "collector/name_set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool is_of_same_files(const struct name_header *x, const struct name_header *y)
{
	return x->base == y->base && x->nunits == y->nunits && x->ndwarf == y->ndwarf && x->nranges == y->nranges &&
	       memcmp(x->identity, y->identity, sizeof(x->identity)) == 0;
}

int name_set_add(struct name_set *set, const struct name_block *block)
{
	if (set->count == NAME_SET_MAX)
		return -ENOSPC;
	if (set->count > 0 && !is_of_same_files(set->blocks[0].header, block->header))
		return -EINVAL;
	if (!set->owners)
		set->owners = calloc(block->header->nunits + 1, 1);
	if (!set->owners)
		return -ENOMEM;
	set->blocks[set->count++] = *block;
	for (uint32_t i = 0; i < block->header->nunits; i++)
		if (!set->owners[i] && name_block_has(block, i))
			set->owners[i] = (uint8_t)set->count;
	return 0;
}

void name_set_finish(struct name_set *set)
{
	free(set->owners);
	*set = (struct name_set){0};
}

// What DWARF has only a line of (assembler) is named by the symbol.
size_t name_set_find(const struct name_set *set, uint64_t vaddr, struct name_frame *frames, size_t max,
		     bool *ret_missing)
{
	uint32_t units[NAME_MAX_OVERLAP + 1];
	size_t count = set->count ? name_block_units_at(&set->blocks[0], vaddr, units) : 0;
	struct name_frame line = {.file = ""};

	*ret_missing = false;
	for (size_t i = 0; i < count; i++) {
		uint32_t owner = set->owners[units[i]];
		size_t found;

		if (!owner) {
			*ret_missing = true;
			return 0;
		}
		found = name_block_find(&set->blocks[owner - 1], units[i], vaddr, frames, max);
		if (found == 0)
			continue;
		if (found == 1 && !frames[0].name && !frames[0].system_name) {
			if (!line.file[0])
				line = frames[0];
			continue;
		}
		if (line.file[0] && !frames[0].file[0]) {
			frames[0].file = line.file;
			frames[0].line = line.line;
		}
		return found;
	}
	return 0;
}

bool name_set_misses(const struct name_set *set, uint64_t vaddr)
{
	struct name_frame frame;
	bool missing;

	return set->count == 0 || (name_set_find(set, vaddr, &frame, 1, &missing) == 0 && missing);
}

size_t name_set_covered(const struct name_set *set, uint64_t *addresses, size_t max)
{
	const struct name_block *block = &set->blocks[0];
	uint32_t nunits = set->count ? block->header->nunits : 0;
	uint8_t *seen = calloc(nunits + 1, 1);
	size_t count = 0;

	if (!seen || nunits == 0) {
		free(seen);
		return 0;
	}
	for (uint32_t i = 0; i < block->header->nranges && count < max; i++) {
		uint32_t unit = block->ranges[i].unit;

		if (set->owners[unit] && !seen[unit])
			addresses[count++] = block->header->base + block->ranges[i].start;
		seen[unit] = 1;
	}
	for (uint32_t i = 0; i < block->header->npages && count < max; i++)
		if (set->owners[block->header->ndwarf + i])
			addresses[count++] = block->header->base + block->pages[i];
	free(seen);
	return count;
}
