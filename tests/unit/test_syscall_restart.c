// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_syscall_restart.c: the call's number is read out of real code shapes, and never guessed.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>

#include "profd/safe_read.h"
#include "profd/syscall_restart.h"

static _Alignas(4096) uint8_t page[4096];

// Puts code right before page+2048 and makes the context of a call there that was interrupted.
static ucontext_t interrupted(const uint8_t *code, size_t size)
{
	ucontext_t uc;
	uint8_t *end = page + 2048;

	memset(page, 0xcc, sizeof(page));
	memcpy(end - size, code, size);
	memset(&uc, 0, sizeof(uc));
	uc.uc_mcontext.gregs[REG_RAX] = -EINTR;
	uc.uc_mcontext.gregs[REG_RIP] = (greg_t)end;
	uc.uc_mcontext.gregs[REG_RCX] = (greg_t)end;
	memset(&uc.uc_sigmask, 0xff, sizeof(uc.uc_sigmask));
	return uc;
}

#define SHAPE(...) ((const uint8_t[]){__VA_ARGS__}), sizeof((const uint8_t[]){__VA_ARGS__})

static void test_known_shapes(void **state)
{
	struct {
		const uint8_t *code;
		size_t size;
		long number;
	} shapes[] = {
		{SHAPE(0xb8, 0xe8, 0, 0, 0, 0x0f, 0x05), SYS_epoll_wait},
		// mov $0x119,%eax; mov 0x4(%rsp),%edi; syscall
		{SHAPE(0xb8, 0x19, 1, 0, 0, 0x8b, 0x7c, 0x24, 4, 0x0f, 0x05), SYS_epoll_pwait},
		// mov $0x2d,%eax; mov 0x10(%rsp),%edi; mov 0x8(%rsp),%rsi; syscall
		{SHAPE(0xb8, 0x2d, 0, 0, 0, 0x8b, 0x7c, 0x24, 16, 0x48, 0x8b, 0x74, 0x24, 8, 0x0f, 0x05), SYS_recvfrom},
		{SHAPE(0x31, 0xc0, 0x0f, 0x05), SYS_read},
		// mov $0xca,%eax; xor $0x80,%sil; syscall
		{SHAPE(0xb8, 0xca, 0, 0, 0, 0x40, 0x80, 0xf6, 0x80, 0x0f, 0x05), SYS_futex},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		ucontext_t uc = interrupted(shapes[i].code, shapes[i].size);

		assert_true(profd_syscall_restart(&uc));
		assert_int_equal(uc.uc_mcontext.gregs[REG_RAX], shapes[i].number);
		assert_ptr_equal(uc.uc_mcontext.gregs[REG_RIP], page + 2046);
	}
}

static void test_number_in_register(void **state)
{
	ucontext_t uc = interrupted(SHAPE(0x44, 0x89, 0xc0, 0x0f, 0x05)); // mov %r8d,%eax; syscall

	(void)state;
	uc.uc_mcontext.gregs[REG_R8] = SYS_futex;
	assert_true(profd_syscall_restart(&uc));
	assert_int_equal(uc.uc_mcontext.gregs[REG_RAX], SYS_futex);
}

static void test_left_alone(void **state)
{
	struct {
		const uint8_t *code;
		size_t size;
	} shapes[] = {
		{SHAPE(0xb8, 3, 0, 0, 0, 0x0f, 0x05)},                         // close is never made twice
		{SHAPE(0xb8, 42, 0, 0, 0, 0x0f, 0x05)},                        // nor connect
		{SHAPE(0x4c, 0x8b, 0x4c, 0x24, 8, 0x0f, 0x05)},                // syscall(2): no number in the code
		{SHAPE(0xb8, 0xe8, 0, 0, 0, 0x8b, 0x44, 0x24, 8, 0x0f, 0x05)}, // eax is written again
		{SHAPE(0x41, 0xb8, 0xe8, 0, 0, 0, 0x0f, 0x05)},                // mov $0xe8,%r8d
		{SHAPE(0xb8, 0xe8, 0, 0, 0, 0xe8, 1, 2, 3, 4, 0x0f, 0x05)},    // a call in between
		{SHAPE(0xb8, 0xe8, 0, 0, 0, 0xcd, 0x80)},                      // not a syscall instruction
	};

	(void)state;
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		ucontext_t uc = interrupted(shapes[i].code, shapes[i].size);

		assert_false(profd_syscall_restart(&uc));
		assert_int_equal(uc.uc_mcontext.gregs[REG_RAX], -EINTR);
	}
}

static void test_other_results(void **state)
{
	ucontext_t uc = interrupted(SHAPE(0xb8, 0xe8, 0, 0, 0, 0x0f, 0x05));

	(void)state;
	uc.uc_mcontext.gregs[REG_RAX] = 0;
	assert_false(profd_syscall_restart(&uc));
	uc.uc_mcontext.gregs[REG_RAX] = -EINTR;
	uc.uc_mcontext.gregs[REG_RCX] = 0; // not a return from a system call
	assert_false(profd_syscall_restart(&uc));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known_shapes),
		cmocka_unit_test(test_number_in_register),
		cmocka_unit_test(test_left_alone),
		cmocka_unit_test(test_other_results),
	};

	profd_safe_read_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
