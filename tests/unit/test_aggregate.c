// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_aggregate.c: what a window keeps its samples in (aggregate.c), the table under it (intern.c), and where
// its frames come from (frame_lookup.c).

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collector/aggregate.h"
#include "collector/frame_lookup.h"
#include "collector/mapping.h"
#include "collector/ring_reader.h"
#include "collector/session.h"
#include "profd/wire.h"

#define BUDGET (8u << 20)

struct item {
	uint64_t key;
	uint64_t value;
};

static void test_intern_finds_what_it_was_given(void **state)
{
	struct intern_budget budget = {.max = SIZE_MAX};
	struct intern table;

	intern_init(&table, sizeof(struct item), sizeof(uint64_t), &budget);
	for (uint64_t i = 0; i < 100000; i++) {
		uint64_t key = i * 0x9e3779b97f4a7c15ULL;
		bool new = false;
		uint32_t index = intern_add(&table, &key, &new);
		struct item *item = intern_item(&table, index);

		assert_true(new);
		assert_int_equal(index, i);
		assert_int_equal(item->value, 0);
		item->value = i;
	}
	for (uint64_t i = 0; i < 100000; i++) {
		uint64_t key = i * 0x9e3779b97f4a7c15ULL, absent = key + 1;
		uint32_t index = intern_find(&table, &key);

		assert_int_equal(((struct item *)intern_item(&table, index))->value, i);
		assert_int_equal(intern_find(&table, &absent), INTERN_NONE);
	}
	assert_int_equal(table.count, 100000);
	intern_finish(&table);
	assert_int_equal(budget.used, 0);
}

static void test_intern_keeps_to_its_budget(void **state)
{
	struct intern_budget budget = {.max = 10000};
	struct intern table;
	uint64_t key = 0;

	intern_init(&table, sizeof(struct item), sizeof(uint64_t), &budget);
	assert_int_equal(intern_find(&table, &key), INTERN_NONE);
	while (intern_add(&table, &key, NULL) != INTERN_NONE)
		key++;
	assert_true(key > 100 && key <= 10000 / sizeof(struct item));
	assert_true(budget.used <= budget.max);
	// What is known is still found, and added without being made.
	key = 5;
	assert_int_equal(intern_add(&table, &key, NULL), 5);
	intern_finish(&table);
	assert_int_equal(budget.used, 0);
}

static struct aggregate *set_up(size_t max_bytes)
{
	struct aggregate *aggregate = calloc(1, sizeof(*aggregate));

	assert_non_null(aggregate);
	aggregate_init(aggregate, max_bytes);
	return aggregate;
}

static void tear_down(struct aggregate *aggregate)
{
	aggregate_finish(aggregate);
	assert_int_equal(aggregate->budget.used, 0);
	free(aggregate);
}

static int add(struct aggregate *aggregate, uint32_t thread, const struct aggregate_frame *frames, size_t nframes,
	       uint64_t samples, uint64_t cpu_ns)
{
	const struct aggregate_sample sample = {.thread = thread, .samples = samples, .cpu_ns = cpu_ns};

	return aggregate_add(aggregate, &sample, frames, nframes);
}

static const struct aggregate_sample *sample_at(const struct aggregate *aggregate, uint32_t index)
{
	assert_true(index < aggregate->samples.count);
	return intern_item(&aggregate->samples, index);
}

