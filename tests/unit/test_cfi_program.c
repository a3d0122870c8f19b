// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_cfi_program.c: call frame instructions written by hand, and the rows that must come of them (cfi_program.c); hostile
// sections and what they may cost (cfi_section.c). What real files say is test_cfi_table.c's.

#include <dwarf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collector/cfi_program.h"
#include "collector/cfi_section.h"

#define START 0x1000
#define END 0x1100
#define MAX_ROWS 64

struct rows {
	unsigned count;
	uint64_t start[MAX_ROWS], end[MAX_ROWS];
	struct wire_rule rule[MAX_ROWS];
};

static bool take_row(void *context, uint64_t start, uint64_t end, const struct wire_rule *rule)
{
	struct rows *rows = context;

	assert_true(start < end && end <= END);
	assert_int_equal(start, rows->count ? rows->end[rows->count - 1] : START); // no gaps
	rows->start[rows->count] = start;
	rows->end[rows->count] = end;
	rows->rule[rows->count++] = *rule;
	return rows->count < MAX_ROWS;
}

// CFA = rsp+8, return address at −8: what every CIE of x86-64 says.
static const uint8_t usual_cie[] = {DW_CFA_def_cfa, 7, 8, DW_CFA_offset | 16, 1};

static bool run_with(const uint8_t *initial, size_t initial_size, const uint8_t *program, size_t size, bool signal,
		     struct rows *rows)
{
	uint8_t *copy = malloc(size ? size : 1); // of its own size, so that ASan sees what reads past it
	struct cfi_fde fde = {.start = START, .end = END, .code_align = 1, .data_align = -8, .signal_frame = signal};
	bool result;

	assert_non_null(copy);
	memcpy(copy, program, size);
	fde.initial = initial;
	fde.initial_end = initial + initial_size;
	fde.program = copy;
	fde.program_end = copy + size;
	memset(rows, 0, sizeof(*rows));
	result = cfi_program_run(&fde, take_row, rows);
	assert_true(rows->count == MAX_ROWS || rows->end[rows->count - 1] == END); // the whole range
	free(copy);
	return result;
}

#define RUN(rows, ...)                                                                                                 \
	run_with(usual_cie, sizeof(usual_cie), (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}), \
		 false, (rows))

static void assert_rule(const struct wire_rule *rule, enum wire_cfa cfa, int32_t off, enum wire_saved fp,
			int16_t fp_off)
{
	assert_int_equal(rule->cfa, cfa);
	assert_int_equal(rule->off, off);
	assert_int_equal(rule->fp, fp);
	assert_int_equal(rule->fp_off, fp_off);
	assert_int_equal(rule->ra, cfa == WIRE_CFA_NONE ? WIRE_SAVED_SAME : WIRE_SAVED_AT);
	assert_int_equal(rule->ra_off, cfa == WIRE_CFA_NONE ? 0 : -8);
}

// push rbp; mov rsp,rbp; … leave; ret
static void test_frame_pointer(void **state)
{
	struct rows rows;

	assert_true(RUN(&rows, DW_CFA_advance_loc | 1, DW_CFA_def_cfa_offset, 16, DW_CFA_offset | 6, 2,
			DW_CFA_advance_loc | 3, DW_CFA_def_cfa_register, 6, DW_CFA_advance_loc1, 200, DW_CFA_def_cfa, 7,
			8, DW_CFA_nop, DW_CFA_nop));
	assert_int_equal(rows.count, 4);
	assert_rule(&rows.rule[0], WIRE_CFA_SP, 8, WIRE_SAVED_SAME, 0);
	assert_rule(&rows.rule[1], WIRE_CFA_SP, 16, WIRE_SAVED_AT, -16);
	assert_rule(&rows.rule[2], WIRE_CFA_FP, 16, WIRE_SAVED_AT, -16);
	assert_rule(&rows.rule[3], WIRE_CFA_SP, 8, WIRE_SAVED_AT, -16);
	assert_int_equal(rows.start[3], START + 204);
}

