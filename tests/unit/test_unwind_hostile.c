// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_unwind_hostile.c: whatever is on the stack, in the registers and in the cache, the walkers end, fault on nothing and stay
// within what they were given (unwind_table.c, unwind_fp.c, unwind_cache.h, unwind_code.c).

#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "profd/safe_read.h"
#include "profd/unwind_cache.h"
#include "profd/unwind_code.h"
#include "profd/unwind_step.h"
#include "tests/unit/cfi_fixture.h"
#include "tests/unit/unwind_modules.h"

#define STACK_BYTES (64u << 10)
#define WORDS (STACK_BYTES / 8)
#define MAX_PCS 300

static const struct profd_module_set no_modules;
static struct unwind_modules modules;
static uint64_t *stack; // between two pages that cannot be touched

static uint64_t stack_address(uint64_t byte)
{
	return (uint64_t)(uintptr_t)stack + byte;
}

static uint64_t code_address(void)
{
	const struct profd_module *module = &modules.modules[next_random() % modules.set.count];

	return module->start + next_random() % (module->end - module->start);
}

// What a stack may hold, and what it should not.
static uint64_t nasty_word(void)
{
	switch (next_random() % 8) {
	case 0:
		return next_random();
	case 1:
		return next_random() % 8192;
	case 2:
		return 0 - next_random() % 8192;
	case 3:
	case 4:
		return stack_address(next_random() % STACK_BYTES);
	case 5:
		return stack_address(next_random() % STACK_BYTES & ~7ULL);
	default:
		return code_address();
	}
}

static void nasty_context(struct profd_unwind_context *context)
{
	for (int i = 0; i < PROFD_UNWIND_REGS; i++)
		context->regs[i] = nasty_word();
	context->regs[16] = next_random() % 8 ? code_address() : nasty_word();
	context->regs[7] = next_random() % 4 ? stack_address(next_random() % STACK_BYTES & ~7ULL) : nasty_word();
	context->regs[6] = next_random() % 4 ? stack_address(next_random() % STACK_BYTES & ~7ULL) : nasty_word();
}

static void walk_both(const struct profd_unwind_context *context, struct profd_stack_range range, uint32_t max,
		      uint64_t *stops)
{
	uint64_t pcs[MAX_PCS + 1];
	uint8_t stop = 0xff;
	uint32_t count;

	pcs[max] = 0x5a5a5a5a;
	count = profd_unwind_table(&modules.set, context, range, pcs, max, &stop);
	assert_in_range(count, 1, max);
	assert_in_range(stop, 0, WIRE_STOP_COUNT - 1);
	assert_int_equal(pcs[max], 0x5a5a5a5a);
	assert_int_equal(pcs[0], context->regs[16]);
	stops[stop]++;
	stop = 0xff;
	count = profd_unwind_fp(&modules.set, context, range, pcs, max, &stop);
	assert_in_range(count, 1, max);
	assert_in_range(stop, 0, WIRE_STOP_COUNT - 1);
	assert_int_equal(pcs[max], 0x5a5a5a5a);
}

static struct profd_stack_range range_for(const struct profd_unwind_context *context)
{
	uint64_t sp = context->regs[7];
	struct profd_stack_range range = {0, 0};

	if (sp >= stack_address(0) && sp < stack_address(STACK_BYTES))
		range = (struct profd_stack_range){sp, stack_address(STACK_BYTES)};
	return range;
}

static void test_random_stacks(void **state)
{
	uint64_t stops[WIRE_STOP_COUNT] = {0};

	random_state = 0x6e61737479ULL;
	for (unsigned round = 0; round < 20000; round++) {
		struct profd_unwind_context context;

		if (round % 64 == 0)
			for (size_t i = 0; i < WORDS; i++)
				stack[i] = nasty_word();
		nasty_context(&context);
		walk_both(&context, range_for(&context), round % 16 ? MAX_PCS : 1 + round % 3, stops);
	}
	printf("ends: %" PRIu64 ", depth %" PRIu64 ", no table %" PRIu64 ", no rule %" PRIu64 ", unreadable %" PRIu64
	       ", bad CFA %" PRIu64 "\n",
	       stops[WIRE_STOP_END], stops[WIRE_STOP_DEPTH], stops[WIRE_STOP_NO_TABLE], stops[WIRE_STOP_NO_RULE],
	       stops[WIRE_STOP_UNREADABLE], stops[WIRE_STOP_BAD_CFA]);
	for (int i = WIRE_STOP_NO_TABLE; i < WIRE_STOP_COUNT; i++)
		assert_true(i == WIRE_STOP_READS || stops[i] > 0); // that many are in test_unwind_jit
}

