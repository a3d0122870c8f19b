// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_mappings.c: what is counted of the memory that a program maps, at random beside a plain model (an array with one entry for each page), and
// by hand. The kernel is made up: nothing is mapped, and what a call returns, or that it fails, the test says.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "profd/caller_bucket.h"
#include "profd/contexts.h"
#include "profd/heap.h"
#include "profd/interpose_map.h"
#include "profd/mappings.h"
#include "profd/store.h"
#include "profd/traced.h"
#include "tests/unit/fake_traces.h"

#define PAGES 1024u
#define BASE 0x700000000000u
#define STEPS 100000
#define THREADS 4
#define ANONYMOUS (MAP_PRIVATE | MAP_ANONYMOUS)
#define READ_WRITE (PROT_READ | PROT_WRITE)

// ---- What mappings.c knows of the rest of the agent ------------------------------------------------------------------

__thread struct profd_heap_thread profd_heap_mine;
static bool off;
static __thread void (*meanwhile)(void); // called inside the next system call

uint64_t profd_heap_size_key(uint64_t bytes)
{
	return bytes;
}

uint32_t profd_heap_now_ds(void)
{
	return 5;
}

struct wire_bucket *profd_caller_bucket(enum wire_bucket_kind kind, struct profd_caller caller, uint64_t work,
					uint64_t key, uint64_t rate)
{
	const uint64_t pc = 0x1000;
	const struct profd_store_stack stack = {.pcs = &pc, .npcs = 1, .stop = WIRE_STOP_END, .work = work};

	(void)caller;
	return profd_store_bucket(kind, &stack, key, rate);
}

uint64_t profd_contexts_own_work(void)
{
	return 0;
}

bool profd_caller_begin(struct profd_caller_work *work)
{
	(void)work;
	return !off;
}

void profd_caller_end(const struct profd_caller_work *work)
{
	(void)work;
}

// ---- The kernel --------------------------------------------------------------------------------------------------------

static __thread void *result_address;
static __thread bool fails;

static void in_the_kernel(void)
{
	void (*call)(void) = meanwhile;

	meanwhile = NULL;
	if (call)
		call();
}

static void *fake_mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
	(void)address, (void)length, (void)protection, (void)flags, (void)fd, (void)offset;
	return fails ? MAP_FAILED : result_address;
}

static int fake_munmap(void *address, size_t length)
{
	(void)address, (void)length;
	in_the_kernel();
	return fails ? -1 : 0;
}

static void *fake_mremap(void *old, size_t old_length, size_t length, int flags, void *to)
{
	(void)old, (void)old_length, (void)length, (void)flags, (void)to;
	in_the_kernel();
	return fails ? MAP_FAILED : result_address;
}

static int fake_mprotect(void *address, size_t length, int protection)
{
	(void)address, (void)length, (void)protection;
	return fails ? -1 : 0;
}

struct profd_map_reals profd_map_reals = {fake_mmap, fake_munmap, fake_mremap, fake_mprotect};

static void *page(uint64_t number)
{
	return (void *)(uintptr_t)(BASE + number * WIRE_PAGE); // NOLINT(performance-no-int-to-ptr)
}

static void *map_at(uint64_t at, uint64_t pages, int protection, int flags)
{
	result_address = page(at);
	return profd_mappings_mmap(NULL, pages * WIRE_PAGE, protection, flags, -1, 0);
}

static int unmap(uint64_t at, uint64_t pages)
{
	return profd_mappings_munmap(page(at), pages * WIRE_PAGE);
}

static void *remap(uint64_t at, uint64_t old_pages, uint64_t to, uint64_t pages, int flags)
{
	result_address = page(to);
	return profd_mappings_mremap(page(at), old_pages * WIRE_PAGE, pages * WIRE_PAGE, flags, page(to));
}

static int protect(uint64_t at, uint64_t pages, int protection)
{
	return profd_mappings_mprotect(page(at), pages * WIRE_PAGE, protection);
}

// ---- What is in the store ------------------------------------------------------------------------------------------------

struct counts {
	uint64_t objects, pages, in_use_objects, in_use_pages;
};

static struct counts counted(void)
{
	struct counts counts = {0};