static void test_remember(void **state)
{
	struct rows rows;

	assert_true(RUN(&rows, DW_CFA_advance_loc | 1, DW_CFA_def_cfa_offset, 32, DW_CFA_GNU_args_size, 0x81, 1,
			DW_CFA_advance_loc | 1, DW_CFA_remember_state, DW_CFA_def_cfa_offset, 8, DW_CFA_undefined, 6,
			DW_CFA_advance_loc2, 4, 0, DW_CFA_restore_state, DW_CFA_advance_loc4, 5, 0, 0, 0,
			DW_CFA_restore_extended, 16, DW_CFA_restore | 6));
	assert_int_equal(rows.count, 5);
	assert_rule(&rows.rule[1], WIRE_CFA_SP, 32, WIRE_SAVED_SAME, 0);
	assert_rule(&rows.rule[2], WIRE_CFA_SP, 8, WIRE_SAVED_UNDEF, 0);
	assert_rule(&rows.rule[3], WIRE_CFA_SP, 32, WIRE_SAVED_SAME, 0);
	assert_rule(&rows.rule[4], WIRE_CFA_SP, 32, WIRE_SAVED_SAME, 0);
	assert_int_equal(rows.start[4], START + 11);
}

// gcc's realignment: r10 holds the CFA, then *(rbp−8); rbp itself is saved where rbp points.
static void test_drap(void **state)
{
	struct rows rows;

	assert_true(RUN(&rows, DW_CFA_advance_loc | 5, DW_CFA_def_cfa, 10, 0, DW_CFA_advance_loc | 9, DW_CFA_expression,
			6, 2, DW_OP_breg6, 0, DW_CFA_advance_loc | 5, DW_CFA_def_cfa_expression, 3, DW_OP_breg6, 0x78,
			DW_OP_deref, DW_CFA_advance_loc | 1, DW_CFA_def_cfa_expression, 5, DW_OP_breg7, 40, DW_OP_deref,
			DW_OP_plus_uconst, 8));
	assert_int_equal(rows.count, 5);
	assert_rule(&rows.rule[1], WIRE_CFA_REG, 0, WIRE_SAVED_SAME, 0);
	assert_int_equal(rows.rule[1].reg, 10);
	assert_rule(&rows.rule[2], WIRE_CFA_REG, 0, WIRE_SAVED_AT_FP, 0);
	assert_rule(&rows.rule[3], WIRE_CFA_FP_DEREF, -8, WIRE_SAVED_AT_FP, 0);
	assert_rule(&rows.rule[4], WIRE_CFA_SP_DEREF, 40, WIRE_SAVED_AT_FP, 0); // OpenSSL's
	assert_int_equal(rows.rule[4].off2, 8);
}

// OpenSSL's bn_mul_mont: the CFA's word lies as many words up as r9 says.
static void test_indexed(void **state)
{
	struct rows rows;

	assert_true(RUN(&rows, DW_CFA_def_cfa_expression, 10, DW_OP_breg7, 8, DW_OP_breg9, 0, DW_OP_lit8, DW_OP_mul,
			DW_OP_plus, DW_OP_deref, DW_OP_plus_uconst, 8));
	assert_int_equal(rows.count, 1);
	assert_rule(&rows.rule[0], WIRE_CFA_INDEXED, 8, WIRE_SAVED_SAME, 0);
	assert_int_equal(rows.rule[0].reg, 9);
	assert_int_equal(rows.rule[0].off2, 8);
}

static void test_plt(void **state)
{
	struct rows rows;

	assert_true(RUN(&rows, DW_CFA_def_cfa_expression, 11, DW_OP_breg7, 8, DW_OP_breg16, 0, DW_OP_lit15, DW_OP_and,
			DW_OP_lit11, DW_OP_ge, DW_OP_lit3, DW_OP_shl, DW_OP_plus));
	assert_int_equal(rows.count, 1);
	assert_rule(&rows.rule[0], WIRE_CFA_PLT, 11, WIRE_SAVED_SAME, 0);
}

