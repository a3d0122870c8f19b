// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_store_reader.c: the collector's side of the profile store: what the agent's own code wrote is read back; what makes no sense is not
// followed, whatever it says.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "collector/store.h"
#include "profd/live.h"
#include "profd/store.h"
#include "profd/traced.h"
#include "tests/unit/fake_traces.h"
#include "tests/unit/own_store.h"

#define PAST_NS INT64_MAX // born before that: all

static int open_store(void **state)
{
	(void)state;
	return profd_store_open();
}

static struct store *map(void)
{
	struct store *store = NULL;

	assert_int_equal(store_map(profd_store.fd, profd_store.size, getpid(), &store), 0);
	return store;
}

static struct wire_bucket *make_bucket(uint64_t pc, uint32_t npcs, uint64_t key)
{
	uint64_t pcs[WIRE_STORE_FRAMES];
	const struct profd_store_stack stack = {.pcs = pcs, .npcs = npcs, .stop = WIRE_STOP_NO_RULE};

	for (uint32_t i = 0; i < npcs; i++)
		pcs[i] = pc + i;
	return profd_store_bucket(WIRE_BUCKET_HEAP, &stack, key, 512);
}

static void test_reads_what_was_written(void **state)
{
	struct wire_bucket *first = make_bucket(0x1000, 3, 64), *second = make_bucket(0x2000, WIRE_STORE_FRAMES, 65);
	struct store *store = map();
	struct store_bucket *buckets;
	uint64_t pcs[WIRE_STORE_FRAMES];
	uint8_t stop;
	size_t count;

	(void)state;
	profd_store_add(first, WIRE_HEAP_ALLOC_OBJECTS, 5);
	profd_store_add(second, WIRE_HEAP_FREE_BYTES, 7);
	profd_store_count_lost(WIRE_STORE_LOST_LIVE);
	assert_int_equal(store_read_buckets(store, WIRE_BUCKET_HEAP, &buckets, &count), 0);
	assert_int_equal(count, 2);
	assert_int_equal(buckets[0].counts[WIRE_HEAP_ALLOC_OBJECTS], 5);
	assert_int_equal(buckets[0].key, 64);
	assert_int_equal(buckets[0].rate, 512);
	assert_int_equal(buckets[1].counts[WIRE_HEAP_FREE_BYTES], 7);
	assert_int_equal(store_read_stack(store, buckets[0].stack, pcs, &stop), 3);
	assert_int_equal(pcs[2], 0x1002);
	assert_int_equal(stop, WIRE_STOP_NO_RULE);
	assert_int_equal(store_read_stack(store, buckets[1].stack, pcs, &stop), WIRE_STORE_FRAMES);
	assert_int_equal(pcs[WIRE_STORE_FRAMES - 1], 0x2000 + WIRE_STORE_FRAMES - 1);
	free(buckets);
	assert_int_equal(store_read_buckets(store, WIRE_BUCKET_MUTEX, &buckets, &count), 0);
	assert_int_equal(count, 0);
	free(buckets);
	struct store_live live;
	store_read_live(store, &live);
	assert_int_equal(live.lost[WIRE_STORE_LOST_LIVE], 1);
	store_unref(store);
}

struct sums {
	uint64_t objects, bytes;
	bool other_bucket;
};

static void add(void *context, const struct store_object *object)
{
	struct sums *sums = context;

	sums->objects++;
	sums->bytes += object->bytes;
	sums->other_bucket |= object->bucket != 9 || object->traced != 7;
}

static long blocks(void)
{
	struct stat st;

	assert_int_equal(fstat(profd_store.fd, &st), 0);
	return st.st_blocks;
}

static void test_live_objects_by_age(void **state)
{
	struct wire_live live = {.bucket = 9, .bytes = 10, .traced = 7};
	struct sums all = {0}, old = {0}, none = {0};
	int64_t start_ns = (int64_t)profd_store.header->start_ns;
	struct store *store = map();
	long before;

	(void)state;
	for (uintptr_t i = 1; i <= 100000; i++) {
		live.born_ds = i % 100;
		assert_true(profd_live_put((void *)(i * 4096), &live)); // NOLINT(performance-no-int-to-ptr)
	}
	before = blocks();
	store_read_live_objects(store, PAST_NS, add, &all);
	store_read_live_objects(store, start_ns + 49 * 100000000LL, add, &old);
	store_read_live_objects(store, start_ns - 1000000000LL, add, &none);
	assert_int_equal(all.objects, 100000);
	assert_int_equal(all.bytes, 1000000);
	assert_false(all.other_bucket);
	assert_int_equal(old.objects, 50000);
	assert_int_equal(none.objects, 0);
	assert_int_equal(blocks(), before); // looking makes no memory
	store_unref(store);
}