	for (uint32_t i = 0; i < profd_store.header->buckets_used; i++) {
		const uint64_t *values = profd_store.buckets[i].counts;

		counts.objects += values[WIRE_HEAP_ALLOC_OBJECTS];
		counts.pages += values[WIRE_HEAP_ALLOC_BYTES] / WIRE_PAGE;
		counts.in_use_objects += values[WIRE_HEAP_ALLOC_OBJECTS] - values[WIRE_HEAP_FREE_OBJECTS];
		counts.in_use_pages += (values[WIRE_HEAP_ALLOC_BYTES] - values[WIRE_HEAP_FREE_BYTES]) / WIRE_PAGE;
	}
	return counts;
}

static void assert_counts(uint64_t objects, uint64_t pages, uint64_t in_use_objects, uint64_t in_use_pages)
{
	struct counts counts = counted();

	assert_int_equal(counts.objects, objects);
	assert_int_equal(counts.pages, pages);
	assert_int_equal(counts.in_use_objects, in_use_objects);
	assert_int_equal(counts.in_use_pages, in_use_pages);
}

// What the report of leaks would be made of.
static uint64_t live_pages(void)
{
	uint64_t bytes = 0;

	for (uint32_t group = 0; group < 21 * PROFD_LIVE_FIRST_GROUPS; group++)
		for (uint32_t i = 0; i < WIRE_LIVE_PLACES; i++)
			if (profd_store.live[group].addresses[i] & WIRE_LIVE_MAPPED) {
				bytes += profd_store.live[group].objects[i].bytes;
				assert_int_equal(profd_store.live[group].objects[i].born_ds, 5);
			}
	return bytes / WIRE_PAGE;
}

static int begin(void **state)
{
	(void)state;
	off = fails = false;
	meanwhile = NULL;
	fake_set_trace(0, false);
	memset(&profd_heap_mine, 0, sizeof(profd_heap_mine));
	if (profd_store_open() < 0)
		return -1;
	return profd_mappings_set(true);
}

static int end(void **state)
{
	int fd = profd_store.fd;

	(void)state;
	profd_mappings_forget();
	profd_store_close();
	close(fd);
	return 0;
}

// ---- By hand -----------------------------------------------------------------------------------------------------------

static void test_what_counts(void **state)
{
	(void)state;
	map_at(0, 4, READ_WRITE, ANONYMOUS);
	map_at(10, 4, PROT_READ, MAP_SHARED | MAP_ANONYMOUS);
	map_at(20, 4, READ_WRITE, MAP_PRIVATE); // a file
	map_at(30, 1u << 24, PROT_NONE, ANONYMOUS | MAP_NORESERVE);
	fails = true;
	assert_ptr_equal(map_at(50, 4, READ_WRITE, ANONYMOUS), MAP_FAILED);
	assert_counts(2, 8, 2, 8);
	assert_int_equal(profd_store.buckets[0].rate, 1);
	assert_int_equal(WIRE_HEAP_BY(profd_store.buckets[0].key), WIRE_HEAP_BY_MMAP);
	assert_int_equal(WIRE_HEAP_BYTES(profd_store.buckets[0].key), 4 * WIRE_PAGE);
}

static void test_length_is_of_whole_pages(void **state)
{
	(void)state;
	result_address = page(0);
	profd_mappings_mmap(NULL, 4097, READ_WRITE, ANONYMOUS, -1, 0);
	assert_counts(1, 2, 1, 2);
	assert_int_equal(profd_mappings_munmap(page(0), 4097), 0);
	assert_counts(1, 2, 0, 0);
}

static void test_unmapped_in_pieces(void **state)
{
	(void)state;
	map_at(0, 10, READ_WRITE, ANONYMOUS);
	unmap(0, 2); // its front
	assert_counts(1, 10, 1, 8);
	unmap(8, 2); // its back
	assert_counts(1, 10, 1, 6);
	unmap(4, 2); // its middle
	assert_counts(1, 10, 1, 4);
	assert_int_equal(live_pages(), 4);
	unmap(4, 2); // nothing
	unmap(2, 2);
	assert_counts(1, 10, 1, 2);
	unmap(0, 100); // and all around it
	assert_counts(1, 10, 0, 0);
	assert_int_equal(live_pages(), 0);
}

