// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_cfi_table.c: tables of files made for it: overlaps, .debug_frame, no section headers; damaged files do no harm
// (cfi_table.c, cfi_file.c). That tables of real files say the right thing is test_cfi_oracle.c's.

#include <dwarf.h>
#include <errno.h>
#include <gelf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "collector/cfi_table.h"
#include "profd/wire.h"
#include "tests/unit/all_addresses.h"
#include "tests/unit/cfi_fixture.h"

#define LD_SO "/lib64/ld-linux-x86-64.so.2"

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
	char *data = read_file(LD_SO, &size);
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
	char *data = read_file(LD_SO, &size);

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
	made.header.e_machine = EM_RISCV;
	assert_int_equal(build_from((char *)&made, sizeof(made), &table, &size), -ENOTSUP);
	made.header.e_machine = EM_AARCH64;
	assert_int_equal(build_from((char *)&made, sizeof(made), &table, &size), -ENODATA);
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
	char *vdso = copy_vdso(&vdso_size), *data = read_file(LD_SO, &size);
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

static void test_all_addresses(void **state)
{
	struct all_addresses made = all_addresses_make();

	assert_int_equal(cfi_table_check(&made.table, sizeof(made)), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_addresses), cmocka_unit_test(test_no_section_headers),
		cmocka_unit_test(test_build_id),      cmocka_unit_test(test_overlaps),
		cmocka_unit_test(test_debug_frame),   cmocka_unit_test(test_refused),
		cmocka_unit_test(test_damaged),       cmocka_unit_test(test_check),
	};

	elf_version(EV_CURRENT);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