static void test_same_stack_is_one_sample(void **state)
{
	struct aggregate *aggregate = set_up(BUDGET);
	struct mapping *mapping = mapping_create(0x1000, 0x9000, 0, "/bin/x");
	const struct aggregate_frame stack[] = {
		{mapping, 0x1100 | WIRE_PC_EXACT}, {mapping, 0x1200}, {mapping, 0x1300}};
	const struct aggregate_frame other[] = {
		{mapping, 0x1101 | WIRE_PC_EXACT}, {mapping, 0x1200}, {mapping, 0x1300}};
	uint32_t thread, node;
	bool new;

	assert_int_equal(aggregate_thread(aggregate, 1, 10, &thread, &new), 0);
	assert_true(new);
	for (int i = 0; i < 5; i++)
		assert_int_equal(add(aggregate, thread, stack, 3, 2, 1000), 0);
	assert_int_equal(add(aggregate, thread, other, 3, 1, 10), 0);
	assert_int_equal(aggregate->samples.count, 2);
	assert_int_equal(aggregate->nodes.count, 4); // two leaves share the rest
	assert_int_equal(sample_at(aggregate, 0)->samples, 10);
	assert_int_equal(sample_at(aggregate, 0)->cpu_ns, 5000);
	assert_int_equal(sample_at(aggregate, 1)->samples, 1);
	node = sample_at(aggregate, 0)->node;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(aggregate_node(aggregate, node)->pc, stack[i].pc);
		assert_ptr_equal(aggregate_mapping(aggregate, aggregate_node(aggregate, node)->mapping), mapping);
		node = aggregate_node(aggregate, node)->parent;
	}
	assert_int_equal(node, AGGREGATE_ROOT);
	assert_int_equal(mapping->refs, 2);
	tear_down(aggregate);
	assert_int_equal(mapping->refs, 1);
	mapping_unref(mapping);
}

// A stack, its head, its tail; an exact PC and a return address; the same PC in another mapping; another thread: all are different.
static void test_what_differs_is_kept_apart(void **state)
{
	struct aggregate *aggregate = set_up(BUDGET);
	struct mapping *one = mapping_create(0x1000, 0x9000, 0, "/bin/x");
	struct mapping *two = mapping_create(0x1000, 0x9000, 0, "/bin/y");
	const struct aggregate_frame stack[] = {{one, 0x1100}, {one, 0x1200}};
	const struct aggregate_frame exact[] = {{one, 0x1100 | WIRE_PC_EXACT}, {one, 0x1200}};
	const struct aggregate_frame moved[] = {{two, 0x1100}, {one, 0x1200}};
	const struct aggregate_frame nowhere[] = {{NULL, 0x1100}, {one, 0x1200}};
	uint32_t thread, second, third;
	bool new;

	aggregate_thread(aggregate, 1, 10, &thread, &new);
	aggregate_thread(aggregate, 1, 11, &second, &new);
	assert_true(new);
	aggregate_thread(aggregate, 2, 10, &third, &new);
	assert_true(new);
	aggregate_thread(aggregate, 1, 11, &third, &new);
	assert_false(new);
	assert_int_equal(third, second);
	add(aggregate, thread, stack, 2, 1, 1);
	add(aggregate, thread, stack, 1, 1, 1);
	add(aggregate, thread, stack + 1, 1, 1, 1);
	add(aggregate, thread, exact, 2, 1, 1);
	add(aggregate, thread, moved, 2, 1, 1);
	add(aggregate, thread, nowhere, 2, 1, 1);
	add(aggregate, second, stack, 2, 1, 1);
	assert_int_equal(aggregate->samples.count, 7);
	assert_int_equal(aggregate->threads.count, 3);
	tear_down(aggregate);
	mapping_unref(one);
	mapping_unref(two);
}

static void test_sums_saturate(void **state)
{
	struct aggregate *aggregate = set_up(BUDGET);
	const struct aggregate_frame stack[] = {{NULL, 1}};
	uint32_t thread;

	aggregate_thread(aggregate, 1, 10, &thread, NULL);
	for (int i = 0; i < 3; i++)
		add(aggregate, thread, stack, 1, INT64_MAX - 5, UINT64_MAX - 5);
	assert_int_equal(sample_at(aggregate, 0)->samples, INT64_MAX);
	assert_int_equal(sample_at(aggregate, 0)->cpu_ns, INT64_MAX);
	tear_down(aggregate);
}

