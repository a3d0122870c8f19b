// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_contention.c: what those who wait for a lock have waited is charged once, to whoever gives it back, whatever comes when; locks do not mix;
// nothing is left when nobody waits.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdint.h>

#include "profd/contention.h"

#define LOCK 0x7f0000001000u
#define THREADS 4
#define ROUNDS 20000

static int reset(void **state)
{
	(void)state;
	profd_contention_reset();
	return 0;
}

static void test_one_waits(void **state)
{
	(void)state;
	assert_true(profd_contention_begin(LOCK, 1000));
	assert_int_equal(profd_contention_charge(LOCK, 1500), 500);
	assert_int_equal(profd_contention_charge(LOCK, 1500), 0); // not twice
	assert_int_equal(profd_contention_charge(LOCK, 1600), 100);
	profd_contention_end(LOCK, 1700);
	assert_int_equal(profd_contention_charge(LOCK, 5000), 0); // nobody waits
}

static void test_many_wait(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < 10; i++)
		assert_true(profd_contention_begin(LOCK, 1000 + i * 10));
	assert_int_equal(profd_contention_charge(LOCK, 2000), 10 * 1000 - 450);
	// Three go on, and what they waited until then is still somebody's.
	for (uint64_t i = 0; i < 3; i++)
		profd_contention_end(LOCK, 2100);
	assert_int_equal(profd_contention_charge(LOCK, 2200), 3 * 100 + 7 * 200);
}

static void test_a_wait_that_ends_between(void **state)
{
	(void)state;
	profd_contention_begin(LOCK, 1000);
	profd_contention_begin(LOCK, 1000);
	profd_contention_end(LOCK, 1400);
	assert_int_equal(profd_contention_charge(LOCK, 1500), 400 + 500);
}

// A time-out: whoever has the lock pays for it, though nobody waits when it is given back.
static void test_a_wait_that_is_given_up(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < 3; i++) {
		assert_true(profd_contention_begin(LOCK, 1000 + 100 * i));
		profd_contention_give_up(LOCK, 1050 + 100 * i);
	}
	assert_int_equal(profd_contention_charge(LOCK, 2000), 150);
	assert_int_equal(profd_contention_charge(LOCK, 3000), 0);
	profd_contention_begin(LOCK, 4000);
	profd_contention_begin(LOCK, 4000);
	profd_contention_give_up(LOCK, 4100);
	assert_int_equal(profd_contention_charge(LOCK, 4200), 100 + 200);
	profd_contention_end(LOCK, 4300);
	assert_int_equal(profd_contention_charge(LOCK, 5000), 0);
	profd_contention_end(LOCK, 5000); // nobody waits that could end
	assert_true(profd_contention_begin(LOCK, 6000));
	assert_int_equal(profd_contention_charge(LOCK, 6001), 1);
}

// Waits given up that nobody was charged with: they are in nobody's way.
static void test_what_is_left_makes_room(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < 100000; i++) {
		assert_true(profd_contention_begin(LOCK + i * 8, 1));
		profd_contention_give_up(LOCK + i * 8, 11);
	}
	for (uint64_t i = 0; i < 1000; i++) {
		assert_true(profd_contention_begin(LOCK + (200000 + i) * 8, 1));
		assert_int_equal(profd_contention_charge(LOCK + (200000 + i) * 8, 11), 10);
	}
}

static void test_locks_do_not_mix(void **state)
{
	(void)state;
	for (uint64_t i = 0; i < 500; i++)
		assert_true(profd_contention_begin(LOCK + i * 40, 1000 + i));
	for (uint64_t i = 0; i < 500; i++)
		assert_int_equal(profd_contention_charge(LOCK + i * 40, 2000), 1000 - i);
	for (uint64_t i = 0; i < 500; i++)
		profd_contention_end(LOCK + i * 40, 2000);
	for (uint64_t i = 0; i < 500; i++)
		assert_int_equal(profd_contention_charge(LOCK + i * 40, 3000), 0);
}

// More locks than there is room for: those without are not known, and need not be ended; there is room again afterwards.
static void test_no_room(void **state)
{
	static bool known[100000];
	uint64_t count = 0;

	(void)state;
	for (uint64_t i = 0; i < 100000; i++) {
		known[i] = profd_contention_begin(LOCK + i * 8, 1);
		count += known[i];
	}
	assert_in_range(count, 4096, 8192);
	for (uint64_t i = 0; i < 100000; i++) {
		assert_int_equal(profd_contention_charge(LOCK + i * 8, 11), known[i] ? 10 : 0);
		if (known[i])
			profd_contention_end(LOCK + i * 8, 11);
	}
	assert_true(profd_contention_begin(LOCK, 1));
}

static void test_65535_waiters(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 65535; i++)
		assert_true(profd_contention_begin(LOCK, 10));
	// One more does not spoil the address beside the number.
	profd_contention_begin(LOCK, 10);
	assert_int_equal(profd_contention_charge(LOCK + 1, 20), 0);
	assert_in_range(profd_contention_charge(LOCK, 20), 655350, 655360);
}

static uint64_t charged;

static void *wait_and_charge(void *unused)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < ROUNDS; i++) {
		assert_true(profd_contention_begin(LOCK, i * 100));
		sum += profd_contention_charge(LOCK, i * 100 + 50);
		profd_contention_end(LOCK, i * 100 + 100);
	}
	__atomic_fetch_add(&charged, sum, __ATOMIC_RELAXED);
	return unused;
}

static void test_all_at_once(void **state)
{
	pthread_t threads[THREADS];

	(void)state;
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, wait_and_charge, NULL), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_true(charged > 0);
	assert_int_equal(profd_contention_charge(LOCK, UINT64_MAX / 2), 0); // all have gone
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_one_waits, reset),
		cmocka_unit_test_setup(test_many_wait, reset),
		cmocka_unit_test_setup(test_a_wait_that_ends_between, reset),
		cmocka_unit_test_setup(test_a_wait_that_is_given_up, reset),
		cmocka_unit_test_setup(test_what_is_left_makes_room, reset),
		cmocka_unit_test_setup(test_locks_do_not_mix, reset),
		cmocka_unit_test_setup(test_no_room, reset),
		cmocka_unit_test_setup(test_65535_waiters, reset),
		cmocka_unit_test_setup(test_all_at_once, reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
