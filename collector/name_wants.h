// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// name_wants.h: gathers the addresses that will be looked up, so that each module reads what it lacks of names once. Without locks; may
// take long. A plain value; zeroed is empty.

#ifndef PROFD_COLLECTOR_NAME_WANTS_H
#define PROFD_COLLECTOR_NAME_WANTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mapping;
struct mapping_set;

struct name_wants {
	struct name_want *wants;
	size_t count, capacity;
};

// pc: as in aggregate_frame. mapping: NULL for none; must stay until prepare. What there is no memory for is read later, one by one.
void name_wants_add(struct name_wants *wants, const struct mapping *mapping, uint64_t pc);
// All of a stack, leaf first.
void name_wants_add_stack(struct name_wants *wants, const struct mapping_set *mappings, const uint64_t *pcs,
			  uint32_t npcs, bool leaf_is_exact);
// Has the modules read what they lack, and forgets the wants.
void name_wants_prepare(struct name_wants *wants);

#endif
