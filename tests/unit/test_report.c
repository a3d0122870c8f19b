// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_report.c: a profile's report (report.c, report_text.c): sums of functions and modules, their order, the text, the JSON.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "alloc_fail.h"
#include "formats/report.h"
#include "profile_fixture.h"

// As fixture_profile: 70 ms, of which 10 end without a name, 20 in tiny (inlined into work), 40 in main.
static const struct report_function *find(const struct report *report, const char *name)
{
	for (uint32_t i = 0; i < report->nfunctions; i++)
		if (strcmp(report->functions[i].name, name) == 0)
			return &report->functions[i];
	fail_msg("%s is not there", name);
	return NULL;
}

static void test_sums(void **state)
{
	const struct report_options options = {0};
	struct profile *profile = fixture_profile();
	struct report report;

	assert_int_equal(report_init(&report, profile, &options), 0);
	assert_int_equal(report.value, 1);
	assert_int_equal(report.nfunctions, 4);
	assert_string_equal(report.functions[0].name, "main");
	assert_int_equal(find(&report, "main")->self, 40000000);
	assert_int_equal(find(&report, "main")->total, 70000000);
	assert_int_equal(find(&report, "tiny")->self, 20000000);
	assert_int_equal(find(&report, "tiny")->total, 30000000);
	assert_int_equal(find(&report, "work")->self, 0);
	assert_int_equal(find(&report, "work")->total, 30000000);
	assert_int_equal(find(&report, "app+0x1123")->self, 10000000);
	report_finish(&report);
	profile_destroy(profile);
}

static void test_recursion(void **state)
{
	const struct report_options options = {.value = "samples", .by_total = true};
	struct profile *profile = fixture_profile();
	struct report report;
	uint32_t main_id = profile->nlocations;
	const uint32_t stack[] = {main_id, main_id, main_id};

	assert_int_equal(profile_add_sample(profile, stack, 3, NULL, 0, (int64_t[]){8, 0}), 0);
	assert_int_equal(report_init(&report, profile, &options), 0);
	assert_int_equal(report.value, 0);
	assert_int_equal(find(&report, "main")->self, 12);
	assert_int_equal(find(&report, "main")->total, 15);
	assert_ptr_equal(&report.functions[0], find(&report, "main"));
	report_finish(&report);
	profile_destroy(profile);
}

typedef int write_report(const struct report *report, const char *title, const struct report_options *options,
			 struct writer *writer);

static char *text_of(write_report *write, const char *title, const struct report_options *options)
{
	struct profile *profile = fixture_profile();
	struct writer_memory memory = {0};
	struct writer writer;
	struct report report;

	profile_explain_mapping(profile, 1, ".dynsym", "install app-dbgsym");
	writer_init(&writer, writer_memory_sink, &memory);
	assert_int_equal(report_init(&report, profile, options), 0);
	assert_int_equal(write(&report, title, options, &writer), 0);
	assert_int_equal(writer_memory_sink(&memory, "", 1), 0);
	report_finish(&report);
	profile_destroy(profile);
	return memory.data;
}

static void test_text(void **state)
{
	const struct report_options options = {.top = 3};
	char *text = text_of(report_write_text, "a\x1b.pb.gz", &options);

	assert_string_equal(text, "a?.pb.gz\n"
				  "cpu: 70.00 ms in 30.00 s\n"
				  "# rate: 100 Hz\n"
				  "# dropped: 0\n"
				  "\n"
				  "        self                total          function\n"
				  "    40.00 ms  57.14%    70.00 ms 100.00%  main\n"
				  "    20.00 ms  28.57%    30.00 ms  42.86%  tiny\n"
				  "    10.00 ms  14.29%    10.00 ms  14.29%  app+0x1123\n"
				  "                                          1 more; --top 0 shows all\n"
				  "\n"
				  "        self                total       without a name  module (names from)\n"
				  "    70.00 ms 100.00%    70.00 ms 100.00%          14.29%  /usr/bin/app (.dynsym)\n"
				  "                                                          -> install app-dbgsym\n");
	free(text);
}

static void test_json(void **state)
{
	const struct report_options options = {0};
	char *text = text_of(report_write_json, "a\"b", &options);
	const char *title, *name, *advice;
	json_int_t total, self, nameless;
	size_t functions;
	json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, NULL), *array;

	assert_non_null(root);
	assert_int_equal(json_unpack(root, "{s:s, s:I, s:[{s:s, s:I}], s:[{s:s, s:I}]}", "title", &title, "total",
				     &total, "functions", "name", &name, "self", &self, "modules", "advice", &advice,
				     "nameless_total", &nameless),
			 0);
	assert_string_equal(title, "a\"b");
	assert_int_equal(total, 70000000);
	assert_string_equal(name, "main");
	assert_int_equal(self, 40000000);
	assert_string_equal(advice, "install app-dbgsym");
	assert_int_equal(nameless, 10000000);
	array = json_object_get(root, "functions");
	functions = json_array_size(array);
	assert_int_equal(functions, 4);
	json_decref(root);
	free(text);
}

static void test_values(void **state)
{
	const struct report_options wrong = {.value = "heap"};
	struct profile *profile = fixture_profile(), *empty = profile_create();
	struct report report;

	assert_int_equal(report_init(&report, profile, &wrong), -EINVAL);
	report_finish(&report);
	assert_int_equal(report_init(&report, empty, &(struct report_options){0}), -EINVAL);
	report_finish(&report);
	profile_destroy(profile);
	profile_destroy(empty);
}

static void test_no_memory(void **state)
{
	const struct report_options options = {0};
	struct profile *profile = fixture_profile();
	bool failed = true;

	for (long n = 0; failed; n++) {
		long blocks = alloc_fail_blocks;
		struct report report;
		int error;

		alloc_fail_after(n, false);
		error = report_init(&report, profile, &options);
		failed = alloc_fail_stop() > 0;
		assert_int_equal(error, failed ? -ENOMEM : 0);
		report_finish(&report);
		assert_int_equal(alloc_fail_blocks, blocks);
	}
	profile_destroy(profile);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sums), cmocka_unit_test(test_recursion), cmocka_unit_test(test_text),
		cmocka_unit_test(test_json), cmocka_unit_test(test_values),    cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
