// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_heap_text.c: heap?debug=1, line by line; and that the numbers of sampled objects come back out of scaled ones.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/heap_text.h"

static struct profile *make_profile(int64_t rate)
{
	static const char *const types[] = {"alloc_objects", "alloc_space", "inuse_objects", "inuse_space"};
	struct profile *profile = profile_create();

	assert_non_null(profile);
	for (int i = 0; i < 4; i++)
		profile_add_sample_type(profile, types[i], i % 2 ? "bytes" : "count");
	profile_set_period(profile, "space", "bytes", rate);
	return profile;
}

static uint32_t add_location(struct profile *profile, uint64_t address, const char *name)
{
	const struct profile_function function = {.name = name, .system_name = name, .file = "a.c"};
	const struct profile_line line = {profile_add_function(profile, &function), 12};
	const struct profile_location location = {.address = address, .nlines = 1, .lines = &line};

	return profile_add_location(profile, &location);
}

static void add_sample(struct profile *profile, const uint32_t *ids, uint32_t n, int64_t bytes, const int64_t *values)
{
	const struct profile_label label = {.key = "bytes", .num = bytes, .num_unit = "bytes"};

	assert_int_equal(profile_add_sample(profile, ids, n, &label, 1, values), 0);
}

static char *write_text(const struct profile *profile)
{
	struct writer_memory memory = {0};
	struct writer writer;

	writer_init(&writer, writer_memory_sink, &memory);
	assert_int_equal(heap_text_write(profile, &writer), 0);
	writer_put(&writer, "", 1);
	assert_int_equal(writer_flush(&writer), 0);
	return memory.data;
}

static void test_lines(void **state)
{
	struct profile *profile = make_profile(1);
	uint32_t ids[2];
	char *text;

	(void)state;
	ids[0] = add_location(profile, 0x1233, "leaf\nnot a line");
	ids[1] = add_location(profile, 0x2233, "main");
	add_sample(profile, ids, 2, 10, (int64_t[]){5, 50, 2, 20});
	add_sample(profile, ids + 1, 1, 100, (int64_t[]){3, 300, 3, 300});
	profile_add_comment(profile, "said\nof it");
	text = write_text(profile);
	assert_string_equal(text, "heap profile: 5: 320 [8: 350] @ heap/2\n"
				  "3: 300 [3: 300] @ 0x2234\n"
				  "#\t0x2233\tmain+0x2233\ta.c:12\n\n"
				  "2: 20 [5: 50] @ 0x1234 0x2234\n"
				  "#\t0x1233\tleaf_not a line+0x1233\ta.c:12\n"
				  "#\t0x2233\tmain+0x2233\ta.c:12\n\n"
				  "# said_of it\n");
	free(text);
	profile_destroy(profile);
}

static void test_scaling_is_taken_back(void **state)
{
	static const int64_t sizes[] = {1, 16, 1000, 100000, 524288, 10000000};

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		double scale = -1 / expm1(-(double)sizes[i] / 524288);

		for (int64_t n = 0; n < 1000; n = n * 3 + 1) {
			struct profile *profile = make_profile(524288);
			uint32_t id = add_location(profile, 0x1233, "main");
			const int64_t objects = (int64_t)((double)n * scale + 0.5);
			const int64_t bytes = (int64_t)((double)(n * sizes[i]) * scale + 0.5);
			char wanted[128], *text;

			add_sample(profile, &id, 1, sizes[i], (int64_t[]){objects, bytes, objects, bytes});
			text = write_text(profile);
			snprintf(wanted, sizeof(wanted),
				 "%" PRId64 ": %" PRId64 " [%" PRId64 ": %" PRId64 "] @ 0x1234\n", n, n * sizes[i], n,
				 n * sizes[i]);
			assert_non_null(strstr(text, wanted));
			free(text);
			profile_destroy(profile);
		}
	}
}

// Sampled at rate 1, and then the rate was switched: a thousand small objects are not to vanish.
static void test_sampled_at_another_rate(void **state)
{
	struct profile *profile = make_profile(524288);
	uint32_t id = add_location(profile, 0x1233, "main");
	char *text;

	(void)state;
	add_sample(profile, &id, 1, 16, (int64_t[]){1000, 16000, 500, 8000});
	text = write_text(profile);
	assert_string_equal(text, "heap profile: 500: 8000 [1000: 16000] @ heap/2\n"
				  "500: 8000 [1000: 16000] @ 0x1234\n"
				  "#\t0x1233\tmain+0x1233\ta.c:12\n\n");
	free(text);
	profile_destroy(profile);
}

static void test_nothing(void **state)
{
	struct profile *profile = make_profile(0);
	char *text = write_text(profile);

	(void)state;
	assert_string_equal(text, "heap profile: 0: 0 [0: 0] @ heap/0\n");
	free(text);
	profile_destroy(profile);
}

static void test_another_kind_of_profile(void **state)
{
	struct profile *profile = profile_create();
	struct writer_memory memory = {0};
	struct writer writer;

	(void)state;
	profile_add_sample_type(profile, "cpu", "nanoseconds");
	writer_init(&writer, writer_memory_sink, &memory);
	assert_int_equal(heap_text_write(profile, &writer), -EINVAL);
	profile_destroy(profile);
	free(memory.data);
}

// What was not sampled is not taken back, and no reader is to scale it.
static void test_mapped_stays(void **state)
{
	const struct profile_label labels[] = {{.key = "bytes", .num = 4096, .num_unit = "bytes"},
					       {.key = "mapped", .str = "mmap"}};
	struct profile *profile = make_profile(524288);
	uint32_t id = add_location(profile, 0x1233, "f");
	char *text;

	(void)state;
	assert_int_equal(profile_add_sample(profile, &id, 1, labels, 2, (int64_t[]){3, 12288, 2, 8192}), 0);
	text = write_text(profile);
	assert_non_null(strstr(text, "heap profile: 2: 8192 [3: 12288] @ heap/2\n2: 8192 [3: 12288] @ 0x1234\n"));
	free(text);
	profile_destroy(profile);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_scaling_is_taken_back),
		cmocka_unit_test(test_sampled_at_another_rate),
		cmocka_unit_test(test_mapped_stays),
		cmocka_unit_test(test_nothing),
		cmocka_unit_test(test_another_kind_of_profile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