// Past the budget what is known still counts; nothing new is half there.
static void test_budget(void **state)
{
	struct aggregate *aggregate = set_up(1u << 20);
	struct mapping *mapping = mapping_create(0, UINT64_MAX, 0, "/bin/x");
	uint64_t kept = 0, refused = 0;
	uint32_t thread;

	aggregate_thread(aggregate, 1, 10, &thread, NULL);
	for (uint64_t i = 0; i < 100000; i++) {
		const struct aggregate_frame stack[] = {{mapping, i}, {mapping, i + 7}, {mapping, 7}};

		if (add(aggregate, thread, stack, 3, 1, 1) == 0)
			kept++;
		else
			refused++;
	}
	assert_true(kept > 1000 && refused > 1000);
	assert_true(aggregate->budget.used <= aggregate->budget.max);
	assert_int_equal(aggregate->samples.count, kept);
	const struct aggregate_frame known[] = {{mapping, 0}, {mapping, 7}, {mapping, 7}};
	assert_int_equal(add(aggregate, thread, known, 3, 1, 1), 0);
	assert_int_equal(sample_at(aggregate, 0)->samples, 2);
	tear_down(aggregate);
	assert_int_equal(mapping->refs, 1);
	mapping_unref(mapping);
}

static void test_deepest_stack(void **state)
{
	struct aggregate *aggregate = set_up(BUDGET);
	struct aggregate_frame stack[WIRE_MAX_FRAMES];
	uint32_t thread, node, depth = 0;

	for (uint32_t i = 0; i < WIRE_MAX_FRAMES; i++)
		stack[i] = (struct aggregate_frame){NULL, 42}; // recursion: equal frames, each a node of its own
	aggregate_thread(aggregate, 1, 10, &thread, NULL);
	assert_int_equal(add(aggregate, thread, stack, WIRE_MAX_FRAMES, 1, 1), 0);
	for (node = sample_at(aggregate, 0)->node; node != AGGREGATE_ROOT;
	     node = aggregate_node(aggregate, node)->parent)
		depth++;
	assert_int_equal(depth, WIRE_MAX_FRAMES);
	tear_down(aggregate);
}

// Stacks as a program has them: much in common from the root, a leaf that may be a caller elsewhere.
static uint32_t make_stack(uint64_t *pcs, uint32_t max)
{
	uint32_t n = 1 + (uint32_t)rand() % max;

	for (uint32_t i = 0; i < n; i++)
		pcs[n - 1 - i] = 0x1000 + (uint64_t)(rand() % 8 ? 1 : rand() % 4) * 0x800;
	return n;
}

static void test_what_the_last_stack_left_changes_nothing(void **state)
{
	struct aggregate *remembering = set_up(BUDGET), *forgetful = set_up(BUDGET);
	struct mapping *mapping = mapping_create(0x1000, 0x9000, 0, "/bin/x");
	uint32_t thread;

	aggregate_thread(remembering, 1, 10, &thread, NULL);
	aggregate_thread(forgetful, 1, 10, &thread, NULL);
	srand(1);
	for (int i = 0; i < 20000; i++) {
		struct aggregate_frame frames[6];
		uint64_t pcs[6];
		uint32_t n = make_stack(pcs, 6);

		for (uint32_t k = 0; k < n; k++)
			frames[k] = (struct aggregate_frame){rand() % 10 ? mapping : NULL, pcs[k]};
		forgetful->path_length = 0;
		assert_int_equal(add(remembering, thread, frames, n, 1, 1), 0);
		assert_int_equal(add(forgetful, thread, frames, n, 1, 1), 0);
	}
	assert_int_equal(remembering->nodes.count, forgetful->nodes.count);
	assert_memory_equal(remembering->nodes.items, forgetful->nodes.items,
			    remembering->nodes.count * sizeof(struct aggregate_node));
	assert_int_equal(remembering->samples.count, forgetful->samples.count);
	assert_memory_equal(remembering->samples.items, forgetful->samples.items,
			    remembering->samples.count * sizeof(struct aggregate_sample));
	tear_down(remembering);
	tear_down(forgetful);
	mapping_unref(mapping);
}