// Each word points to itself, or to the next but one: the frame pointers' endless chain.
static void test_self_pointing(void **state)
{
	struct profd_unwind_context context = {{0}};
	uint64_t stops[WIRE_STOP_COUNT] = {0};

	context.regs[16] = (uint64_t)(uintptr_t)test_self_pointing;
	for (unsigned ahead = 0; ahead < 3; ahead++) {
		for (size_t i = 0; i < WORDS; i++)
			stack[i] = stack_address(8 * (i + ahead));
		context.regs[6] = context.regs[7] = stack_address(64);
		walk_both(&context, range_for(&context), MAX_PCS, stops);
		context.regs[7] = stack_address(STACK_BYTES - 8);
		walk_both(&context, range_for(&context), MAX_PCS, stops);
	}
}

static void test_stack_pointer_nowhere(void **state)
{
	static const uint64_t nowhere[] = {
		0,          1,          8,        4096,     0x7fffffffffff,       0x7ffffffffff8,
		1ULL << 47, 1ULL << 63, 0 - 8ULL, 0 - 1ULL, 0xffffffffff600000ULL};
	uint64_t stops[WIRE_STOP_COUNT] = {0};

	random_state = 0x6e6f77686572ULL;
	for (unsigned round = 0; round < 2000; round++) {
		struct profd_unwind_context context;
		uint64_t where = nowhere[round % (sizeof(nowhere) / sizeof(nowhere[0]))];

		nasty_context(&context);
		context.regs[7] = where;
		if (round % 3 == 0)
			context.regs[6] = where;
		walk_both(&context, (struct profd_stack_range){0, 0}, MAX_PCS, stops);
		walk_both(&context, (struct profd_stack_range){stack_address(0), stack_address(STACK_BYTES)}, MAX_PCS,
			  stops);
	}
	assert_true(stops[WIRE_STOP_UNREADABLE] > 100);
}

// The kernel's struct, for the restorer that libc gave it.
static uint64_t signal_trampoline(void)
{
	struct {
		void *handler;
		uint64_t flags;
		uint64_t restorer, mask;
	} action;

	signal(SIGUSR2, SIG_IGN);
	assert_int_equal(syscall(SYS_rt_sigaction, SIGUSR2, NULL, &action, 8), 0);
	return action.restorer;
}

// A signal frame that says that it was itself interrupted: SP does not grow there, so only counting ends it.
static void test_endless_signal_frames(void **state)
{
	struct profd_unwind_context context = {{0}};
	uint64_t pcs[MAX_PCS];
	uint32_t count;
	uint8_t stop;

	memset(stack, 0, STACK_BYTES);
	context.regs[16] = signal_trampoline();
	context.regs[7] = stack_address(1024);
	stack[(1024 + 168) / 8] = context.regs[16];
	stack[(1024 + 160) / 8] = stack_address(1024);
	count = profd_unwind_table(&modules.set, &context, range_for(&context), pcs, MAX_PCS, &stop);
	assert_int_equal(stop, WIRE_STOP_BAD_CFA);
	assert_in_range(count, 2, 100);
}

static void test_depth(void **state)
{
	struct profd_unwind_context context = {{0}};
	struct profd_module_set none = {0};
	uint64_t pcs[MAX_PCS];
	uint32_t count;
	uint8_t stop;

	for (size_t i = 0; i < WORDS; i += 2) {
		stack[i] = i + 2 < WORDS ? stack_address(8 * (i + 2)) : 0;
		stack[i + 1] = 0x10000 + i;
	}
	context.regs[6] = context.regs[7] = stack_address(0);
	context.regs[16] = 0x20000;
	count = profd_unwind_fp(&none, &context, range_for(&context), pcs, MAX_PCS, &stop);
	assert_int_equal(count, MAX_PCS);
	assert_int_equal(stop, WIRE_STOP_DEPTH);
	assert_int_equal(pcs[2], 0x10002);
	// The walk by tables takes no frame pointer's word for it: nothing here follows a call.
	count = profd_unwind_table(&none, &context, range_for(&context), pcs, MAX_PCS, &stop);
	assert_int_equal(count, 1);
	assert_int_equal(stop, WIRE_STOP_NO_TABLE);
}

