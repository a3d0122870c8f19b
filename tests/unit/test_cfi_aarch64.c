// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_cfi_aarch64.c: what call frame instructions mean on aarch64 and nowhere else (cfi_program.c, cfi_rule.c), and the rules of a PLT
// (cfi_plt.c). Programs are made by hand.

#include <dwarf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collector/cfi_plt.h"
#include "collector/cfi_program.h"

#define START 0x10000u
#define END 0x10400u
#define MAX_ROWS 8
#define FP 29
#define LINK 30
#define SP 31

struct rows {
	unsigned count;
	uint64_t start[MAX_ROWS], end;
	struct wire_rule rule[MAX_ROWS];
};

static bool take_row(void *context, uint64_t start, uint64_t end, const struct wire_rule *rule)
{
	struct rows *rows = context;

	assert_int_equal(start, rows->count ? rows->end : START); // no gaps
	assert_true(start < end && rows->count < MAX_ROWS);
	rows->start[rows->count] = start;
	rows->end = end;
	rows->rule[rows->count++] = *rule;
	return true;
}

// What every CIE says: CFA = sp.
static const uint8_t usual_cie[] = {DW_CFA_def_cfa, SP, 0};

static bool run(const uint8_t *program, size_t size, enum cfi_arch arch, bool signal, struct rows *rows)
{
	uint8_t *copy = malloc(size); // of its own size, so that ASan sees what reads past it
	struct cfi_fde fde = {.start = START,
			      .end = END,
			      .code_align = 4,
			      .data_align = -8,
			      .signal_frame = signal,
			      .arch = arch,
			      .initial = usual_cie,
			      .initial_end = usual_cie + sizeof(usual_cie)};
	bool result;

	assert_non_null(copy);
	memcpy(copy, program, size);
	fde.program = copy;
	fde.program_end = copy + size;
	memset(rows, 0, sizeof(*rows));
	result = cfi_program_run(&fde, take_row, rows);
	assert_int_equal(rows->end, END);
	free(copy);
	return result;
}

#define RUN(arch, signal, rows, ...) \
	run((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}), arch, signal, rows)

// stp x29, x30, [sp, #-32]!; mov x29, sp; …; ldp x29, x30, [sp], #32; ret
static void test_frame(void **state)
{
	struct rows rows;

	assert_true(RUN(CFI_ARCH_AARCH64, false, &rows, DW_CFA_advance_loc | 1, DW_CFA_def_cfa_offset, 32,
			DW_CFA_offset | FP, 4, DW_CFA_offset | LINK, 3, DW_CFA_advance_loc | 1, DW_CFA_def_cfa_register,
			FP, DW_CFA_advance_loc | 9, DW_CFA_restore | FP, DW_CFA_restore | LINK, DW_CFA_def_cfa, SP, 0));
	assert_int_equal(rows.count, 4);
	assert_int_equal(rows.rule[0].cfa, WIRE_CFA_SP);
	assert_int_equal(rows.rule[0].ra, WIRE_SAVED_SAME);
	assert_int_equal(rows.rule[1].off, 32);
	assert_int_equal(rows.rule[1].fp, WIRE_SAVED_AT);
	assert_int_equal(rows.rule[1].fp_off, -32);
	assert_int_equal(rows.rule[1].ra, WIRE_SAVED_AT);
	assert_int_equal(rows.rule[1].ra_off, -24);
	assert_int_equal(rows.rule[1].off2, 0);
	assert_int_equal(rows.rule[2].cfa, WIRE_CFA_FP);
	assert_memory_equal(&rows.rule[3], &rows.rule[0], sizeof(rows.rule[0]));
	assert_int_equal(rows.start[3], START + 44);
}

// The record 100,000 bytes below the CFA, as the first instruction of the body has it; and the FP that was left alone.
static void test_far(void **state)
{
	struct rows rows;

	assert_true(RUN(CFI_ARCH_AARCH64, false, &rows, DW_CFA_def_cfa_offset, 0xa0, 0x8d, 6, DW_CFA_offset_extended,
			LINK, 0xd3, 0x61, DW_CFA_advance_loc | 1, DW_CFA_offset_extended, FP, 0xd4, 0x61));
	assert_int_equal(rows.count, 2);
	assert_int_equal(rows.rule[0].off, 100000);
	assert_int_equal(rows.rule[0].off2, -99992);
	assert_int_equal(rows.rule[0].ra, WIRE_SAVED_AT);
	assert_int_equal(rows.rule[0].ra_off, 0);
	assert_int_equal(rows.rule[0].fp, WIRE_SAVED_SAME);
	assert_int_equal(rows.rule[1].off2, -99992);
	assert_int_equal(rows.rule[1].fp, WIRE_SAVED_AT);
	assert_int_equal(rows.rule[1].fp_off, -8);
}

