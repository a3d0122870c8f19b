// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_kernel_types.c: members and functions are found in BTF, made here and the kernel's own; what is cut off or nonsense has none.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <linux/btf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/user.h>

#include "collector/kernel_types.h"

#define INFO(kind, members, flag) ((uint32_t)(flag) << 31 | (uint32_t)(kind) << 24 | (members))

static const char strings[] = "\0int\0pair\0first\0second\0bits\0walk\0flagged";
enum { INT = 1, PAIR = 5, FIRST = 10, SECOND = 16, BITS = 23, WALK = 28, FLAGGED = 33 };

static const uint32_t types[] = {
	INT,     INFO(BTF_KIND_INT, 0, 0),
	4,       32, // 1
	PAIR,    INFO(BTF_KIND_STRUCT, 2, 0),
	8,       FIRST,
	1,       0,
	SECOND,  1,
	32, // 2
	0,       INFO(BTF_KIND_FUNC_PROTO, 1, 0),
	0,       FIRST,
	1, // 3
	WALK,    INFO(BTF_KIND_FUNC, 1, 0),
	3, // 4
	FLAGGED, INFO(BTF_KIND_STRUCT, 3, 1),
	12,      BITS,
	1,       3 << 24 | 64,
	FIRST,   1,
	32,      SECOND,
	1,       8 * 40000, // 5
};

struct blob {
	struct btf_header header;
	uint32_t types[sizeof(types) / sizeof(types[0])];
	char strings[sizeof(strings)];
};

static void make(struct blob *blob)
{
	*blob = (struct blob){.header = {.magic = BTF_MAGIC,
					 .version = BTF_VERSION,
					 .hdr_len = sizeof(struct btf_header),
					 .type_len = sizeof(types),
					 .str_off = sizeof(types),
					 .str_len = sizeof(strings)}};
	memcpy(blob->types, types, sizeof(types));
	memcpy(blob->strings, strings, sizeof(strings));
}

static int offset(const struct kernel_types *found, const char *structure, const char *member)
{
	int16_t at = 0;
	int r = kernel_types_members(found, structure, &member, &at, 1);

	return r < 0 ? r : at;
}

static void test_finds(void **state)
{
	const char *const both[] = {"second", "first"};
	struct kernel_types found;
	int16_t offsets[2];
	struct blob blob;

	(void)state;
	make(&blob);
	assert_int_equal(kernel_types_parse(&blob, sizeof(blob), &found), 0);
	assert_int_equal(kernel_types_members(&found, "pair", both, offsets, 2), 0);
	assert_int_equal(offsets[0], 4);
	assert_int_equal(offsets[1], 0);
	assert_int_equal(offset(&found, "pair", "third"), -ENOENT);
	assert_int_equal(offset(&found, "pai", "first"), -ENOENT);
	assert_int_equal(offset(&found, "walk", "first"), -ENOENT);
	assert_int_equal(offset(&found, "flagged", "first"), 4);
	assert_int_equal(offset(&found, "flagged", "bits"), -ERANGE);
	assert_int_equal(offset(&found, "flagged", "second"), -ERANGE);
	assert_int_equal(kernel_types_function(&found, "walk"), 4);
	assert_int_equal(kernel_types_function(&found, "pair"), 0);
}

// Whatever is missing, and whatever a word is instead: no read outside (the sanitizers would say so), and no answer from behind nonsense.
static void test_nonsense(void **state)
{
	struct kernel_types found;
	struct blob blob;

	(void)state;
	for (size_t size = 0; size < offsetof(struct blob, strings) + sizeof(strings); size++) {
		void *cut = malloc(size ? size : 1);

		make(&blob);
		memcpy(cut, &blob, size);
		assert_int_equal(kernel_types_parse(cut, size, &found), -EINVAL);
		free(cut);
	}
	for (size_t at = 0; at + 4 <= offsetof(struct blob, strings); at += 4) {
		for (int k = 0; k < 3; k++) {
			const uint32_t values[] = {0, UINT32_MAX, INFO(31, 5, 0)};

			make(&blob);
			memcpy((char *)&blob + at, &values[k], 4);
			if (kernel_types_parse(&blob, sizeof(blob), &found) < 0)
				continue;
			offset(&found, "flagged", "first");
			kernel_types_function(&found, "walk");
		}
	}
	make(&blob);
	blob.types[1] = INFO(31, 0, 0);
	assert_int_equal(kernel_types_parse(&blob, sizeof(blob), &found), 0);
	assert_int_equal(offset(&found, "pair", "first"), -ENOENT);
}

static void test_of_this_kernel(void **state)
{
	struct kernel_types found;

	(void)state;
	if (kernel_types_open(&found) < 0)
		skip();
	assert_true(kernel_types_function(&found, "schedule") > 0);
	assert_int_equal(kernel_types_function(&found, "no such function"), 0);
	assert_true(offset(&found, "task_struct", "pid") > 0);
#if defined(__x86_64__)
	assert_int_equal(offset(&found, "pt_regs", "ip"), offsetof(struct user_regs_struct, rip));
#endif
	kernel_types_close(&found);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_finds),
		cmocka_unit_test(test_nonsense),
		cmocka_unit_test(test_of_this_kernel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
