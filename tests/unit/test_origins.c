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
#include "collector/trace_text.h"
#include "profd/pool.h"
#include "tests/unit/fake_region.h"

#define PID 17

static struct fake_region fake;
static struct region region;
static uint32_t stack, first, second, labels; // numbers in the pool

static struct profd_pool fake_pool(void)
{
	return (struct profd_pool){fake.pool_index, fake.pool_words, &fake.header->pool_used,
				   &fake.header->pool_labels};
}

static uint32_t add_stack(uint16_t npcs, const uint64_t *pcs)
{
	const struct profd_pool pool = fake_pool();
	struct {
		struct wire_pool_stack stack;
		uint64_t pcs[4];
	} item = {.stack.npcs = npcs};

	memcpy(item.pcs, pcs, npcs * sizeof(*pcs));
	return profd_pool_add(&pool, WIRE_ITEM_STACK, &item.stack.head + 1, 1 + npcs, 0);
}

static uint32_t add_context(enum wire_context_kind kind, uint32_t of_stack, uint32_t parent)
{
	const struct profd_pool pool = fake_pool();
	const struct wire_pool_context item = {
		.stack = of_stack, .parent = parent, .kind = (uint8_t)kind, .generation = parent ? 2 : 1};

	return profd_pool_add(&pool, WIRE_ITEM_CONTEXT, &item.head + 1, 2, 2);
}

static uint32_t add_labels(uint32_t nlabels, const char *text, uint32_t bytes)
{
	const struct profd_pool pool = fake_pool();
	struct {
		struct wire_pool_labels labels;
		char text[CONTEXT_LABELS_BYTES + 64];
	} item = {.labels = {.bytes = bytes, .nlabels = nlabels}};

	memcpy(item.text, text, bytes);
	return profd_pool_add(&pool, WIRE_ITEM_LABELS, &item.labels.head + 1, 1 + (bytes + 7) / 8, 0);
}

static int set_up(void **state)
{
	fake_region_make(&fake, PID, 1, WIRE_MIN_SHARD_SIZE);
	assert_int_equal(region_map(fake.fd, fake.size, PID, &region), 0);
	stack = add_stack(2, (const uint64_t[]){0x1000, 0x2000});
	first = add_context(WIRE_CONTEXT_CREATED, stack, 0);
	second = add_context(WIRE_CONTEXT_QUEUED, add_stack(1, (const uint64_t[]){0x3000}), first);
	labels = add_labels(2, "a\0one\0b\0", 9);
	fake.pool_words[first + 3] = 3; // created
	fake.pool_words[first + 4] = 1; // unjoined
	fake.header->slots_used = 3;
	for (uint32_t i = 0; i < 3; i++) {
		fake.slots[i].state_tid = 30 - i;
		fake.slots[i].creator = first;
		fake.slots[i].creator_tid = PID;
		fake.slots[i].work = WIRE_WORK(second, labels);
	}
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
	const struct origin *origin = origins_find(origins, 29);
	const struct origin_context *context;

	assert_non_null(origins);
	assert_int_equal(origins->count, 3);
	assert_null(origins_find(origins, 31));
	assert_null(origins_find(NULL, 31));
	assert_int_equal(origin->creator_tid, PID);
	assert_int_equal(origins->ncontexts, 2);
	context = &origins->contexts[origin->creator - 1];
	assert_int_equal(context->number, first);
	assert_int_equal(context->kind, WIRE_CONTEXT_CREATED);
	assert_int_equal(context->npcs, 2);
	assert_int_equal(context->pcs[1], 0x2000);
	assert_int_equal(context->created, 3);
	assert_int_equal(context->unjoined, 1);
	assert_int_equal(context->parent, 0);
	context = &origins->contexts[origin->context - 1];
	assert_int_equal(context->kind, WIRE_CONTEXT_QUEUED);
	assert_int_equal(context->parent, origin->creator);
	assert_int_equal(context->pcs[0], 0x3000);
	assert_int_equal(origins->nlabels, 1);
	assert_int_equal(origins->labels[origin->labels - 1].labels->count, 2);
	assert_string_equal(origins->labels[0].labels->labels[0].key, "a");
	assert_string_equal(origins->labels[0].labels->labels[0].value, "one");
	assert_string_equal(origins->labels[0].labels->labels[1].value, "");
	assert_false(origin->has_trace);
	origins_destroy(origins);
}

// What a thread is in the middle of writing is not read.
static void test_trace(void **state)
{
	struct origins *origins;

	fake.slots[0].trace.trace_id[3] = 7;
	fake.slots[0].has_trace = 1;
	fake.slots[1].has_trace = 1;
	fake.slots[1].trace_turn = 3;
	origins = origins_read(&region);
	assert_true(origins_find(origins, 30)->has_trace);
	assert_int_equal(origins_find(origins, 30)->trace.trace_id[3], 7);
	assert_false(origins_find(origins, 29)->has_trace);
	assert_false(origins_find(origins, 28)->has_trace);
	origins_destroy(origins);
}

