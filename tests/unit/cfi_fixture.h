// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cfi_fixture.h: what the tests of unwind tables share: looking a rule up, reading files, random numbers.

#ifndef PROFD_TESTS_CFI_FIXTURE_H
#define PROFD_TESTS_CFI_FIXTURE_H

#include <fcntl.h>
#include <gelf.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "profd/wire.h"

static uint64_t random_state;

static inline uint64_t next_random(void) // xorshift64*: the same in every run
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * 0x2545f4914f6cdd1dULL;
}

// As wire.h says, by every row of the page.
static inline const struct wire_rule *table_rule(const struct wire_table *table, uint64_t vaddr)
{
	const uint32_t *pages = wire_table_pages(table);
	uint32_t page, row;

	if (vaddr < table->text_start || vaddr >= table->text_end)
		return wire_table_rules(table);
	page = (uint32_t)((vaddr - table->text_start) >> WIRE_TABLE_PAGE_BITS);
	row = pages[page];
	for (uint32_t block = page * WIRE_PAGE_BLOCKS; block < (page + 1) * WIRE_PAGE_BLOCKS; block++) {
		uint64_t start = table->text_start + ((uint64_t)block << WIRE_TABLE_BLOCK_BITS);
		uint32_t first = pages[page] + wire_table_blocks(table)[block];
		uint32_t end = block + 1 < (page + 1) * WIRE_PAGE_BLOCKS
				       ? pages[page] + wire_table_blocks(table)[block + 1]
				       : pages[page + 1];

		for (uint32_t i = first; i < end; i++)
			if (start + wire_table_rows(table)[i].offset <= vaddr)
				row = i;
		if (start > vaddr)
			break;
	}
	return wire_table_row_rule(table, row);
}

// A copy of this process's vDSO; it ends with its section headers.
static inline char *copy_vdso(size_t *ret_size)
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

static inline char *read_file(const char *path, size_t *ret_size)
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

#endif