// ---- Code ----------------------------------------------------------------------------------------------------------

static const struct {
	uint8_t bytes[8]; // right before the address
	bool is_call;
} calls[] = {
	{{0x90, 0x90, 0x90, 0xe8, 1, 2, 3, 4}, true},              // call rel32
	{{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0xd0}, true},  // call *%rax
	{{0x90, 0x90, 0x90, 0x90, 0x90, 0x41, 0xff, 0xd4}, true},  // call *%r12
	{{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0x10}, true},  // call *(%rax)
	{{0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0x14, 0xc8}, true},  // call *(%rax,%rcx,8)
	{{0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0x50, 0x18}, true},  // call *0x18(%rax)
	{{0x90, 0x90, 0x90, 0x90, 0xff, 0x54, 0x24, 0x08}, true},  // call *8(%rsp)
	{{0x90, 0x90, 0xff, 0x15, 1, 2, 3, 4}, true},              // call *x(%rip)
	{{0x90, 0x90, 0xff, 0x90, 0, 1, 0, 0}, true},              // call *0x100(%rax)
	{{0x90, 0xff, 0x94, 0xc8, 0, 1, 0, 0}, true},              // call *0x100(%rax,%rcx,8)
	{{0x90, 0xff, 0x14, 0xc5, 0, 1, 0, 0}, true},              // call *0x100(,%rax,8)
	{{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0xe0}, false}, // jmp *%rax
	{{0x90, 0x90, 0xff, 0x25, 1, 2, 3, 4}, false},             // jmp *x(%rip)
	{{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0xf0}, false}, // push
	{{0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0xd0, 0x90}, false}, // a call and a nop
	{{0x90, 0x90, 0xe8, 1, 2, 3, 4, 0x90}, false},
	{{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0x14}, false}, // its SIB is missing
	{{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xc3}, false},
};

// One walk takes for granted that code stays as it is.
static struct profd_walk *new_walk(void)
{
	static struct profd_walk walk;

	walk = (struct profd_walk){.set = &no_modules};
	return &walk;
}

static void test_follows_call(void **state)
{
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		memcpy(&stack[4], calls[i].bytes, 8);
		if (profd_code_follows_call(new_walk(), stack_address(40)) != calls[i].is_call)
			fail_msg("case %zu", i);
	}
	assert_false(profd_code_follows_call(new_walk(), stack_address(0) + 4)); // reaches into the page below
	assert_false(profd_code_follows_call(new_walk(), 4));
	assert_false(profd_code_follows_call(new_walk(), 0 - 4ULL));
}

static void write_bytes(uint64_t at, const void *bytes, size_t size)
{
	memcpy((char *)stack + at, bytes, size);
}

static void write_rel32(uint64_t at, const uint8_t *opcode, size_t size, uint64_t target)
{
	int32_t distance = (int32_t)(target - (at + size + 4));

	write_bytes(at, opcode, size);
	write_bytes(at + size, &distance, 4);
}