static struct origins *read_lies(uint32_t contexts)
{
	struct origins *origins = origins_read(&region);

	assert_non_null(origins);
	assert_int_equal(origins->ncontexts, contexts);
	return origins;
}

// One word of the pool is another; then it is as it was. Returns what is read meanwhile.
static struct origins *read_with(uint32_t number, uint64_t word, uint32_t contexts)
{
	uint64_t before = fake.pool_words[number];
	struct origins *origins;

	fake.pool_words[number] = word;
	origins = read_lies(contexts);
	fake.pool_words[number] = before;
	return origins;
}

static void test_lying_stacks(void **state)
{
	const uint64_t bodies[] = {WIRE_STACK_FRAMES + 1, 0, 3, 2 | (uint64_t)WIRE_STOP_COUNT << 16};
	const uint64_t heads[] = {0, WIRE_ITEM_HEAD(0, WIRE_ITEM_CONTEXT, 4), WIRE_ITEM_HEAD(0, WIRE_ITEM_STACK, 1),
				  WIRE_ITEM_HEAD(0, WIRE_ITEM_STACK, 0xffffff)};

	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++)
		origins_destroy(read_with(stack + 1, bodies[i], 1));
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
		origins_destroy(read_with(stack, heads[i], 1));
}

static void test_lying_contexts(void **state)
{
	struct origins *origins;

	// Of itself, of one that is younger, of a stack: no parent.
	for (uint64_t parent = second; parent < WIRE_POOL_WORDS; parent *= 2) {
		origins = read_with(second + 1, (fake.pool_words[second + 1] & UINT32_MAX) | parent << 32, 2);
		assert_int_equal(origins->contexts[1].parent, 0);
		origins_destroy(origins);
	}
	origins_destroy(read_with(second + 1, UINT32_MAX, 1));                  // its stack
	origins_destroy(read_with(second + 2, WIRE_CONTEXT_KINDS, 1));          // its kind
	origins = read_with(first, WIRE_ITEM_HEAD(0, WIRE_ITEM_CONTEXT, 4), 1); // without its counts
	assert_int_equal(origins->contexts[0].parent, 0);
	assert_int_equal(origins_find(origins, 29)->creator, 0);
	origins_destroy(origins);
}

// As many of them as may be, added up.
static void test_lying_counts(void **state)
{
	struct origins *origins;
	int64_t sum = 0;

	fake.pool_words[first + 3] = UINT64_MAX;
	fake.pool_words[first + 4] = INT64_MAX;
	origins = origins_read(&region);
	for (uint32_t i = 0; i < WIRE_POOL_INDEX; i++)
		assert_false(__builtin_add_overflow(sum, (int64_t)origins->contexts[0].created, &sum));
	assert_int_equal(origins->contexts[0].unjoined, origins->contexts[0].created);
	origins_destroy(origins);
}

// Ids that were never set are not shown; nor is a flag.
static void test_trace_text(void **state)
{
	struct wire_trace trace = {.flags = 0};
	char text[256] = "";

	trace_text_add(&trace, text, sizeof(text));
	assert_string_equal(text, "");
	trace.flags = WIRE_TRACE_SAMPLED;
	trace_text_add(&trace, text, sizeof(text));
	assert_string_equal(text, "trace_sampled\x1f"
				  "1\x1e");
	text[0] = '\0';
	trace = (struct wire_trace){.trace_id = {[15] = 0xa1}};
	trace_text_add(&trace, text, sizeof(text));
	assert_string_equal(text, "trace_id\x1f"
				  "000000000000000000000000000000a1\x1e");
	text[0] = '\0';
	trace.span_id[0] = 0xff;
	trace_text_add(&trace, text, sizeof(text));
	assert_string_equal(text, "trace_id\x1f"
				  "000000000000000000000000000000a1\x1espan_id\x1f"
				  "ff00000000000000\x1e");
}

static void test_lying_numbers(void **state)
{
	struct origins *origins;

	for (uint32_t i = 0; i < 3; i++) {
		fake.slots[i].creator = i ? UINT32_MAX - i : first + 1;
		fake.slots[i].work = WIRE_WORK(labels, UINT32_MAX);
	}
	for (uint32_t i = 0; i < WIRE_POOL_INDEX; i++)
		if (!fake.pool_index[i])
			fake.pool_index[i] = i * 0x9e3779b1u;
	fake.header->slots_used = UINT32_MAX;
	fake.header->pool_used = UINT32_MAX;
	origins = origins_read(&region);
	assert_non_null(origins);
	assert_int_equal(origins->count, 0);
	origins_destroy(origins);
}

