// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_cfi_oracle.c: tables of real files say what libdw says of the same CFI (cfi_table.c and what it stands on). Both sides' rules are evaluated on made-up registers, with memory that is a hash of its address.

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <fcntl.h>
#include <gelf.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "collector/cfi_file.h"
#include "collector/cfi_padding.h"
#include "collector/cfi_table.h"
#include "profd/wire.h"
#include "tests/unit/cfi_fixture.h"

#define WANTED_PCS 100000
#define MAX_REGS 33

// DWARF register numbers; RA is the return address's column. ORDINARY: registers that an expression may name.
struct machine {
	int fp, sp, ra, ordinary;
};

static const struct machine x86_64 = {.fp = 6, .sp = 7, .ra = 16, .ordinary = 16};
static const struct machine aarch64 = {.fp = 29, .sp = 31, .ra = 30, .ordinary = 31};
static struct machine machine; // of the file at hand

static const char *const files[] = {
	"/lib/x86_64-linux-gnu/libc.so.6",
	"/lib64/ld-linux-x86-64.so.2",
	"/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
	"/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
	"/usr/bin/redis-server",
	"/usr/bin/python3",
	"/usr/sbin/nginx",
	"/proc/self/exe",
};

// Debian's libc6-arm64-cross and what comes with it.
static const char *const aarch64_files[] = {
	"/usr/aarch64-linux-gnu/lib/libc.so.6",      "/usr/aarch64-linux-gnu/lib/ld-linux-aarch64.so.1",
	"/usr/aarch64-linux-gnu/lib/libm.so.6",      "/usr/aarch64-linux-gnu/lib/libasan.so.8.0.0",
	"/usr/aarch64-linux-gnu/lib/libstdc++.so.6", "/usr/aarch64-linux-gnu/lib/libtsan.so.2",
	"/usr/aarch64-linux-gnu/lib/libgomp.so.1",   "/usr/aarch64-linux-gnu/lib/libgcc_s.so.1",
};

static uint64_t memory_at(uint64_t address)
{
	return (address ^ address >> 29) * 0x9e3779b97f4a7c15ULL;
}

// What a rule makes of the registers. 'known' bits: which of them it can say.
struct answer {
	bool found, outermost, signal;
	bool beyond_rules; // the caller's SP is not the CFA, or the return address in another column: no rule can say that
	bool fp_known;
	uint64_t cfa, pc, fp;
};

// ---- Our answer ----------------------------------------------------------------------------------------------------

static uint64_t rule_cfa(const struct wire_rule *rule, const uint64_t *regs)
{
	switch (rule->cfa) {
	case WIRE_CFA_SP:
		return regs[machine.sp] + (uint64_t)rule->off;
	case WIRE_CFA_FP:
		return regs[machine.fp] + (uint64_t)rule->off;
	case WIRE_CFA_REG:
		return regs[rule->reg] + (uint64_t)rule->off;
	case WIRE_CFA_FP_DEREF:
		return memory_at(regs[machine.fp] + (uint64_t)rule->off) + (uint64_t)rule->off2;
	case WIRE_CFA_SP_DEREF:
		return memory_at(regs[machine.sp] + (uint64_t)rule->off) + (uint64_t)rule->off2;
	case WIRE_CFA_INDEXED:
		return memory_at(regs[machine.sp] + 8 * regs[rule->reg] + (uint64_t)rule->off) + (uint64_t)rule->off2;
	case WIRE_CFA_PLT:
		return regs[machine.sp] + 8 + ((regs[machine.ra] & 15) >= (uint64_t)rule->off ? 8 : 0);
	default:
		fail_msg("CFA kind %u", rule->cfa);
		return 0;
	}
}

static struct answer our_answer(const struct wire_table *table, uint64_t vaddr, const uint64_t *regs)
{
	const struct wire_rule *rule = table_rule(table, vaddr);
	bool loads = rule->cfa == WIRE_CFA_FP_DEREF || rule->cfa == WIRE_CFA_SP_DEREF || rule->cfa == WIRE_CFA_INDEXED;
	struct answer answer = {.found = rule->cfa != WIRE_CFA_NONE};
	uint64_t base;