static void test_several_at_once(void **state)
{
	(void)state;
	for (uint64_t at = 0; at < 100; at += 10)
		map_at(at, 8, READ_WRITE, ANONYMOUS);
	unmap(5, 90);
	assert_counts(10, 80, 2, 5 + 3);
	unmap(0, 200);
	assert_counts(10, 80, 0, 0);
}

static void test_mapped_over(void **state)
{
	(void)state;
	map_at(0, 10, READ_WRITE, ANONYMOUS);
	map_at(5, 10, READ_WRITE, ANONYMOUS | MAP_FIXED);
	assert_counts(2, 20, 2, 15);
	map_at(0, 7, READ_WRITE, MAP_SHARED | MAP_FIXED); // a file
	assert_counts(2, 20, 1, 8);
	map_at(0, 20, PROT_NONE, ANONYMOUS | MAP_FIXED);
	assert_counts(2, 20, 0, 0);
}

static void test_failures_change_nothing(void **state)
{
	(void)state;
	map_at(0, 10, READ_WRITE, ANONYMOUS);
	map_at(20, 10, PROT_NONE, ANONYMOUS);
	fails = true;
	assert_int_equal(unmap(2, 3), -1);
	assert_int_equal(unmap(0, 30), -1);
	assert_ptr_equal(remap(0, 10, 100, 20, MREMAP_MAYMOVE), MAP_FAILED);
	assert_ptr_equal(remap(0, 10, 0, 5, 0), MAP_FAILED);
	assert_int_equal(protect(0, 10, PROT_NONE), -1);
	assert_int_equal(protect(20, 10, PROT_READ), -1);
	assert_int_equal(profd_mappings_munmap((char *)page(0) + 1, WIRE_PAGE), -1);
	assert_int_equal(profd_mappings_munmap(page(0), SIZE_MAX), -1);
	assert_counts(1, 10, 1, 10);
	assert_int_equal(live_pages(), 10);
	fails = false;
	unmap(0, 10);
	assert_counts(1, 10, 0, 0);
}

static void test_remapped(void **state)
{
	(void)state;
	map_at(0, 10, READ_WRITE, ANONYMOUS);
	remap(0, 10, 0, 4, 0); // smaller: the same object
	assert_counts(1, 10, 1, 4);
	remap(0, 4, 0, 6, 0); // larger, in place: another one, as with realloc
	assert_counts(2, 16, 1, 6);
	remap(0, 6, 100, 8, MREMAP_MAYMOVE); // moved
	assert_counts(3, 24, 1, 8);
	map_at(0, 6, READ_WRITE, ANONYMOUS); // nothing is there any more
	assert_counts(4, 30, 2, 14);
	remap(100, 8, 2, 3, MREMAP_MAYMOVE | MREMAP_FIXED); // over a part of that, and smaller
	assert_counts(5, 33, 2, 3 + 3);
	remap(2, 3, 200, 3, MREMAP_MAYMOVE | MREMAP_DONTUNMAP); // both stay
	assert_counts(6, 36, 3, 9);
	remap(2, 0, 300, 3, MREMAP_MAYMOVE); // a second view
	assert_counts(7, 39, 4, 12);
	assert_int_equal(live_pages(), 12);
}

static void test_what_is_not_known_is_not_known_elsewhere(void **state)
{
	(void)state;
	remap(0, 10, 100, 20, MREMAP_MAYMOVE); // a file's
	map_at(200, 4, PROT_NONE, ANONYMOUS);
	remap(200, 4, 300, 8, MREMAP_MAYMOVE); // only reserved
	assert_counts(0, 0, 0, 0);
	protect(0, 200, READ_WRITE);
	assert_counts(0, 0, 0, 0);
	protect(300, 8, READ_WRITE);
	assert_counts(1, 8, 1, 8);
}