static void test_lying_labels(void **state)
{
	struct origins *origins;

	add_labels(1, "no value\0no NUL", 15);
	add_labels(1, "one\0", 4);
	add_labels(1, "\0no key\0", 8);
	add_labels(WIRE_LABELS + 1, "a\0b\0", 4);
	add_labels(1, "a key of thirty-two bytes or more\0b\0", 36);
	add_labels(0, (const char[CONTEXT_LABELS_BYTES + 1]){0}, CONTEXT_LABELS_BYTES + 1);
	origins = origins_read(&region);
	assert_int_equal(origins->nlabels, 1);
	assert_int_equal(origins->labels[0].number, labels);
	origins_destroy(origins);
}

static void test_no_room_for_the_pool(void **state)
{
	struct region other;

	fake.header->pool_off = fake.header->ring_off - WIRE_PAGE; // it would reach into the ring
	assert_int_equal(region_map(fake.fd, fake.size, PID, &other), -EINVAL);
	fake.header->pool_off = fake.header->slots_off;
	assert_int_equal(region_map(fake.fd, fake.size, PID, &other), -EINVAL);
}

// OpenTelemetry's goes before the thread's own, as long as it is the same thread.
static void test_spans(void **state)
{
	struct origins *origins;

	fake.slots[0].trace.trace_id[3] = 7;
	fake.slots[0].has_trace = 1;
	for (uint32_t i = 0; i < 3; i++)
		fake.slots[i].otel_at = 0x1000 + i;
	origins = origins_read(&region);
	for (uint32_t i = 0; i < 3; i++) {
		struct origin *origin = &origins->threads[i];

		assert_int_equal(origin->otel_at, 0x1000 + 30 - origin->tid);
		origin->span.trace_id[3] = 9;
		origin->has_span = origin->tid != 28;
	}
	origins_confirm_spans(origins, NULL);
	assert_int_equal(origins_find(origins, 30)->trace.trace_id[3], 7);
	fake.slots[1].state_tid = 1ULL << 32 | 29; // another thread with the same number
	origins_confirm_spans(origins, &region);
	assert_int_equal(origins_find(origins, 30)->trace.trace_id[3], 9);
	assert_false(origins_find(origins, 29)->has_trace);
	assert_false(origins_find(origins, 28)->has_trace);
	origins_destroy(origins);
}

// Nothing else is known of it: it is there for its span.
static void test_only_a_span(void **state)
{
	struct origins *origins;

	fake.slots[1].creator = 0;
	fake.slots[1].work = 0;
	origins = origins_read(&region);
	assert_null(origins_find(origins, 29));
	origins_destroy(origins);
	fake.slots[1].otel_at = 1;
	origins = origins_read(&region);
	assert_non_null(origins_find(origins, 29));
	origins_destroy(origins);
}

// Found in the memory of a process, this one, and copied.
static void test_of_a_process(void **state)
{
	static struct wire_otel_record record = {.trace_id = {3}, .span_id = {[7] = 5}, .valid = WIRE_OTEL_VALID};
	const struct wire_otel_record *variable = &record;
	const uint64_t pool_off = fake.header->pool_off;
	struct origins *origins;

	region_unmap(&region);
	assert_null(origins_read_process(getpid(), NULL)); // another process's
	fake.header->pid = (uint32_t)getpid();
	origins = origins_read_process(getpid(), NULL);
	assert_non_null(origins);
	assert_int_equal(origins->count, 3);
	assert_int_equal(origins_find(origins, 29)->creator_tid, PID);
	assert_int_equal(origins->contexts[0].pcs[1], 0x2000);
	assert_false(origins_find(origins, 29)->has_trace);
	origins_destroy(origins);
	fake.slots[1].otel_at = (uint64_t)(uintptr_t)&variable;
	origins = origins_read_process(getpid(), NULL);
	assert_true(origins_find(origins, 29)->has_trace);
	assert_int_equal(origins_find(origins, 29)->trace.span_id[7], 5);
	assert_false(origins_find(origins, 28)->has_trace);
	origins_destroy(origins);
	fake.header->slots_used = UINT32_MAX;
	origins = origins_read_process(getpid(), NULL);
	assert_int_equal(origins->count, 3);
	origins_destroy(origins);
	for (uint64_t off = 0; off <= fake.size; off += WIRE_PAGE) {
		fake.header->pool_off = off;
		origins = origins_read_process(getpid(), NULL);
		assert_true(!origins == (off != pool_off));
		origins_destroy(origins);
	}
	fake.header->pool_off = pool_off;
	fake.header->nslots = WIRE_MAX_SLOTS;
	assert_null(origins_read_process(getpid(), NULL));
	fake.header->nslots = FAKE_SLOTS;
	fake.header->version++;
	assert_null(origins_read_process(getpid(), NULL));
	assert_null(origins_read_process(INT32_MAX, NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_read, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_trace, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_spans, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_only_a_span, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_lying_stacks, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_lying_contexts, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_lying_counts, set_up, tear_down),
		cmocka_unit_test(test_trace_text),
		cmocka_unit_test_setup_teardown(test_lying_numbers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_lying_labels, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_room_for_the_pool, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_of_a_process, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
