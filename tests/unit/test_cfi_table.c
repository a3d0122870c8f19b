// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_cfi_table.c: tables of real files say what libdw says of the same CFI (cfi_table.c and what it stands on), and damaged
// files do no harm. Both sides' rules are evaluated on made-up registers, with memory that is a hash of its address.

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <errno.h>
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
#include <sys/auxv.h>
#include <unistd.h>

#include <cmocka.h>

#include "collector/cfi_table.h"
#include "profd/wire.h"

#define FP 6
#define SP 7
#define PC 16
#define WANTED_PCS 100000

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

static uint64_t random_state;

static uint64_t next_random(void) // xorshift64*: the same in every run
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * 0x2545f4914f6cdd1dULL;
}

static uint64_t memory_at(uint64_t address)
{
	return (address ^ address >> 29) * 0x9e3779b97f4a7c15ULL;
}

// What a rule makes of the registers. 'known' bits: which of them it can say.
struct answer {
	bool found, outermost, signal;
	bool sp_elsewhere; // the caller's SP is not the CFA, which no rule can say
	bool fp_known;
	uint64_t cfa, pc, fp;
};

// ---- Our answer ----------------------------------------------------------------------------------------------------

static const struct wire_rule *table_rule(const struct wire_table *table, uint64_t vaddr)
{
	const struct wire_rule *rules = (const struct wire_rule *)(table + 1);
	const uint32_t *pages = (const uint32_t *)(rules + table->nrules);
	const struct wire_row *rows = (const struct wire_row *)(pages + table->npages + 1);
	uint32_t page, row;

	if (vaddr < table->text_start || vaddr >= table->text_end)
		return &rules[0];
	page = (uint32_t)((vaddr - table->text_start) >> WIRE_TABLE_PAGE_BITS);
	row = pages[page];
	for (uint32_t step = 1u << 15; step; step >>= 1)
		if (row + step < pages[page + 1] && rows[row + step].off <= (vaddr & 0xffff))
			row += step;
	return &rules[rows[row].rule];
}

static uint64_t rule_cfa(const struct wire_rule *rule, const uint64_t *regs)
{
	switch (rule->cfa) {
	case WIRE_CFA_SP:
		return regs[SP] + (uint64_t)rule->off;
	case WIRE_CFA_FP:
		return regs[FP] + (uint64_t)rule->off;
	case WIRE_CFA_REG:
		return regs[rule->reg] + (uint64_t)rule->off;
	case WIRE_CFA_FP_DEREF:
		return memory_at(regs[FP] + (uint64_t)rule->off) + (uint64_t)rule->off2;
	case WIRE_CFA_SP_DEREF:
		return memory_at(regs[SP] + (uint64_t)rule->off) + (uint64_t)rule->off2;
	case WIRE_CFA_PLT:
		return regs[SP] + 8 + ((regs[PC] & 15) >= (uint64_t)rule->off ? 8 : 0);
	default:
		fail_msg("CFA kind %u", rule->cfa);
		return 0;
	}
}

static struct answer our_answer(const struct wire_table *table, uint64_t vaddr, const uint64_t *regs)
{
	const struct wire_rule *rule = table_rule(table, vaddr);
	struct answer answer = {.found = rule->cfa != WIRE_CFA_NONE};

	answer.outermost = rule->ra == WIRE_SAVED_UNDEF;
	answer.signal = rule->cfa == WIRE_CFA_SIGNAL;
	if (!answer.found || answer.outermost)
		return answer;
	if (answer.signal) {
		answer.cfa = memory_at(regs[SP] + 160);
		answer.pc = memory_at(regs[SP] + 168);
		answer.fp = memory_at(regs[SP] + 120);
		answer.fp_known = true;
		return answer;
	}
	answer.cfa = rule_cfa(rule, regs);
	answer.pc = rule->ra == WIRE_SAVED_REG ? regs[rule->reg] : memory_at(answer.cfa + (uint64_t)rule->ra_off);
	answer.fp_known = rule->fp != WIRE_SAVED_UNDEF;
	answer.fp = regs[FP];
	if (rule->fp == WIRE_SAVED_AT)
		answer.fp = memory_at(answer.cfa + (uint64_t)rule->fp_off);
	else if (rule->fp == WIRE_SAVED_AT_FP)
		answer.fp = memory_at(regs[FP] + (uint64_t)rule->fp_off);
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