static void test_traces_as_written(void **state)
{
	struct wire_bucket *bucket = make_bucket(0x1000, 1, 64);
	const void *object = bucket; // some address
	struct store *store = map();
	struct store_traced *traced;
	size_t count;
	long before;

	(void)state;
	assert_int_equal(store_read_traced(store, &traced, &count), 0);
	assert_int_equal(count, 0);
	free(traced);
	fake_set_trace(0xab, true);
	profd_traced_count(bucket, (const uint64_t[]){1, 64}, object);
	fake_set_trace(0xcd, false);
	profd_traced_count(bucket, (const uint64_t[]){5, 6}, NULL);
	fake_set_trace(0, false);
	before = blocks();
	assert_int_equal(store_read_traced(store, &traced, &count), 0);
	assert_int_equal(blocks(), before);
	assert_int_equal(store_traced_next(store), 2);
	assert_int_equal(count, 2);
	assert_int_equal(traced[0].number, 1);
	assert_int_equal(traced[0].sequence, 0);
	assert_true(traced[0].live);
	assert_int_equal(traced[0].object, (uintptr_t)object);
	assert_int_equal(traced[0].trace.trace_id[15], 0xab);
	assert_int_equal(traced[0].trace.span_id[7], 0xab);
	assert_int_equal(traced[0].trace.flags, WIRE_TRACE_SAMPLED);
	assert_int_equal(traced[0].bucket, profd_store_number(bucket));
	assert_false(traced[1].live);
	assert_int_equal(traced[1].counts[0], 5);
	assert_int_equal(traced[1].counts[1], 6);
	assert_int_equal(traced[1].trace.flags, 0);
	free(traced);
	profd_traced_freed(1, object);
	assert_int_equal(store_read_traced(store, &traced, &count), 0);
	assert_false(traced[0].live);
	free(traced);
	store_unref(store);
}

