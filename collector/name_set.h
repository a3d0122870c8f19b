// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// name_set.h: the blocks that make up one name table, and lookups in all of them. Each block has some of the units; which one has
// which is known at once. Not thread-safe while blocks are added. A plain value; zeroed is empty.

#ifndef PROFD_COLLECTOR_NAME_SET_H
#define PROFD_COLLECTOR_NAME_SET_H

#include "collector/name_table.h"

#define NAME_SET_MAX 16 // blocks; with more, lookups would be slower and files larger than one block for all

struct name_set {
	struct name_block blocks[NAME_SET_MAX];
	uint32_t count;
	uint8_t *owners; // by unit: 1 + the block that has it; 0: none
};

// block's memory must stay until the set is finished. 0; −EINVAL: not of the same files as the others; −ENOSPC; −ENOMEM.
int name_set_add(struct name_set *set, const struct name_block *block);
void name_set_finish(struct name_set *set);

// As module_symbolize. *ret_missing: a unit that no block has would be needed to say (0 is returned then).
size_t name_set_find(const struct name_set *set, uint64_t vaddr, struct name_frame *frames, size_t max,
		     bool *ret_missing);
// Is there a unit that no block has, and that would be needed to say?
bool name_set_misses(const struct name_set *set, uint64_t vaddr);
// An address in each unit that some block has; returns how many, at most max.
size_t name_set_covered(const struct name_set *set, uint64_t *addresses, size_t max);

#endif