// DW_CFA_AARCH64_negate_ra_state is another machine's window_save: no instruction of x86-64, after which all is unknown.
static void test_signed(void **state)
{
	struct rows rows;

	assert_true(RUN(CFI_ARCH_AARCH64, false, &rows, DW_CFA_AARCH64_negate_ra_state, DW_CFA_advance_loc | 1, 0x2c,
			DW_CFA_def_cfa_offset, 16));
	assert_int_equal(rows.count, 2);
	assert_int_equal(rows.rule[1].cfa, WIRE_CFA_SP);
	assert_int_equal(rows.rule[1].off, 16);
	assert_false(RUN(CFI_ARCH_X86_64, false, &rows, DW_CFA_AARCH64_negate_ra_state, DW_CFA_advance_loc | 1,
			 DW_CFA_def_cfa_offset, 16));
	assert_int_equal(rows.rule[0].cfa, WIRE_CFA_NONE);
}

static void test_registers(void **state)
{
	struct rows rows;

	assert_true(RUN(CFI_ARCH_AARCH64, false, &rows, DW_CFA_register, LINK, 9, DW_CFA_advance_loc | 1,
			DW_CFA_register, LINK, SP, DW_CFA_advance_loc | 1, DW_CFA_same_value, LINK, DW_CFA_def_cfa, 15,
			32, DW_CFA_advance_loc | 1, DW_CFA_def_cfa, 32, 0, DW_CFA_advance_loc | 1, DW_CFA_undefined,
			LINK));
	assert_int_equal(rows.count, 5);
	assert_int_equal(rows.rule[0].ra, WIRE_SAVED_REG);
	assert_int_equal(rows.rule[0].reg, 9);
	assert_int_equal(rows.rule[1].cfa, WIRE_CFA_NONE); // SP holds no return address
	assert_int_equal(rows.rule[2].cfa, WIRE_CFA_REG);
	assert_int_equal(rows.rule[2].reg, 15);
	assert_int_equal(rows.rule[2].ra, WIRE_SAVED_SAME);
	assert_int_equal(rows.rule[3].cfa, WIRE_CFA_NONE); // there is no such register
	assert_int_equal(rows.rule[4].ra, WIRE_SAVED_UNDEF);
}

// The vDSO's trampoline before Linux 5.8, and one that only looks like it.
static void test_signal(void **state)
{
	struct rows rows;

	assert_true(RUN(CFI_ARCH_AARCH64, true, &rows, DW_CFA_def_cfa, FP, 0, DW_CFA_offset | FP, 0,
			DW_CFA_offset_extended_sf, LINK, 0x7f));
	assert_int_equal(rows.count, 1);
	assert_int_equal(rows.rule[0].cfa, WIRE_CFA_SIGNAL);
	assert_int_equal(rows.rule[0].off, 128);
	assert_true(RUN(CFI_ARCH_AARCH64, true, &rows, DW_CFA_def_cfa, FP, 16, DW_CFA_offset | FP, 0,
			DW_CFA_offset_extended_sf, LINK, 0x7f));
	assert_int_equal(rows.rule[0].cfa, WIRE_CFA_NONE);
}

// A head that pushes and jumps, padding, and an entry; the last instruction is cut off.
static void test_plt(void **state)
{
	static const uint32_t code[] = {0xa9bf7bf0, 0x90000010, 0xf9400211, 0x91000210, 0xd61f0220,
					0xd503201f, 0x90000010, 0xf9400211, 0x91000210, 0xd61f0220};
	struct cfi_section section = {.data = (const uint8_t *)code, .vaddr = START, .arch = CFI_ARCH_AARCH64};
	struct rows rows = {.count = 0};

	section.size = sizeof(code) - 2;
	cfi_plt_each(&section, take_row, &rows);
	assert_int_equal(rows.count, 3);
	assert_int_equal(rows.start[1], START + 4);
	assert_int_equal(rows.start[2], START + 20);
	assert_int_equal(rows.end, START + section.size);
	for (unsigned i = 0; i < rows.count; i++) {
		assert_int_equal(rows.rule[i].cfa, WIRE_CFA_SP);
		assert_int_equal(rows.rule[i].off, i == 1 ? 16 : 0);
		assert_int_equal(rows.rule[i].ra, WIRE_SAVED_SAME);
		assert_int_equal(rows.rule[i].fp, WIRE_SAVED_SAME);
	}
	rows.count = 0;
	section.size = 3;
	cfi_plt_each(&section, take_row, &rows);
	assert_int_equal(rows.count, 1);
	section.size = 0;
	rows.count = 0;
	cfi_plt_each(&section, take_row, &rows);
	assert_int_equal(rows.count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_frame),     cmocka_unit_test(test_far),    cmocka_unit_test(test_signed),
		cmocka_unit_test(test_registers), cmocka_unit_test(test_signal), cmocka_unit_test(test_plt),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
