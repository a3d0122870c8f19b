// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_junit.c: JUnit XML byte for byte, and texts that XML cannot hold. tests/e2e/test_leaks.py reads it with an XML parser.

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "formats/junit.h"
#include "formats/utf8.h"
#include "formats/writer.h"

static void test_cases(void **state)
{
	struct writer_memory memory = {0};
	struct writer writer;

	writer_init(&writer, writer_memory_sink, &memory);
	junit_begin(&writer, "a \"suite\"", 2, 1);
	junit_case(&writer, &(struct junit_case){.class_name = "c", .name = "passes"});
	junit_case(&writer, &(struct junit_case){"c", "operator<", "1 & 2",
						 "std::vector<int>::f\n]]>\xff \x1b[1m\xef\xbf\xbf\n"});
	junit_case(&writer, &(struct junit_case){.class_name = "c", .name = "no text", .failure = "f"});
	assert_int_equal(junit_end(&writer), 0);
	writer_memory_sink(&memory, "", 1);
	assert_string_equal(
		memory.data,
		"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n"
		"<testsuite name=\"a &quot;suite&quot;\" tests=\"2\" failures=\"1\" errors=\"0\" skipped=\"0\">\n"
		"<testcase classname=\"c\" name=\"passes\"/>\n"
		"<testcase classname=\"c\" name=\"operator&lt;\"><failure message=\"1 &amp; 2\">"
		"std::vector&lt;int&gt;::f\n]]&gt;" UTF8_REPLACEMENT " " UTF8_REPLACEMENT "[1m" UTF8_REPLACEMENT "\n"
		"</failure></testcase>\n"
		"<testcase classname=\"c\" name=\"no text\"><failure message=\"f\"></failure></testcase>\n"
		"</testsuite>\n</testsuites>\n");
	free(memory.data);
}

static void test_full_sink(void **state)
{
	struct writer_memory memory = {.max = 16};
	struct writer writer;

	writer_init(&writer, writer_memory_sink, &memory);
	junit_begin(&writer, "s", 0, 0);
	assert_int_equal(junit_end(&writer), -ENOMEM);
	free(memory.data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_full_sink),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