static void test_traces_that_lie(void **state)
{
	struct store *store = map();
	struct store_traced *traced;
	size_t count;

	(void)state;
	profd_store.header->traced_next = UINT64_MAX;
	profd_store.traced[0].turn = WIRE_TRACED_TURN(0, WIRE_TRACED_BUSY);
	profd_store.traced[1].turn = 2;
	profd_store.traced[2].turn = UINT64_MAX & ~1ULL;
	profd_store.traced[3].turn = WIRE_TRACED_TURN(4, 0); // another's
	profd_store.traced[WIRE_TRACED - 1] = (struct wire_traced){.turn = WIRE_TRACED_TURN(2 * WIRE_TRACED - 1, 2),
								   .bucket = UINT32_MAX,
								   .flags = UINT32_MAX,
								   .counts = {UINT64_MAX, UINT64_MAX}};
	assert_int_equal(store_read_traced(store, &traced, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(traced[0].number, WIRE_TRACED);
	assert_int_equal(traced[0].trace.flags, WIRE_TRACE_SAMPLED);
	free(traced);
	store_unref(store);
}

static void test_a_reference_outlives_the_target(void **state)
{
	struct store *store = map(), *again;

	(void)state;
	make_bucket(0x1000, 1, 1);
	again = store_ref(store);
	store_unref(store);
	int fd = profd_store.fd;
	profd_store_close();
	close(fd);
	struct store_bucket *buckets;
	size_t count;
	assert_int_equal(store_read_buckets(again, WIRE_BUCKET_HEAP, &buckets, &count), 0);
	assert_int_equal(count, 1);
	free(buckets);
	store_unref(again);
	assert_int_equal(profd_store_open(), 0);
}

static void assert_refused(void)
{
	struct store *store;

	assert_int_equal(store_map(profd_store.fd, profd_store.size, getpid(), &store), -EINVAL);
}

#define WITH(field, value)                                       \
	do {                                                     \
		struct wire_store *header_ = profd_store.header; \
		struct wire_store kept_ = *header_;              \
		header_->field = (value);                        \
		assert_refused();                                \
		*header_ = kept_;                                \
	} while (0)

static void test_headers_that_lie(void **state)
{
	struct store *store;
	int fd = memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	(void)state;
	WITH(magic, 0);
	WITH(version, WIRE_STORE_VERSION + 1);
	WITH(pid, 1);
	WITH(size, profd_store.size - WIRE_PAGE);
	WITH(arena_off, 0);
	WITH(arena_off, WIRE_PAGE + 8);
	WITH(arena_off, UINT64_MAX - 4095);
	WITH(arena_words, WIRE_STORE_MAX_ARENA_WORDS + 1);
	WITH(arena_words, WIRE_STORE_MAX_ARENA_WORDS); // reaches into the buckets
	WITH(buckets_off, WIRE_PAGE);
	WITH(nbuckets, WIRE_STORE_MAX_BUCKETS);
	WITH(live_off, WIRE_PAGE);
	WITH(live_off, profd_store.size);
	WITH(ngroups, WIRE_STORE_MAX_GROUPS);
	WITH(ngroups, UINT32_MAX);
	WITH(traced_off, WIRE_PAGE);
	WITH(traced_off, profd_store.header->traced_off + 8);
	WITH(traced_off, profd_store.header->traced_off + WIRE_PAGE); // ends behind the end
	WITH(traced_off, UINT64_MAX - 4095);
	assert_int_equal(store_map(profd_store.fd, profd_store.size + WIRE_PAGE, getpid(), &store), -EINVAL);
	assert_int_equal(store_map(-1, profd_store.size, getpid(), &store), -EINVAL);
	assert_int_equal(store_map(STDERR_FILENO, profd_store.size, getpid(), &store), -EINVAL);
	assert_int_equal(ftruncate(fd, (off_t)profd_store.size), 0);
	assert_int_equal(store_map(fd, profd_store.size, getpid(), &store), -EINVAL);
	close(fd);
}

// Every word of the store is the target's to write.
static void test_contents_that_lie(void **state)
{
	struct wire_bucket *bucket = make_bucket(0x1000, 3, 64);
	struct wire_stack *stack = (struct wire_stack *)&profd_store.arena[bucket->stack];
	struct store *store = map();
	struct store_bucket *buckets;
	uint64_t pcs[WIRE_STORE_FRAMES];
	struct sums sums = {0};
	uint8_t stop;
	size_t count;

	(void)state;
	bucket->counts[0] = UINT64_MAX;
	assert_int_equal(store_read_buckets(store, WIRE_BUCKET_HEAP, &buckets, &count), 0);
	assert_int_equal(count, 0);
	free(buckets);
	profd_store.header->buckets_used = UINT32_MAX;
	assert_int_equal(store_read_buckets(store, WIRE_BUCKET_HEAP, &buckets, &count), 0);
	assert_int_equal(count, 0);
	free(buckets);
	for (int npcs = 0; npcs <= UINT16_MAX; npcs += npcs == WIRE_STORE_FRAMES ? 1 : WIRE_STORE_FRAMES) {
		stack->npcs = (uint16_t)npcs;
		if (npcs != WIRE_STORE_FRAMES)
			assert_int_equal(store_read_stack(store, bucket->stack, pcs, &stop), 0);
	}
	stack->npcs = 3;
	stack->stop = WIRE_STOP_COUNT;
	assert_int_equal(store_read_stack(store, bucket->stack, pcs, &stop), 0);
	for (uint32_t back = 0; back < 4; back++) {
		uint32_t at = profd_store.header->arena_words - back;

		if (back > 1)
			*(struct wire_stack *)&profd_store.arena[at] = (struct wire_stack){.npcs = 3};
		assert_int_equal(store_read_stack(store, at, pcs, &stop), 0);
	}
	assert_int_equal(store_read_stack(store, UINT32_MAX, pcs, &stop), 0);
	profd_store.live[0].addresses[0] = WIRE_LIVE_BUSY;
	profd_store.live[0].addresses[1] = 0x1000;
	profd_store.live[0].objects[1] = (struct wire_live){.bucket = UINT32_MAX, .born_ds = UINT32_MAX, .bytes = 1};
	profd_store.header->start_ns = UINT64_MAX;
	store_read_live_objects(store, PAST_NS, add, &sums);
	assert_int_equal(sums.objects, 0);
	store_unref(store);
}

int main(void)
{
#define IN_A_STORE(test) cmocka_unit_test_setup_teardown(test, open_store, close_store)
	const struct CMUnitTest tests[] = {
		IN_A_STORE(test_reads_what_was_written),
		IN_A_STORE(test_live_objects_by_age),
		IN_A_STORE(test_traces_as_written),
		IN_A_STORE(test_traces_that_lie),
		IN_A_STORE(test_a_reference_outlives_the_target),
		IN_A_STORE(test_headers_that_lie),
		IN_A_STORE(test_contents_that_lie),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