static void test_reserved_and_used(void **state)
{
	(void)state;
	map_at(0, 1u << 24, PROT_NONE, ANONYMOUS);
	protect(10, 20, READ_WRITE);
	assert_counts(1, 20, 1, 20);
	protect(10, 20, PROT_READ | PROT_EXEC); // used already
	assert_counts(1, 20, 1, 20);
	protect(5, 10, PROT_READ); // only half of it is new
	assert_counts(2, 25, 2, 25);
	protect(12, 3, PROT_NONE);
	assert_counts(2, 25, 2, 22);
	protect(0, 40, READ_WRITE); // all that is between is one object
	assert_counts(3, 25 + 5 + 3 + 10, 3, 40);
	assert_int_equal(live_pages(), 40);
	unmap(0, 5);
	assert_counts(3, 43, 3, 35);
	unmap(0, 1u << 24);
	assert_counts(3, 43, 0, 0);
	assert_int_equal(live_pages(), 0);
}

// Parts of a reservation that are used and given back, for ever: they become one again.
static void test_reservations_do_not_fray(void **state)
{
	(void)state;
	map_at(0, 1u << 22, PROT_NONE, ANONYMOUS);
	for (uint64_t i = 0; i < 1u << 20; i++) {
		protect(1 + i * 2, 1, READ_WRITE);
		protect(1 + i * 2, 1, PROT_NONE);
	}
	assert_int_equal(profd_store.header->lost[WIRE_STORE_LOST_LIVE], 0);
	assert_counts(1u << 20, 1u << 20, 0, 0);
}

static void reuse_address(void)
{
	map_at(0, 3, READ_WRITE, ANONYMOUS);
	result_address = page(500);
}

// The kernel gives the address to another thread before the call has returned.
static void test_an_address_that_comes_again_at_once(void **state)
{
	(void)state;
	map_at(0, 10, READ_WRITE, ANONYMOUS);
	meanwhile = reuse_address;
	unmap(0, 10);
	assert_counts(2, 13, 1, 3);
	meanwhile = reuse_address;
	remap(0, 3, 500, 5, MREMAP_MAYMOVE);
	assert_counts(4, 13 + 3 + 5, 2, 3 + 5);
}

static void fork_happens(void)
{
	profd_mappings_forget();
	profd_mappings_set(true);
	map_at(50, 1, READ_WRITE, ANONYMOUS);
}

// In a signal handler, say: what was taken out is no more of this table.
static void test_fork_in_the_middle(void **state)
{
	(void)state;
	map_at(0, 10, READ_WRITE, ANONYMOUS);
	meanwhile = fork_happens;
	unmap(0, 10);
	assert_counts(2, 11, 2, 11); // the store of this test stays: only the fork's table is new
	unmap(50, 1);
	assert_counts(2, 11, 1, 10);
}

static void test_switched(void **state)
{
	(void)state;
	map_at(0, 10, READ_WRITE, ANONYMOUS);
	profd_mappings_set(false);
	assert_true(profd_mappings_on());
	map_at(20, 10, READ_WRITE, ANONYMOUS);
	assert_counts(1, 10, 1, 10);
	unmap(0, 5); // is followed
	assert_counts(1, 10, 1, 5);
	map_at(0, 6, READ_WRITE, ANONYMOUS | MAP_FIXED);
	profd_mappings_set(true);
	unmap(20, 10);
	assert_counts(1, 10, 1, 4);
	profd_mappings_stop();
	assert_false(profd_mappings_on());
	profd_mappings_set(true);
	off = true; // a vfork's child
	unmap(5, 5);
	map_at(20, 10, READ_WRITE, ANONYMOUS);
	off = false;
	profd_heap_mine.excluded = true; // our helper
	map_at(40, 10, READ_WRITE, ANONYMOUS);
	assert_counts(1, 10, 1, 4);
}

static uint64_t pages_in_use_with_a_trace(void)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < 100; i++)
		if (profd_store.traced[i].turn & WIRE_TRACED_LIVE)
			bytes += profd_store.traced[i].counts[WIRE_HEAP_ALLOC_BYTES];
	return bytes / WIRE_PAGE;
}

