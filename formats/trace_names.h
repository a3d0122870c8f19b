// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// trace_names.h: texts, and frames made of them, each once and numbered from 1, for the formats of traces that refer to what they wrote before.
// Zero-initialize. One owner at a time.

#ifndef PROFD_FORMATS_TRACE_NAMES_H
#define PROFD_FORMATS_TRACE_NAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "formats/arena.h"
#include "formats/lookup.h"

struct trace_names {
	struct arena arena;
	struct lookup lookup;
	const void **items; // items[i] has the id i + 1
	uint32_t *sizes;
	uint32_t count, items_capacity, sizes_capacity;
};

// The id of these bytes; *ret_new: they were not known. 0: no memory.
uint32_t trace_names_add(struct trace_names *names, const void *bytes, uint32_t size, bool *ret_new);
void trace_names_finish(struct trace_names *names);

static inline const void *trace_names_get(const struct trace_names *names, uint32_t id)
{
	return names->items[id - 1];
}

#endif
