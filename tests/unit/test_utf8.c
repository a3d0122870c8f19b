// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// Unit tests of utf8.h: all code points, and what is not one.

#include "formats/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

// The plain bit pattern for a number, whether it is a character or not; returns the bytes.
static int encode(uint32_t c, int size, char out[5])
{
	static const unsigned char first[] = {0, 0, 0xc0, 0xe0, 0xf0};
	memset(out, 0, 5);
	for (int i = size - 1; i > 0; i--, c >>= 6)
		out[i] = (char)(0x80 | (c & 0x3f));
	out[0] = (char)(first[size] | c);
	return size;
}

static int size_of(uint32_t c)
{
	return c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
}

static void test_all_characters(void **state)
{
	char bytes[5];
	for (uint32_t c = 1; c < 0x110000; c++) {
		int size = encode(c, size_of(c), bytes);
		int step = utf8_step(bytes);
		if (c >= 0xd800 && c < 0xe000 ? step >= 0 : step != size)
			fail_msg("U+%04X: %d", c, step);
	}
}

static void test_overlong_and_beyond(void **state)
{
	char bytes[5];
	for (uint32_t c = 1; c < 0x10000; c++) {
		for (int size = size_of(c) + 1; size <= 4; size++) {
			encode(c, size, bytes);
			if (utf8_step(bytes) != -1)
				fail_msg("U+%04X in %d bytes", c, size);
		}
	}
	for (uint32_t c = 0x110000; c < 0x140000; c++) {
		encode(c, 4, bytes);
		if (utf8_step(bytes) != -1)
			fail_msg("%x", c);
	}
	for (int first = 0xf5; first < 0x100; first++) {
		const char alone[] = {(char)first, '\x80', '\x80', '\x80', 0};
		assert_int_equal(utf8_step(alone), -1);
	}
}

static void check_repair(const char *s, const char *expected)
{
	char out[64];
	assert_int_equal(utf8_repaired_size(s), strlen(expected));
	utf8_repair(out, s);
	assert_string_equal(out, expected);
	assert_true(utf8_is_valid(out));
	assert_int_equal(utf8_is_valid(s), strcmp(s, expected) == 0);
}

#define R UTF8_REPLACEMENT

static void test_repair(void **state)
{
	check_repair("", "");
	check_repair("plain", "plain");
	check_repair("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
	check_repair("a\xff"
		     "b",
		     "a" R "b");
	check_repair("\x80\x80", R R);
	check_repair("\xe2\x82", R); // cut: one character, one replacement
	check_repair("\xf0\x9f\x98"
		     "b",
		     R "b");
	check_repair("\xe2\xe2\x82\xac", R "\xe2\x82\xac");
	check_repair("\xed\xa0\x80", R R R); // a surrogate
	check_repair("\xc0\xaf", R R);       // overlong
	// Unicode 15, table 3-11.
	check_repair("\xe1\x80\xe2\xf0\x91\x92\xf1\xbf"
		     "A",
		     R R R R "A");
}

static void test_prefix(void **state)
{
	const char *s = "a\xc3\xa4\xe2\x82\xac\xff";
	const size_t expected[] = {0, 1, 1, 3, 3, 3, 6, 7, 7};
	for (size_t max = 0; max < sizeof(expected) / sizeof(expected[0]); max++)
		assert_int_equal(utf8_prefix(s, max), expected[max]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_characters),
		cmocka_unit_test(test_overlong_and_beyond),
		cmocka_unit_test(test_repair),
		cmocka_unit_test(test_prefix),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