static void test_outermost(void **state)
{
	struct rows rows;

	assert_true(RUN(&rows, DW_CFA_undefined, 16));
	assert_int_equal(rows.count, 1);
	assert_int_equal(rows.rule[0].ra, WIRE_SAVED_UNDEF);
}

// vfork pops its return address into rdi.
static void test_return_address_in_register(void **state)
{
	struct rows rows;

	assert_true(RUN(&rows, DW_CFA_def_cfa_offset, 0, DW_CFA_register, 16, 5, DW_CFA_advance_loc | 1, DW_CFA_def_cfa,
			10, 0));
	assert_int_equal(rows.count, 2);
	assert_int_equal(rows.rule[0].cfa, WIRE_CFA_SP);
	assert_int_equal(rows.rule[0].ra, WIRE_SAVED_REG);
	assert_int_equal(rows.rule[0].reg, 5);
	assert_int_equal(rows.rule[1].cfa, WIRE_CFA_NONE); // both in registers: no room
}

// Only the kernel's own frame, as __restore_rt describes it, is a signal frame.
static void test_signal(void **state)
{
	static const uint8_t restore_rt[] = {
		DW_CFA_def_cfa_expression, 4,  DW_OP_breg7, 0xa0,        1,    DW_OP_deref, // rsp
		DW_CFA_expression,         6,  3,           DW_OP_breg7, 0xf8, 0,           // rbp: 120
		DW_CFA_expression,         7,  3,           DW_OP_breg7, 0xa0, 1,           // rsp: 160
		DW_CFA_expression,         16, 3,           DW_OP_breg7, 0xa8, 1,           // rip: 168
	};
	uint8_t other[sizeof(restore_rt)];
	struct rows rows;

	assert_true(run_with(usual_cie, 0, restore_rt, sizeof(restore_rt), true, &rows));
	assert_int_equal(rows.count, 1);
	assert_int_equal(rows.rule[0].cfa, WIRE_CFA_SIGNAL);
	assert_true(run_with(usual_cie, 0, restore_rt, sizeof(restore_rt), false, &rows));
	assert_int_equal(rows.rule[0].cfa, WIRE_CFA_NONE);
	memcpy(other, restore_rt, sizeof(other));
	other[sizeof(other) - 2] = 0xb0;
	assert_true(run_with(usual_cie, 0, other, sizeof(other), true, &rows));
	assert_int_equal(rows.rule[0].cfa, WIRE_CFA_NONE);
	assert_true(run_with(usual_cie, sizeof(usual_cie), other, 0, true, &rows));
	assert_int_equal(rows.rule[0].cfa, WIRE_CFA_NONE);
}

static void assert_inexpressible(const uint8_t *program, size_t size)
{
	struct rows rows;

	assert_true(run_with(usual_cie, sizeof(usual_cie), program, size, false, &rows));
	assert_int_equal(rows.count, 1);
	assert_rule(&rows.rule[0], WIRE_CFA_NONE, 0, WIRE_SAVED_SAME, 0);
}

#define INEXPRESSIBLE(...) assert_inexpressible((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void test_inexpressible(void **state)
{
	struct rows rows;

	INEXPRESSIBLE(DW_CFA_register, 7, 8);                        // longjmp: SP in r8
	INEXPRESSIBLE(DW_CFA_offset_extended, 7, 3);                 // setcontext: SP in memory
	INEXPRESSIBLE(DW_CFA_val_offset, 7, 1);                      // SP = CFA − 8
	INEXPRESSIBLE(DW_CFA_same_value, 16);                        // a return address nowhere
	INEXPRESSIBLE(DW_CFA_val_expression, 16, 2, DW_OP_breg5, 0); // a computed one
	INEXPRESSIBLE(DW_CFA_def_cfa_expression, 0);                 // of nothing
	INEXPRESSIBLE(DW_CFA_def_cfa_expression, 1, DW_OP_lit0);
	INEXPRESSIBLE(DW_CFA_def_cfa_expression, 3, DW_OP_breg3, 0, DW_OP_deref);
	INEXPRESSIBLE(DW_CFA_def_cfa_expression, 4, DW_OP_breg7, 0, DW_OP_deref, DW_OP_deref);
	INEXPRESSIBLE(DW_CFA_def_cfa, 17, 8);                                       // no such register
	INEXPRESSIBLE(DW_CFA_def_cfa_offset, 0x80, 0x80, 0x80, 0x80, 8);            // 2 GiB
	INEXPRESSIBLE(DW_CFA_offset_extended_sf, 16, 0x80, 0x80, 0x04);             // the address beyond 16 bits
	assert_true(RUN(&rows, DW_CFA_val_offset, 7, 0, DW_CFA_val_offset, 12, 5)); // SP = CFA: as everywhere
	assert_rule(&rows.rule[0], WIRE_CFA_SP, 8, WIRE_SAVED_SAME, 0);
	assert_true(RUN(&rows, DW_CFA_register, 6, 8)); // FP in a register: the frame is not lost for it
	assert_rule(&rows.rule[0], WIRE_CFA_SP, 8, WIRE_SAVED_UNDEF, 0);
}

