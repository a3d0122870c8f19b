// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_unwind_jit.c: return addresses in generated code that no call is before (unwind_jit.h): taken where the chain of frame records
// vouches for them, and nowhere else. Stack and code are made by hand.

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "profd/safe_read.h"
#include "profd/unwind.h"
#include "profd/wire.h"

#define WORDS 4096u
#define CODE_BYTES 65536u
#define MAX_PCS 1000u

static uint64_t stack[WORDS] __attribute__((aligned(16)));
static uint8_t *code; // of one-byte instructions, but for calls
static struct profd_module_set set;

static uint64_t code_at(uint64_t offset)
{
	return (uint64_t)(uintptr_t)code + offset;
}

static uint64_t stack_at(uint64_t word)
{
	return (uint64_t)(uintptr_t)&stack[word];
}

static void put_call_before(uint64_t offset)
{
	code[offset - 2] = 0xff;
	code[offset - 1] = 0xd0;
}

// A record in each 4th word. Its return address is 64 bytes of code further on each time.
static void make_chain(uint32_t records)
{
	memset(stack, 0, sizeof(stack));
	memset(code, 0x90, CODE_BYTES);
	for (uint32_t i = 0; i < records; i++) {
		stack[4 * i] = stack_at(4 * (i + 1));
		stack[4 * i + 1] = code_at(256 + 64 * i);
	}
}

static uint32_t walk(uint64_t pc, uint64_t *pcs, uint8_t *ret_stop)
{
	struct profd_unwind_context context = {{0}};

	context.regs[PROFD_ARCH_PC] = pc;
	context.regs[PROFD_ARCH_SP] = context.regs[PROFD_ARCH_FP] = stack_at(0);
	return profd_unwind_table(&set, &context, (struct profd_stack_range){stack_at(0), stack_at(WORDS)}, pcs,
				  MAX_PCS, ret_stop);
}

static void assert_walks(uint32_t frames, uint8_t stop_expected)
{
	uint64_t pcs[MAX_PCS];
	uint8_t stop;

	assert_int_equal(walk(code_at(128), pcs, &stop), frames);
	assert_int_equal(stop, stop_expected);
	for (uint32_t i = 1; i < frames; i++)
		assert_int_equal(pcs[i], stack[4 * (i - 1) + 1]);
}

static void test_vouched_by_the_chain(void **state)
{
	for (uint32_t records = 1; records < 100; records += 7) {
		make_chain(records);
		put_call_before(256 + 64 * (records - 1));
		stack[4 * records + 1] = 0; // the end
		assert_walks(records + 1, WIRE_STOP_END);
	}
}

// Calls in between: what is above the last one is still no return address.
static void test_the_last_one_must_be_vouched(void **state)
{
	make_chain(20);
	assert_walks(1, WIRE_STOP_NO_TABLE);
	put_call_before(256 + 64 * 7);
	put_call_before(256 + 64 * 11);
	assert_walks(13, WIRE_STOP_NO_TABLE);
}

static void test_broken_chains(void **state)
{
	static const uint64_t bad[] = {0, 1, 4096, UINT64_MAX, 0x7ffffffff000, 0xffff800000000000};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		make_chain(20);
		put_call_before(256 + 64 * 19);
		stack[4 * 9] = bad[i]; // leads nowhere
		assert_walks(1, WIRE_STOP_NO_TABLE);
		make_chain(20);
		put_call_before(256 + 64 * 19);
		stack[4 * 9 + 1] = bad[i]; // no code
		assert_walks(1, WIRE_STOP_NO_TABLE);
	}
	make_chain(20);
	put_call_before(256 + 64 * 19);
	stack[4 * 9] = stack_at(4 * 9); // to itself
	assert_walks(1, WIRE_STOP_NO_TABLE);
	stack[4 * 9] = stack_at(4 * 5); // down
	assert_walks(1, WIRE_STOP_NO_TABLE);
}

// It costs a system call a record.
static void test_search_is_bounded(void **state)
{
	make_chain(128);
	put_call_before(256 + 64 * 127);
	assert_walks(129, WIRE_STOP_END);
	make_chain(200);
	put_call_before(256 + 64 * 199);
	assert_walks(1, WIRE_STOP_NO_TABLE);
}