// In use with the trace of who mapped it, until a part of it goes.
static void test_traces(void **state)
{
	(void)state;
	map_at(0, 4, READ_WRITE, ANONYMOUS);
	assert_int_equal(profd_store.header->traced_next, 0);
	fake_set_trace(7, true);
	map_at(10, 8, READ_WRITE, ANONYMOUS);
	map_at(20, 16, READ_WRITE, ANONYMOUS);
	map_at(40, 100, PROT_NONE, ANONYMOUS);
	protect(50, 32, READ_WRITE);
	protect(45, 50, READ_WRITE); // of two pieces: in use without
	assert_int_equal(profd_store.header->traced_next, 4);
	assert_int_equal(profd_store.traced[3].counts[WIRE_HEAP_ALLOC_BYTES], 18 * WIRE_PAGE);
	assert_int_equal(pages_in_use_with_a_trace(), 8 + 16 + 32);
	fails = true;
	unmap(10, 8);
	fails = false;
	assert_int_equal(pages_in_use_with_a_trace(), 8 + 16 + 32);
	unmap(10, 8);
	unmap(22, 1);
	assert_int_equal(pages_in_use_with_a_trace(), 32);
	protect(50, 32, PROT_NONE);
	assert_int_equal(pages_in_use_with_a_trace(), 0);
	assert_counts(5, 4 + 8 + 16 + 32 + 18, 3, 4 + 15 + 18);
}

// Nothing is counted wrongly then: what cannot be followed is freed.
static void test_no_room(void **state)
{
	const uint64_t many = 300000;
	struct counts counts;

	(void)state;
	for (uint64_t i = 0; i < many; i++)
		map_at(4 * i, 3, READ_WRITE, ANONYMOUS);
	counts = counted();
	assert_int_equal(counts.objects, many);
	assert_true(counts.in_use_objects > 250000 && counts.in_use_objects < many);
	assert_int_equal(counts.in_use_pages, 3 * counts.in_use_objects);
	assert_int_equal(profd_store.header->lost[WIRE_STORE_LOST_LIVE], many - counts.in_use_objects);
	unmap(1, 1); // a middle: what is above it cannot be followed
	assert_int_equal(counted().in_use_pages, counts.in_use_pages - 2);
	assert_int_equal(counted().in_use_objects, counts.in_use_objects);
	unmap(0, 4 * many);
	assert_int_equal(counted().in_use_objects, 0);
	assert_int_equal(counted().in_use_pages, 0);
}

// ---- At random ---------------------------------------------------------------------------------------------------------

#define RESERVED UINT32_MAX
static uint32_t model[PAGES]; // whose object; RESERVED; 0: not known
static uint32_t objects;
static struct counts wanted;

static uint32_t any(uint32_t limit)
{
	return (uint32_t)rand() % limit;
}

static void set(uint32_t at, uint32_t pages, uint32_t what)
{
	for (uint32_t i = at; i < at + pages; i++)
		model[i] = what;
}

static uint32_t new_object(uint64_t pages)
{
	wanted.objects++;
	wanted.pages += pages;
	return ++objects;
}

static void model_protect(uint32_t at, uint32_t pages, bool accessible)
{
	uint32_t reserved = 0, object;

	for (uint32_t i = at; i < at + pages; i++)
		reserved += model[i] == RESERVED;
	object = accessible && reserved ? new_object(reserved) : 0;
	for (uint32_t i = at; i < at + pages; i++) {
		if (accessible && model[i] == RESERVED)
			model[i] = object;
		else if (!accessible && model[i])
			model[i] = RESERVED;
	}
}

static void random_remap(uint32_t at, uint32_t pages)
{
	uint32_t to = any(PAGES - 64), new_pages = 1 + any(40), first = at, kind;

	while (first < at + pages && !model[first])
		first++;
	kind = first < at + pages ? model[first] : 0;
	if (any(2) && new_pages <= pages) {
		assert_ptr_equal(remap(at, pages, at, new_pages, 0), page(at));
		set(at + new_pages, pages - new_pages, 0);
		return;
	}
	assert_ptr_equal(remap(at, pages, to, new_pages, MREMAP_MAYMOVE | MREMAP_FIXED), page(to));
	set(at, pages, 0);
	set(to, new_pages, !kind ? 0 : kind == RESERVED ? RESERVED : new_object(new_pages));
}

