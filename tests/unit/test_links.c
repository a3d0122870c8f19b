// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_links.c: what a thread works for, its labels and its trace, as profd.h's functions change them: what is put back, what is never made up, and
// what a fork's child is left with. Every stack is one made-up frame.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "include/profd.h"
#include "profd/agent.h"
#include "profd/contexts.h"
#include "profd/labels.h"
#include "profd/links.h"
#include "profd/threads.h"
#include "profd/unwind.h"

struct profd_agent profd_agent = {.cookie = 1};
__thread uint32_t profd_thread_slot;
static struct wire_header header;
static struct wire_slot slot;

bool profd_agent_is_on(void)
{
	return true;
}

void profd_region_keep_pool(struct profd_region *region)
{
	(void)region;
}

void profd_region_release_pool(void *pool)
{
	(void)pool;
}

uint32_t profd_caller_walk_words(struct profd_caller caller, struct profd_walk_words *words, uint64_t *pcs,
				 uint32_t max, uint8_t *ret_stop)
{
	(void)words;
	(void)max;
	pcs[0] = caller.pc;
	*ret_stop = WIRE_STOP_END;
	return 1;
}

uint32_t profd_caller_walk(struct profd_caller caller, uint64_t *pcs, uint32_t max, uint8_t *ret_stop)
{
	return profd_caller_walk_words(caller, NULL, pcs, max, ret_stop);
}

static int set_up(void **state)
{
	(void)state;
	memset(&header, 0, sizeof(header));
	memset(&slot, 0, sizeof(slot));
	slot.state_tid = 100;
	profd_agent.region.header = &header;
	profd_agent.region.slots = &slot;
	profd_agent.region.nslots = 1;
	profd_agent.region.pool_index = calloc(WIRE_POOL_INDEX, sizeof(uint32_t));
	profd_agent.region.pool_words = calloc(WIRE_POOL_WORDS, sizeof(uint64_t));
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	free(profd_agent.region.pool_index);
	free(profd_agent.region.pool_words);
	return 0;
}

static struct profd_link capture(uint64_t pc)
{
	struct profd_link link;

	profd_links_capture((struct profd_caller){.pc = pc}, &link);
	return link;
}

// ---- Labels ---------------------------------------------------------------------------------------------------------

static void test_keys(void **state)
{
	(void)state;
	assert_int_equal(profd_labels_set(NULL, "v"), -1);
	assert_int_equal(profd_labels_set("", "v"), -1);
	assert_int_equal(profd_labels_set("0123456789012345678901234567890", "v"), 0);
	assert_int_equal(profd_labels_set("01234567890123456789012345678901", "v"), -1);
	profd_labels_clear(NULL);
	profd_labels_clear("01234567890123456789012345678901");
	assert_int_not_equal(WIRE_WORK_LABELS(slot.work), 0);
	profd_labels_clear("0123456789012345678901234567890");
	assert_int_equal(slot.work, 0);
}

// Clearing makes no trace, and leaves of one what is not cleared.
static void test_cleared_traces(void **state)
{
	struct wire_trace trace;

	(void)state;
	profd_labels_clear("span_id");
	profd_labels_clear("trace_sampled");
	profd_labels_clear("trace_id");
	assert_false(profd_labels_trace(&trace));
	assert_int_equal(profd_labels_set("span_id", "0102030405060708"), 0);
	assert_int_equal(profd_labels_set("trace_id", "0102030405060708090a0b0c0d0e0f10"), 0);
	assert_int_equal(profd_labels_set("trace_sampled", "1"), 0);
	profd_labels_clear("span_id");
	assert_true(profd_labels_trace(&trace));
	assert_int_equal(trace.trace_id[15], 0x10);
	assert_int_equal(trace.span_id[7], 0);
	assert_int_equal(trace.flags, WIRE_TRACE_SAMPLED);
	profd_labels_clear("trace_id");
	assert_false(profd_labels_trace(&trace));
}

// ---- Scopes ---------------------------------------------------------------------------------------------------------

static void test_what_is_put_back(void **state)
{
	struct profd_link link = capture(0x1000);
	uint64_t before;

	(void)state;
	profd_labels_set("route", "/a");
	before = slot.work;
	profd_links_enter(&link);
	assert_true(profd_links_entered());
	assert_int_not_equal(WIRE_WORK_CONTEXT(slot.work), 0);
	assert_int_equal(WIRE_WORK_LABELS(slot.work), 0); // the link's: it had none
	profd_labels_set("route", "/b");
	profd_links_leave();
	assert_int_equal(slot.work, before);
	profd_links_leave(); // one too many
	assert_int_equal(slot.work, before);
	for (int i = 0; i < 40; i++) // deeper than they nest
		profd_links_enter(&link);
	for (int i = 0; i < 40; i++)
		profd_links_leave();
	assert_int_equal(slot.work, before);
	assert_false(profd_links_entered());
}

// A link of another process means nothing here, but for its trace.
static void test_links_of_others(void **state)
{
	struct profd_link link;
	struct wire_trace trace = {.trace_id = {7}};

	(void)state;
	profd_labels_set("route", "/a");
	profd_labels_set_trace(true, &trace);
	link = capture(0x1000);
	profd_labels_set_trace(false, &trace);
	profd_agent.cookie = 2;
	profd_links_enter(&link);
	assert_int_equal(slot.work, 0);
	assert_true(profd_labels_trace(&trace));
	assert_int_equal(trace.trace_id[0], 7);
	profd_links_leave();
	assert_false(profd_labels_trace(&trace));
	profd_agent.cookie = 1;
}

// What was entered before a fork is left in the child: there it goes on with what it was born with, which is why it is there at all.
static void test_a_child_leaves(void **state)
{
	struct profd_link link = capture(0x1000);
	struct wire_trace trace = {.trace_id = {7}};
	uint32_t born;

	(void)state;
	profd_labels_set_trace(true, &trace);
	profd_links_enter(&link);
	profd_links_enter(NULL);
	profd_contexts_before_fork((struct profd_caller){.pc = 0x2000});
	// The child has a region of its own.
	memset(profd_agent.region.pool_index, 0, WIRE_POOL_INDEX * sizeof(uint32_t));
	memset(profd_agent.region.pool_words, 0, WIRE_POOL_WORDS * sizeof(uint64_t));
	header.pool_used = 0;
	born = profd_contexts_add(WIRE_CONTEXT_CREATED, profd_contexts_stack((struct profd_caller){.pc = 0x2000}, NULL),
				  0);
	slot.work = WIRE_WORK(born, 0);
	slot.has_trace = 0;
	profd_links_forget(slot.work);
	profd_links_leave();
	assert_int_equal(slot.work, WIRE_WORK(born, 0));
	profd_links_leave();
	assert_int_equal(slot.work, WIRE_WORK(born, 0));
	assert_false(profd_links_entered());
	assert_false(profd_labels_trace(&trace));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_keys, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_cleared_traces, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_is_put_back, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_links_of_others, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_child_leaves, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