// A damaged program: the rows before the damage stand, the rest has no rule.
static void test_damaged(void **state)
{
	static const uint8_t bad[][4] = {
		{DW_CFA_restore_state},
		{0x3f},
		{DW_CFA_advance_loc4, 1, 0, 0},
		{DW_CFA_def_cfa, 7, 0x80, 0x80},
		{DW_CFA_def_cfa_expression, 9, 1, 2},
		{DW_CFA_set_loc, 1, 2, 3},
	};
	struct rows rows;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_false(RUN(&rows, DW_CFA_advance_loc | 4, DW_CFA_def_cfa_offset, 16, DW_CFA_advance_loc | 4,
				 bad[i][0], bad[i][1], bad[i][2], bad[i][3]));
		assert_true(rows.count >= 3);
		assert_rule(&rows.rule[1], WIRE_CFA_SP, 16, WIRE_SAVED_SAME, 0);
		assert_rule(&rows.rule[rows.count - 1], WIRE_CFA_NONE, 0, WIRE_SAVED_SAME, 0);
		assert_int_equal(rows.end[rows.count - 1], END);
	}
	assert_false(run_with((const uint8_t[]){DW_CFA_advance_loc | 1}, 1, usual_cie, 5, false, &rows));
	assert_int_equal(rows.count, 1);
	assert_int_equal(rows.rule[0].cfa, WIRE_CFA_NONE);
}

static void test_remember_depth(void **state)
{
	uint8_t program[100];
	struct rows rows;

	memset(program, DW_CFA_remember_state, sizeof(program));
	assert_false(run_with(usual_cie, sizeof(usual_cie), program, sizeof(program), false, &rows));
	assert_int_equal(rows.rule[0].cfa, WIRE_CFA_NONE);
}

// The last row ends with the FDE, however far the program advances; an advance that wraps is damage.
static void test_advance_beyond(void **state)
{
	struct rows rows;

	assert_true(RUN(&rows, DW_CFA_advance_loc4, 0xff, 0xff, 0xff, 0x7f, DW_CFA_def_cfa_offset, 16));
	assert_int_equal(rows.count, 1);
	assert_rule(&rows.rule[0], WIRE_CFA_SP, 8, WIRE_SAVED_SAME, 0);
	assert_true(RUN(&rows, DW_CFA_set_loc, 0x10, 0x10, 0, 0, 0, 0, 0, 0, DW_CFA_def_cfa_offset, 16, DW_CFA_set_loc,
			0, 0, 0, 0, 0, 0, 0, 0, DW_CFA_def_cfa_offset, 24));
	assert_int_equal(rows.count, 2); // going back is not going anywhere
	assert_int_equal(rows.start[1], 0x1010);
	assert_rule(&rows.rule[1], WIRE_CFA_SP, 24, WIRE_SAVED_SAME, 0);
}

// ---- Sections ------------------------------------------------------------------------------------------------------

struct visits {
	uint64_t count, bytes, last_start;
	const uint8_t *low, *high;
};

