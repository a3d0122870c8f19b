// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_unwind_memo.c: a walk that may use what earlier ones found says what one without says (unwind_memo.h), whatever became of the
// stack meanwhile; and it does use it. Stacks here are of functions in all orders, with frames of a few sizes, so that other callers'
// frames come to lie where the last ones' were, and old words stay where nobody writes. test_unwind.c and test_unwind_storm.c do the same at every instruction
// of code of many kinds.

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <cmocka.h>

#include "profd/safe_read.h"
#include "profd/unwind_memo.h"
#include "tests/unit/unwind_modules.h"

#define MAX_PCS 512
#define MAX_DEPTH 300
#define NOINLINE __attribute__((noinline))
#define OPAQUE(x) __asm__ volatile("" : "+r"(x)::"memory")

struct stack {
	uint32_t count;
	uint8_t stop;
	uint64_t pcs[MAX_PCS];
};

static struct unwind_modules modules;
static struct profd_walk_memo memo;
static uint64_t stack_high;
static uint32_t max_pcs = MAX_PCS;
static struct stack plain, remembered;
static unsigned wrong; // walks

// ---- Walks ---------------------------------------------------------------------------------------------------------

static int forget(void **state)
{
	memset(&memo, 0, sizeof(memo));
	wrong = 0;
	return 0;
}

static int check_none_wrong(void **state)
{
	assert_int_equal(wrong, 0);
	return 0;
}

// How many rules the walk looked up: each is in the cache then, which was empty.
static uint32_t cached(void)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < PROFD_UNWIND_CACHE_ENTRIES; i++)
		count += modules.cache[i] != 0;
	return count;
}

static void check_walks(const ucontext_t *uc)
{
	static const uint8_t greg[] = {REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI, REG_RBP, REG_RSP, REG_R8,
				       REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP};
	struct profd_unwind_context context;
	struct profd_stack_range range;

	for (int i = 0; i < PROFD_UNWIND_REGS; i++)
		context.regs[i] = (uint64_t)uc->uc_mcontext.gregs[greg[i]];
	range = (struct profd_stack_range){context.regs[PROFD_ARCH_SP], stack_high};
	remembered.count = profd_unwind_table_memo(&modules.set, &context, range, &memo, remembered.pcs, max_pcs,
						   &remembered.stop);
	plain.count = profd_unwind_table(&modules.set, &context, range, plain.pcs, max_pcs, &plain.stop);
	wrong += remembered.count != plain.count || remembered.stop != plain.stop ||
		 memcmp(remembered.pcs, plain.pcs, plain.count * sizeof(plain.pcs[0])) != 0;
}

// ---- Stacks --------------------------------------------------------------------------------------------------------

// The functions that are on the stack, outermost first.
static uint8_t path[MAX_DEPTH];
static unsigned depth;
static void (*at_the_leaf)(const ucontext_t *uc) = check_walks;

typedef uint64_t level(unsigned at, uint64_t x);
static level *levels[8];

NOINLINE static uint64_t go_on(unsigned at, uint64_t x)
{
	ucontext_t uc;

	if (at < depth)
		return levels[path[at] % 8](at + 1, x) + 1;
	getcontext(&uc);
	at_the_leaf(&uc);
	return x;
}

// The last two keep a frame pointer; the caller's is to be found where they saved it.
#define LEVEL(n)                                                                    \
	NOINLINE static uint64_t level_##n(unsigned at, uint64_t x)                 \
	{                                                                           \
		volatile uint64_t space[(n) % 4 * 6 + 1];                           \
		void *frame = (n) < 6 ? NULL : __builtin_frame_address(0);          \
		uint64_t result;                                                    \
                                                                                    \
		OPAQUE(frame);                                                      \
		space[0] = x;                                                       \
		result = at % 3 == 0 ? go_on(at, x + (n)) : go_on(at, x * 3 + (n)); \
		OPAQUE(result);                                                     \
		return result + space[0];                                           \
	}
LEVEL(0)
LEVEL(1)
LEVEL(2)
LEVEL(3)
LEVEL(4)
LEVEL(5)
LEVEL(6)
LEVEL(7)
static level *levels[8] = {level_0, level_1, level_2, level_3, level_4, level_5, level_6, level_7};

static uint64_t next_random(void)
{
	static uint64_t x = 88172645463325252u;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x >> 11;
}

static void walk_at(unsigned levels_deep)
{
	volatile uint64_t sink;

	depth = levels_deep;
	sink = go_on(0, 1);
	(void)sink;
}

// All functions in turn, from one place, so that all of the stack is the same each time; the last time with `last` at the leaf.
static void walk_all_in_turn(unsigned levels_deep, void (*last)(const ucontext_t *))
{
	for (unsigned at = 0; at < MAX_DEPTH; at++)
		path[at] = (uint8_t)at;
	for (volatile int i = 0; i < 3; i++) { // not to be unrolled
		at_the_leaf = i == 2 ? last : check_walks;
		walk_at(levels_deep);
	}
	at_the_leaf = check_walks;
}

// ---- Tests ---------------------------------------------------------------------------------------------------------

static void test_same_stack_again(void **state)
{
	walk_all_in_turn(40, check_walks);
	assert_int_equal(plain.stop, WIRE_STOP_END);
	assert_in_range(memo.count, 80, PROFD_MEMO_FRAMES);
}

