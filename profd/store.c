// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// store.c: see store.h.
//
// Finding is hashing with PROBES linear probes over an index of record numbers. A record is written first and published by whoever puts its
// number into a free place of the index: he who loses that race leaves his record unused, which wastes it, and nothing waits.

#include "profd/store.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "profd/live.h"
#include "profd/own_map.h"
#include "profd/shared_file.h"

#define PROBES 32u
#define ARENA_WORDS (4u << 20) // 32 MiB: some 100,000 stacks of 40 frames
#define WORK_PERCENT 75u       // full: from there on buckets are of no thread's work
#define BUCKETS (1u << 18)
#define STACK_INDEX (1u << 18)
#define BUCKET_INDEX (1u << 19)
#define NONE UINT32_MAX

struct profd_store profd_store = {.fd = -1};

// ---- Making it -----------------------------------------------------------------------------------------------------

static struct wire_store layout(void)
{
	struct wire_store store = {.magic = WIRE_STORE_MAGIC,
				   .version = WIRE_STORE_VERSION,
				   .pid = (uint32_t)getpid(),
				   .arena_words = ARENA_WORDS,
				   .nbuckets = BUCKETS,
				   .ngroups = PROFD_LIVE_GROUPS};
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	store.start_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	store.arena_off = WIRE_PAGE;
	store.buckets_off = store.arena_off + profd_shared_page_up(ARENA_WORDS * sizeof(uint64_t));
	store.live_off = store.buckets_off + profd_shared_page_up(BUCKETS * sizeof(struct wire_bucket));
	store.traced_off =
		store.live_off + profd_shared_page_up((uint64_t)PROFD_LIVE_GROUPS * sizeof(struct wire_live_group));
	store.size = store.traced_off + profd_shared_page_up(WIRE_TRACED * sizeof(struct wire_traced));
	return store;
}

static void *map_private(size_t bytes)
{
	void *base;

	return profd_own_map(bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, -1, &base) < 0 ? NULL : base;
}

int profd_store_open(void)
{
	const struct wire_store header = layout();
	struct profd_store *store = &profd_store;
	void *mapped = NULL;
	char *base;
	int error;

	if (store->header)
		return 0;
	store->fd = profd_shared_file_create("profd-store", header.size);
	if (store->fd < 0)
		return store->fd;
	error = profd_own_map(header.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, store->fd, &mapped);
	store->stack_index = map_private(STACK_INDEX * sizeof(uint32_t));
	store->bucket_index = map_private(BUCKET_INDEX * sizeof(uint32_t));
	if (error || !store->stack_index || !store->bucket_index) {
		profd_own_unmap(mapped, header.size);
		profd_store_close();
		return error ? error : -ENOMEM;
	}
	base = mapped;
	memcpy(base, &header, sizeof(header));
	store->size = header.size;
	store->arena = (uint64_t *)(base + header.arena_off);
	store->buckets = (struct wire_bucket *)(base + header.buckets_off);
	store->live = (struct wire_live_group *)(base + header.live_off);
	store->traced = (struct wire_traced *)(base + header.traced_off);
	profd_live_reset();
	__atomic_store_n(&store->header, (struct wire_store *)base, __ATOMIC_RELEASE);
	return 0;
}

void profd_store_close(void)
{
	struct profd_store *store = &profd_store;

	profd_own_unmap(store->header, store->size);
	profd_own_unmap(store->stack_index, STACK_INDEX * sizeof(uint32_t));
	profd_own_unmap(store->bucket_index, BUCKET_INDEX * sizeof(uint32_t));
	*store = (struct profd_store){.fd = -1};
}

// ---- Room ----------------------------------------------------------------------------------------------------------

void profd_store_count_lost(enum wire_store_lost reason)
{
	__atomic_fetch_add(&profd_store.header->lost[reason], 1, __ATOMIC_RELAXED);
}

