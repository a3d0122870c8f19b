// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// store.c: see store.h. Any thread.

#include "collector/store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "collector/region.h"

#define STORE_MAX_SIZE (2ULL << 30)
#define STORE_MAX_COUNT (1ULL << 60) // of anything; more is a lie
#define NS_PER_DS 100000000

struct store {
	uint32_t refs; // atomic
	int fd;        // our own: tells which parts of it there are
	uint64_t size;
	const struct wire_store *header;
	const uint64_t *arena;
	const struct wire_bucket *buckets;
	const struct wire_live_group *groups;
	const struct wire_traced *traced;
	uint64_t live_off;
	uint32_t arena_words, nbuckets, ngroups;
};

// ---- Mapping -------------------------------------------------------------------------------------------------------

static bool fits(uint64_t offset, uint64_t bytes, uint64_t least, uint64_t size)
{
	return offset % WIRE_PAGE == 0 && offset >= least && offset <= size && bytes <= size - offset;
}

// header is a copy: its values cannot change between check and use.
static bool is_good(const struct wire_store *header, uint64_t size, pid_t pid)
{
	uint64_t arena = (uint64_t)header->arena_words * sizeof(uint64_t);
	uint64_t buckets = (uint64_t)header->nbuckets * sizeof(struct wire_bucket);
	uint64_t groups = (uint64_t)header->ngroups * sizeof(struct wire_live_group);

	return header->magic == WIRE_STORE_MAGIC && header->version == WIRE_STORE_VERSION &&
	       header->pid == (uint32_t)pid && header->size == size &&
	       header->arena_words <= WIRE_STORE_MAX_ARENA_WORDS && header->nbuckets <= WIRE_STORE_MAX_BUCKETS &&
	       header->ngroups <= WIRE_STORE_MAX_GROUPS && fits(header->arena_off, arena, WIRE_PAGE, size) &&
	       fits(header->buckets_off, buckets, header->arena_off + arena, size) &&
	       fits(header->live_off, groups, header->buckets_off + buckets, size) &&
	       fits(header->traced_off, WIRE_TRACED * sizeof(struct wire_traced), header->live_off + groups, size);
}

static uint64_t load64(const uint64_t *value)
{
	return __atomic_load_n(value, __ATOMIC_ACQUIRE);
}

static uint32_t load32(const uint32_t *value)
{
	return __atomic_load_n(value, __ATOMIC_ACQUIRE);
}

static void copy_words(const void *shared, void *copy, size_t bytes)
{
	for (size_t i = 0; i < bytes / 8; i++) {
		uint64_t word = load64((const uint64_t *)shared + i);

		memcpy((char *)copy + i * 8, &word, 8);
	}
}

static struct store *create(const char *base, const struct wire_store *header, int fd)
{
	struct store *store = calloc(1, sizeof(*store));

	if (!store)
		return NULL;
	*store = (struct store){
		.refs = 1,
		.fd = fd,
		.size = header->size,
		.header = (const struct wire_store *)base,
		.arena = (const uint64_t *)(base + header->arena_off),
		.buckets = (const struct wire_bucket *)(base + header->buckets_off),
		.groups = (const struct wire_live_group *)(base + header->live_off),
		.traced = (const struct wire_traced *)(base + header->traced_off),
		.live_off = header->live_off,
		.arena_words = header->arena_words,
		.nbuckets = header->nbuckets,
		.ngroups = header->ngroups,
	};
	return store;
}