// Offsets in `stack`: the call at 100, a PLT entry at 200, the slot at 400, the function at 800.
static void test_call_target(void **state)
{
	static const uint8_t call[] = {0xe8}, call_rip[] = {0xff, 0x15}, jump[] = {0xff, 0x25};
	static const uint8_t endbr[] = {0xf3, 0x0f, 0x1e, 0xfa}, bnd_jump[] = {0xf2, 0xff, 0x25};
	uint64_t target, slot = stack_address(800);

	memset(stack, 0x90, STACK_BYTES);
	write_bytes(400, &slot, 8);
	write_rel32(100, call, 1, 800);
	assert_true(profd_code_call_target(new_walk(), stack_address(105), &target));
	assert_int_equal(target, stack_address(800));
	write_rel32(100, call, 1, 200);
	write_rel32(200, jump, 2, 400);
	assert_true(profd_code_call_target(new_walk(), stack_address(105), &target));
	assert_int_equal(target, stack_address(800));
	write_bytes(200, endbr, 4);
	write_rel32(204, bnd_jump, 3, 400);
	assert_true(profd_code_call_target(new_walk(), stack_address(105), &target));
	assert_int_equal(target, stack_address(800));
	write_rel32(100, call_rip, 2, 400);
	assert_true(profd_code_call_target(new_walk(), stack_address(106), &target));
	assert_int_equal(target, stack_address(800));
	write_bytes(104, "\xff\xd0", 2);
	assert_false(
		profd_code_call_target(new_walk(), stack_address(106), &target)); // call *%rax went who knows where
	write_rel32(100, call, 1, 1 << 30);
	assert_false(profd_code_call_target(new_walk(), stack_address(105), &target)); // to nowhere
}

static const struct {
	uint8_t bytes[20]; // the address is that of byte 8
	int slot;          // −1: the code does not tell
	bool fp_saved;
} edges[] = {
	{{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xc3}, 0, false},                   // ret
	{{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xf3, 0xc3}, 0, false},             // rep ret
	{{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xc2, 0x08, 0x00}, 0, false},       // ret 8
	{{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x55, 0x48, 0x89, 0xe5}, 0, false}, // push, mov
	{{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xf3, 0x0f, 0x1e, 0xfa, 0x55, 0x48, 0x8b, 0xec}, 0, false},
	{{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x55, 0x48, 0x89, 0xe5}, 8, true}, // mov
	{{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x5d, 0xc3}, 8, true},       // pop, ret
	{{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0x25, 1, 2, 3, 4}, 0, false},
	{{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x68, 1, 0, 0, 0, 0xe9}, 0, false},
	{{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x68, 1, 0, 0, 0, 0x90}, -1, false},
	{{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x48, 0x83, 0xc4, 0x18, 0xc3}, 24, false}, // add, ret
	{{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x48, 0x83, 0xec, 8, 0x48, 0x83, 0xc4, 8, 0xc3},
	 0,
	 false},                                                                                     // _fini
	{{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x48, 0x83, 0xc4, 0x18, 0x90}, -1, false}, // add alone
	{{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x48, 0x83, 0xc4, 0xf8, 0xc3}, -1, false}, // downwards
	{{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x48, 0x83, 0xc4, 0x04, 0xc3}, -1, false}, // not aligned
	{{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x48, 0x83, 0xec, 0x18}, -1, false},       // sub alone
	{{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x48, 0x89, 0xe5}, -1, false},             // no push before
	{{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x55, 0x48, 0x89, 0xfd}, -1, false},       // FP for all uses
	{{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x5d, 0x5b, 0xc3}, -1, false},             // more to pop
	{{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90}, -1, false},
};

static void test_return_slot(void **state)
{
	struct profd_walk walk = {.set = &no_modules};

	for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]); i++) {
		uint32_t offset = 0;
		bool fp_saved = false, known;

		memset(stack, 0x90, 128);
		write_bytes(32, edges[i].bytes, sizeof(edges[i].bytes));
		known = profd_code_return_slot(&walk, stack_address(40), &offset, &fp_saved);
		if (known != (edges[i].slot >= 0) ||
		    (known && ((int)offset != edges[i].slot || fp_saved != edges[i].fp_saved)))
			fail_msg("case %zu", i);
	}
	assert_false(profd_code_return_slot(&walk, 4, &(uint32_t){0}, &(bool){false}));
}

static void test_reads_are_bounded(void **state)
{
	struct profd_walk walk = {.set = &no_modules};
	uint64_t value;
	unsigned reads = 0;

	while (profd_walk_load(&walk, stack_address(8), &value))
		reads++;
	assert_int_equal(reads, PROFD_MAX_SAFE_READS);
}

