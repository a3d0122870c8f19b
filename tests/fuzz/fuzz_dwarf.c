// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// fuzz_dwarf.c: any bytes as an ELF file whose symbols and DWARF are compiled into a name table. It fails, or makes a sound block,
// whose strings can be looked up; either way soon.

#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "collector/elf_file.h"
#include "collector/name_compiler.h"
#include "collector/name_set.h"
#include "tests/fuzz/fuzz.h"

#define MAX_FRAMES 64
#define ADDRESSES 16

uint64_t fuzz_got_through;

static void check_block(int fd)
{
	struct name_frame frames[MAX_FRAMES];
	struct name_set set = {0};
	struct name_block block;
	struct stat st;
	bool missing;
	void *map;

	FUZZ_CHECK(fstat(fd, &st) == 0 && st.st_size > 0);
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	FUZZ_CHECK(map != MAP_FAILED);
	FUZZ_CHECK(name_block_open(map, (size_t)st.st_size, &block) == 0 && block.header->size == (uint64_t)st.st_size);
	FUZZ_CHECK(name_set_add(&set, &block) == 0);
	for (uint64_t i = 0; i < ADDRESSES; i++) {
		size_t count = name_set_find(&set, block.header->base + i * 0x35, frames, MAX_FRAMES, &missing);

		for (size_t k = 0; k < count; k++)
			FUZZ_CHECK(!frames[k].system_name || strlen(frames[k].system_name) < (size_t)st.st_size);
	}
	name_set_finish(&set);
	munmap(map, (size_t)st.st_size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t addresses[ADDRESSES];
	struct elf_file file = {.fd = -1};
	const struct name_request request = {.sources = {.file = &file}, .addresses = addresses, .count = ADDRESSES};
	uint8_t *bytes = malloc(size + 1);
	int fd;

	FUZZ_CHECK(bytes);
	memcpy(bytes, data, size);
	for (uint64_t i = 0; i < ADDRESSES; i++)
		addresses[i] = 0x1000 + i * 0x35;
	if (elf_file_open_memory(bytes, size, &file) < 0)
		return 0;
	fd = memfd_create("names", MFD_CLOEXEC);
	FUZZ_CHECK(fd >= 0);
	if (name_compile(&request, fd) == 0) {
		fuzz_got_through++;
		check_block(fd);
	}
	close(fd);
	elf_file_close(&file);
	return 0;
}
