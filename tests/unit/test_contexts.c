// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_contexts.c: what threads work for: from a region to that of a fork's child, and without wakers when these are switched off.

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "profd/pool.h"
#include "tests/unit/own_region.h"

static uint32_t born_with, queued, woken, seam; // contexts

static uint32_t add(enum wire_context_kind kind, uint64_t pc, uint32_t parent)
{
	uint32_t context = profd_contexts_add(kind, profd_contexts_stack(called_at(pc), NULL), parent);

	assert_int_not_equal(context, 0);
	return context;
}

static uint32_t add_labels(const char *text, uint32_t bytes)
{
	const struct profd_pool pool = profd_contexts_pool();
	struct {
		struct wire_pool_labels labels;
		char text[16];
	} item = {.labels = {.bytes = bytes, .nlabels = 1}};

	memcpy(item.text, text, bytes);
	return profd_pool_add(&pool, WIRE_ITEM_LABELS, &item.labels.head + 1, 3, 0);
}

static int set_up(void **state)
{
	(void)state;
	is_on = true;
	profd_contexts_woken = PROFD_WOKEN_NEVER;
	own_region_make();
	born_with = add(WIRE_CONTEXT_CREATED, 100, 0);
	queued = add(WIRE_CONTEXT_QUEUED, 200, born_with);
	woken = add(WIRE_CONTEXT_WOKEN, 300, add(WIRE_CONTEXT_CREATED, 400, 0));
	seam = profd_contexts_add_lock(profd_contexts_stack(called_at(500), NULL), woken);
	own_slot()->creator = born_with;
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	own_region_free();
	return 0;
}

// ---- Wakers off ----------------------------------------------------------------------------------------------------

static uint64_t work_after_off(uint64_t work)
{
	profd_contexts_keep_woken();
	profd_contexts_set_work(work);
	assert_int_equal(profd_contexts_work(), work);
	profd_contexts_drop_woken();
	return profd_contexts_work();
}

static void test_a_waker_goes(void **state)
{
	(void)state;
	assert_int_equal(work_after_off(WIRE_WORK(woken, 77)), WIRE_WORK(born_with, 77)); // labels stay
	assert_int_equal(work_after_off(WIRE_WORK(seam, 77)), WIRE_WORK(born_with, 77));
	own_slot()->creator = 0;
	assert_int_equal(work_after_off(WIRE_WORK(woken, 0)), 0);
}

static void test_what_was_given_stays(void **state)
{
	uint32_t by_a_woken_one = add(WIRE_CONTEXT_QUEUED, 600, woken);
	uint32_t on_a_link = profd_contexts_add_lock(profd_contexts_stack(called_at(500), NULL), queued);

	(void)state;
	assert_int_equal(work_after_off(WIRE_WORK(queued, 1)), WIRE_WORK(queued, 1));
	assert_int_equal(work_after_off(WIRE_WORK(born_with, 1)), WIRE_WORK(born_with, 1));
	assert_int_equal(work_after_off(WIRE_WORK(0, 1)), WIRE_WORK(0, 1));
	assert_int_equal(work_after_off(WIRE_WORK(by_a_woken_one, 1)), WIRE_WORK(by_a_woken_one, 1));
	assert_int_equal(work_after_off(WIRE_WORK(on_a_link, 1)), WIRE_WORK(queued, 1));
}

static void test_of_all_threads(void **state)
{
	struct wire_slot *slots = profd_agent.region.slots;

	(void)state;
	profd_agent.region.header->slots_used = 3;
	for (uint32_t i = 0; i < 4; i++) {
		slots[i].creator = i == 2 ? queued : born_with;
		slots[i].work = WIRE_WORK(woken, i);
	}
	profd_contexts_keep_woken();
	profd_contexts_drop_woken();
	assert_int_equal(slots[0].work, WIRE_WORK(born_with, 0));
	assert_int_equal(slots[1].work, WIRE_WORK(born_with, 1));
	assert_int_equal(slots[2].work, WIRE_WORK(queued, 2));
	assert_int_equal(slots[3].work, WIRE_WORK(woken, 3)); // was never used
}

// What a thread had in its hands when they were switched off: it puts it there, and it is not kept.
static void test_who_comes_late(void **state)
{
	(void)state;
	assert_int_equal(work_after_off(WIRE_WORK(queued, 1)), WIRE_WORK(queued, 1));
	profd_contexts_set_work(WIRE_WORK(woken, 1)); // profd_leave, profd_label_set, the end of a wait
	assert_int_equal(profd_contexts_work(), WIRE_WORK(born_with, 1));
	own_slot()->work = WIRE_WORK(seam, 1);
	profd_contexts_drop_lock(); // an unlock
	assert_int_equal(profd_contexts_work(), WIRE_WORK(born_with, 1));
	profd_contexts_set_work(WIRE_WORK(queued, 1));
	assert_int_equal(profd_contexts_work(), WIRE_WORK(queued, 1));
	profd_contexts_keep_woken(); // and on again
	profd_contexts_set_work(WIRE_WORK(woken, 1));
	assert_int_equal(profd_contexts_work(), WIRE_WORK(woken, 1));
}

static void test_never_on(void **state)
{
	(void)state;
	profd_contexts_set_work(WIRE_WORK(seam, 2));
	profd_contexts_drop_lock();
	assert_int_equal(profd_contexts_work(), WIRE_WORK(woken, 2));
}

// A fork's child has its parent's region for a while: the parent's threads are not its own.
static void test_not_of_a_parent(void **state)
{
	(void)state;
	profd_contexts_keep_woken();
	profd_contexts_set_work(WIRE_WORK(woken, 1));
	is_on = false;
	profd_contexts_drop_woken();
	assert_int_equal(profd_contexts_work(), WIRE_WORK(woken, 1));
	assert_int_equal(profd_contexts_woken, PROFD_WOKEN_NEVER);
}

