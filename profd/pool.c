// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// pool.c: see pool.h. An item is written in full before the index names it (release), and whoever finds it there sees all of it (acquire).
// Words that were given out to a thread that lost the race for a place stay unused: no more than there are threads at it at once.

#include "profd/pool.h"

#include <stdbool.h>
#include <stddef.h>

static uint32_t hash_words(enum wire_item_type type, const uint64_t *words, uint32_t n)
{
	uint64_t hash = 0xcbf29ce484222325u + (uint64_t)type;

	for (uint32_t i = 0; i < n; i++) {
		hash = (hash ^ words[i]) * 0x9e3779b97f4a7c15u;
		hash ^= hash >> 29;
	}
	hash *= 0x94d049bb133111ebu;
	return (uint32_t)(hash >> 32);
}

const uint64_t *profd_pool_item(const struct profd_pool *pool, enum wire_item_type type, uint32_t number)
{
	const uint64_t *item;

	if (number == 0 || number >= WIRE_POOL_WORDS)
		return NULL;
	item = &pool->words[number];
	return WIRE_ITEM_TYPE(item[0]) == type && WIRE_ITEM_WORDS(item[0]) <= WIRE_POOL_WORDS - number ? item : NULL;
}

static bool is_equal(const struct profd_pool *pool, uint32_t number, uint64_t head, const uint64_t *body,
		     uint32_t nbody)
{
	const uint64_t *item = &pool->words[number];

	if (number >= WIRE_POOL_WORDS - WIRE_ITEM_WORDS(head) || item[0] != head)
		return false;
	for (uint32_t i = 0; i < nbody; i++)
		if (item[1 + i] != body[i])
			return false;
	return true;
}

struct asked {
	const uint64_t *body;
	uint32_t nbody, ncounts;
	bool stand_in;
};

// Word 0 names nothing.
static uint32_t take_words(const struct profd_pool *pool, uint32_t n, uint32_t limit)
{
	uint32_t used = __atomic_load_n(pool->used, __ATOMIC_RELAXED), first;

	do {
		first = used ? used : 1;
		if (first > limit || n > limit - first)
			return 0;
	} while (!__atomic_compare_exchange_n(pool->used, &used, first + n, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	return first;
}

// Relaxed atomics: the compiler must not make a call of memcpy, which is libc's, out of the loop.
static uint32_t make(const struct profd_pool *pool, uint64_t head, const struct asked *asked)
{
	bool labels = WIRE_ITEM_TYPE(head) == WIRE_ITEM_LABELS;
	uint32_t number, sixteenths = asked->stand_in ? WIRE_POOL_LABELS + 1 : WIRE_POOL_LABELS;

	// A program with a label for each request must not take the room of who made its threads.
	if (labels && __atomic_load_n(pool->labels, __ATOMIC_RELAXED) >= WIRE_POOL_INDEX / 16 * sixteenths)
		return 0;
	number = take_words(pool, WIRE_ITEM_WORDS(head), labels ? WIRE_POOL_WORDS / 16 * sixteenths : WIRE_POOL_WORDS);
	if (!number)
		return 0;
	if (labels)
		__atomic_fetch_add(pool->labels, 1, __ATOMIC_RELAXED);
	for (uint32_t i = 0; i < asked->nbody; i++)
		__atomic_store_n(&pool->words[number + 1 + i], asked->body[i], __ATOMIC_RELAXED);
	__atomic_store_n(&pool->words[number], head, __ATOMIC_RELEASE);
	return number;
}

static uint32_t add(const struct profd_pool *pool, enum wire_item_type type, const struct asked *asked)
{
	uint32_t hash = hash_words(type, asked->body, asked->nbody), made = 0;
	uint64_t head = WIRE_ITEM_HEAD(hash, type, 1 + asked->nbody + asked->ncounts);

	for (uint32_t i = 0; i < WIRE_POOL_PROBES; i++) {
		uint32_t *place = &pool->index[(hash + i * (i + 1) / 2) & (WIRE_POOL_INDEX - 1)];
		uint32_t found = __atomic_load_n(place, __ATOMIC_ACQUIRE);

		if (!found && !made) {
			made = make(pool, head, asked);
			if (!made)
				return 0;
		}
		if (!found &&
		    __atomic_compare_exchange_n(place, &found, made, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
			return made;
		if (is_equal(pool, found, head, asked->body, asked->nbody))
			return found;
	}
	return 0;
}

uint32_t profd_pool_add(const struct profd_pool *pool, enum wire_item_type type, const uint64_t *body, uint32_t nbody,
			uint32_t ncounts)
{
	return add(pool, type, &(struct asked){body, nbody, ncounts, false});
}

uint32_t profd_pool_add_stand_in(const struct profd_pool *pool, const uint64_t *body, uint32_t nbody)
{
	return add(pool, WIRE_ITEM_LABELS, &(struct asked){body, nbody, 0, true});
}