static void test_safe_read(void **state)
{
	uint64_t value = 1;

	stack[0] = 0x1122334455667788;
	assert_true(profd_safe_read(stack_address(0), &value));
	assert_int_equal(value, 0x1122334455667788);
	assert_false(profd_safe_read(stack_address(0) - 8, &value));
	assert_false(profd_safe_read(stack_address(STACK_BYTES) - 4, &value));
	assert_false(profd_safe_read(0, &value));
	assert_false(profd_safe_read(0 - 8ULL, &value));
	assert_int_equal(value, 0x1122334455667788);
}

// ---- The cache -----------------------------------------------------------------------------------------------------

static struct wire_rule random_rule(void)
{
	struct wire_rule rule = {
		.cfa = next_random() % 2 ? WIRE_CFA_SP : WIRE_CFA_FP, .ra = WIRE_SAVED_AT, .ra_off = -8};

	rule.off = (int32_t)(next_random() % 70000);
	if (next_random() % 8)
		rule.off &= ~7;
	rule.fp = (uint8_t)(next_random() % 4);
	rule.fp_off = rule.fp == WIRE_SAVED_AT ? (int16_t) - (int16_t)(next_random() % 3000) : 0;
	if (next_random() % 8)
		rule.fp_off &= ~7;
	if (next_random() % 16 == 0)
		rule.ra = WIRE_SAVED_UNDEF;
	return rule;
}

static void assert_entry(uint64_t entry, const struct wire_rule *rule)
{
	if (rule->ra == WIRE_SAVED_UNDEF) {
		assert_int_equal(PROFD_CACHE_KIND(entry), PROFD_CACHE_OUTERMOST);
		return;
	}
	assert_int_equal(PROFD_CACHE_KIND(entry), rule->cfa == WIRE_CFA_SP ? PROFD_CACHE_SP : PROFD_CACHE_FP);
	assert_int_equal(PROFD_CACHE_OFF(entry), rule->off);
	assert_int_equal(PROFD_CACHE_FP_SAVED(entry), rule->fp == WIRE_SAVED_AT);
	if (rule->fp == WIRE_SAVED_AT)
		assert_int_equal(0 - (int64_t)PROFD_CACHE_BELOW(entry), rule->fp_off);
}

// What is found is what was put in under this very address, or nothing.
static void test_cache(void **state)
{
	static uint64_t cache[PROFD_UNWIND_CACHE_ENTRIES];
	struct profd_module_set set = {.cache = cache};
	uint64_t kept = 0;

	random_state = 0x6361636865ULL;
	for (unsigned round = 0; round < 200000; round++) {
		struct wire_rule rule = random_rule();
		uint64_t address = next_random() >> 17, other = address ^ 1ULL << next_random() % 47, entry;

		memset(&cache[profd_cache_index(address)], 0, 8);
		profd_cache_put(&set, address, &rule);
		entry = profd_cache_get(&set, address);
		if (entry)
			assert_entry(entry, &rule);
		kept += entry != 0;
		if (profd_cache_index(other) == profd_cache_index(address))
			assert_int_equal(profd_cache_get(&set, other), 0);
	}
	assert_true(kept > 50000);
	// An address's index and upper bits are all of it: no two addresses share both.
	for (uint64_t high = 0; high < 3; high++) {
		static uint8_t seen[PROFD_UNWIND_CACHE_ENTRIES];

		memset(seen, 0, sizeof(seen));
		for (uint64_t low = 0; low < PROFD_UNWIND_CACHE_ENTRIES; low++)
			assert_int_equal(seen[profd_cache_index((0x7f1234567ULL + high) << 12 | low)]++, 0);
	}
	set.cache = NULL;
	assert_int_equal(profd_cache_get(&set, 4096), 0);
	profd_cache_put(&set, 4096, &(struct wire_rule){.ra = WIRE_SAVED_UNDEF});
}

__attribute__((noinline)) static uint32_t own_stack(unsigned depth, uint64_t *pcs, uint8_t *ret_stop)
{
	struct profd_unwind_context context = {{0}};
	struct profd_stack_range range = {0, 0};
	uint32_t count;

	if (depth) {
		count = own_stack(depth - 1, pcs, ret_stop);
		__asm__ volatile("" ::: "memory");
		return count;
	}
	__asm__ volatile("lea (%%rip), %0\n\tmov %%rsp, %1\n\tmov %%rbp, %2"
			 : "=&r"(context.regs[16]), "=&r"(context.regs[7]), "=&r"(context.regs[6]));
	return profd_unwind_table(&modules.set, &context, range, pcs, MAX_PCS, ret_stop);
}

