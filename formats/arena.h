// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// arena.h: memory that is given back all at once: the strings, stacks and labels of a profile. What it hands out never
// moves. Zero-initialize; one owner at a time.

#ifndef PROFD_FORMATS_ARENA_H
#define PROFD_FORMATS_ARENA_H

#include <stddef.h>

struct arena {
	struct arena_chunk *chunks; // newest first; only the first has room
	size_t chunk_size;          // of the next chunk
	char *at, *end;             // what is free in the first chunk
};

void arena_finish(struct arena *arena);

// size bytes, not cleared, at a multiple of align (a power of two, at most 16); NULL when out of memory.
void *arena_alloc(struct arena *arena, size_t size, size_t align);
// A copy of the size bytes; NULL when out of memory.
void *arena_copy(struct arena *arena, const void *data, size_t size, size_t align);

#endif