int store_map(int fd, uint64_t size, pid_t pid, struct store **ret_store)
{
	struct wire_store header;
	int r = region_check_file(fd, size, STORE_MAX_SIZE), own_fd;
	void *base;

	if (r < 0)
		return r;
	own_fd = dup(fd);
	if (own_fd < 0)
		return -errno;
	base = mmap(NULL, size, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (base == MAP_FAILED) {
		r = -errno;
		close(own_fd);
		return r;
	}
	copy_words(base, &header, sizeof(header));
	r = is_good(&header, size, pid) ? 0 : -EINVAL;
	if (r == 0 && !(*ret_store = create(base, &header, own_fd)))
		r = -ENOMEM;
	if (r < 0) {
		munmap(base, size);
		close(own_fd);
	}
	return r;
}

struct store *store_ref(struct store *store)
{
	__atomic_fetch_add(&store->refs, 1, __ATOMIC_RELAXED);
	return store;
}

void store_unref(struct store *store)
{
	if (!store || __atomic_sub_fetch(&store->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	munmap((void *)(uintptr_t)store->header, store->size);
	close(store->fd);
	free(store);
}

// ---- Reading -------------------------------------------------------------------------------------------------------

void store_read_live(const struct store *store, struct store_live *ret_live)
{
	const struct wire_store *header = store->header;

	*ret_live = (struct store_live){
		.rates = {.heap_bytes = load64(&header->heap_rate) & (STORE_MAX_COUNT - 1),
			  .mutex = load64(&header->mutex_rate) & (STORE_MAX_COUNT - 1),
			  .block = load64(&header->block_rate) & (STORE_MAX_COUNT - 1),
			  .heap_mmap = load64(&header->heap_mmap) != 0},
		.heap_unseen = load32(&header->heap_unseen),
		.start_ns = load64(&header->start_ns) & INT64_MAX,
	};
	for (int i = 0; i < WIRE_STORE_LOST_COUNT; i++)
		ret_live->lost[i] = load64(&header->lost[i]) & (STORE_MAX_COUNT - 1);
	ret_live->traces_lost = load64(&header->traces_lost) & (STORE_MAX_COUNT - 1);
}

// false: it is of another kind, not filled yet, or makes no sense.
static bool read_bucket(const struct store *store, uint32_t number, enum wire_bucket_kind kind,
			struct store_bucket *ret_bucket)
{
	const struct wire_bucket *shared = &store->buckets[number];

	if (load32(&shared->kind) != (uint32_t)kind)
		return false;
	*ret_bucket = (struct store_bucket){
		.number = number,
		.stack = load32(&shared->stack),
		.key = load64(&shared->key),
		.rate = load64(&shared->rate),
		.work = load64(&shared->work),
	};
	// From the last to the first: freed before allocated (wire_store.h).
	for (int i = WIRE_BUCKET_COUNTS; i-- > 0;) {
		ret_bucket->counts[i] = load64(&shared->counts[i]);
		if (ret_bucket->counts[i] > STORE_MAX_COUNT)
			return false;
	}
	return true;
}

int store_read_buckets(const struct store *store, enum wire_bucket_kind kind, struct store_bucket **ret_buckets,
		       size_t *ret_count)
{
	uint32_t used = load32(&store->header->buckets_used);
	struct store_bucket *buckets;
	size_t count = 0;

	if (used > store->nbuckets)
		used = store->nbuckets;
	buckets = calloc((size_t)used + 1, sizeof(*buckets));
	if (!buckets)
		return -ENOMEM;
	for (uint32_t i = 0; i < used; i++)
		count += read_bucket(store, i, kind, &buckets[count]);
	*ret_buckets = buckets;
	*ret_count = count;
	return 0;
}

uint32_t store_read_stack(const struct store *store, uint32_t stack, uint64_t pcs[WIRE_STORE_FRAMES], uint8_t *ret_stop)
{
	struct wire_stack head;

	if (stack > store->arena_words || store->arena_words - stack < WIRE_STACK_WORDS)
		return 0;
	copy_words(&store->arena[stack], &head, sizeof(head));
	if (head.npcs < 1 || head.npcs > WIRE_STORE_FRAMES || head.stop >= WIRE_STOP_COUNT ||
	    head.npcs > store->arena_words - stack - WIRE_STACK_WORDS)
		return 0;
	copy_words(&store->arena[stack + WIRE_STACK_WORDS], pcs, head.npcs * sizeof(*pcs));
	*ret_stop = head.stop;
	return head.npcs;
}

// false: it is not whole, not used, or makes no sense.
static bool read_entry(const struct store *store, uint32_t index, struct store_traced *ret_traced)
{
	const struct wire_traced *shared = &store->traced[index];
	struct wire_traced entry;
	uint64_t turn;

	copy_words(shared, &entry, sizeof(entry));
	turn = load64(&shared->turn);
	// Freed meanwhile is all that may have come in between.
	if (entry.turn < WIRE_TRACED_TURN(0, 0) || entry.turn & WIRE_TRACED_BUSY ||
	    (turn != entry.turn && turn != (entry.turn & ~(uint64_t)WIRE_TRACED_LIVE)) ||
	    WIRE_TRACED_SEQUENCE(turn) % WIRE_TRACED != index)
		return false;
	*ret_traced = (struct store_traced){
		.sequence = WIRE_TRACED_SEQUENCE(turn),
		.object = entry.object,
		.trace.flags = entry.flags & WIRE_TRACE_SAMPLED,
		.bucket = entry.bucket,
		.number = index + 1,
		.live = turn & WIRE_TRACED_LIVE,
	};
	memcpy(ret_traced->counts, entry.counts, sizeof(entry.counts));
	memcpy(ret_traced->trace.trace_id, entry.trace_id, sizeof(entry.trace_id));
	memcpy(ret_traced->trace.span_id, entry.span_id, sizeof(entry.span_id));
	return true;
}

uint64_t store_traced_next(const struct store *store)
{
	return load64(&store->header->traced_next);
}

// Sequence numbers are given out in turn, so the first entries are those that are there: the rest has no memory.
int store_read_traced(const struct store *store, struct store_traced **ret_traced, size_t *ret_count)
{
	uint64_t next = store_traced_next(store);
	uint32_t used = next < WIRE_TRACED ? (uint32_t)next : WIRE_TRACED;
	struct store_traced *traced = calloc((size_t)used + 1, sizeof(*traced));
	size_t count = 0;

	if (!traced)
		return -ENOMEM;
	for (uint32_t i = 0; i < used; i++)
		count += read_entry(store, i, &traced[count]);
	*ret_traced = traced;
	*ret_count = count;
	return 0;
}

static void read_group(const struct wire_live_group *group, uint32_t born_before_ds, store_add_live *add, void *context)
{
	for (uint32_t i = 0; i < WIRE_LIVE_PLACES; i++) {
		uint64_t address = load64(&group->addresses[i]);
		struct wire_live live;

		copy_words(&group->objects[i], &live, sizeof(live));
		if (address > WIRE_LIVE_BUSY && load64(&group->addresses[i]) == address &&
		    live.born_ds <= born_before_ds)
			add(context, &(struct store_object){.address = address,
							    .bytes = live.bytes,
							    .bucket = live.bucket,
							    .traced = live.traced});
	}
}

// Loads of what is not there yet would make it: only the parts that the target has touched are looked at.
void store_read_live_objects(const struct store *store, int64_t born_before_ns, store_add_live *add, void *context)
{
	int64_t start_ns = (int64_t)(load64(&store->header->start_ns) & INT64_MAX);
	int64_t before_ds = (born_before_ns - start_ns) / NS_PER_DS;
	off_t end = (off_t)(store->live_off + (uint64_t)store->ngroups * sizeof(struct wire_live_group));
	off_t at = (off_t)store->live_off;
	uint32_t next = 0;

	if (before_ds < 0)
		return;
	while (at < end && (at = lseek(store->fd, at, SEEK_DATA)) >= 0 && at < end) {
		off_t hole = lseek(store->fd, at, SEEK_HOLE);
		uint64_t first = ((uint64_t)at - store->live_off) / sizeof(struct wire_live_group);
		uint64_t last = ((uint64_t)(hole > at && hole < end ? hole : end) - store->live_off - 1) /
				sizeof(struct wire_live_group);

		for (next = first > next ? (uint32_t)first : next; next <= last && next < store->ngroups; next++)
			read_group(&store->groups[next], before_ds > UINT32_MAX ? UINT32_MAX : (uint32_t)before_ds, add,
				   context);
		if (hole <= at)
			return;
		at = hole;
	}
}