static void random_step(void)
{
	uint32_t at = any(PAGES - 64), pages = 1 + any(40), what = any(12);

	fails = any(10) == 0;
	if (fails && what < 2)
		unmap(at, pages);
	else if (fails && what < 4)
		remap(at, pages, any(PAGES - 64), 1 + any(40), MREMAP_MAYMOVE | (any(2) ? MREMAP_FIXED : 0));
	fails = false;
	switch (what) {
	case 0:
	case 1:
	case 2:
	case 3:
		map_at(at, pages, READ_WRITE, ANONYMOUS | MAP_FIXED);
		set(at, pages, new_object(pages));
		break;
	case 4:
		map_at(at, pages, PROT_NONE, ANONYMOUS | MAP_FIXED);
		set(at, pages, RESERVED);
		break;
	case 5:
		map_at(at, pages, READ_WRITE, MAP_PRIVATE | MAP_FIXED);
		set(at, pages, 0);
		break;
	case 6:
	case 7:
		random_remap(at, pages);
		break;
	case 8:
	case 9:
		protect(at, pages, what == 8 ? PROT_NONE : PROT_READ);
		model_protect(at, pages, what == 9);
		break;
	default:
		unmap(at, pages);
		set(at, pages, 0);
	}
}

static void check_model(void)
{
	static uint8_t seen[STEPS * 2];

	memset(seen, 0, objects + 1);
	wanted.in_use_objects = wanted.in_use_pages = 0;
	for (uint32_t i = 0; i < PAGES; i++) {
		if (!model[i] || model[i] == RESERVED)
			continue;
		wanted.in_use_objects += !seen[model[i]];
		wanted.in_use_pages++;
		seen[model[i]] = 1;
	}
	assert_counts(wanted.objects, wanted.pages, wanted.in_use_objects, wanted.in_use_pages);
}

static void test_random(void **state)
{
	(void)state;
	srand(1);
	memset(model, 0, sizeof(model));
	memset(&wanted, 0, sizeof(wanted));
	for (int i = 0; i < STEPS; i++) {
		random_step();
		if (i % 50 == 0)
			check_model();
		if (i % 2000 == 0)
			assert_int_equal(live_pages(), wanted.in_use_pages);
	}
	unmap(0, PAGES);
	set(0, PAGES, 0);
	check_model();
	assert_int_equal(live_pages(), 0);
}

// ---- Threads -----------------------------------------------------------------------------------------------------------

// Each has pages of its own, so that what comes of it is known.
static void *work(void *argument)
{
	uint64_t first = (uint64_t)(uintptr_t)argument * PAGES;

	for (uint64_t i = 0; i < 50000; i++) {
		uint64_t at = first + i * 7 % (PAGES - 16);

		map_at(at, 8, READ_WRITE, ANONYMOUS | MAP_FIXED);
		unmap(at + 2, 3);
		remap(at + 5, 2, at + 8, 4, MREMAP_MAYMOVE);
		protect(at, 16, i % 3 ? PROT_READ : PROT_NONE);
	}
	unmap(first, PAGES);
	map_at(first, 5, READ_WRITE, ANONYMOUS);
	return NULL;
}

static void test_threads(void **state)
{
	pthread_t threads[THREADS];

	(void)state;
	for (uintptr_t i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, work, (void *)i); // NOLINT(performance-no-int-to-ptr)
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(counted().in_use_objects, THREADS);
	assert_int_equal(counted().in_use_pages, 5 * THREADS);
	assert_int_equal(live_pages(), 5 * THREADS);
	assert_int_equal(profd_store.header->lost[WIRE_STORE_LOST_LIVE], 0);
}

int main(void)
{
#define WITH_STORE(test) cmocka_unit_test_setup_teardown(test, begin, end)
	const struct CMUnitTest tests[] = {
		WITH_STORE(test_what_counts),
		WITH_STORE(test_length_is_of_whole_pages),
		WITH_STORE(test_unmapped_in_pieces),
		WITH_STORE(test_several_at_once),
		WITH_STORE(test_mapped_over),
		WITH_STORE(test_failures_change_nothing),
		WITH_STORE(test_remapped),
		WITH_STORE(test_what_is_not_known_is_not_known_elsewhere),
		WITH_STORE(test_reserved_and_used),
		WITH_STORE(test_reservations_do_not_fray),
		WITH_STORE(test_an_address_that_comes_again_at_once),
		WITH_STORE(test_fork_in_the_middle),
		WITH_STORE(test_switched),
		WITH_STORE(test_traces),
		WITH_STORE(test_no_room),
		WITH_STORE(test_random),
		WITH_STORE(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
