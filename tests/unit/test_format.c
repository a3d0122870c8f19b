// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// Unit tests of the table of formats: by name, by file name.

#include "formats/writer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const struct format *const all[] = {&format_pprof, &format_folded, &format_svg, &format_html,
					   &format_speedscope};

static void test_by_name(void **state)
{
	char names[100] = "";
	for (size_t i = 0; i < 5; i++) {
		assert_ptr_equal(format_by_name(all[i]->name), all[i]);
		snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s", i ? ", " : "", all[i]->name);
	}
	assert_string_equal(format_names(), names);
	assert_string_equal(names, "pprof, folded, svg, html, speedscope");
	assert_null(format_by_name(""));
	assert_null(format_by_name(NULL));
	assert_null(format_by_name("PPROF"));
	assert_null(format_by_name("pprof "));
	assert_null(format_by_name(".svg"));
}

static void test_by_path(void **state)
{
	static const struct {
		const char *path;
		const struct format *format;
	} cases[] = {
		{"a.pb.gz", &format_pprof},
		{"/tmp/a.b/x.pb", &format_pprof},
		{"x.pprof", &format_pprof},
		{"x.folded", &format_folded},
		{"x.txt", &format_folded},
		{"x.svg", &format_svg},
		{"x.html", &format_html},
		{"x.speedscope.json", &format_speedscope},
		{"x.folded.svg", &format_svg},
		{"x.svg.folded", &format_folded},
		{".svg", &format_svg},
		{"x.json", NULL},
		{"x.gz", NULL},
		{"x.svg/", NULL},
		{"x.svg/y", NULL},
		{"svg", NULL},
		{"x.SVG", NULL},
		{"", NULL},
		{"-", NULL},
		{NULL, NULL},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_ptr_equal(format_by_path(cases[i].path), cases[i].format);
	for (size_t i = 0; i < 5; i++) {
		char path[64];
		snprintf(path, sizeof(path), "profile%s", all[i]->extension);
		assert_ptr_equal(format_by_path(path), all[i]);
	}
}

static void test_content_types(void **state)
{
	assert_string_equal(format_pprof.content_type, "application/octet-stream");
	assert_string_equal(format_folded.content_type, "text/plain; charset=utf-8");
	assert_string_equal(format_svg.content_type, "image/svg+xml");
	assert_string_equal(format_speedscope.content_type, "application/json");
	assert_non_null(strstr(format_html.content_type, "text/html"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_by_name),
		cmocka_unit_test(test_by_path),
		cmocka_unit_test(test_content_types),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
