// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// mappings.c: see mappings.h.
//
// One table of ranges (ranges.h), private memory, behind one lock. It is held with all signals blocked (caller.h), for some hundred ns and no
// system call; who finds it taken sleeps, for a thread that only spun could keep its holder from running (SCHED_FIFO). A fork's child starts
// with an empty table and a free lock; what one of its threads had taken out before the fork is of another generation, and dropped.
//
// The store's live objects have each piece as well, by its first address, for the collector's report of leaks. What has a trace is in use with it as
// long as it is whole (a range's tag: its wire_traced's number).

#include "profd/mappings.h"

#include <errno.h>
#include <sys/mman.h>

#include "profd/caller_bucket.h"
#include "profd/contexts.h"
#include "profd/heap.h"
#include "profd/interpose_map.h"
#include "profd/own_map.h"
#include "profd/ranges.h"
#include "profd/shared_file.h"
#include "profd/store.h"
#include "profd/traced.h"

#define CAPACITY (1u << 18) // ranges; 16 MiB, of which only what is used is there
#define BYTES (CAPACITY * sizeof(struct profd_range))
#define NONE 0u
#define SPINS 100

// A range's mark: a bucket's number + 1.
#define RESERVED 0u

enum use {
	NOT_MEMORY, // a file's, or not known
	ONLY_RESERVED,
	USED
};

uint32_t profd_mappings_wanted;

static struct profd_ranges ranges; // under the lock
static uint32_t lock_word;         // atomic futex: 0: free, 1: held, 2: held, and somebody may sleep
static uint32_t generation;        // changes where no other thread is

// ---- Getting at it ---------------------------------------------------------------------------------------------------