	if (atom != DW_OP_and && atom != DW_OP_ge && atom != DW_OP_shl && atom != DW_OP_plus && atom != DW_OP_minus)
		return false;
	b = pop(stack);
	a = pop(stack);
	push(stack, atom == DW_OP_and    ? a & b
		    : atom == DW_OP_ge   ? (int64_t)a >= (int64_t)b
		    : atom == DW_OP_shl  ? a << b
		    : atom == DW_OP_plus ? a + b
					 : a - b);
	return true;
}

// False for an operation that no CFI we know of has.
static bool operate(struct stack *stack, const Dwarf_Op *op, const uint64_t *regs, uint64_t cfa)
{
	if (op->atom >= DW_OP_breg0 && op->atom <= DW_OP_breg16)
		push(stack, regs[op->atom - DW_OP_breg0] + op->number);
	else if (op->atom == DW_OP_bregx && op->number <= PC)
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
	else if (op->atom >= DW_OP_reg0 && op->atom <= DW_OP_reg16) {
		push(stack, regs[op->atom - DW_OP_reg0]);
		stack->is_value = true;
	} else if (op->atom == DW_OP_regx && op->number <= PC) {
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
	assert_int_equal(dwarf_frame_info(frame, NULL, NULL, &answer.signal), PC);
	answer.found = dwarf_frame_cfa(frame, &ops, &count) == 0 && evaluate(ops, count, regs, 0, true, &answer.cfa);
	if (!dw_register(frame, PC, regs, answer.cfa, &undefined, &answer.pc))
		answer.found = false;
	if (undefined)
		answer.outermost = answer.found = true;
	else if (!dw_register(frame, SP, regs, answer.cfa, &ignored, &sp) || sp != answer.cfa)
		answer.sp_elsewhere = answer.found;
	answer.fp_known = dw_register(frame, FP, regs, answer.cfa, &ignored, &answer.fp);
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
	uint64_t pcs, inexpressible, fp_lost;
};

static void compare_pc(struct image *image, uint64_t vaddr)
{
	struct answer ours, theirs;
	uint64_t regs[PC + 1];

	for (int i = 0; i < PC; i++)
		regs[i] = next_random() & 0x7ffffffffff8;
	regs[PC] = vaddr;
	ours = our_answer(image->table, vaddr, regs);
	theirs = dw_answer(image->cfi, vaddr, regs);
	image->pcs++;
	if (!ours.found && (theirs.found || theirs.sp_elsewhere)) {
		image->inexpressible++;
		return;
	}
	if (ours.found != theirs.found || theirs.sp_elsewhere || ours.outermost != theirs.outermost ||
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

// Where a table says something and libdw nothing: only at the entry point, see mark_entry.
static void compare_hole(const struct image *image, uint64_t vaddr)
{
	const struct wire_rule *rule = table_rule(image->table, vaddr);
	GElf_Ehdr header;

	assert_non_null(gelf_getehdr(image->elf, &header));
	if (rule->cfa != WIRE_CFA_NONE &&
	    (rule->ra != WIRE_SAVED_UNDEF || vaddr < header.e_entry || vaddr - header.e_entry >= 256))
		fail_msg("%s: a rule at %#" PRIx64 ", where there is no CFI", image->name, vaddr);
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
			compare_hole(image, vaddr++);
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

	assert_non_null(elf);
	assert_int_equal(cfi_table_build(elf, &image.table, &image.size), 0);
	assert_int_equal(cfi_table_check(image.table, image.size), 0);
	image.cfi = dwarf_getcfi_elf(elf);
	assert_non_null(image.cfi);
	compare_all(&image);
	text = (double)(image.table->text_end - image.table->text_start);
	printf("%-42s %7" PRIu64 " PCs, %u rows, %u rules, %u unsupported, %" PRIu64 " PCs inexpressible, %" PRIu64
	       " FPs lost, %.3f MiB per MiB of text\n",
	       name, image.pcs, image.table->nrows, image.table->nrules, image.table->unsupported, image.inexpressible,
	       image.fp_lost, (double)image.size / text);
	// A few PCs in a thousand are in longjmp and its like, where the caller's SP is in a register.
	assert_true(image.inexpressible * 1000 <= image.pcs);
	assert_true(image.fp_lost * 1000 <= image.pcs);
	if (text > 1 << 20)
		assert_true((double)image.size / text < 0.2);
	finish_image(&image);
	return image.pcs;
}

static void test_real_files(void **state)
{
	uint64_t pcs = 0;

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		int fd = open(files[i], O_RDONLY | O_CLOEXEC);

		if (fd < 0) {
			printf("%s is not here\n", files[i]);
			continue;
		}
		pcs += check_image(files[i], elf_begin(fd, ELF_C_READ, NULL));
		close(fd);
	}
	printf("%" PRIu64 " PCs in all\n", pcs);
	assert_true(pcs >= WANTED_PCS);
}

// A copy of this process's vDSO; it ends with its section headers.
static char *copy_vdso(size_t *ret_size)
{
	const GElf_Ehdr *header = (const GElf_Ehdr *)getauxval(AT_SYSINFO_EHDR);
	char *copy;

	assert_non_null(header);
	*ret_size = header->e_shoff + (size_t)header->e_shnum * header->e_shentsize;
	copy = malloc(*ret_size);
	assert_non_null(copy);
	memcpy(copy, header, *ret_size);
	return copy;
}

static void test_vdso(void **state)
{
	size_t size;
	char *copy = copy_vdso(&size);

	assert_true(check_image("vDSO", elf_memory(copy, size)) > 10);
	free(copy);
}

static char *read_file(const char *path, size_t *ret_size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	off_t size;
	char *data;

	assert_true(fd >= 0);
	size = lseek(fd, 0, SEEK_END);
	data = malloc((size_t)size);
	assert_non_null(data);
	assert_int_equal(pread(fd, data, (size_t)size, 0), size);
	close(fd);
	*ret_size = (size_t)size;
	return data;
}

static int build_from(char *data, size_t size, struct wire_table **ret_table, size_t *ret_size)
{
	Elf *elf = elf_memory(data, size);
	int result = elf ? cfi_table_build(elf, ret_table, ret_size) : -EINVAL;

	if (elf)
		elf_end(elf);
	return result;
}

// Without section headers the run-time unwinder's way in is left, and leads to the same table.
static void test_no_section_headers(void **state)
{
	struct wire_table *with, *without;
	size_t size, with_size, without_size;
	char *data = read_file(files[1], &size);
	GElf_Ehdr *header = (GElf_Ehdr *)(void *)data;

	assert_int_equal(build_from(data, size, &with, &with_size), 0);
	header->e_shoff = 0;
	header->e_shnum = header->e_shstrndx = 0;
	assert_int_equal(build_from(data, size, &without, &without_size), 0);
	assert_int_equal(with_size, without_size);
	assert_memory_equal(with, without, with_size);
	free(with);
	free(without);
	free(data);
}

static void test_build_id(void **state)
{
	static const uint8_t none[sizeof(((struct wire_table *)NULL)->build_id)];
	struct wire_table *table;
	size_t size, table_size;
	char *data = read_file(files[0], &size);

	assert_int_equal(build_from(data, size, &table, &table_size), 0);
	assert_memory_not_equal(table->build_id, none, sizeof(none));
	assert_non_null(memmem(data, size, table->build_id, sizeof(none)));
	free(table);
	free(data);
}

// ---- Files that we make --------------------------------------------------------------------------------------------

#define TEXT 0x1000

// An ELF file of a header, one executable segment at TEXT and the sections given; no code.
struct made {
	GElf_Ehdr header;
	GElf_Phdr segment;
	GElf_Shdr sections[4];
	char names[32];
	uint8_t eh_frame[512], debug_frame[512];
};

static void make_elf(struct made *made)
{
	static const char names[] = "\0.eh_frame\0.debug_frame\0.names";

	memset(made, 0, sizeof(*made));
	memcpy(made->header.e_ident, ELFMAG, SELFMAG);
	made->header.e_ident[EI_CLASS] = ELFCLASS64;
	made->header.e_ident[EI_DATA] = ELFDATA2LSB;
	made->header.e_ident[EI_VERSION] = made->header.e_version = EV_CURRENT;
	made->header.e_type = ET_DYN;
	made->header.e_machine = EM_X86_64;
	made->header.e_ehsize = sizeof(made->header);
	made->header.e_phoff = offsetof(struct made, segment);
	made->header.e_phentsize = sizeof(made->segment);
	made->header.e_phnum = 1;
	made->header.e_shoff = offsetof(struct made, sections);
	made->header.e_shentsize = sizeof(made->sections[0]);
	made->header.e_shnum = 4;
	made->header.e_shstrndx = 3;
	made->segment = (GElf_Phdr){.p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_vaddr = TEXT, .p_memsz = 0x30000};
	made->sections[1] = (GElf_Shdr){.sh_name = 1, .sh_type = SHT_PROGBITS};
	made->sections[1].sh_offset = offsetof(struct made, eh_frame);
	made->sections[2] = (GElf_Shdr){.sh_name = 11, .sh_type = SHT_PROGBITS};
	made->sections[2].sh_offset = offsetof(struct made, debug_frame);
	made->sections[3] = (GElf_Shdr){.sh_name = 24, .sh_type = SHT_STRTAB, .sh_size = sizeof(names)};
	made->sections[3].sh_offset = offsetof(struct made, names);
	memcpy(made->names, names, sizeof(names));
}

static void put(uint8_t **cursor, uint64_t value, size_t size)
{
	memcpy(*cursor, &value, size);
	*cursor += size;
}

// A CIE without augmentation: CFA = rsp+8, return address at −8; addresses are 8 bytes.
static void put_cie(struct made *made, bool debug)
{
	GElf_Shdr *section = &made->sections[debug ? 2 : 1];
	uint8_t *base = debug ? made->debug_frame : made->eh_frame, *cursor = base + section->sh_size;

	put(&cursor, 16, 4);
	put(&cursor, debug ? UINT32_MAX : 0, 4);
	memcpy(cursor, (uint8_t[]){1, 0, 1, 0x78, 16, DW_CFA_def_cfa, 7, 8, DW_CFA_offset | 16, 1, 0, 0}, 12);
	section->sh_size += 20;
}

// An FDE of the section's first CIE. program: advance by `at` bytes, then the CFA is rsp+offset.
static void put_fde(struct made *made, bool debug, uint64_t start, uint64_t size, uint8_t at, uint8_t offset)
{
	GElf_Shdr *section = &made->sections[debug ? 2 : 1];
	uint8_t *base = debug ? made->debug_frame : made->eh_frame, *cursor = base + section->sh_size;

	put(&cursor, 24, 4);
	put(&cursor, debug ? 0 : section->sh_size + 4, 4);
	put(&cursor, start, 8);
	put(&cursor, size, 8);
	memcpy(cursor, (uint8_t[]){DW_CFA_advance_loc | (at & 0x3f), DW_CFA_def_cfa_offset, offset, 0}, 4);
	section->sh_size += 28;
}

static struct wire_table *build_made(struct made *made)
{
	struct wire_table *table;
	size_t size;

	assert_int_equal(build_from((char *)made, sizeof(*made), &table, &size), 0);
	assert_int_equal(cfi_table_check(table, size), 0);
	return table;
}

static void assert_offset(const struct wire_table *table, uint64_t vaddr, int32_t offset)
{
	const struct wire_rule *rule = table_rule(table, vaddr);

	if (!offset) {
		assert_int_equal(rule->cfa, WIRE_CFA_NONE);
		return;
	}
	assert_int_equal(rule->cfa, WIRE_CFA_SP);
	assert_int_equal(rule->off, offset);
}

// FDEs in any order, overlapping, outside the text, across pages.
static void test_overlaps(void **state)
{
	struct wire_table *table;
	struct made made;

	make_elf(&made);
	put_cie(&made, false);
	put_fde(&made, false, TEXT + 0x200, 0x100, 4, 32);
	put_fde(&made, false, TEXT + 0x100, 0x180, 8, 16);     // starts first: keeps [0x100, 0x280)
	put_fde(&made, false, TEXT + 0x180, 0x20, 1, 64);      // inside: loses
	put_fde(&made, false, 0, 0x100, 1, 72);                // thrown away by the linker
	put_fde(&made, false, TEXT + 0x2ff00, 0x1000, 1, 80);  // reaches beyond the text
	put_fde(&made, false, TEXT + 0x800, UINT64_MAX, 1, 8); // wraps
	put_fde(&made, false, TEXT + 0xe000, 0x11000, 16, 48); // three pages
	table = build_made(&made);
	assert_offset(table, TEXT, 0);
	assert_offset(table, TEXT + 0xff, 0);
	assert_offset(table, TEXT + 0x100, 8);
	assert_offset(table, TEXT + 0x108, 16);
	assert_offset(table, TEXT + 0x190, 16);
	assert_offset(table, TEXT + 0x27f, 16);
	assert_offset(table, TEXT + 0x280, 32);
	assert_offset(table, TEXT + 0x300, 0);
	assert_offset(table, TEXT + 0x800, 0);
	assert_offset(table, TEXT + 0x2ff80, 0);
	assert_offset(table, TEXT + 0xe00f, 8);
	assert_offset(table, TEXT + 0xe010, 48);
	assert_offset(table, 0x10000, 48);
	assert_offset(table, 0x1ffff, 48);
	assert_offset(table, 0x20000 - 1 + TEXT, 0);
	assert_int_equal(table->npages, 4);
	free(table);
}

// .debug_frame fills what .eh_frame leaves, and no more, whichever starts first.
static void test_debug_frame(void **state)
{
	struct wire_table *table;
	struct made made;

	make_elf(&made);
	put_cie(&made, false);
	put_fde(&made, false, TEXT + 0x100, 0x100, 0, 16);
	put_fde(&made, false, TEXT + 0x300, 0x100, 0, 16);
	put_cie(&made, true);
	put_fde(&made, true, TEXT + 0x80, 0x300, 0, 24);
	put_fde(&made, true, TEXT + 0x380, 0x100, 0, 32);
	table = build_made(&made);
	assert_offset(table, TEXT + 0x7f, 0);
	assert_offset(table, TEXT + 0x80, 24);
	assert_offset(table, TEXT + 0xff, 24);
	assert_offset(table, TEXT + 0x100, 16);
	assert_offset(table, TEXT + 0x1ff, 16);
	assert_offset(table, TEXT + 0x200, 24);
	assert_offset(table, TEXT + 0x300, 16);
	assert_offset(table, TEXT + 0x3ff, 16);
	assert_offset(table, TEXT + 0x400, 32);
	assert_offset(table, TEXT + 0x480, 0);
	free(table);
	made.sections[1].sh_size = 0; // .debug_frame alone
	table = build_made(&made);
	assert_offset(table, TEXT + 0x100, 24);
	assert_offset(table, TEXT + 0x380, 32);
	free(table);
}

static void test_refused(void **state)
{
	struct wire_table *table = NULL;
	struct made made;
	size_t size = 0;

	make_elf(&made);
	assert_int_equal(build_from((char *)&made, sizeof(made), &table, &size), -ENODATA);
	made.header.e_machine = EM_AARCH64;
	assert_int_equal(build_from((char *)&made, sizeof(made), &table, &size), -ENOTSUP);
	made.header.e_machine = EM_X86_64;
	made.segment.p_memsz = 1ULL << 40;
	assert_int_equal(build_from((char *)&made, sizeof(made), &table, &size), -EINVAL);
	made.segment.p_flags = PF_R;
	assert_int_equal(build_from((char *)&made, sizeof(made), &table, &size), -EINVAL);
	assert_null(table);
	assert_int_equal(size, 0);
}

// ---- Damage --------------------------------------------------------------------------------------------------------

// Whatever comes of it, a table that is built is a sound one.
static void build_damaged(char *data, size_t size)
{
	struct wire_table *table;
	size_t table_size;

	if (build_from(data, size, &table, &table_size) == 0) {
		assert_int_equal(cfi_table_check(table, table_size), 0);
		free(table);
	}
}

static void damage(const char *whole, size_t size, unsigned rounds, size_t from, size_t to)
{
	for (unsigned round = 0; round < rounds; round++) {
		size_t length = round % 4 == 3 ? 1 + next_random() % size : size;
		unsigned flips = 1 + (unsigned)(next_random() % 24);
		char *copy = malloc(length); // of its own size, so that ASan sees what reads past it

		assert_non_null(copy);
		memcpy(copy, whole, length);
		for (unsigned i = 0; i < flips; i++) {
			size_t at = from + next_random() % (to - from);

			if (at < length)
				copy[at] = (char)(round % 2 ? copy[at] ^ 1 << next_random() % 8 : (char)next_random());
		}
		build_damaged(copy, length);
		free(copy);
	}
}

static void test_damaged(void **state)
{
	size_t vdso_size, size, from, to;
	char *vdso = copy_vdso(&vdso_size), *data = read_file(files[1], &size);
	GElf_Shdr header;
	Elf_Scn *scn = NULL;
	Elf *elf = elf_memory(data, size);
	size_t names;

	random_state = 0x64616d616765ULL;
	damage(vdso, vdso_size, 3000, 0, vdso_size);
	assert_int_equal(elf_getshdrstrndx(elf, &names), 0);
	do {
		scn = elf_nextscn(elf, scn);
		assert_non_null(scn);
		assert_non_null(gelf_getshdr(scn, &header));
	} while (strcmp(elf_strptr(elf, names, header.sh_name), ".eh_frame") != 0);
	from = header.sh_offset;
	to = from + header.sh_size;
	elf_end(elf);
	damage(data, size, 100, from, to);
	damage(data, size, 50, 0, 4096);
	free(vdso);
	free(data);
}

static void test_check(void **state)
{
	struct wire_table *table, *copy;
	size_t size, table_size;
	char *vdso = copy_vdso(&size);

	assert_int_equal(build_from(vdso, size, &table, &table_size), 0);
	random_state = 0x636865636bULL;
	copy = malloc(table_size);
	assert_non_null(copy);
	for (unsigned round = 0; round < 20000; round++) {
		memcpy(copy, table, table_size);
		((uint8_t *)copy)[next_random() % table_size] ^= (uint8_t)(1 << next_random() % 8);
		if (cfi_table_check(copy, table_size) == 0) // then every lookup stays inside: ASan sees
			for (uint64_t v = copy->text_start; v < copy->text_end; v += 1 + next_random() % 512)
				assert_in_range(table_rule(copy, v) - (const struct wire_rule *)(copy + 1), 0,
						copy->nrules - 1);
	}
	for (size_t cut = 0; cut < table_size; cut++)
		assert_int_not_equal(cfi_table_check(table, cut), 0);
	free(copy);
	free(table);
	free(vdso);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_real_files),
		cmocka_unit_test(test_vdso),
		cmocka_unit_test(test_no_section_headers),
		cmocka_unit_test(test_build_id),
		cmocka_unit_test(test_overlaps),
		cmocka_unit_test(test_debug_frame),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_check),
	};

	elf_version(EV_CURRENT);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