	answer.outermost = rule->ra == WIRE_SAVED_UNDEF;
	answer.signal = rule->cfa == WIRE_CFA_SIGNAL;
	if (!answer.found || answer.outermost)
		return answer;
	if (answer.signal) {
		answer.cfa = memory_at(regs[machine.sp] + 160);
		answer.pc = memory_at(regs[machine.sp] + 168);
		answer.fp = memory_at(regs[machine.sp] + 120);
		answer.fp_known = true;
		return answer;
	}
	answer.cfa = rule_cfa(rule, regs);
	base = answer.cfa + (uint64_t)(loads ? 0 : rule->off2);
	if (rule->ra == WIRE_SAVED_REG || rule->ra == WIRE_SAVED_SAME)
		answer.pc = regs[rule->ra == WIRE_SAVED_REG ? rule->reg : machine.ra];
	else
		answer.pc = memory_at(base + (uint64_t)rule->ra_off);
	answer.fp_known = rule->fp != WIRE_SAVED_UNDEF;
	answer.fp = regs[machine.fp];
	if (rule->fp == WIRE_SAVED_AT)
		answer.fp = memory_at(base + (uint64_t)rule->fp_off);
	else if (rule->fp == WIRE_SAVED_AT_FP)
		answer.fp = memory_at(regs[machine.fp] + (uint64_t)rule->fp_off);
	return answer;
}

// ---- libdw's answer ------------------------------------------------------------------------------------------------

struct stack {
	uint64_t values[16];
	unsigned depth;
	bool is_value; // a value, not the address of one
};

static void push(struct stack *stack, uint64_t value)
{
	assert_true(stack->depth < 16);
	stack->values[stack->depth++] = value;
}

static uint64_t pop(struct stack *stack)
{
	assert_true(stack->depth > 0);
	return stack->values[--stack->depth];
}

static bool binary(struct stack *stack, uint8_t atom)
{
	uint64_t b, a;

	if (atom != DW_OP_and && atom != DW_OP_ge && atom != DW_OP_shl && atom != DW_OP_plus && atom != DW_OP_minus &&
	    atom != DW_OP_mul)
		return false;
	b = pop(stack);
	a = pop(stack);
	push(stack, atom == DW_OP_and    ? a & b
		    : atom == DW_OP_ge   ? (int64_t)a >= (int64_t)b
		    : atom == DW_OP_shl  ? a << b
		    : atom == DW_OP_plus ? a + b
		    : atom == DW_OP_mul  ? a * b
					 : a - b);
	return true;
}

// False for an operation that no CFI we know of has.
static bool operate(struct stack *stack, const Dwarf_Op *op, const uint64_t *regs, uint64_t cfa)
{
	if (op->atom >= DW_OP_breg0 && op->atom <= DW_OP_breg0 + machine.ordinary)
		push(stack, regs[op->atom - DW_OP_breg0] + op->number);
	else if (op->atom == DW_OP_bregx && op->number <= (unsigned)machine.ordinary)
		push(stack, regs[op->number] + op->number2);
	else if (op->atom >= DW_OP_lit0 && op->atom <= DW_OP_lit31)
		push(stack, (uint64_t)(op->atom - DW_OP_lit0));
	else if (op->atom == DW_OP_call_frame_cfa)
		push(stack, cfa);
	else if (op->atom == DW_OP_deref)
		push(stack, memory_at(pop(stack)));
	else if (op->atom == DW_OP_plus_uconst)
		push(stack, pop(stack) + op->number);
	else if (op->atom == DW_OP_stack_value)
		stack->is_value = true;
	else if (op->atom >= DW_OP_reg0 && op->atom <= DW_OP_reg0 + machine.ordinary) {
		push(stack, regs[op->atom - DW_OP_reg0]);
		stack->is_value = true;
	} else if (op->atom == DW_OP_regx && op->number <= (unsigned)machine.ordinary) {
		push(stack, regs[op->number]);
		stack->is_value = true;
	} else {
		return binary(stack, op->atom);
	}
	return true;
}

