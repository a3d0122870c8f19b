// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// Unit tests of the arena: blocks do not overlap, are aligned, stay where they are, and all memory comes back.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "alloc_fail.h"
#include "formats/arena.h"

#include <string.h>

static uint32_t next_random(uint32_t below)
{
	static uint64_t state = 3;
	state = state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(state >> 33) % below;
}

// Each block is filled with a byte of its own; in the end each still holds it. Sizes from 0 to several chunks.
static void test_blocks(void **state)
{
	enum { BLOCKS = 20000 };
	static unsigned char *blocks[BLOCKS];
	static size_t sizes[BLOCKS];
	struct arena arena = {0};
	long before = alloc_fail_blocks;
	for (uint32_t i = 0; i < BLOCKS; i++) {
		size_t align = (size_t)1 << next_random(5);
		sizes[i] = next_random(200) ? next_random(100) : next_random(100000);
		blocks[i] = arena_alloc(&arena, sizes[i], align);
		assert_non_null(blocks[i]);
		assert_int_equal((uintptr_t)blocks[i] % align, 0);
		memset(blocks[i], (int)(i % 251), sizes[i]);
	}
	for (uint32_t i = 0; i < BLOCKS; i++) {
		for (size_t j = 0; j < sizes[i]; j++) {
			if (blocks[i][j] != i % 251)
				fail_msg("block %u, byte %zu", i, j);
		}
	}
	assert_in_range(alloc_fail_blocks - before, 5, 1000);
	arena_finish(&arena);
	assert_int_equal(alloc_fail_blocks, before);
}

// Every size at every distance from a chunk's end: the arena hands out no byte beyond it (ASan, or the heap's own checks).
static void test_chunk_end(void **state)
{
	for (size_t used = 4000; used <= 4096; used++) {
		for (size_t size = 0; size <= 100; size += 3) {
			struct arena arena = {0};
			for (size_t i = 0; i < used; i++)
				assert_non_null(arena_alloc(&arena, 1, 1));
			memset(arena_alloc(&arena, size, 16), 0xee, size);
			assert_true(arena.at <= arena.end);
			arena_finish(&arena);
		}
	}
}

static void test_no_memory(void **state)
{
	struct arena arena = {0};
	assert_null(arena_alloc(&arena, SIZE_MAX, 8));
	assert_null(arena_alloc(&arena, SIZE_MAX - 8, 8));
	alloc_fail_after(0, true);
	assert_null(arena_alloc(&arena, 10, 8));
	assert_int_equal(alloc_fail_stop(), 1);
	char *copy = arena_copy(&arena, "text", 5, 1);
	assert_string_equal(copy, "text");
	alloc_fail_after(0, false);
	assert_null(arena_alloc(&arena, 100000, 8));
	assert_null(arena_copy(&arena, NULL, 5000, 8));
	assert_non_null(arena_alloc(&arena, 100, 8)); // there is room in the first chunk
	assert_int_equal(alloc_fail_stop(), 2);
	assert_string_equal(copy, "text");
	arena_finish(&arena);
	arena_finish(&arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_blocks),
		cmocka_unit_test(test_chunk_end),
		cmocka_unit_test(test_no_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
