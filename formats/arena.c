// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// arena.c: see arena.h.

#include "formats/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_FIRST_CHUNK ((size_t)4 << 10)
#define ARENA_LAST_CHUNK ((size_t)1 << 20)

struct arena_chunk {
	struct arena_chunk *next;
	_Alignas(16) char data[];
};

void arena_finish(struct arena *arena)
{
	while (arena->chunks) {
		struct arena_chunk *chunk = arena->chunks;
		arena->chunks = chunk->next;
		free(chunk);
	}
	*arena = (struct arena){0};
}

static struct arena_chunk *make_chunk(struct arena *arena, size_t size)
{
	struct arena_chunk *chunk = size < SIZE_MAX - sizeof(*chunk) ? malloc(sizeof(*chunk) + size) : NULL;
	if (chunk) {
		chunk->next = arena->chunks;
		arena->chunks = chunk;
	}
	return chunk;
}

// Something large gets a chunk of its own, behind the first, whose room is kept.
static void *alloc_large(struct arena *arena, size_t size)
{
	struct arena_chunk *first = arena->chunks, *chunk = make_chunk(arena, size);
	if (chunk && first) {
		chunk->next = first->next;
		first->next = chunk;
		arena->chunks = first;
	}
	return chunk ? chunk->data : NULL;
}

static void *alloc_in_new(struct arena *arena, size_t size)
{
	size_t chunk_size = arena->chunk_size ? arena->chunk_size : ARENA_FIRST_CHUNK;
	if (size > chunk_size / 4)
		return alloc_large(arena, size);
	struct arena_chunk *chunk = make_chunk(arena, chunk_size);
	if (!chunk)
		return NULL;
	arena->chunk_size = chunk_size < ARENA_LAST_CHUNK ? chunk_size * 2 : ARENA_LAST_CHUNK;
	arena->at = chunk->data + size;
	arena->end = chunk->data + chunk_size;
	return chunk->data;
}

void *arena_alloc(struct arena *arena, size_t size, size_t align)
{
	size_t pad = (size_t)(-(uintptr_t)arena->at & (align - 1));
	size_t room = (size_t)(arena->end - arena->at);
	if (pad > room || size > room - pad || !arena->at)
		return alloc_in_new(arena, size);
	char *result = arena->at + pad;
	arena->at = result + size;
	return result;
}

void *arena_copy(struct arena *arena, const void *data, size_t size, size_t align)
{
	void *copy = arena_alloc(arena, size, align);
	if (copy && size)
		memcpy(copy, data, size);
	return copy;
}