static bool evaluate(const Dwarf_Op *ops, size_t count, const uint64_t *regs, uint64_t cfa, bool is_cfa,
		     uint64_t *ret_value)
{
	struct stack stack = {.depth = 0};

	for (size_t i = 0; i < count; i++)
		if (!operate(&stack, &ops[i], regs, cfa))
			return false;
	*ret_value = pop(&stack);
	if (!is_cfa && !stack.is_value)
		*ret_value = memory_at(*ret_value);
	return true;
}

// False: undefined, or nothing that we can evaluate.
static bool dw_register(Dwarf_Frame *frame, int reg, const uint64_t *regs, uint64_t cfa, bool *ret_undefined,
			uint64_t *ret_value)
{
	Dwarf_Op memory[3], *ops;
	size_t count;

	*ret_undefined = false;
	if (dwarf_frame_register(frame, reg, memory, &ops, &count) != 0)
		return false;
	if (count)
		return evaluate(ops, count, regs, cfa, false, ret_value);
	*ret_undefined = ops != NULL;
	*ret_value = regs[reg];
	return !*ret_undefined;
}

static struct answer dw_answer(Dwarf_CFI *cfi, uint64_t vaddr, const uint64_t *regs)
{
	struct answer answer = {.found = false};
	bool undefined, ignored;
	uint64_t sp;
	Dwarf_Frame *frame;
	Dwarf_Op *ops;
	size_t count;

	if (!cfi || dwarf_cfi_addrframe(cfi, vaddr, &frame) != 0)
		return answer;
	if (dwarf_frame_info(frame, NULL, NULL, &answer.signal) != machine.ra) {
		answer.beyond_rules = true; // aarch64's rawmemchr
		free(frame);
		return answer;
	}
	answer.found = dwarf_frame_cfa(frame, &ops, &count) == 0 && evaluate(ops, count, regs, 0, true, &answer.cfa);
	if (!dw_register(frame, machine.ra, regs, answer.cfa, &undefined, &answer.pc))
		answer.found = false;
	if (undefined)
		answer.outermost = answer.found = true;
	else if (!dw_register(frame, machine.sp, regs, answer.cfa, &ignored, &sp) || sp != answer.cfa)
		answer.beyond_rules = answer.found;
	answer.fp_known = dw_register(frame, machine.fp, regs, answer.cfa, &ignored, &answer.fp);
	free(frame);
	return answer;
}

// ---- Comparing -----------------------------------------------------------------------------------------------------

struct image {
	const char *name;
	Elf *elf;
	Dwarf_CFI *cfi;
	struct wire_table *table;
	size_t size;
	uint64_t plt_start, plt_end; // aarch64: rules without CFI
	struct cfi_section code;     // where padding was last looked for
	uint64_t pcs, inexpressible, fp_lost;
};

static void compare_pc(struct image *image, uint64_t vaddr)
{
	struct answer ours, theirs;
	uint64_t regs[MAX_REGS];

	for (int i = 0; i < MAX_REGS; i++)
		regs[i] = next_random() & 0x7ffffffffff8;
	if (machine.ra == x86_64.ra)
		regs[machine.ra] = vaddr;
	ours = our_answer(image->table, vaddr, regs);
	theirs = dw_answer(image->cfi, vaddr, regs);
	image->pcs++;
	if (!ours.found && (theirs.found || theirs.beyond_rules)) {
		image->inexpressible++;
		return;
	}
	if (ours.found != theirs.found || theirs.beyond_rules || ours.outermost != theirs.outermost ||
	    (ours.found && !ours.outermost &&
	     (ours.signal != theirs.signal || ours.cfa != theirs.cfa || ours.pc != theirs.pc)))
		fail_msg("%s at %#" PRIx64 ": found %d/%d outermost %d/%d signal %d/%d CFA %#" PRIx64 "/%#" PRIx64
			 " PC %#" PRIx64 "/%#" PRIx64,
			 image->name, vaddr, ours.found, theirs.found, ours.outermost, theirs.outermost, ours.signal,
			 theirs.signal, ours.cfa, theirs.cfa, ours.pc, theirs.pc);
	if (!ours.found || ours.outermost)
		return;
	if (!ours.fp_known && theirs.fp_known)
		image->fp_lost++;
	else if (ours.fp_known != theirs.fp_known || (ours.fp_known && ours.fp != theirs.fp))
		fail_msg("%s at %#" PRIx64 ": FP known %d/%d, %#" PRIx64 "/%#" PRIx64, image->name, vaddr,
			 ours.fp_known, theirs.fp_known, ours.fp, theirs.fp);
}

