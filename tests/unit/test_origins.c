// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// Unit tests of origins.c: who made a thread, as a region says it, true or not.

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "collector/origins.h"
#include "collector/region.h"
#include "tests/unit/fake_region.h"

#define PID 17

static struct fake_region fake;
static struct region region;

static int set_up(void **state)
{
	fake_region_make(&fake, PID, 1, WIRE_MIN_SHARD_SIZE);
	assert_int_equal(region_map(fake.fd, fake.size, PID, &region), 0);
	fake.header->slots_used = 3;
	for (uint32_t i = 0; i < 3; i++) {
		fake.slots[i].state_tid = 30 - i;
		fake.slots[i].creator = 8;
		fake.slots[i].creator_tid = PID;
	}
	fake.creators[7] =
		(struct wire_creator){.hash = 5, .created = 3, .unjoined = 1, .npcs = 2, .pcs = {0x1000, 0x2000}};
	return 0;
}

static int tear_down(void **state)
{
	region_unmap(&region);
	fake_region_free(&fake);
	return 0;
}

static void test_read(void **state)
{
	struct origins *origins = origins_read(&region);

	assert_non_null(origins);
	assert_int_equal(origins->count, 3);
	assert_int_equal(origins_find(origins, 29)->creator, 8);
	assert_int_equal(origins_find(origins, 29)->creator_tid, PID);
	assert_null(origins_find(origins, 31));
	assert_null(origins_find(NULL, 31));
	assert_int_equal(origins->creators[7].npcs, 2);
	assert_int_equal(origins->creators[7].pcs[1], 0x2000);
	assert_int_equal(origins->creators[7].created, 3);
	assert_int_equal(origins->creators[7].unjoined, 1);
	assert_int_equal(origins->creators[6].npcs, 0);
	origins_destroy(origins);
}

static void assert_none_known(void)
{
	struct origins *origins = origins_read(&region);

	assert_non_null(origins);
	assert_int_equal(origins->count, 0);
	origins_destroy(origins);
}

static void test_lies(void **state)
{
	struct wire_creator *creator = &fake.creators[7];

	creator->npcs = WIRE_CREATOR_FRAMES + 1;
	assert_none_known();
	creator->npcs = 0;
	assert_none_known();
	creator->npcs = 2;
	creator->stop = WIRE_STOP_COUNT;
	assert_none_known();
	creator->stop = 0;
	creator->hash = WIRE_CREATOR_BUSY;
	assert_none_known();
	creator->hash = 5;
	for (uint32_t i = 0; i < 3; i++)
		fake.slots[i].creator = i ? UINT32_MAX - i : WIRE_CREATORS + 1;
	assert_none_known();
	fake.header->slots_used = UINT32_MAX;
	assert_none_known();
}

static void test_no_room_for_creators(void **state)
{
	struct region other;

	fake.header->creators_off = fake.header->ring_off - WIRE_PAGE; // they would reach into the ring
	assert_int_equal(region_map(fake.fd, fake.size, PID, &other), -EINVAL);
	fake.header->creators_off = fake.header->slots_off;
	assert_int_equal(region_map(fake.fd, fake.size, PID, &other), -EINVAL);
}

// Found in the memory of a process, this one, and copied.
static void test_of_a_process(void **state)
{
	const uint64_t creators_off = fake.header->creators_off;
	struct origins *origins;

	region_unmap(&region);
	assert_null(origins_read_process(getpid())); // another process's
	fake.header->pid = (uint32_t)getpid();
	origins = origins_read_process(getpid());
	assert_non_null(origins);
	assert_int_equal(origins->count, 3);
	assert_int_equal(origins_find(origins, 29)->creator_tid, PID);
	assert_int_equal(origins->creators[7].pcs[1], 0x2000);
	origins_destroy(origins);
	fake.header->slots_used = UINT32_MAX;
	origins = origins_read_process(getpid());
	assert_int_equal(origins->count, 3);
	origins_destroy(origins);
	for (uint64_t off = 0; off <= fake.size; off += WIRE_PAGE) {
		fake.header->creators_off = off;
		origins = origins_read_process(getpid());
		assert_true(!origins == (off != creators_off));
		origins_destroy(origins);
	}
	fake.header->creators_off = creators_off;
	fake.header->nslots = WIRE_MAX_SLOTS;
	assert_null(origins_read_process(getpid()));
	fake.header->nslots = FAKE_SLOTS;
	fake.header->version++;
	assert_null(origins_read_process(getpid()));
	assert_null(origins_read_process(INT32_MAX));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_read, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_lies, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_room_for_creators, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_of_a_process, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