static void *walk_again_and_again(void *argument)
{
	uint64_t first[MAX_PCS], pcs[MAX_PCS];
	unsigned depth = (unsigned)(uintptr_t)argument;
	uint32_t count = 0, again;
	uint8_t stop;

	for (volatile unsigned round = 0; round < 300; round++) { // volatile: the call below stays one
		again = own_stack(depth, pcs, &stop);
		if (!round) {
			count = again;
			memcpy(first, pcs, sizeof(first));
		}
		if (stop != WIRE_STOP_END || again != count || count <= depth ||
		    memcmp(pcs, first, count * sizeof(pcs[0])) != 0)
			return (void *)1;
		if (round % 8 == 0) // as if other addresses had pushed these out
			for (size_t i = 0; i < PROFD_UNWIND_CACHE_ENTRIES; i++)
				__atomic_store_n(&modules.cache[i], i << 40 | 1 << 27, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void test_cache_shared(void **state)
{
	pthread_t threads[4];

	for (uintptr_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, walk_again_and_again, (void *)(i * 10)), 0);
	for (size_t i = 0; i < 4; i++) {
		void *failed;

		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
}

// A damaged table that profd_table_check lets through leads nowhere outside itself: ASan sees.
static void test_damaged_tables(void **state)
{
	struct unwind_modules *damaged = calloc(1, sizeof(*damaged));
	struct profd_module module = modules.modules[0];
	uint64_t size = module.table->size, passed = 0, stops[WIRE_STOP_COUNT] = {0};

	assert_non_null(damaged);
	random_state = 0x64616d61ULL;
	for (unsigned round = 0; round < 400; round++) {
		struct wire_table *table = malloc(size);
		struct profd_unwind_context context;

		assert_non_null(table);
		memcpy(table, module.table, size);
		for (unsigned i = 0; i < 1 + round % 4; i++)
			((uint8_t *)table)[next_random() % (round % 2 ? size : 2048)] ^=
				(uint8_t)(1 << next_random() % 8);
		if (profd_table_check(table, size) == 0) {
			passed++;
			damaged->modules[0] = module;
			damaged->modules[0].table = table;
			damaged->set = (struct profd_module_set){.count = 1, .modules = damaged->modules};
			for (unsigned i = 0; i < 200; i++) {
				uint64_t pcs[MAX_PCS];
				uint8_t stop;

				nasty_context(&context);
				context.regs[16] = module.start + next_random() % (module.end - module.start);
				profd_unwind_table(&damaged->set, &context, range_for(&context), pcs, MAX_PCS, &stop);
				stops[stop]++;
			}
		}
		assert_int_equal(profd_table_check(table, size - 1 - next_random() % (size - 1)), -1);
		free(table);
	}
	assert_true(passed > 10);
	free(damaged);
}

static int set_up(void **state)
{
	char *pages = mmap(NULL, STACK_BYTES + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(pages, MAP_FAILED);
	stack = (uint64_t *)(void *)(pages + 4096);
	assert_int_equal(mprotect(stack, STACK_BYTES, PROT_READ | PROT_WRITE), 0);
	profd_safe_read_init();
	unwind_read_modules(&modules, getpid());
	assert_true(modules.set.count > 3);
	return 0;
}

static int tear_down(void **state)
{
	unwind_forget_modules(&modules);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_stacks),
		cmocka_unit_test(test_self_pointing),
		cmocka_unit_test(test_stack_pointer_nowhere),
		cmocka_unit_test(test_endless_signal_frames),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_follows_call),
		cmocka_unit_test(test_call_target),
		cmocka_unit_test(test_return_slot),
		cmocka_unit_test(test_reads_are_bounded),
		cmocka_unit_test(test_safe_read),
		cmocka_unit_test(test_cache),
		cmocka_unit_test(test_cache_shared),
		cmocka_unit_test(test_damaged_tables),
	};

	elf_version(EV_CURRENT);
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