static void find_plt(struct image *image)
{
	Elf_Scn *scn = NULL;
	size_t names;

	assert_int_equal(elf_getshdrstrndx(image->elf, &names), 0);
	while (machine.ra == aarch64.ra && (scn = elf_nextscn(image->elf, scn))) {
		GElf_Shdr header;

		assert_non_null(gelf_getshdr(scn, &header));
		if (strcmp(elf_strptr(image->elf, names, header.sh_name), ".plt") != 0)
			continue;
		image->plt_start = header.sh_addr;
		image->plt_end = header.sh_addr + header.sh_size;
	}
}

// Where a table says something and libdw nothing: only at the entry point, see mark_entry, and in aarch64's PLT, see cfi_plt.h.
static void compare_hole(const struct image *image, uint64_t vaddr)
{
	const struct wire_rule *rule = table_rule(image->table, vaddr);
	GElf_Ehdr header;

	if (vaddr >= image->plt_start && vaddr < image->plt_end) {
		assert_int_equal(rule->cfa, WIRE_CFA_SP);
		assert_int_equal(rule->ra, WIRE_SAVED_SAME);
		return;
	}
	assert_non_null(gelf_getehdr(image->elf, &header));
	if (rule->cfa != WIRE_CFA_NONE &&
	    (rule->ra != WIRE_SAVED_UNDEF || vaddr < header.e_entry || vaddr - header.e_entry >= 256))
		fail_msg("%s: a rule at %#" PRIx64 ", where there is no CFI", image->name, vaddr);
}

static bool is_padding(struct image *image, uint64_t start, uint64_t end)
{
	struct cfi_section *code = &image->code;
	uint64_t skip;

	if ((!code->data || start < code->vaddr || start - code->vaddr >= code->size) &&
	    !cfi_file_code(image->elf, start, code))
		return false;
	skip = start - code->vaddr;
	return end - start <= code->size - skip && cfi_is_padding(code->arch, code->data + skip, end - start);
}

static uint64_t first_in(uint64_t start, uint64_t end, uint64_t address)
{
	return address > start && address < end ? address : end;
}

// A hole in libdw's CFI from start on; up to where it ends, or the table has more to say than libdw. Padding before a function has
// the function's rule.
static uint64_t compare_holes(struct image *image, uint64_t start)
{
	uint64_t end = start;
	Dwarf_Frame *frame;
	GElf_Ehdr header;
	bool padding;

	while (end < image->table->text_end && dwarf_cfi_addrframe(image->cfi, end, &frame) != 0)
		end++;
	if (end < image->table->text_end)
		free(frame);
	assert_non_null(gelf_getehdr(image->elf, &header));
	end = first_in(start, end, header.e_entry);
	end = first_in(start, end, image->plt_start);
	end = first_in(start, end, image->plt_end);
	padding = end < image->table->text_end && end - start <= 128 && is_padding(image, start, end);
	for (uint64_t vaddr = start; vaddr < end; vaddr++)
		if (!padding || table_rule(image->table, vaddr) != table_rule(image->table, end))
			compare_hole(image, vaddr);
	return end;
}