// A module's code, or its return addresses, are not generated: there the code before an address tells.
static void test_modules_are_no_generated_code(void **state)
{
	static struct profd_module module;

	module = (struct profd_module){.start = code_at(0), .end = code_at(256 + 64 * 10)};
	set.modules = &module;
	set.count = 1;
	make_chain(20);
	put_call_before(256 + 64 * 19);
	assert_walks(1, WIRE_STOP_NO_TABLE); // the PC is in it
	module.start = code_at(256 + 64 * 5);
	module.end = module.start + 64;
	assert_walks(1, WIRE_STOP_NO_TABLE); // a return address is
	module.start = code_at(256 + 64 * 40);
	module.end = module.start + 64;
	assert_walks(21, WIRE_STOP_END);
	set.count = 0;
}

static void walk_words(uint32_t records, struct profd_walk_words *words)
{
	struct profd_unwind_context context = {{0}};
	struct profd_stack_range range = {stack_at(0), stack_at(WORDS)};
	uint64_t pcs[MAX_PCS];
	uint8_t stop;

	context.regs[PROFD_ARCH_PC] = code_at(128);
	context.regs[PROFD_ARCH_SP] = context.regs[PROFD_ARCH_FP] = stack_at(0);
	assert_int_equal(profd_unwind_table_words(&set, &context, range, words, pcs, MAX_PCS, &stop), records + 1);
	assert_int_equal(stop, WIRE_STOP_END);
}

// What frames behind calls follow from is known: each one's record. Of the interrupted one more is looked at, so it is not, nor then the whole.
static void test_words_of_records(void **state)
{
	struct profd_walk_words words;

	make_chain(20);
	for (uint32_t i = 0; i < 20; i++)
		put_call_before(256 + 64 * i);
	stack[4 * 20 + 1] = 0;
	walk_words(20, &words);
	assert_false(words.whole);
	assert_int_equal(words.steps, 20);
	assert_true(words.by_first_fp);
	for (uint32_t i = 1; i < 20; i++) {
		bool pc_is_there = false, fp_is_there = i == 1; // the first frame's FP led to it

		for (uint32_t k = 0; k < words.count; k++) {
			pc_is_there |= words.at[k] == stack_at(4 * i + 1);
			fp_is_there |= words.at[k] == stack_at(4 * (i - 1));
		}
		assert_true(pc_is_there && fp_is_there);
	}
}

// A chain without calls is vouched for by what lies further out.
static void test_words_of_a_chain(void **state)
{
	struct profd_walk_words words;

	make_chain(20);
	put_call_before(256 + 64 * 19);
	stack[4 * 20 + 1] = 0;
	walk_words(20, &words);
	assert_false(words.whole);
	assert_true(words.steps < 3);
}

// Generated code called from generated code, deeper than there are system calls for one walk: on the thread's own stack, the code is read for many
// frames at once; elsewhere the stack has to be read as well, and where that ends is said.
static void test_deep_generated_code(void **state)
{
	struct profd_unwind_context context = {
		.regs = {[PROFD_ARCH_PC] = code_at(128), [PROFD_ARCH_SP] = stack_at(0), [PROFD_ARCH_FP] = stack_at(0)}};
	uint64_t pcs[MAX_PCS];
	uint8_t stop;

	make_chain(900);
	for (uint32_t i = 0; i < 900; i++)
		put_call_before(256 + 64 * i);
	stack[4 * 900] = stack[4 * 900 + 1] = 0;
	assert_walks(901, WIRE_STOP_END);
	assert_in_range(profd_unwind_table(&set, &context, (struct profd_stack_range){0, 0}, pcs, MAX_PCS, &stop), 100,
			600);
	assert_int_equal(stop, WIRE_STOP_READS);
}

static int set_up(void **state)
{
	profd_safe_read_init();
	code = mmap(NULL, CODE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return code == MAP_FAILED ? -1 : 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vouched_by_the_chain), cmocka_unit_test(test_the_last_one_must_be_vouched),
		cmocka_unit_test(test_broken_chains),        cmocka_unit_test(test_search_is_bounded),
		cmocka_unit_test(test_words_of_records),     cmocka_unit_test(test_words_of_a_chain),
		cmocka_unit_test(test_deep_generated_code),  cmocka_unit_test(test_modules_are_no_generated_code),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
