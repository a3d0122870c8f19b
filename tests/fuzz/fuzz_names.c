// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// fuzz_names.c: any bytes as blocks of a name table, and lookups in what is taken for sound. What is returned lies inside of the bytes.

#include <stdbool.h>
#include <string.h>

#include "collector/name_set.h"
#include "tests/fuzz/fuzz.h"

#define MAX_FRAMES 64

static const uint8_t *begin, *end;

uint64_t fuzz_got_through;

static void check_string(const char *string)
{
	const uint8_t *at = (const uint8_t *)string;

	if (!string || string[0] == '\0') // "" may be the reader's own
		return;
	FUZZ_CHECK(at >= begin && at < end && memchr(at, 0, (size_t)(end - at)));
}

static void look_up(const struct name_set *set, uint64_t vaddr)
{
	struct name_frame frames[MAX_FRAMES];
	bool missing;
	size_t count = name_set_find(set, vaddr, frames, MAX_FRAMES, &missing);

	FUZZ_CHECK(count <= MAX_FRAMES && (count == 0 || !missing));
	for (size_t i = 0; i < count; i++) {
		check_string(frames[i].name);
		check_string(frames[i].system_name);
		check_string(frames[i].file);
	}
}

static void look_around(const struct name_set *set)
{
	const struct name_block *block = &set->blocks[0];
	uint64_t covered[64];
	size_t count = name_set_covered(set, covered, 64);

	for (size_t i = 0; i < count; i++)
		for (uint64_t at = 0; at < 64; at += 7)
			look_up(set, covered[i] + at);
	for (uint32_t i = 0; i < block->header->nranges && i < 64; i++)
		look_up(set, block->header->base + block->ranges[i].end - 1);
	look_up(set, 0);
	look_up(set, block->header->base);
	look_up(set, UINT64_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct name_set set = {0};
	struct name_block block;
	uint8_t *bytes = aligned_alloc(8, (size + 8) & ~(size_t)7);
	size_t at = 0;

	FUZZ_CHECK(bytes);
	memcpy(bytes, data, size);
	begin = bytes;
	end = bytes + size;
	while (at < size && name_block_open(bytes + at, size - at, &block) == 0 && name_set_add(&set, &block) == 0)
		at += block.header->size;
	if (set.count > 0) {
		fuzz_got_through++;
		look_around(&set);
	}
	name_set_finish(&set);
	free(bytes);
	return 0;
}