// Every row that libdw knows: its first and its last byte, and one between.
static void compare_all(struct image *image)
{
	uint64_t vaddr = image->table->text_start;

	random_state = 0x70726f6664ULL;
	while (vaddr < image->table->text_end) {
		Dwarf_Addr start, end;
		Dwarf_Frame *frame;

		if (dwarf_cfi_addrframe(image->cfi, vaddr, &frame) != 0) {
			vaddr = compare_holes(image, vaddr);
			continue;
		}
		dwarf_frame_info(frame, &start, &end, NULL);
		free(frame);
		assert_true(start <= vaddr && vaddr < end);
		compare_pc(image, vaddr);
		if (end - vaddr > 1)
			compare_pc(image, end - 1);
		if (end - vaddr > 2)
			compare_pc(image, vaddr + 1 + next_random() % (end - vaddr - 2));
		vaddr = end;
	}
}

static void finish_image(struct image *image)
{
	dwarf_cfi_end(image->cfi);
	free(image->table);
	elf_end(image->elf);
}

// Builds, checks, compares, prints one line.
static uint64_t check_image(const char *name, Elf *elf)
{
	struct image image = {.name = name, .elf = elf};
	double text;

	GElf_Ehdr header;

	assert_non_null(elf);
	assert_non_null(gelf_getehdr(elf, &header));
	machine = header.e_machine == EM_AARCH64 ? aarch64 : x86_64;
	assert_int_equal(cfi_table_build(elf, &image.table, &image.size), 0);
	assert_int_equal(cfi_table_check(image.table, image.size), 0);
	find_plt(&image);
	image.cfi = dwarf_getcfi_elf(elf);
	assert_non_null(image.cfi);
	compare_all(&image);
	text = (double)(image.table->text_end - image.table->text_start);
	printf("%-42s %7" PRIu64 " PCs, %u rows, %u rules, %u unsupported, %" PRIu64 " PCs inexpressible, %" PRIu64
	       " FPs lost, %.3f MiB per MiB of text\n",
	       name, image.pcs, image.table->nrows, image.table->nrules, image.table->unsupported, image.inexpressible,
	       image.fp_lost, (double)image.size / text);
	// One PC in a thousand is in longjmp and its like, where the caller's SP is in a register; a small file may have one such function.
	assert_true(image.inexpressible <= image.pcs / 1000 + 6);
	assert_true(image.fp_lost * 1000 <= image.pcs);
	if (text > 1 << 20)
		assert_true((double)image.size / text <= 0.13);
	finish_image(&image);
	return image.pcs;
}

static uint64_t check_files(const char *const *paths, size_t count)
{
	uint64_t pcs = 0;

	for (size_t i = 0; i < count; i++) {
		int fd = open(paths[i], O_RDONLY | O_CLOEXEC);

		if (fd < 0) {
			printf("%s is not here\n", paths[i]);
			continue;
		}
		pcs += check_image(paths[i], elf_begin(fd, ELF_C_READ, NULL));
		close(fd);
	}
	printf("%" PRIu64 " PCs in all\n", pcs);
	return pcs;
}

static void test_real_files(void **state)
{
	assert_true(check_files(files, sizeof(files) / sizeof(files[0])) >= WANTED_PCS);
}

static void test_aarch64_files(void **state)
{
	if (access(aarch64_files[0], R_OK) < 0) {
		printf("skipped: libc6-arm64-cross is not installed\n");
		skip();
	}
	assert_true(check_files(aarch64_files, sizeof(aarch64_files) / sizeof(aarch64_files[0])) >= WANTED_PCS / 2);
}

static void test_vdso(void **state)
{
	size_t size;
	char *copy = copy_vdso(&size);

	assert_true(check_image("vDSO", elf_memory(copy, size)) > 10);
	free(copy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_real_files),
		cmocka_unit_test(test_aarch64_files),
		cmocka_unit_test(test_vdso),
	};

	elf_version(EV_CURRENT);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