static void look_at_cache(const ucontext_t *uc)
{
	struct profd_unwind_context context = {{0}};
	struct profd_stack_range range;

	context.regs[PROFD_ARCH_PC] = (uint64_t)uc->uc_mcontext.gregs[REG_RIP];
	context.regs[PROFD_ARCH_SP] = (uint64_t)uc->uc_mcontext.gregs[REG_RSP];
	context.regs[PROFD_ARCH_FP] = (uint64_t)uc->uc_mcontext.gregs[REG_RBP];
	range = (struct profd_stack_range){context.regs[PROFD_ARCH_SP], stack_high};
	memset(modules.cache, 0, sizeof(modules.cache));
	remembered.count = profd_unwind_table_memo(&modules.set, &context, range, &memo, remembered.pcs, max_pcs,
						   &remembered.stop);
}

// Only the frames below the first one that is known are looked up.
static void test_it_is_used(void **state)
{
	walk_all_in_turn(40, look_at_cache);
	assert_int_equal(remembered.stop, WIRE_STOP_END);
	assert_int_equal(remembered.count, plain.count);
	assert_in_range(cached(), 0, 4);
	walk_all_in_turn(40, check_walks);
	assert_in_range(cached(), 20, 100);
}

static void test_any_stacks(void **state)
{
	for (int i = 0; i < 20000; i++) {
		unsigned from = (unsigned)next_random() % 24, levels_deep = 1 + (unsigned)next_random() % 24;

		for (unsigned at = from; at < levels_deep; at++)
			path[at] = (uint8_t)next_random();
		walk_at(levels_deep);
	}
}

// One frame changes, in the middle: with the same function, or one whose frame is as large, all others stay where they are.
static void test_one_frame_changes(void **state)
{
	memset(path, 2, sizeof(path));
	for (unsigned at = 0; at < 30; at++) {
		path[at] = 4;
		walk_at(30);
		walk_at(30);
		path[at] = 6;
		walk_at(30);
		path[at] = 2;
	}
}

static void test_deeper_than_a_memo(void **state)
{
	walk_all_in_turn(MAX_DEPTH / 2, check_walks);
	assert_int_equal(plain.stop, WIRE_STOP_END);
	assert_in_range(plain.count, 2 * PROFD_MEMO_FRAMES, MAX_PCS);
	assert_int_equal(memo.count, PROFD_MEMO_FRAMES);
	for (int i = 0; i < 200; i++) {
		path[next_random() % (MAX_DEPTH / 2)] = (uint8_t)next_random();
		walk_at(MAX_DEPTH / 2);
	}
}

static void test_no_room_for_all(void **state)
{
	walk_all_in_turn(40, check_walks);
	for (max_pcs = 1; max_pcs < 100; max_pcs++)
		walk_at(40);
	max_pcs = MAX_PCS;
	walk_at(40);
}

// What it found by other tables is nothing to it; and without a number nothing is remembered.
static void test_other_modules(void **state)
{
	uint64_t serial = modules.set.serial;

	walk_all_in_turn(40, check_walks);
	assert_in_range(memo.count, 80, PROFD_MEMO_FRAMES);
	// As if by these other tables a frame had not been one: every word that is left is right.
	memmove(&memo.frames[20], &memo.frames[21], (--memo.count - 20) * sizeof(memo.frames[0]));
	modules.set.serial = serial + 1;
	walk_all_in_turn(40, check_walks);
	assert_int_equal(memo.serial, serial + 1);
	memset(&memo, 0, sizeof(memo));
	modules.set.serial = 0;
	walk_all_in_turn(40, check_walks);
	assert_int_equal(memo.count, 0);
	modules.set.serial = serial;
}

static void *walk_in_thread(void *unused)
{
	pthread_attr_t attributes;
	size_t size;
	void *low;

	pthread_getattr_np(pthread_self(), &attributes);
	pthread_attr_getstack(&attributes, &low, &size);
	pthread_attr_destroy(&attributes);
	stack_high = (uint64_t)(uintptr_t)low + size;
	for (int i = 0; i < 50; i++) {
		path[next_random() % 20] = (uint8_t)next_random();
		walk_at(20);
	}
	return NULL;
}

// One memo serves threads in turn: one after the other has the same stack, as a rule, others have their own.
static void test_of_many_threads(void **state)
{
	uint64_t high = stack_high;

	for (int i = 0; i < 20; i++) {
		pthread_t thread;

		assert_int_equal(pthread_create(&thread, NULL, walk_in_thread, NULL), 0);
		pthread_join(thread, NULL);
		stack_high = high;
		walk_at(20);
	}
}

static void set_up(void)
{
	pthread_attr_t attributes;
	size_t size;
	void *low;

	elf_version(EV_CURRENT);
	profd_safe_read_init();
	pthread_getattr_np(pthread_self(), &attributes);
	pthread_attr_getstack(&attributes, &low, &size);
	pthread_attr_destroy(&attributes);
	stack_high = (uint64_t)(uintptr_t)low + size;
	unwind_read_modules(&modules, getpid());
	modules.set.serial = 1;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, forget, check_none_wrong)
	const struct CMUnitTest tests[] = {
		TEST(test_same_stack_again),  TEST(test_it_is_used),         TEST(test_any_stacks),
		TEST(test_one_frame_changes), TEST(test_deeper_than_a_memo), TEST(test_no_room_for_all),
		TEST(test_other_modules),     TEST(test_of_many_threads),
	};
	int failed;

	set_up();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	unwind_forget_modules(&modules);
	return failed;
}
