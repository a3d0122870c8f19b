// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_cfi_padding.c: what binutils pads with is padding; code is not, however short.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "collector/cfi_padding.h"

struct bytes {
	size_t size;
	uint8_t data[16];
};

// gas's own, from one byte to eleven; what lld and the linkers' fill are.
static const struct bytes x86_idle[] = {
	{1, {0x90}},
	{2, {0x66, 0x90}},
	{3, {0x0f, 0x1f, 0x00}},
	{4, {0x0f, 0x1f, 0x40, 0x00}},
	{5, {0x0f, 0x1f, 0x44, 0x00, 0x00}},
	{6, {0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00}},
	{7, {0x0f, 0x1f, 0x80, 0, 0, 0, 0}},
	{8, {0x0f, 0x1f, 0x84, 0x00, 0, 0, 0, 0}},
	{9, {0x66, 0x0f, 0x1f, 0x84, 0x00, 0, 0, 0, 0}},
	{10, {0x66, 0x2e, 0x0f, 0x1f, 0x84, 0x00, 0, 0, 0, 0}},
	{11, {0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0x00, 0, 0, 0, 0}},
	{3, {0xcc, 0xcc, 0xcc}},
	{5, {0, 0, 0, 0, 0}},
	{13, {0x66, 0x90, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0x00, 0, 0, 0, 0, 0x90}},
};

static const struct bytes x86_busy[] = {
	{1, {0xc3}},                   // ret
	{2, {0xf3, 0xc3}},             // rep ret
	{2, {0x90, 0xc3}},             // nop; ret
	{5, {0xe9, 0, 0, 0, 0}},       // jmp
	{4, {0xf3, 0x0f, 0x1e, 0xfa}}, // endbr64: a function begins
	{2, {0xf3, 0x90}},             // pause
	{3, {0x0f, 0x1f, 0x44}},       // cut
	{1, {0x66}},                   // a prefix alone
	{4, {0x0f, 0x1f, 0x48, 0x00}}, // /1 is none of ours
	{3, {0x0f, 0x1f, 0xc0}},       // a register
	{2, {0x31, 0xc0}},             // xor
};

static void test_x86(void **state)
{
	for (size_t i = 0; i < sizeof(x86_idle) / sizeof(x86_idle[0]); i++)
		if (!cfi_is_padding(CFI_ARCH_X86_64, x86_idle[i].data, x86_idle[i].size))
			fail_msg("padding %zu is none", i);
	for (size_t i = 0; i < sizeof(x86_busy) / sizeof(x86_busy[0]); i++)
		if (cfi_is_padding(CFI_ARCH_X86_64, x86_busy[i].data, x86_busy[i].size))
			fail_msg("code %zu is padding", i);
	assert_true(cfi_is_padding(CFI_ARCH_X86_64, NULL, 0));
}

static void test_aarch64(void **state)
{
	static const uint8_t idle[] = {0x1f, 0x20, 0x03, 0xd5, 0, 0, 0, 0, 0x00, 0x00, 0x20, 0xd4};
	static const uint8_t ret[] = {0x1f, 0x20, 0x03, 0xd5, 0xc0, 0x03, 0x5f, 0xd6};

	assert_true(cfi_is_padding(CFI_ARCH_AARCH64, idle, sizeof(idle)));
	assert_false(cfi_is_padding(CFI_ARCH_AARCH64, ret, sizeof(ret)));
	assert_false(cfi_is_padding(CFI_ARCH_AARCH64, idle, 3));
}

// Whatever the bytes, nothing is read past them: each is at the end of a block of its own (for the sanitizers).
static void test_random_bytes(void **state)
{
	srand(1);
	for (int round = 0; round < 20000; round++) {
		static const uint8_t likely[] = {0x66, 0x2e, 0x0f, 0x1f, 0x84, 0x44, 0x90, 0x00, 0x80, 0x40};
		size_t size = (size_t)rand() % 12 + 1;
		uint8_t *data = malloc(size);

		for (size_t i = 0; i < size; i++)
			data[i] = likely[(size_t)rand() % sizeof(likely)];
		(void)cfi_is_padding(round % 2 ? CFI_ARCH_X86_64 : CFI_ARCH_AARCH64, data, size);
		free(data);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_x86),
		cmocka_unit_test(test_aarch64),
		cmocka_unit_test(test_random_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
