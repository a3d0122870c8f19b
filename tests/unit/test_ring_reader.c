// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_ring_reader.c: the ring from end to end: the agent's producer (profd/ring.c) against region.c and ring_reader.c, with
// producers that die and regions that lie.

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#include "collector/region.h"
#include "collector/ring_reader.h"
#include "tests/unit/fake_region.h"

#define PID 4242u
#define SHARD WIRE_MIN_SHARD_SIZE

// Both ends of one region, and what the reader handed out.
struct ends {
	struct fake_region fake;
	struct region region;
	struct ring_reader reader;
	struct ring_counts counts;
	bool refuse;           // the sink takes nothing
	uint64_t broken;       // records whose content is not what put() wrote
	uint64_t last_seq[16]; // by tid
	uint64_t out_of_order;
};

static void attach(struct ends *ends)
{
	assert_int_equal(region_map(ends->fake.fd, ends->fake.size, PID, &ends->region), 0);
	assert_int_equal(ring_reader_init(&ends->reader, &ends->region), 0);
}

static void detach(struct ends *ends)
{
	ring_reader_finish(&ends->reader);
	region_unmap(&ends->region);
}

static struct ends *set_up(uint32_t nshards)
{
	struct ends *ends = calloc(1, sizeof(*ends));

	assert_non_null(ends);
	fake_region_make(&ends->fake, PID, nshards, SHARD);
	attach(ends);
	return ends;
}

static void tear_down(struct ends *ends)
{
	detach(ends);
	fake_region_free(&ends->fake);
	free(ends);
}

// A record whose every word follows from tid and seq.
static int put(const struct profd_ring *ring, uint32_t tid, uint64_t seq, uint16_t nframes)
{
	uint64_t pcs[WIRE_MAX_FRAMES];
	const struct wire_sample sample = {
		.time_ns = seq, .cpu_ns = seq + 7, .tid = tid, .weight = 1, .slot = tid, .nframes = nframes};

	for (uint16_t i = 0; i < nframes; i++)
		pcs[i] = (seq << 16) + i + tid;
	return profd_ring_put(ring, &sample, pcs, NULL);
}

static bool sink(void *context, const struct ring_record *record)
{
	struct ends *ends = context;
	uint64_t seq = record->sample.time_ns;
	uint32_t tid = record->sample.tid;
	bool whole = record->sample.cpu_ns == seq + 7 && record->sample.slot == tid && tid < 16;

	if (ends->refuse)
		return false;
	for (uint16_t i = 0; whole && i < record->sample.nframes; i++)
		whole = record->pcs[i] == (seq << 16) + i + tid;
	ends->broken += !whole;
	if (whole) {
		ends->out_of_order += seq <= ends->last_seq[tid];
		ends->last_seq[tid] = seq;
	}
	return true;
}

static unsigned drain(struct ends *ends, enum ring_reader_mode mode)
{
	return ring_reader_drain(&ends->reader, mode, sink, ends, &ends->counts);
}

static uint64_t dropped(const struct ends *ends)
{
	uint64_t sum = 0;

	for (int i = 0; i < WIRE_DROP_COUNT; i++)
		sum += ends->counts.dropped[i];
	return sum;
}

// Everything consumed has been zeroed, and tail is at head.
static void assert_clean(const struct ends *ends)
{
	for (uint32_t i = 0; i < ends->region.nshards; i++) {
		const struct profd_ring *ring = &ends->fake.rings[i];

		assert_int_equal(ring->shard->tail, ring->shard->head);
		for (uint64_t w = 0; w < ring->size / 8; w++)
			assert_int_equal(ring->data[w], 0);
	}
	assert_int_equal(ends->broken, 0);
	assert_int_equal(ends->out_of_order, 0);
}

static void test_wraps_around(void **state)
{
	struct ends *ends = set_up(2);
	uint64_t n = 5000;

	for (uint64_t i = 1; i <= n; i++) {
		assert_int_equal(
			put(&ends->fake.rings[i & 1], 1 + (i & 1), i, (uint16_t)(1 + i * 37 % WIRE_MAX_FRAMES)), 0);
		if (i % 7 == 0)
			drain(ends, RING_READER_LIVE);
	}
	drain(ends, RING_READER_LIVE);
	assert_true(ends->fake.shards[0].head > 10 * SHARD);
	assert_int_equal(ends->counts.records, n);
	assert_int_equal(ends->counts.generated, n);
	assert_int_equal(ends->counts.bad, 0);
	assert_clean(ends);
	tear_down(ends);
}