static void lock(void)
{
	uint32_t seen = 0;

	for (int i = 0; i < SPINS; i++) {
		seen = 0;
		if (__atomic_compare_exchange_n(&lock_word, &seen, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
			return;
		__builtin_ia32_pause();
	}
	while (__atomic_exchange_n(&lock_word, 2, __ATOMIC_ACQUIRE) != 0)
		profd_raw_futex_wait(&lock_word, 2, -1);
}

static void unlock(void)
{
	if (__atomic_exchange_n(&lock_word, 0, __ATOMIC_RELEASE) == 2)
		profd_raw_futex_wake(&lock_word);
}

// From here to profd_caller_end signals are blocked. false: it is not to be done.
static bool enter(struct profd_caller_work *work)
{
	if (!profd_caller_begin(work))
		return false;
	if (__atomic_load_n(&profd_mappings_wanted, __ATOMIC_ACQUIRE) &&
	    __atomic_load_n(&profd_store.header, __ATOMIC_ACQUIRE))
		return true;
	profd_caller_end(work);
	return false;
}

// Not what an allocator maps for our helper.
static bool is_recorded(void)
{
	return (__atomic_load_n(&profd_mappings_wanted, __ATOMIC_RELAXED) & PROFD_MAPPINGS_RECORDED) != 0 &&
	       !profd_heap_mine.excluded;
}

// ---- The table, under the lock -----------------------------------------------------------------------------------------

static struct profd_range *range_of(uint32_t number)
{
	return &ranges.list[number];
}

static uint64_t size_of(const struct profd_range *range)
{
	return range->end - range->start;
}

static const void *live_key(const struct profd_range *range)
{
	return (const void *)(uintptr_t)(range->start | WIRE_LIVE_MAPPED); // NOLINT(performance-no-int-to-ptr)
}

// One that finds no room is not in the report of leaks; all else is exact.
static void publish(const struct profd_range *range)
{
	const struct wire_live live = {.bucket = range->mark - 1,
				       .born_ds = range->born,
				       .bytes = size_of(range),
				       .traced = (uint16_t)range->tag};

	if (range->mark != RESERVED)
		profd_live_put(live_key(range), &live);
}

static void withdraw(const struct profd_range *range)
{
	struct wire_live live;

	if (range->mark != RESERVED)
		profd_live_take(live_key(range), &live);
}

static void count_freed(uint32_t mark, uint64_t bytes, bool last_piece)
{
	struct wire_bucket *bucket = &profd_store.buckets[mark - 1];

	profd_store_add(bucket, WIRE_HEAP_FREE_BYTES, bytes);
	if (last_piece)
		profd_store_add(bucket, WIRE_HEAP_FREE_OBJECTS, 1);
}

static void end_trace(struct profd_range *range)
{
	if (range->tag)
		profd_traced_freed(range->tag, live_key(range));
	range->tag = 0;
}

// No range crosses that address any more. Without room for another one, what is above it counts as freed.
static void cut(uint64_t at)
{
	uint32_t number = profd_ranges_find(&ranges, at), upper;
	struct profd_range *range = range_of(number);

	if (number == NONE || range->start >= at)
		return;
	withdraw(range);
	end_trace(range);
	upper = profd_ranges_split(&ranges, number, at);
	if (upper != NONE) {
		publish(range_of(upper));
	} else {
		if (range->mark != RESERVED)
			count_freed(range->mark, range->end - at, false);
		range->end = at;
		profd_store_count_lost(WIRE_STORE_LOST_LIVE);
	}
	publish(range);
}

// What is in there is in no list any more; the first of them, or NONE.
static uint32_t take_out(uint64_t start, uint64_t end)
{
	uint32_t first;

	cut(start);
	cut(end);
	first = profd_ranges_detach(&ranges, start, end);
	for (uint32_t number = first; number != NONE; number = range_of(number)->next[0])
		withdraw(range_of(number));
	return first;
}

static void drop(uint32_t number)
{
	const struct profd_range range = *range_of(number);
	bool last;

	end_trace(range_of(number));
	last = profd_ranges_free(&ranges, number);
	if (range.mark != RESERVED)
		count_freed(range.mark, size_of(&range), last);
}

static void drop_all(uint32_t first)
{
	while (first != NONE) {
		uint32_t next = range_of(first)->next[0];

		drop(first);
		first = next;
	}
}

// Nothing is there now, unless the program did two things at once.
static void put_back(uint32_t first)
{
	while (first != NONE) {
		struct profd_range *range = range_of(first);
		uint32_t next = range->next[0];

		drop_all(take_out(range->start, range->end));
		profd_ranges_insert(&ranges, first);
		publish(range);
		first = next;
	}
}

// Returns the number of its wire_traced, or 0.
static uint32_t count_used(struct wire_bucket *bucket, uint64_t bytes, const void *object)
{
	return profd_traced_count(
		bucket, (const uint64_t[]){[WIRE_HEAP_ALLOC_OBJECTS] = 1, [WIRE_HEAP_ALLOC_BYTES] = bytes}, object);
}

static void add_used(uint64_t start, uint64_t end, struct wire_bucket *bucket)
{
	uint32_t number = profd_ranges_new(&ranges, start, end), mark = profd_store_number(bucket) + 1;
	struct profd_range *range = range_of(number);

	if (number == NONE) {
		count_used(bucket, end - start, NULL);
		count_freed(mark, end - start, true);
		profd_store_count_lost(WIRE_STORE_LOST_LIVE);
		return;
	}
	range->mark = mark;
	range->born = profd_heap_now_ds();
	range->tag = count_used(bucket, end - start, live_key(range));
	profd_ranges_insert(&ranges, number);
	publish(range);
}

// Reserved neighbours are one: whoever makes parts of a large reservation accessible and back, for years, would need ever more ranges.
static void absorb(uint32_t neighbour, uint64_t *start, uint64_t *end)
{
	const struct profd_range range = *range_of(neighbour);

	if (neighbour == NONE || range.mark != RESERVED || (range.end != *start && range.start != *end))
		return;
	*start = range.start < *start ? range.start : *start;
	*end = range.end > *end ? range.end : *end;
	drop_all(profd_ranges_detach(&ranges, range.start, range.end));
}

static void add_reserved(uint64_t start, uint64_t end)
{
	uint32_t number;

	if (start > 0)
		absorb(profd_ranges_find(&ranges, start - 1), &start, &end);
	absorb(profd_ranges_find(&ranges, end), &start, &end);
	number = profd_ranges_new(&ranges, start, end);
	if (number != NONE)
		profd_ranges_insert(&ranges, number);
	else
		profd_store_count_lost(WIRE_STORE_LOST_LIVE);
}

// ---- What came -------------------------------------------------------------------------------------------------------

// Signals blocked; without the lock.
static struct wire_bucket *find_bucket(uint64_t bytes, enum wire_heap_by by, struct profd_caller caller)
{
	return profd_caller_bucket(WIRE_BUCKET_HEAP, caller, profd_contexts_own_work(),
				   WIRE_HEAP_KEY(by, profd_heap_size_key(bytes)), 1);
}

// Whole pages from `address` on; false: no range that a call could succeed with.
static bool pages_of(const void *address, size_t length, uint64_t *ret_start, uint64_t *ret_end)
{
	uint64_t start = (uint64_t)(uintptr_t)address;
	uint64_t end = profd_shared_page_up(start + length);

	if (start % WIRE_PAGE != 0 || length > INT64_MAX || end <= start)
		return false;
	*ret_start = start;
	*ret_end = end;
	return true;
}

// This is at `address` now, whatever was there before.
static void note(const void *address, size_t length, enum use use, enum wire_heap_by by, struct profd_caller caller)
{
	struct profd_caller_work work;
	struct wire_bucket *bucket = NULL;
	uint64_t start, end;

	if (!pages_of(address, length, &start, &end) || !enter(&work))
		return;
	if (use == USED && is_recorded())
		bucket = find_bucket(end - start, by, caller);
	lock();
	drop_all(take_out(start, end));
	if (bucket)
		add_used(start, end, bucket);
	else if (use == ONLY_RESERVED)
		add_reserved(start, end);
	unlock();
	profd_caller_end(&work);
}

static bool is_accessible(int protection)
{
	return (protection & (PROT_READ | PROT_WRITE | PROT_EXEC)) != 0;
}

void *profd_mappings_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
	struct profd_caller caller = PROFD_CALLER();
	void *base = profd_map_reals.mmap(address, length, protection, flags, fd, offset);
	enum use use = !(flags & MAP_ANONYMOUS) ? NOT_MEMORY : is_accessible(protection) ? USED : ONLY_RESERVED;

	if (base != MAP_FAILED)
		note(base, length, use, WIRE_HEAP_BY_MMAP, caller);
	return base;
}

// ---- What goes -------------------------------------------------------------------------------------------------------

// While the call is made.
struct taken {
	uint32_t first; // NONE: nothing was there
	uint32_t generation;
	enum use use; // what was there
};

// take: out of the table; else it is only looked at.
static struct taken begin(const void *address, size_t length, bool take)
{
	struct taken taken = {.first = NONE, .use = NOT_MEMORY};
	struct profd_caller_work work;
	uint64_t start, end;
	uint32_t first;

	if (!pages_of(address, length, &start, &end) || !enter(&work))
		return taken;
	lock();
	taken.generation = generation;
	first = take ? taken.first = take_out(start, end) : profd_ranges_find(&ranges, start);
	if (first != NONE && range_of(first)->start < end)
		taken.use = range_of(first)->mark == RESERVED ? ONLY_RESERVED : USED;
	unlock();
	profd_caller_end(&work);
	return taken;
}

static void end(const struct taken *taken, bool gone)
{
	struct profd_caller_work work;

	if (taken->first == NONE || !enter(&work))
		return;
	lock();
	if (taken->generation == generation && gone)
		drop_all(taken->first);
	else if (taken->generation == generation)
		put_back(taken->first);
	unlock();
	profd_caller_end(&work);
}

int profd_mappings_munmap(void *address, size_t length)
{
	struct taken taken = begin(address, length, true);
	int result = profd_map_reals.munmap(address, length);

	end(&taken, result == 0);
	return result;
}

// What becomes smaller in place loses its end, and is the same object. Of shared memory, `old_length` 0 makes a second view.
void *profd_mappings_mremap(void *old, size_t old_length, size_t length, int flags, void *to)
{
	struct profd_caller caller = PROFD_CALLER();
	bool stays = (flags & MREMAP_DONTUNMAP) != 0 || old_length == 0;
	bool shrinks =
		!stays && !(flags & MREMAP_FIXED) && profd_shared_page_up(length) <= profd_shared_page_up(old_length);
	size_t kept = shrinks ? profd_shared_page_up(length) : 0;
	struct taken taken =
		begin((char *)old + kept, stays ? WIRE_PAGE : profd_shared_page_up(old_length) - kept, !stays);
	void *moved = profd_map_reals.mremap(old, old_length, length, flags, to);

	end(&taken, moved != MAP_FAILED);
	if (moved != MAP_FAILED && !shrinks)
		note(moved, length, taken.use, WIRE_HEAP_BY_MREMAP, caller);
	return moved;
}

// ---- What may be accessed --------------------------------------------------------------------------------------------

static uint64_t reserved_bytes(uint64_t start, uint64_t end)
{
	uint64_t bytes = 0;

	for (uint32_t number = profd_ranges_find(&ranges, start); number != NONE; number = range_of(number)->next[0]) {
		const struct profd_range *range = range_of(number);

		if (range->start >= end)
			break;
		if (range->mark == RESERVED)
			bytes += (range->end < end ? range->end : end) - (range->start > start ? range->start : start);
	}
	return bytes;
}

// Of one object, in one piece or more.
static void count_pieces(struct wire_bucket *bucket, uint64_t bytes, struct profd_range *first)
{
	if (size_of(first) == bytes)
		first->tag = count_used(bucket, bytes, live_key(first));
	else
		count_used(bucket, bytes, NULL);
}

// All that was reserved in there is one object now.
static void use_reserved(uint64_t start, uint64_t end, struct wire_bucket *bucket)
{
	uint64_t bytes = reserved_bytes(start, end);
	uint32_t whole = NONE;

	cut(start);
	cut(end);
	for (uint32_t number = profd_ranges_find(&ranges, start); number != NONE; number = range_of(number)->next[0]) {
		struct profd_range *range = range_of(number);

		if (range->start >= end)
			break;
		if (range->mark != RESERVED)
			continue;
		profd_ranges_part(&ranges, number);
		if (whole != NONE)
			profd_ranges_join(&ranges, number, whole);
		else
			count_pieces(bucket, bytes, range);
		whole = number;
		range->mark = profd_store_number(bucket) + 1;
		range->born = profd_heap_now_ds();
		publish(range);
	}
}

static void reserve_used(uint64_t start, uint64_t end)
{
	uint32_t number = take_out(start, end);

	while (number != NONE) {
		const struct profd_range range = *range_of(number);

		drop(number);
		add_reserved(range.start, range.end);
		number = range.next[0];
	}
}

static void note_access(uint64_t start, uint64_t end, bool accessible, struct profd_caller caller)
{
	struct wire_bucket *bucket = NULL;
	uint64_t bytes = 0;

	lock();
	if (accessible)
		bytes = reserved_bytes(start, end);
	else
		reserve_used(start, end);
	unlock();
	if (bytes && is_recorded())
		bucket = find_bucket(bytes, WIRE_HEAP_BY_MPROTECT, caller);
	if (!bucket)
		return;
	lock();
	use_reserved(start, end, bucket);
	unlock();
}

int profd_mappings_mprotect(void *address, size_t length, int protection)
{
	struct profd_caller caller = PROFD_CALLER();
	int result = profd_map_reals.mprotect(address, length, protection);
	struct profd_caller_work work;
	uint64_t start, end;

	if (result == 0 && pages_of(address, length, &start, &end) && enter(&work)) {
		note_access(start, end, is_accessible(protection), caller);
		profd_caller_end(&work);
	}
	return result;
}

// ---- The switch ------------------------------------------------------------------------------------------------------

int profd_mappings_set(bool on)
{
	void *list;
	int error = 0;

	if (!on) {
		__atomic_fetch_and(&profd_mappings_wanted, ~PROFD_MAPPINGS_RECORDED, __ATOMIC_RELEASE);
		return 0;
	}
	if (!ranges.list) {
		error = profd_own_map(BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, -1, &list);
		if (error)
			return error;
		profd_ranges_init(&ranges, list, CAPACITY);
	}
	__atomic_store_n(&profd_mappings_wanted, PROFD_MAPPINGS_FOLLOWED | PROFD_MAPPINGS_RECORDED, __ATOMIC_RELEASE);
	return 0;
}

void profd_mappings_stop(void)
{
	__atomic_store_n(&profd_mappings_wanted, 0, __ATOMIC_RELEASE);
}

void profd_mappings_forget(void)
{
	profd_mappings_stop();
	profd_own_unmap(ranges.list, BYTES);
	ranges = (struct profd_ranges){0};
	generation++;
	__atomic_store_n(&lock_word, 0, __ATOMIC_RELEASE);
}