// ---- Races ---------------------------------------------------------------------------------------------------------

#define ROUNDS 20000u

static pthread_barrier_t barrier;
static uint32_t left_over; // atomic

// A thread that is woken, gets labels and a lock, while they are switched on and off.
static void *be_woken(void *unused)
{
	profd_thread_slot = 1;
	for (uint32_t i = 0; i < ROUNDS; i++) {
		pthread_barrier_wait(&barrier);
		for (uint32_t k = 0; k < i % 7; k++)
			__asm__ volatile("pause");
		if (i % 3)
			profd_contexts_set_work(WIRE_WORK(i % 2 ? woken : seam, i));
		profd_contexts_drop_lock();
		pthread_barrier_wait(&barrier);
		if (WIRE_WORK_CONTEXT(profd_contexts_work()) != born_with)
			__atomic_add_fetch(&left_over, 1, __ATOMIC_RELAXED);
		pthread_barrier_wait(&barrier);
		// They are on again, and nobody is looking.
		profd_contexts_set_work(WIRE_WORK(i % 5 ? seam : woken, i));
	}
	return unused;
}

static void test_race(void **state)
{
	pthread_t thread;

	(void)state;
	profd_agent.region.header->slots_used = 2;
	profd_agent.region.slots[1].creator = born_with;
	profd_agent.region.slots[1].work = WIRE_WORK(woken, 0);
	pthread_barrier_init(&barrier, NULL, 2);
	profd_contexts_keep_woken();
	assert_int_equal(pthread_create(&thread, NULL, be_woken, NULL), 0);
	for (uint32_t i = 0; i < ROUNDS; i++) {
		pthread_barrier_wait(&barrier);
		for (uint32_t k = 0; k < i % 11; k++)
			__asm__ volatile("pause");
		profd_contexts_drop_woken();
		pthread_barrier_wait(&barrier);
		profd_contexts_keep_woken();
		pthread_barrier_wait(&barrier);
	}
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&barrier);
	assert_int_equal(left_over, 0);
}

// ---- fork ----------------------------------------------------------------------------------------------------------

static const uint64_t *pcs_of(uint32_t context)
{
	const struct profd_pool pool = profd_contexts_pool();
	const struct wire_pool_context *item = profd_contexts_find(context);

	assert_non_null(item);
	return profd_pool_item(&pool, WIRE_ITEM_STACK, item->stack) + 2;
}

static void test_fork(void **state)
{
	uint32_t context, parent;

	(void)state;
	profd_contexts_set_work(WIRE_WORK(queued, 5));
	profd_contexts_before_fork(called_at(700));
	own_region_renew();
	add(WIRE_CONTEXT_CREATED, 900, 0); // so that numbers are not what they were
	context = profd_contexts_restore();
	assert_int_equal(profd_contexts_find(context)->kind, WIRE_CONTEXT_CREATED);
	assert_int_equal(pcs_of(context)[0], 701); // without libc's
	parent = profd_contexts_find(context)->parent;
	assert_int_equal(profd_contexts_find(parent)->kind, WIRE_CONTEXT_QUEUED);
	assert_int_equal(pcs_of(parent)[0], 200);
	parent = profd_contexts_find(parent)->parent;
	assert_int_equal(pcs_of(parent)[0], 100);
	assert_int_equal(profd_contexts_find(parent)->parent, 0);
	assert_int_equal(profd_contexts_restore(), 0); // once
	profd_contexts_release_parents();
	assert_int_equal(profd_contexts_carry(WIRE_WORK(queued, 0)), 0);
}

static void test_carry(void **state)
{
	uint32_t labels = add_labels("a\0one", 6), long_chain = 0;
	uint64_t carried;

	(void)state;
	for (uint64_t i = 0; i < WIRE_GENERATIONS + 3; i++)
		long_chain = add(WIRE_CONTEXT_QUEUED, 1000 + i, long_chain);
	own_region_renew();
	add(WIRE_CONTEXT_CREATED, 900, 0);
	carried = profd_contexts_carry(WIRE_WORK(queued, labels));
	assert_int_equal(profd_contexts_carry(WIRE_WORK(queued, labels)), carried); // there once
	assert_int_equal(pcs_of(WIRE_WORK_CONTEXT(carried))[0], 200);
	assert_memory_equal(&profd_agent.region.pool_words[WIRE_WORK_LABELS(carried) + 2], "a\0one", 6);
	assert_int_equal(profd_contexts_carry(0), 0);
	assert_int_equal(profd_contexts_carry(WIRE_WORK(UINT32_MAX, 0)), 0); // names nothing
	carried = profd_contexts_carry(WIRE_WORK(long_chain, 0));
	assert_int_equal(profd_contexts_find(WIRE_WORK_CONTEXT(carried))->generation, WIRE_GENERATIONS);
	for (uint64_t i = 0; i < WIRE_GENERATIONS; i++) {
		assert_int_equal(pcs_of(WIRE_WORK_CONTEXT(carried))[0], 1000 + WIRE_GENERATIONS + 2 - i);
		carried = WIRE_WORK(profd_contexts_find(WIRE_WORK_CONTEXT(carried))->parent, 0);
	}
	assert_int_equal(carried, 0);
	profd_contexts_release_parents();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_waker_goes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_was_given_stays, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_of_all_threads, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_who_comes_late, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_never_on, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_not_of_a_parent, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_race, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_fork, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_carry, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
