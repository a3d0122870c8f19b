// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_wait_text.c: mutex and block profiles in Go's grammar.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "formats/profile.h"
#include "formats/wait_text.h"
#include "formats/writer.h"

static struct profile *make_profile(void)
{
	static const struct profile_function functions[] = {{"lock it", "lock_it", "a.c", 1}, {"main", "main", "", 0}};
	const struct profile_label labels[] = {{.key = "lock", .str = "0x10", .num_unit = ""},
					       {.key = "lock_name", .str = "say \"hi\"\n", .num_unit = ""}};
	struct profile *profile = profile_create();
	uint32_t ids[2];

	profile_add_sample_type(profile, "contentions", "count");
	profile_add_sample_type(profile, "delay", "nanoseconds");
	profile_add_comment(profile, "a comment");
	for (uint32_t i = 0; i < 2; i++) {
		struct profile_line line = {profile_add_function(profile, &functions[i]), i == 0 ? 7 : 0};
		struct profile_location location = {.address = 0x1000 + i * 0x100, .nlines = 1, .lines = &line};

		ids[i] = profile_add_location(profile, &location);
	}
	assert_int_equal(profile_add_sample(profile, ids, 1, NULL, 0, (const int64_t[]){1, 50}), 0);
	assert_int_equal(profile_add_sample(profile, ids, 2, labels, 2, (const int64_t[]){3, 9000}), 0);
	return profile;
}

static char *written(const struct profile *profile, bool is_mutex, int wanted)
{
	struct writer_memory memory = {0};
	struct writer writer;
	char *text;

	writer_init(&writer, writer_memory_sink, &memory);
	assert_int_equal(wait_text_write(profile, is_mutex, &writer), wanted);
	text = calloc(1, memory.size + 1);
	assert_non_null(text);
	if (memory.size)
		memcpy(text, memory.data, memory.size);
	free(memory.data);
	return text;
}

#define ENTRIES                                                                \
	"9000 3 @ 0x1001 0x1101\n"                                             \
	"# labels: {\"lock\":\"0x10\", \"lock_name\":\"say \\\"hi\\\"\\n\"}\n" \
	"#\t0x1000\tlock it+0x1000\ta.c:7\n"                                   \
	"#\t0x1100\tmain+0x1100\t??:0\n\n"                                     \
	"50 1 @ 0x1001\n"                                                      \
	"#\t0x1000\tlock it+0x1000\ta.c:7\n\n"                                 \
	"# a comment\n"

static void test_grammar(void **state)
{
	struct profile *profile = make_profile();
	char *mutex = written(profile, true, 0), *block = written(profile, false, 0);

	(void)state;
	assert_string_equal(mutex, "--- mutex:\ncycles/second=1000000000\nsampling period=1\n" ENTRIES);
	assert_string_equal(block, "--- contention:\ncycles/second=1000000000\n" ENTRIES);
	free(mutex);
	free(block);
	profile_destroy(profile);
}

static void test_another_kind(void **state)
{
	struct profile *profile = profile_create();

	(void)state;
	profile_add_sample_type(profile, "samples", "count");
	free(written(profile, true, -EINVAL));
	profile_destroy(profile);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_grammar), cmocka_unit_test(test_another_kind)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