static void test_full_ring_drops_and_counts(void **state)
{
	struct ends *ends = set_up(1);
	uint64_t taken = 0, n = 500;

	for (uint64_t i = 1; i <= n; i++)
		taken += put(&ends->fake.rings[0], 1, i, 100) == 0;
	assert_true(taken < n);
	assert_true(drain(ends, RING_READER_LIVE) > 95);
	assert_int_equal(ends->counts.records, taken);
	assert_int_equal(ends->counts.dropped[WIRE_DROP_RING_FULL], n - taken);
	assert_int_equal(ends->counts.generated, n);
	assert_clean(ends);
	assert_int_equal(drain(ends, RING_READER_LIVE), 0);
	assert_int_equal(ends->counts.generated, n);
	tear_down(ends);
}

// What a producer does up to step 1 or 2 of the protocol. Returns the record's position.
static uint64_t reserve(struct profd_ring *ring, uint32_t words, bool write_head)
{
	uint64_t position = ring->shard->head;

	ring->shard->generated++;
	ring->shard->head += words * 8ULL;
	if (write_head)
		ring->data[position / 8 % (ring->size / 8)] = WIRE_HEAD(position, WIRE_REC_RESERVED, words);
	return position;
}

static void check_uncommitted(bool write_head)
{
	struct ends *ends = set_up(1);

	put(&ends->fake.rings[0], 1, 1, 10);
	reserve(&ends->fake.rings[0], 60, write_head);
	put(&ends->fake.rings[0], 1, 2, 10);
	put(&ends->fake.rings[0], 1, 3, 10);
	for (int i = 0; i < 50; i++)
		drain(ends, RING_READER_LIVE);
	assert_int_equal(ends->counts.records, 1);
	drain(ends, RING_READER_DEAD);
	assert_int_equal(ends->counts.records, 3);
	assert_int_equal(ends->counts.bad, 1);
	assert_int_equal(ends->counts.generated, ends->counts.records + ends->counts.bad);
	assert_clean(ends);
	tear_down(ends);
}

static void test_reserved_never_committed(void **state)
{
	check_uncommitted(true);
}

static void test_reserved_without_a_word(void **state)
{
	check_uncommitted(false);
}

static void test_commit_after_a_while(void **state)
{
	struct ends *ends = set_up(1);
	struct profd_ring *ring = &ends->fake.rings[0];
	const uint32_t words = sizeof(struct wire_sample) / 8 + 1;
	uint64_t position = reserve(ring, words, true);

	put(ring, 1, 2, 1);
	drain(ends, RING_READER_LIVE);
	assert_int_equal(ends->counts.records, 0);
	const struct wire_sample sample = {.time_ns = 1, .cpu_ns = 8, .tid = 1, .weight = 1, .slot = 1, .nframes = 1};
	memcpy(&ring->data[position / 8 + 1], (const char *)&sample + 8, sizeof(sample) - 8);
	ring->data[position / 8 + words - 1] = (1ULL << 16) + 1;
	ring->data[position / 8] = WIRE_HEAD(position, WIRE_REC_SAMPLE, words);
	drain(ends, RING_READER_LIVE);
	assert_int_equal(ends->counts.records, 2);
	assert_clean(ends);
	tear_down(ends);
}

static void test_refused_record_stays(void **state)
{
	struct ends *ends = set_up(1);

	put(&ends->fake.rings[0], 1, 1, 10);
	put(&ends->fake.rings[0], 1, 2, 10);
	ends->refuse = true;
	drain(ends, RING_READER_LIVE);
	drain(ends, RING_READER_DEAD);
	assert_int_equal(ends->counts.records, 0);
	assert_int_equal(ends->counts.bad, 0);
	ends->refuse = false;
	drain(ends, RING_READER_LIVE);
	assert_int_equal(ends->counts.records, 2);
	assert_clean(ends);
	tear_down(ends);
}

