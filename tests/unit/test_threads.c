// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_threads.c: a thread is in the agent's table once, whoever brings it there first.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "profd/agent.h"
#include "profd/channel.h"
#include "profd/handler.h"
#include "profd/otel_trace.h"
#include "profd/raw.h"
#include "profd/threads.h"
#include "profd/wake.h"

#define SLOTS 1024u
#define STARTERS 4
#define ROUNDS 500

// What threads.c and timer.c know of the rest of the agent.
struct profd_agent profd_agent;
__thread uint64_t profd_handler_ending_pc;

void profd_wake_send(void) {}

static uint32_t own_tid(void)
{
	return (uint32_t)profd_raw0(SYS_gettid);
}

static unsigned slots_of(uint32_t tid)
{
	unsigned count = 0;

	for (uint32_t i = 0; i < SLOTS; i++)
		count +=
			WIRE_SLOT_TID(__atomic_load_n(&profd_agent.region.slots[i].state_tid, __ATOMIC_ACQUIRE)) == tid;
	return count;
}

static int set_up(void **state)
{
	(void)state;
	profd_agent.pid = getpid();
	profd_agent.region.header = calloc(1, sizeof(*profd_agent.region.header));
	profd_agent.region.slots = calloc(SLOTS, sizeof(*profd_agent.region.slots));
	profd_agent.region.nslots = SLOTS;
	profd_threads_init();
	profd_threads_join(own_tid(), (struct profd_thread_stack){0, 0}, (struct profd_thread_origin){0, 0});
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	free(profd_agent.region.header);
	free(profd_agent.region.slots);
	return 0;
}

struct waiter {
	uint32_t tid; // atomic
	uint32_t end; // atomic
};

static void *wait_main(void *pointer)
{
	struct waiter *waiter = pointer;

	__atomic_store_n(&waiter->tid, own_tid(), __ATOMIC_RELEASE);
	while (!__atomic_load_n(&waiter->end, __ATOMIC_ACQUIRE))
		usleep(100);
	return NULL;
}

static void *scan_main(void *unused)
{
	profd_threads_scan();
	return unused;
}

static void scan(void)
{
	pthread_t helper;

	assert_int_equal(pthread_create(&helper, NULL, scan_main, NULL), 0);
	pthread_join(helper, NULL);
}

// What an OpenTelemetry SDK would have.
__thread struct wire_otel_record *otel_thread_ctx_v1 __attribute__((visibility("default")));

static void *join_main(void *ret_is_right)
{
	uint32_t slot =
		profd_threads_join(own_tid(), (struct profd_thread_stack){0, 0}, (struct profd_thread_origin){0, 0});

	*(bool *)ret_is_right = profd_agent.region.slots[slot].otel_at == (uint64_t)(uintptr_t)&otel_thread_ctx_v1;
	profd_threads_leave(slot);
	return NULL;
}

// Where its variable is, each thread says of itself alone.
static void test_otel_variable(void **state)
{
	struct wire_slot *slots = profd_agent.region.slots;
	bool is_right = false;
	pthread_t thread;
	uint32_t slot;

	(void)state;
	assert_int_equal(slots[0].otel_at, 0); // it joined before it was known whether there is one
	profd_otel_trace_init();
	assert_int_equal(pthread_create(&thread, NULL, join_main, &is_right), 0);
	pthread_join(thread, NULL);
	assert_true(is_right);
	slot = profd_threads_join(own_tid() + 1, (struct profd_thread_stack){0, 0}, (struct profd_thread_origin){0, 0});
	assert_int_equal(slots[slot].otel_at, 0);
	profd_threads_leave(slot);
}

static void test_scan_adopts_who_is_not_announced(void **state)
{
	struct waiter waiter = {0, 0};
	pthread_t thread;

	(void)state;
	__atomic_store_n(&profd_threads_starting, 1, __ATOMIC_SEQ_CST);
	assert_int_equal(pthread_create(&thread, NULL, wait_main, &waiter), 0);
	while (!__atomic_load_n(&waiter.tid, __ATOMIC_ACQUIRE))
		usleep(100);
	scan();
	assert_int_equal(slots_of(waiter.tid), 0); // it may be the one that is starting
	__atomic_store_n(&profd_threads_starting, 0, __ATOMIC_SEQ_CST);
	scan();
	assert_int_equal(slots_of(waiter.tid), 1);
	scan();
	assert_int_equal(slots_of(waiter.tid), 1);
	__atomic_store_n(&waiter.end, 1, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	scan();
	assert_int_equal(slots_of(waiter.tid), 0);
}

static uint32_t doubled;    // atomic
static uint32_t storm_over; // atomic

// What the interposed pthread_create's thread does.
static void *announced_main(void *unused)
{
	uint32_t slot =
		profd_threads_join(own_tid(), (struct profd_thread_stack){0, 0}, (struct profd_thread_origin){0, 0});

	__atomic_sub_fetch(&profd_threads_starting, 1, __ATOMIC_SEQ_CST);
	sched_yield();
	if (slots_of(own_tid()) != 1)
		__atomic_add_fetch(&doubled, 1, __ATOMIC_RELAXED);
	profd_threads_leave(slot);
	return unused;
}

static void *start_many(void *unused)
{
	pthread_t thread;

	for (int i = 0; i < ROUNDS; i++) {
		__atomic_add_fetch(&profd_threads_starting, 1, __ATOMIC_SEQ_CST);
		if (pthread_create(&thread, NULL, announced_main, NULL) == 0)
			pthread_join(thread, NULL);
	}
	return unused;
}

static void *scan_until_over(void *unused)
{
	while (!__atomic_load_n(&storm_over, __ATOMIC_ACQUIRE))
		profd_threads_scan();
	return unused;
}

static void test_scan_in_a_storm_of_starts(void **state)
{
	pthread_t starters[STARTERS], scanner;

	(void)state;
	assert_int_equal(pthread_create(&scanner, NULL, scan_until_over, NULL), 0);
	for (int i = 0; i < STARTERS; i++) {
		// Not announced themselves: the scan adopts them, while it can.
		assert_int_equal(pthread_create(&starters[i], NULL, start_many, NULL), 0);
	}
	for (int i = 0; i < STARTERS; i++)
		pthread_join(starters[i], NULL);
	__atomic_store_n(&storm_over, 1, __ATOMIC_RELEASE);
	pthread_join(scanner, NULL);
	assert_int_equal(doubled, 0);
	scan();
	assert_int_equal(slots_of(own_tid()), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_otel_variable, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_scan_adopts_who_is_not_announced, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_scan_in_a_storm_of_starts, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
