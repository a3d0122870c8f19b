// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_unwind_rules.c: tables that are made by hand or spoilt: which of them profd_table_check refuses, and that what it lets through, with
// rules of any content, leads the walk nowhere (unwind_table.c). Tables and stacks end at pages that cannot be read.

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "profd/safe_read.h"
#include "profd/wire.h"
#include "tests/unit/all_addresses.h"
#include "tests/unit/cfi_fixture.h"
#include "tests/unit/unwind_modules.h"

#define PAGE 4096u
#define STACK_SIZE (4 * PAGE)
#define STACK_WORDS (STACK_SIZE / 8)
#define MAX_FRAMES 8192
#define SAFE_READS 1024 // as unwind_step.h has it
#define SIGNAL_FRAMES 64
#define NOWHERE 0x10000000u // nothing is ever mapped there
#define SP 7
#define FP 6
#define PC 16

static struct unwind_modules modules;
static const struct profd_module *own; // this program
static uint64_t *stack;
static uint64_t pcs[MAX_FRAMES];
static uint64_t walks, frames;

struct result {
	uint32_t count;
	uint8_t stop;
};

static uint64_t address_of(const void *place)
{
	return (uint64_t)(uintptr_t)place;
}

// A page that cannot be read on either side.
static void *guarded(size_t size)
{
	uint8_t *area = mmap(NULL, size + (size_t)2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(area, MAP_FAILED);
	assert_int_equal(mprotect(area + PAGE, size, PROT_READ | PROT_WRITE), 0);
	return area + PAGE;
}

// SP grows with each frame but signal frames: a walk is no longer than the stack, and what is read outside it.
static struct result walk(const struct profd_module_set *set, const struct profd_unwind_context *context)
{
	struct profd_stack_range range = {context->regs[SP], address_of(stack) + STACK_SIZE};
	struct result result = {0, WIRE_STOP_COUNT};

	if (range.low < address_of(stack) || range.low > range.high)
		range = (struct profd_stack_range){0, 0};
	result.count = profd_unwind_table(set, context, range, pcs, MAX_FRAMES, &result.stop);
	assert_in_range(result.count, 1, STACK_WORDS + SAFE_READS + SIGNAL_FRAMES + 1);
	assert_in_range(result.stop, 0, WIRE_STOP_COUNT - 1);
	assert_int_not_equal(result.stop, WIRE_STOP_DEPTH);
	walks++;
	frames += result.count;
	return result;
}

static uint64_t random_text(void)
{
	uint64_t size = own->end > own->start ? own->end - own->start : 1;

	return own->start + next_random() % size;
}

static uint64_t random_word(void)
{
	switch (next_random() % 4) {
	case 0:
		return random_text();
	case 1:
		return address_of(stack + next_random() % STACK_WORDS);
	case 2:
		return next_random() % 2 ? 0 : NOWHERE;
	default:
		return next_random() >> next_random() % 64;
	}
}

static void walk_random(const struct profd_module_set *set)
{
	struct profd_unwind_context context;

	for (size_t i = 0; i < STACK_WORDS; i++)
		stack[i] = random_word();
	for (int i = 0; i < PROFD_UNWIND_REGS; i++)
		context.regs[i] = random_word();
	for (unsigned i = 0; i < 16; i++) {
		context.regs[PC] = random_text();
		context.regs[SP] = address_of(stack + next_random() % STACK_WORDS);
		walk(set, &context);
	}
}

// ---- Spoilt tables -------------------------------------------------------------------------------------------------

// This program's table, up to the last bytes before a page that cannot be read.
struct shadow {
	struct wire_table *table;
	struct profd_module module;
	struct profd_module_set set;
};

static void make_shadow(struct shadow *shadow)
{
	size_t size = own->table->size, pages = (size + PAGE - 1) / PAGE * PAGE;

	shadow->table = (struct wire_table *)(void *)((uint8_t *)guarded(pages) + ((pages - size) & ~(size_t)7));
	memcpy(shadow->table, own->table, size);
	shadow->module = *own;
	shadow->module.table = shadow->table;
	shadow->set = (struct profd_module_set){.count = 1, .modules = &shadow->module};
}

static void test_bits(void **state)
{
	struct shadow shadow;
	unsigned accepted = 0;
	uint64_t size;

	make_shadow(&shadow);
	size = shadow.table->size;
	random_state = 0x62697473ULL;
	assert_int_equal(profd_table_check(shadow.table, size), 0);
	for (uint64_t cut = 0; cut < size; cut++)
		assert_int_not_equal(profd_table_check(shadow.table, cut), 0);
	assert_int_not_equal(profd_table_check(shadow.table, size + 4), 0);
	for (unsigned round = 0; round < 20000; round++) {
		uint64_t front = sizeof(struct wire_table) + 64; // half of them in the header
		uint64_t at = next_random() % (round % 2 && size > front ? size : front);
		uint8_t *byte = (uint8_t *)shadow.table + at, kept = *byte;

		*byte ^= (uint8_t)(1 << next_random() % 8);
		if (profd_table_check(shadow.table, size) == 0 && accepted++ % 50 == 0)
			walk_random(&shadow.set);
		*byte = kept;
	}
	assert_in_range(accepted, 1000, 19000);
}

static void refused(struct wire_table *table, const struct wire_table *good)
{
	assert_int_not_equal(profd_table_check(table, good->size), 0);
	*table = *good;
}

static void test_header(void **state)
{
	struct shadow shadow;
	struct wire_table *table, good;

	make_shadow(&shadow);
	table = shadow.table;
	good = *table;
	table->magic = 0, refused(table, &good);
	table->version++, refused(table, &good);
	table->machine = WIRE_MACHINE_AARCH64, refused(table, &good);
	table->size += 8, refused(table, &good);
	table->text_start++, refused(table, &good);
	table->text_end = table->text_start, refused(table, &good);
	table->text_end = UINT64_MAX, refused(table, &good);
	table->npages = UINT32_MAX, refused(table, &good);
	table->npages = 0, refused(table, &good);
	table->nrows = UINT32_MAX, refused(table, &good);
	table->nrules = 0, refused(table, &good);
	table->nrules = WIRE_MAX_RULES + 1, refused(table, &good);
	assert_int_equal(profd_table_check(table, good.size), 0);
}

static void test_all_addresses(void **state)
{
	struct all_addresses made = all_addresses_make();

	assert_int_not_equal(profd_table_check(&made.table, sizeof(made)), 0);
}

// What is checked are the indices. The rules may say anything, known kinds or not.
static void test_random_rules(void **state)
{
	struct shadow shadow;
	uint8_t *rules;

	make_shadow(&shadow);
	random_state = 0x72756c6573ULL;
	rules = (uint8_t *)(shadow.table + 1);
	walks = frames = 0;
	for (unsigned round = 0; round < 300; round++) {
		for (size_t i = sizeof(struct wire_rule); i < shadow.table->nrules * sizeof(struct wire_rule); i++)
			rules[i] = (uint8_t)(next_random() % 3 ? next_random() % 9 : next_random());
		// Nearly all real rules have none; with one, hardly any leads on.
		for (uint32_t i = 1; round % 8 && i < shadow.table->nrules; i++)
			((struct wire_rule *)(void *)rules)[i].off2 = 0;
		assert_int_equal(profd_table_check(shadow.table, shadow.table->size), 0);
		walk_random(&shadow.set);
	}
	assert_true(frames > walks + walks / 40); // some go on
}

// ---- A table by hand -----------------------------------------------------------------------------------------------

// Rows at 0 (none), 1 (rule 1) and 0x100 (rule 2) of a page at NOWHERE.
struct made {
	struct wire_table header;
	struct wire_rule rules[3];
	uint32_t pages[2];
	uint16_t blocks[WIRE_PAGE_BLOCKS];
	struct wire_row rows[3];
	struct profd_module module;
	struct profd_module_set set;
};

static void make_table(struct made *made, struct wire_rule first, struct wire_rule second)
{
	memset(made, 0, sizeof(*made));
	made->header = (struct wire_table){.magic = WIRE_TABLE_MAGIC, .version = WIRE_TABLE_VERSION};
	made->header.machine = WIRE_MACHINE_X86_64;
	made->header.size = offsetof(struct made, rows) + sizeof(made->rows);
	made->header.text_end = PAGE;
	made->header.npages = 1;
	made->header.nrows = made->header.nrules = 3;
	first.ra = second.ra = WIRE_SAVED_AT;
	first.ra_off = second.ra_off = -8;
	made->rules[1] = first;
	made->rules[2] = second;
	made->pages[1] = 3;
	made->rows[1] = (struct wire_row){.offset = 1, .number = 1};
	made->rows[2] = (struct wire_row){.offset = 0, .number = 2};
	for (unsigned block = 1; block < WIRE_PAGE_BLOCKS; block++)
		made->blocks[block] = block == 1 ? 2 : 3;
	made->module.start = made->module.bias = NOWHERE;
	made->module.end = NOWHERE + PAGE;
	made->module.table = &made->header;
	made->set = (struct profd_module_set){.count = 1, .modules = &made->module};
	assert_int_equal(profd_table_check(&made->header, made->header.size), 0);
}

static const struct wire_rule by_fp = {.cfa = WIRE_CFA_FP, .off = 16, .fp = WIRE_SAVED_AT, .fp_off = -16};

static void assert_walk(const struct made *made, const struct profd_unwind_context *context, uint32_t count,
			uint8_t stop)
{
	struct result result = walk(&made->set, context);

	assert_int_equal(result.count, count);
	assert_int_equal(result.stop, stop);
}

// In the epilogue of a realigned function, FP popped already, gcc still says that it is saved at FP. What is there then
// belongs to the caller, or is nowhere: the caller's frame is found by FP all the same, or, without its use, by SP.
static void test_popped_fp(void **state)
{
	struct wire_rule popped = {.cfa = WIRE_CFA_SP, .off = 8, .fp = WIRE_SAVED_AT_FP};
	struct profd_unwind_context context = {.regs = {[PC] = NOWHERE + 1}};
	struct made made;

	make_table(&made, popped, by_fp);
	memset(stack, 0, STACK_SIZE);
	context.regs[SP] = address_of(stack);
	context.regs[FP] = address_of(stack + 10); // the caller's: its frame record is {NOWHERE, 0}
	stack[0] = NOWHERE + 0x180;
	stack[10] = NOWHERE;
	assert_walk(&made, &context, 2, WIRE_STOP_END);
	stack[0] = NOWHERE + 0x80;
	context.regs[FP] = NOWHERE;
	assert_walk(&made, &context, 2, WIRE_STOP_END);
}

// Not popped yet: FP is in the frame, and what is saved at FP is the caller's.
static void test_saved_at_fp(void **state)
{
	struct wire_rule saved = {.cfa = WIRE_CFA_SP, .off = 24, .fp = WIRE_SAVED_AT_FP};
	struct profd_unwind_context context = {.regs = {[PC] = NOWHERE + 1}};
	struct made made;

	make_table(&made, saved, by_fp);
	memset(stack, 0, STACK_SIZE);
	context.regs[SP] = address_of(stack);
	context.regs[FP] = address_of(stack + 1);
	stack[1] = address_of(stack + 10);
	stack[2] = NOWHERE + 0x180;
	stack[11] = NOWHERE + 0x180; // one more, by the FP of {stack + 20, …}
	stack[10] = address_of(stack + 20);
	assert_walk(&made, &context, 3, WIRE_STOP_END);
}

// A frame that does not say where FP went: callers that need it end the walk, others do not notice.
static void test_lost_fp(void **state)
{
	struct wire_rule lost = {.cfa = WIRE_CFA_SP, .off = 8, .fp = WIRE_SAVED_UNDEF};
	struct profd_unwind_context context = {.regs = {[PC] = NOWHERE + 1}};
	struct made made;

	make_table(&made, lost, by_fp);
	memset(stack, 0, STACK_SIZE);
	context.regs[SP] = address_of(stack);
	context.regs[FP] = address_of(stack + 10);
	stack[0] = NOWHERE + 0x80;
	stack[1] = NOWHERE + 0x81;
	assert_walk(&made, &context, 3, WIRE_STOP_END);
	stack[1] = NOWHERE + 0x180;
	assert_walk(&made, &context, 3, WIRE_STOP_NO_RULE);
}

// What the cache holds is followed as what the table says: SP must grow, or a frame pointer could lead in circles.
static void test_cached_rules_grow(void **state)
{
	struct wire_rule plain = {.cfa = WIRE_CFA_SP, .off = 8};
	struct profd_unwind_context context = {.regs = {[PC] = NOWHERE + 0x10, [SP] = address_of(stack + 50)}};
	uint64_t cache[PROFD_UNWIND_CACHE_ENTRIES] = {0};
	struct made made;

	make_table(&made, plain, by_fp);
	made.set.cache = cache;
	memset(stack, 0, STACK_SIZE);
	stack[50] = NOWHERE + 0x180;
	stack[60] = address_of(stack + 30); // the caller's record, below
	stack[61] = NOWHERE + 0x180;
	stack[30] = address_of(stack + 60);
	stack[31] = NOWHERE + 0x180;
	context.regs[FP] = address_of(stack + 60);
	assert_walk(&made, &context, 3, WIRE_STOP_BAD_CFA); // fills the cache
	assert_walk(&made, &context, 3, WIRE_STOP_BAD_CFA);
	context.regs[FP] = address_of(stack + 30);
	assert_walk(&made, &context, 2, WIRE_STOP_BAD_CFA);
}

// The CFA is in memory, and some bytes off.
static void test_loaded_cfa(void **state)
{
	struct wire_rule by_sp = {.cfa = WIRE_CFA_SP_DEREF, .off = 16, .off2 = 24},
			 by_frame = {.cfa = WIRE_CFA_FP_DEREF, .off = -8, .off2 = 40};
	struct profd_unwind_context context = {.regs = {[PC] = NOWHERE + 0x10, [SP] = address_of(stack)}};
	struct made made;

	make_table(&made, by_sp, by_frame);
	memset(stack, 0, STACK_SIZE);
	stack[2] = address_of(stack + 10);
	stack[12] = NOWHERE + 0x180; // CFA − 8; the CFA is 24 above what is at SP + 16
	context.regs[FP] = address_of(stack + 30);
	stack[29] = address_of(stack + 40);
	stack[44] = NOWHERE + 0x20; // 40 above what is at FP − 8
	stack[47] = address_of(stack + 60);
	assert_walk(&made, &context, 3, WIRE_STOP_END);
	assert_int_equal(pcs[2], NOWHERE + 0x20);
}

// Nobody returns into the stack, whatever a rule says.
static void test_return_into_the_stack(void **state)
{
	struct wire_rule plain = {.cfa = WIRE_CFA_SP, .off = 8};
	struct profd_unwind_context context = {.regs = {[PC] = NOWHERE + 0x10, [SP] = address_of(stack)}};
	struct profd_stack_range range = {address_of(stack), address_of(stack) + STACK_SIZE};
	struct made made;
	uint8_t stop;

	make_table(&made, plain, plain);
	memset(stack, 0, STACK_SIZE);
	stack[0] = NOWHERE + 0x20;
	stack[1] = address_of(stack + 100);
	assert_int_equal(profd_unwind_table(&made.set, &context, range, pcs, WIRE_MAX_FRAMES, &stop), 2);
	assert_int_equal(stop, WIRE_STOP_BAD_CFA);
}

static uint8_t code[0x10000];

static uint64_t call_at(uint32_t at, uint32_t target)
{
	int32_t distance = (int32_t)(target - (at + 5));

	code[at] = 0xe8;
	memcpy(code + at + 1, &distance, sizeof(distance));
	return address_of(code) + at + 5;
}

// An exception on its way to its landing pad: the unwinder's own return address is the pad's by now, which a call of somebody else precedes,
// or none at all.
static void test_landing(void **state)
{
	struct wire_rule unwinder = {.cfa = WIRE_CFA_SP, .off = 8, .lands = 1}, plain = {.cfa = WIRE_CFA_SP, .off = 8};
	struct profd_unwind_context context = {.regs = {[PC] = address_of(code) + 0x40, [SP] = address_of(stack)}};
	struct made made;

	make_table(&made, unwinder, plain);
	made.module.start = made.module.bias = address_of(code);
	made.module.end = made.module.start + PAGE;
	memset(stack, 0, STACK_SIZE);
	stack[0] = call_at(0x200, 0x20);
	assert_walk(&made, &context, 2, WIRE_STOP_END);
	stack[0] = call_at(0x220, 0x9000);
	assert_walk(&made, &context, 1, WIRE_STOP_BAD_CFA);
	stack[0] = address_of(code) + 0x240;
	assert_walk(&made, &context, 1, WIRE_STOP_BAD_CFA);
}

// The last row before a hole, a page's border and the module's end: a return address belongs to the byte before it.
static void test_borders(void **state)
{
	struct wire_rule plain = {.cfa = WIRE_CFA_SP, .off = 8};
	struct wire_rule wide = {.cfa = WIRE_CFA_SP, .off = 32};
	struct profd_unwind_context context = {.regs = {[PC] = NOWHERE + 0xff}};
	struct made made;

	make_table(&made, plain, wide);
	memset(stack, 0, STACK_SIZE);
	context.regs[SP] = address_of(stack);
	stack[0] = NOWHERE + 0x100;                         // after the last byte of rule 1's: plain
	stack[1] = NOWHERE + PAGE;                          // after the module's last byte: wide
	stack[5] = NOWHERE + 0x101;                         // in rule 2's: wide
	stack[9] = NOWHERE + PAGE + 1;                      // in no module
	assert_walk(&made, &context, 4, WIRE_STOP_BAD_CFA); // nor behind a call
	assert_int_equal(pcs[3], NOWHERE + 0x101);
	stack[9] = call_at(0x2000, 0x20);
	assert_walk(&made, &context, 5, WIRE_STOP_NO_TABLE);
	assert_int_equal(pcs[4], call_at(0x2000, 0x20));
	stack[9] = call_at(0x2000, 0x20) + 1;
	assert_walk(&made, &context, 4, WIRE_STOP_BAD_CFA);
	context.regs[PC] = NOWHERE; // the hole at the page's begin
	assert_walk(&made, &context, 1, WIRE_STOP_NO_RULE);
}

// ---- Set-up --------------------------------------------------------------------------------------------------------

static int set_up(void **state)
{
	uint64_t pc = address_of((void *)(uintptr_t)set_up);

	elf_version(EV_CURRENT);
	profd_safe_read_init();
	stack = guarded(STACK_SIZE);
	unwind_read_modules(&modules, getpid());
	for (uint32_t i = 0; i < modules.set.count; i++)
		if (pc >= modules.modules[i].start && pc < modules.modules[i].end)
			own = &modules.modules[i];
	return own && own->table ? 0 : -1;
}

static int tear_down(void **state)
{
	unwind_forget_modules(&modules);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_addresses), cmocka_unit_test(test_return_into_the_stack),
		cmocka_unit_test(test_landing),       cmocka_unit_test(test_cached_rules_grow),
		cmocka_unit_test(test_loaded_cfa),    cmocka_unit_test(test_bits),
		cmocka_unit_test(test_header),        cmocka_unit_test(test_random_rules),
		cmocka_unit_test(test_popped_fp),     cmocka_unit_test(test_saved_at_fp),
		cmocka_unit_test(test_lost_fp),       cmocka_unit_test(test_borders),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