static struct mapping_set *make_mapping_set(struct mapping *const *mappings, size_t count, uint32_t maps_gen)
{
	struct mapping_set *set = calloc(1, sizeof(*set) + count * sizeof(set->entries[0]));

	assert_non_null(set);
	set->maps_gen = maps_gen;
	set->count = count;
	for (size_t i = 0; i < count; i++)
		set->entries[i].mapping = mapping_ref(mappings[i]);
	return set;
}

static void test_frames_are_those_of_the_records_own_mappings(void **state)
{
	struct frame_lookup *lookup = calloc(1, sizeof(*lookup));
	struct ring_record *record = calloc(1, sizeof(*record));
	struct session *sessions = calloc(2, sizeof(*sessions));
	struct mapping *low = mapping_create(0x1000, 0x1800, 0, "/bin/a"),
		       *high = mapping_create(0x1800, 0x3000, 0, "/bin/b");
	struct mapping *other = mapping_create(0x1000, 0x3000, 0, "/bin/c");
	struct mapping *both[] = {low, high};

	for (uint32_t i = 0; i < 2; i++) {
		sessions[i].id = i + 1;
		sessions[i].mapping_sets[0] = make_mapping_set(i ? &other : both, i ? 1 : 2, 5);
	}
	sessions[0].mapping_sets[1] = make_mapping_set(&other, 1, 3);
	srand(1);
	for (int i = 0; i < 20000; i++) {
		struct session *session = &sessions[rand() % 8 == 0];
		bool unknown;
		size_t n;

		record->sample.nframes = (uint16_t)make_stack(record->pcs, 6);
		record->sample.maps_gen = rand() % 8 ? 5 : 3;
		if (rand() % 50 == 0) { // the newest mappings go, and come back
			struct mapping_set *swap = sessions[0].mapping_sets[0];

			sessions[0].mapping_sets[0] = sessions[0].mapping_sets[1];
			sessions[0].mapping_sets[1] = swap;
			sessions[0].maps_changes++;
		}
		n = frame_lookup(lookup, session, record, &unknown);
		assert_int_equal(n, record->sample.nframes);
		for (uint32_t k = 0; k < n; k++) {
			uint64_t address = record->pcs[k] - (k > 0);

			assert_ptr_equal(lookup->frames[k].mapping,
					 session_find_mapping(session, record->sample.maps_gen, address));
			assert_int_equal(lookup->frames[k].pc, record->pcs[k] | (k == 0 ? WIRE_PC_EXACT : 0));
		}
	}
	for (int i = 0; i < 2; i++)
		session_release_maps(&sessions[i]);
	mapping_unref(low);
	mapping_unref(high);
	mapping_unref(other);
	free(lookup);
	free(record);
	free(sessions);
}

static void test_agent_mapping_is_known(void **state)
{
	static const struct {
		const char *path;
		bool agent;
	} cases[] = {
		{"/usr/lib/libprofd.so", true},    {"/x/libprofd.so.1.2", true}, {"/x/libprofd.sock", false},
		{"/libprofd.so.d/libc.so", false}, {"libprofd.so", false},       {"", false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct mapping *mapping = mapping_create(1, 2, 0, cases[i].path);

		assert_int_equal(mapping->agent, cases[i].agent);
		mapping_unref(mapping);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_intern_finds_what_it_was_given),
		cmocka_unit_test(test_intern_keeps_to_its_budget),
		cmocka_unit_test(test_same_stack_is_one_sample),
		cmocka_unit_test(test_what_differs_is_kept_apart),
		cmocka_unit_test(test_sums_saturate),
		cmocka_unit_test(test_budget),
		cmocka_unit_test(test_deepest_stack),
		cmocka_unit_test(test_what_the_last_stack_left_changes_nothing),
		cmocka_unit_test(test_frames_are_those_of_the_records_own_mappings),
		cmocka_unit_test(test_agent_mapping_is_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