// The first of `count` of `limit`, of which *used are taken; NONE: there are not so many left.
static uint32_t reserve(uint32_t *used, uint32_t count, uint32_t limit)
{
	uint32_t first = __atomic_load_n(used, __ATOMIC_RELAXED);

	while (first <= limit && limit - first >= count) {
		if (__atomic_compare_exchange_n(used, &first, first + count, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			return first;
	}
	return NONE;
}

uint32_t profd_store_percent_full(void)
{
	return __atomic_load_n(&profd_store.header->buckets_used, __ATOMIC_RELAXED) / (BUCKETS / 100);
}

static uint64_t mix(uint64_t hash, uint64_t value)
{
	hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
	return hash ^ hash >> 29;
}

// What kind of record an index finds: how one is recognized, and how a new one is written.
struct search {
	uint32_t *index;
	uint32_t places; // a power of two
	uint64_t hash;
	enum wire_store_lost lost;
	bool (*is_it)(const struct search *search, uint32_t number);
	uint32_t (*write)(const struct search *search); // NONE: no room
	const struct profd_store_stack *stack;
	const struct wire_bucket *bucket;
};

static uint32_t find_or_add(const struct search *search)
{
	uint32_t made = NONE;

	for (uint32_t i = 0; i < PROBES; i++) {
		uint32_t *place = &search->index[(search->hash + i) & (search->places - 1)];
		uint32_t seen = __atomic_load_n(place, __ATOMIC_ACQUIRE);

		if (!seen && made == NONE) {
			made = search->write(search);
			if (made == NONE)
				break;
		}
		if (!seen &&
		    __atomic_compare_exchange_n(place, &seen, made + 1, false, __ATOMIC_RELEASE, __ATOMIC_ACQUIRE))
			return made;
		if (search->is_it(search, seen - 1))
			return seen - 1;
	}
	profd_store_count_lost(search->lost);
	return NONE;
}

// ---- Stacks --------------------------------------------------------------------------------------------------------

// Equal hashes count as equal stacks: one in 2^64 is not.
static bool is_stack(const struct search *search, uint32_t word)
{
	const struct wire_stack *stack = (const struct wire_stack *)&profd_store.arena[word];

	return stack->hash == search->hash && stack->npcs == search->stack->npcs;
}

static uint32_t write_stack(const struct search *search)
{
	const struct profd_store_stack *from = search->stack;
	uint32_t word = reserve(&profd_store.header->arena_used, WIRE_STACK_WORDS + from->npcs, ARENA_WORDS);
	struct wire_stack *to;

	if (word == NONE)
		return NONE;
	to = (struct wire_stack *)&profd_store.arena[word];
	*to = (struct wire_stack){.hash = search->hash, .npcs = (uint16_t)from->npcs, .stop = from->stop};
	for (uint32_t i = 0; i < from->npcs; i++)
		profd_store.arena[word + WIRE_STACK_WORDS + i] = from->pcs[i];
	return word;
}

static uint32_t find_stack(const struct profd_store_stack *stack)
{
	struct search search = {.index = profd_store.stack_index,
				.places = STACK_INDEX,
				.hash = mix(0xcbf29ce484222325u, stack->stop),
				.lost = WIRE_STORE_LOST_STACKS,
				.is_it = is_stack,
				.write = write_stack,
				.stack = stack};

	for (uint32_t i = 0; i < stack->npcs; i++)
		search.hash = mix(search.hash, stack->pcs[i]);
	return find_or_add(&search);
}

// ---- Buckets -------------------------------------------------------------------------------------------------------

static bool is_bucket(const struct search *search, uint32_t number)
{
	const struct wire_bucket *bucket = &profd_store.buckets[number], *wanted = search->bucket;

	return bucket->kind == wanted->kind && bucket->stack == wanted->stack && bucket->key == wanted->key &&
	       bucket->rate == wanted->rate && bucket->work == wanted->work;
}

static uint32_t write_bucket(const struct search *search)
{
	uint32_t number = reserve(&profd_store.header->buckets_used, 1, BUCKETS);
	struct wire_bucket *bucket;

	if (number == NONE)
		return NONE;
	bucket = &profd_store.buckets[number];
	bucket->stack = search->bucket->stack;
	bucket->key = search->bucket->key;
	bucket->rate = search->bucket->rate;
	bucket->work = search->bucket->work;
	__atomic_store_n(&bucket->kind, search->bucket->kind, __ATOMIC_RELEASE);
	return number;
}

struct wire_bucket *profd_store_bucket(enum wire_bucket_kind kind, const struct profd_store_stack *stack, uint64_t key,
				       uint64_t rate)
{
	struct wire_bucket wanted = {.kind = kind,
				     .stack = stack->known ? stack->known - 1 : find_stack(stack),
				     .key = key,
				     .rate = rate,
				     .work = profd_store_percent_full() < WORK_PERCENT ? stack->work : 0};
	struct search search = {.index = profd_store.bucket_index,
				.places = BUCKET_INDEX,
				.lost = WIRE_STORE_LOST_BUCKETS,
				.is_it = is_bucket,
				.write = write_bucket,
				.bucket = &wanted};
	uint32_t number;

	if (wanted.stack == NONE)
		return NULL;
	search.hash = mix(mix(mix(mix(wanted.stack, wanted.kind), key), rate), wanted.work);
	number = find_or_add(&search);
	return number == NONE ? NULL : &profd_store.buckets[number];
}