// Each of these makes the first of three records senseless. It is skipped, and the others come through.
static void test_insane_records(void **state)
{
	for (int which = 0; which < 8; which++) {
		struct ends *ends = set_up(1);
		struct wire_sample *sample = (struct wire_sample *)ends->fake.rings[0].data;

		for (uint64_t i = 1; i <= 3; i++)
			put(&ends->fake.rings[0], 1, i, 10);
		switch (which) {
		case 0:
			sample->nframes = 11; // one more than the size allows
			break;
		case 1:
			sample->nframes = UINT16_MAX;
			break;
		case 2:
			sample->stop = WIRE_STOP_COUNT;
			break;
		case 3:
			sample->tid = 0;
			break;
		case 4:
			sample->weight = 0;
			break;
		case 5:
			sample->cpu_ns = UINT64_MAX;
			break;
		case 6:
			sample->head ^= 1ULL << 40; // another position's tag
			break;
		default:
			sample->head = WIRE_HEAD(0, WIRE_REC_SAMPLE, 0xffffff); // longer than the ring
			break;
		}
		drain(ends, RING_READER_LIVE);
		assert_int_equal(ends->counts.records, 2);
		assert_int_equal(ends->counts.bad, 1);
		assert_clean(ends);
		tear_down(ends);
	}
}

static void test_next_collector_goes_on(void **state)
{
	struct ends *ends = set_up(1);

	for (uint64_t i = 1; i <= 10; i++)
		put(&ends->fake.rings[0], 1, i, 20);
	drain(ends, RING_READER_LIVE);
	for (uint64_t i = 11; i <= 15; i++)
		put(&ends->fake.rings[0], 1, i, 20);
	detach(ends);
	attach(ends);
	ends->counts = (struct ring_counts){0};
	put(&ends->fake.rings[0], 1, 16, 20);
	drain(ends, RING_READER_LIVE);
	assert_int_equal(ends->counts.records, 6);
	assert_int_equal(ends->counts.generated, 1);
	assert_clean(ends);
	tear_down(ends);
}

// The collector before us died while it gave the second record back: with part of it zeroed, or all of it.
static void test_last_collector_died(void **state)
{
	for (uint32_t left = 0; left <= 1; left++) {
		struct ends *ends = set_up(1);
		struct profd_ring *ring = &ends->fake.rings[0];
		uint64_t second;

		put(ring, 1, 1, 20);
		drain(ends, RING_READER_LIVE);
		second = ring->shard->head / 8;
		put(ring, 1, 2, 20);
		put(ring, 1, 3, 20);
		memset(&ring->data[second + left], 0, (26 - left) * 8);
		detach(ends);
		attach(ends);
		ends->counts = (struct ring_counts){0};
		for (int i = 0; i < 50; i++)
			drain(ends, RING_READER_LIVE);
		assert_int_equal(ends->counts.records, 1);
		assert_int_equal(ends->counts.bad, 1);
		assert_clean(ends);
		tear_down(ends);
	}
}

