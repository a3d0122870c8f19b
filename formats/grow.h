// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// grow.h: arrays that double. Any context that may allocate.

#ifndef PROFD_FORMATS_GROW_H
#define PROFD_FORMATS_GROW_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

// Ids are 1..n in 32 bits, so no array holds more.
#define GROW_MAX ((uint32_t)INT32_MAX)

// The array with room for `needed` items and *capacity raised to what it has now, or NULL (out of memory, or more than
// GROW_MAX) with array and *capacity as they were. Never gives back room.
static inline void *grow_array(void *array, uint32_t *capacity, size_t needed, size_t item_size)
{
	size_t wanted = *capacity ? *capacity : 16;

	if (array && needed <= *capacity)
		return array;
	if (needed > GROW_MAX)
		return NULL;
	while (wanted < needed)
		wanted *= 2;
	if (wanted > GROW_MAX)
		wanted = GROW_MAX;
	void *grown = reallocarray(array, wanted, item_size);
	if (grown)
		*capacity = (uint32_t)wanted;
	return grown;
}

#endif