static bool visit(void *context, const struct cfi_fde *fde)
{
	struct visits *visits = context;

	assert_true(fde->initial >= visits->low && fde->initial_end <= visits->high &&
		    fde->initial <= fde->initial_end);
	assert_true(fde->program >= visits->low && fde->program_end <= visits->high &&
		    fde->program <= fde->program_end);
	assert_true(fde->start < fde->end);
	visits->count++;
	visits->bytes += (uint64_t)(fde->initial_end - fde->initial);
	visits->last_start = fde->start;
	return true;
}

static struct visits each(const uint8_t *data, size_t size)
{
	struct cfi_section section = {.data = data, .size = size, .vaddr = 0x10000, .is_eh_frame = true};
	struct visits visits = {.low = data, .high = data + size};

	cfi_section_each(&section, visit, &visits);
	return visits;
}

static size_t put(uint8_t *data, size_t at, uint64_t value, size_t size)
{
	memcpy(data + at, &value, size);
	return at + size;
}

// A CIE "zR" with sdata4 pc-relative pointers and `padding` nops; an FDE of the CIE at `cie`. Return where the next goes.
static size_t put_cie(uint8_t *data, size_t at, uint32_t padding)
{
	at = put(data, at, 17 + padding, 4);
	at = put(data, at, 0, 4);
	memcpy(data + at, (uint8_t[]){1, 'z', 'R', 0, 1, 0x78, 16, 1, 0x1b, DW_CFA_def_cfa, 7, 8, 0x90}, 13);
	memset(data + at + 13, 1, 1);
	return at + 13 + padding;
}

static size_t put_fde(uint8_t *data, size_t at, size_t cie, int32_t distance)
{
	at = put(data, at, 13, 4);
	at = put(data, at, at - cie, 4);
	at = put(data, at, (uint32_t)distance, 4);
	at = put(data, at, 0x10, 4);
	return put(data, at, 0, 1);
}

// Terminators between the parts of a section, and entries that make no sense, do not hide what follows.
static void test_section(void **state)
{
	uint8_t *data = calloc(1, 4096);
	struct visits visits;
	size_t at, size;

	assert_non_null(data);
	at = put_cie(data, 0, 1);
	at = put_fde(data, at, 0, 0x100);
	at = put(data, at, 0, 4);
	at = put_fde(data, at, 3, 0x100);       // no CIE there
	at = put_fde(data, at, at + 50, 0x100); // before the section
	size = put_fde(data, at, 0, -0x50);
	visits = each(data, size);
	assert_int_equal(visits.count, 2);
	assert_int_equal(visits.last_start, 0x10000 + at + 8 - 0x50);
	for (size_t cut = 0; cut < size; cut++) {
		uint8_t *copy = malloc(cut ? cut : 1);

		assert_non_null(copy);
		memcpy(copy, data, cut);
		assert_true(each(copy, cut).count <= 2);
		free(copy);
	}
	free(data);
}

// Many FDEs of long CIEs, turn and turn about, would be quadratic.
static void test_section_cost(void **state)
{
	size_t half = 1 << 19, size = 4 * half, at, second;
	uint8_t *data = calloc(1, size);
	struct visits visits;

	assert_non_null(data);
	second = put_cie(data, 0, (uint32_t)half);
	at = put_cie(data, second, (uint32_t)half);
	for (unsigned i = 0; at + 17 <= size; i++)
		at = put_fde(data, at, i % 2 ? second : 0, 0x100);
	visits = each(data, at);
	assert_true(visits.count > 0);
	assert_true(visits.bytes <= 64 * size);
	free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_frame_pointer),
		cmocka_unit_test(test_remember),
		cmocka_unit_test(test_drap),
		cmocka_unit_test(test_indexed),
		cmocka_unit_test(test_plt),
		cmocka_unit_test(test_outermost),
		cmocka_unit_test(test_return_address_in_register),
		cmocka_unit_test(test_signal),
		cmocka_unit_test(test_inexpressible),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_remember_depth),
		cmocka_unit_test(test_advance_beyond),
		cmocka_unit_test(test_section),
		cmocka_unit_test(test_section_cost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