static uint64_t random_word(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

// Half of the words look like head words, so that the checks behind the first one are reached.
static void scribble(struct ends *ends, uint64_t *seed)
{
	struct profd_ring *ring = &ends->fake.rings[0];
	uint64_t head = random_word(seed) % (1ULL << 40) * 8 + (random_word(seed) % 8 == 0);

	if (random_word(seed) % 2)
		head = ends->reader.shards[0].tail + random_word(seed) % (SHARD / 8) * 8;
	ring->shard->head = head;
	ring->shard->tail = random_word(seed);
	ring->shard->generated = random_word(seed);
	for (uint64_t i = 0; i < SHARD / 8; i += 1 + random_word(seed) % 40) {
		uint64_t position = ends->reader.shards[0].tail + i * 8;
		uint64_t word = random_word(seed);

		if (word & 1)
			word = WIRE_HEAD(position, 1 + (word >> 8) % 2, (word >> 16) % 1100);
		ring->data[position / 8 % (SHARD / 8)] = word;
	}
}

static void test_hostile_ring(void **state)
{
	struct ends *ends = set_up(1);
	uint64_t seed = 88172645463325252ULL;

	for (int i = 0; i < 1000; i++) {
		scribble(ends, &seed);
		drain(ends, i % 3 ? RING_READER_LIVE : RING_READER_DEAD);
		assert_true(ends->counts.records + ends->counts.bad <= (uint64_t)(i + 1) * (SHARD / 8));
	}
	assert_true(ends->counts.bad > 0);
	// The target mends its ways: what it writes now is read.
	ends->reader.shards[0].tail += 8;
	ends->fake.rings[0].shard->head = ends->reader.shards[0].tail;
	ends->fake.rings[0].shard->tail = ends->reader.shards[0].tail;
	memset(ends->fake.rings[0].data, 0, SHARD);
	ends->counts = (struct ring_counts){0};
	put(&ends->fake.rings[0], 9, 1ULL << 40, 30);
	drain(ends, RING_READER_LIVE);
	assert_int_equal(ends->counts.records, 1);
	tear_down(ends);
}

static void test_hostile_header(void **state)
{
	for (int which = 0; which < 16; which++) {
		struct fake_region fake;
		struct region region;
		struct wire_header *header;
		uint64_t size;

		fake_region_make(&fake, PID, 2, SHARD);
		header = fake.header;
		size = fake.size;
		switch (which) {
		case 0:
			header->magic++;
			break;
		case 1:
			header->version++;
			break;
		case 2:
			header->pid++;
			break;
		case 3:
			header->region_size += WIRE_PAGE;
			break;
		case 4:
			size += WIRE_PAGE;
			break;
		case 5:
			header->nshards = 3; // past the end
			break;
		case 6:
			header->nshards = 0;
			break;
		case 7:
			header->nshards = UINT32_MAX;
			break;
		case 8:
			header->nslots = WIRE_MAX_SLOTS; // into the ring
			break;
		case 9:
			header->nslots = 0;
			break;
		case 10:
			header->shard_size = SHARD + 8;
			break;
		case 11:
			header->shard_size = SHARD * 2;
			break;
		case 12:
			header->shards_off = 0; // over the header
			break;
		case 13:
			header->slots_off += 8;
			break;
		case 14:
			header->ring_off = ~0ULL - WIRE_PAGE + 1;
			break;
		default:
			header->shard_size = 0;
			break;
		}
		assert_int_equal(region_map(fake.fd, size, PID, &region), -EINVAL);
		fake_region_free(&fake);
	}
}

// A file that could be truncated under us would kill us with SIGBUS.
static void test_unsealed_file(void **state)
{
	struct region region;
	struct fake_region fake;
	char path[] = "/tmp/profd-test-XXXXXX";
	int plain = memfd_create("plain", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int file = mkstemp(path);

	fake_region_make(&fake, PID, 1, SHARD);
	assert_true(plain >= 0 && file >= 0);
	assert_int_equal(write(plain, fake.header, fake.size), fake.size);
	assert_int_equal(write(file, fake.header, fake.size), fake.size);
	assert_int_equal(region_map(plain, fake.size, PID, &region), -EINVAL);
	assert_int_equal(region_map(file, fake.size, PID, &region), -EINVAL);
	assert_int_equal(fcntl(plain, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	assert_int_equal(region_map(plain, fake.size, PID, &region), 0);
	region_unmap(&region);
	unlink(path);
	close(plain);
	close(file);
	fake_region_free(&fake);
}

static void test_header_values_are_clamped(void **state)
{
	struct ends *ends = set_up(1);
	struct wire_slot *slot = &ends->fake.slots[3];
	struct region_live live;
	char name[16];

	ends->fake.header->period_ns = UINT32_MAX;
	ends->fake.header->threads_live = UINT32_MAX;
	ends->fake.header->timer_errno = UINT32_MAX;
	region_read_live(&ends->region, &live);
	assert_int_equal(live.period_ns, 1000000000);
	assert_int_equal(live.threads_live, FAKE_SLOTS);
	assert_int_equal(live.timer_errno, 0);
	memset(slot->name, 'x', sizeof(slot->name)); // not terminated
	slot->state_tid = (5ULL << 32) | 77;
	assert_true(region_thread_name(&ends->region, 3, 77, name));
	assert_string_equal(name, "xxxxxxxxxxxxxxx");
	assert_false(region_thread_name(&ends->region, 3, 78, name));
	assert_false(region_thread_name(&ends->region, FAKE_SLOTS, 77, name));
	assert_false(region_thread_name(&ends->region, UINT32_MAX, 77, name));
	tear_down(ends);
}

// ---- Under load ------------------------------------------------------------------------------------------------------

struct producer {
	const struct profd_ring *ring;
	uint32_t tid;
	uint64_t puts, taken; // taken: atomic
	pthread_t thread;
};

static void *produce(void *argument)
{
	struct producer *producer = argument;

	for (uint64_t i = 1; i <= producer->puts; i++)
		if (put(producer->ring, producer->tid, i, (uint16_t)(1 + (i * producer->tid * 31) % 200)) == 0)
			__atomic_fetch_add(&producer->taken, 1, __ATOMIC_RELAXED);
	return NULL;
}

static void test_producers_and_reader_at_once(void **state)
{
	struct ends *ends = set_up(2);
	struct producer producers[4];
	uint64_t taken = 0;
	bool done = false;

	for (uint32_t i = 0; i < 4; i++) {
		producers[i] = (struct producer){&ends->fake.rings[i % 2], i + 1, 30000, 0, 0};
		assert_int_equal(pthread_create(&producers[i].thread, NULL, produce, &producers[i]), 0);
	}
	while (!done) {
		uint64_t generated = 0;

		drain(ends, RING_READER_LIVE);
		for (uint32_t i = 0; i < 2; i++)
			generated += __atomic_load_n(&ends->fake.shards[i].generated, __ATOMIC_RELAXED);
		done = generated == 4 * 30000;
	}
	for (uint32_t i = 0; i < 4; i++) {
		pthread_join(producers[i].thread, NULL);
		taken += producers[i].taken;
	}
	drain(ends, RING_READER_LIVE);
	assert_int_equal(ends->counts.records, taken);
	assert_int_equal(ends->counts.bad, 0);
	assert_int_equal(ends->counts.generated, 4 * 30000);
	assert_int_equal(ends->counts.generated, ends->counts.records + dropped(ends));
	assert_clean(ends);
	tear_down(ends);
}

// A process that writes without end, and counts what it committed where we can see it.
static pid_t spawn_producers(struct ends *ends, struct producer *shared)
{
	pid_t child = fork();

	if (child != 0)
		return child;
	for (uint32_t i = 0; i < 3; i++) {
		shared[i] = (struct producer){&ends->fake.rings[0], i + 1, UINT64_MAX, 0, 0};
		pthread_create(&shared[i].thread, NULL, produce, &shared[i]);
	}
	for (;;)
		pause();
}

static void check_kill(int round)
{
	struct ends *ends = set_up(1);
	struct producer *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct timespec delay = {.tv_nsec = 1000000 + round * 700001L % 3000000};
	uint64_t taken = 0;
	pid_t child = spawn_producers(ends, shared);

	assert_true(child > 0);
	while (__atomic_load_n(&ends->fake.shards[0].generated, __ATOMIC_RELAXED) == 0)
		nanosleep(&delay, NULL);
	for (int i = 0; i < round % 5; i++)
		drain(ends, RING_READER_LIVE);
	nanosleep(&delay, NULL);
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
	drain(ends, RING_READER_LIVE);
	drain(ends, RING_READER_DEAD);
	for (int i = 0; i < 3; i++)
		taken += shared[i].taken;
	// A record may have been committed but not yet counted, for each thread once.
	assert_true(ends->counts.records >= taken && ends->counts.records <= taken + 3);
	assert_true(ends->counts.bad <= 3);
	assert_true(ends->counts.generated >= ends->counts.records + dropped(ends));
	assert_true(ends->counts.generated <= ends->counts.records + dropped(ends) + 3);
	assert_clean(ends);
	munmap(shared, 4096);
	tear_down(ends);
}

static void test_killed_in_the_middle(void **state)
{
	for (int round = 0; round < 40; round++)
		check_kill(round);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wraps_around),
		cmocka_unit_test(test_full_ring_drops_and_counts),
		cmocka_unit_test(test_reserved_never_committed),
		cmocka_unit_test(test_reserved_without_a_word),
		cmocka_unit_test(test_commit_after_a_while),
		cmocka_unit_test(test_refused_record_stays),
		cmocka_unit_test(test_insane_records),
		cmocka_unit_test(test_next_collector_goes_on),
		cmocka_unit_test(test_last_collector_died),
		cmocka_unit_test(test_hostile_ring),
		cmocka_unit_test(test_hostile_header),
		cmocka_unit_test(test_unsealed_file),
		cmocka_unit_test(test_header_values_are_clamped),
		cmocka_unit_test(test_producers_and_reader_at_once),
		cmocka_unit_test(test_killed_in_the_middle),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
