// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_name_gaps.c: which modules samples are in and where names are missing (name_gaps.c): shares, lines, and the lines read back.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "alloc_fail.h"
#include "formats/name_gaps.h"
#include "profile_fixture.h"

// 10 leaf and 20 inner of libx are nameless, of 100 samples; a stack that is twice in it counts once.
static struct profile *make_profile(void)
{
	struct profile *profile = profile_create();
	uint32_t app, libx, again, bare, named, main_id, stray;

	profile_add_sample_type(profile, "samples", "count");
	profile_add_sample_type(profile, "cpu", "nanoseconds");
	app = fixture_mapping(profile, 0x400000, "/usr/bin/app");
	libx = fixture_mapping(profile, 0x500000, "/usr/lib/libx.so");
	again = fixture_mapping(profile, 0x600000, "/usr/lib/libx.so");
	profile_explain_mapping(profile, libx, ".dynsym", "install libx-dbgsym; or not");
	bare = profile_add_location(profile, &(struct profile_location){libx, 0x500123, 0, NULL});
	named = fixture_location(profile, again, 0x600200, "named");
	main_id = fixture_location(profile, app, 0x400300, "main");
	stray = profile_add_location(profile, &(struct profile_location){0, 0x7000, 0, NULL});
	profile_add_sample(profile, (uint32_t[]){bare, main_id}, 2, NULL, 0, (int64_t[]){1, 10});
	profile_add_sample(profile, (uint32_t[]){named, bare, bare, main_id}, 4, NULL, 0, (int64_t[]){1, 20});
	profile_add_sample(profile, (uint32_t[]){named, main_id}, 2, NULL, 0, (int64_t[]){1, 30});
	profile_add_sample(profile, (uint32_t[]){stray, main_id}, 2, NULL, 0, (int64_t[]){1, 5});
	profile_add_sample(profile, (uint32_t[]){main_id}, 1, NULL, 0, (int64_t[]){1, 35});
	assert_false(profile_failed(profile));
	return profile;
}

static void test_shares(void **state)
{
	struct profile *profile = make_profile();
	struct name_gaps gaps;

	assert_int_equal(name_gaps_init(&gaps, profile), 0);
	name_gaps_add_samples(&gaps, name_gaps_value(profile));
	name_gaps_sort(&gaps);
	assert_int_equal(gaps.total, 100);
	assert_int_equal(gaps.nmodules, 3);
	assert_string_equal(gaps.modules[0].file, "/usr/lib/libx.so");
	assert_string_equal(gaps.modules[0].names_from, ".dynsym");
	assert_int_equal(gaps.modules[0].self, 60);
	assert_int_equal(gaps.modules[0].total, 60);
	assert_int_equal(gaps.modules[0].nameless_self, 10);
	assert_int_equal(gaps.modules[0].nameless_total, 30);
	assert_string_equal(gaps.modules[1].file, "");
	assert_int_equal(gaps.modules[1].nameless_total, 5);
	assert_string_equal(gaps.modules[2].file, "/usr/bin/app");
	assert_int_equal(gaps.modules[2].self, 35);
	assert_int_equal(gaps.modules[2].total, 100);
	assert_int_equal(gaps.modules[2].nameless_total, 0);
	name_gaps_finish(&gaps);
	profile_destroy(profile);
}

static void test_value(void **state)
{
	struct profile *profile = make_profile();

	assert_int_equal(name_gaps_value(profile), 1);
	profile->default_sample_type = "samples";
	assert_int_equal(name_gaps_value(profile), 0);
	profile->default_sample_type = "";
	assert_int_equal(name_gaps_value(profile), 1);
	for (uint32_t i = 0; i < profile->nsamples; i++)
		profile->samples[i].values[1] = 0;
	assert_int_equal(name_gaps_value(profile), 0);
	for (uint32_t i = 0; i < profile->nsamples; i++)
		profile->samples[i].values[0] = 0;
	assert_int_equal(name_gaps_value(profile), 1);
	profile_destroy(profile);
}

static void test_comments(void **state)
{
	struct profile *profile = make_profile();

	profile_add_comment(profile, "rate: 100 Hz");
	assert_int_equal(name_gaps_comment(profile), 0);
	assert_int_equal(profile->ncomments, 3);
	assert_string_equal(profile->comments[1],
			    "nameless: /usr/lib/libx.so: 30.00% of samples (self 10.00%); names from "
			    ".dynsym; install libx-dbgsym; or not");
	assert_string_equal(profile->comments[2],
			    "nameless: no module: 5.00% of samples (self 5.00%); code that was in no "
			    "mapping when it was sampled");
	// Read back by one that only has the lines.
	for (uint32_t i = 1; i <= profile->nmappings; i++)
		profile_explain_mapping(profile, i, "", "");
	name_gaps_read(profile);
	assert_int_equal(profile->ncomments, 1);
	assert_string_equal(profile->comments[0], "rate: 100 Hz");
	assert_string_equal(profile->mappings[0].names_from, "");
	assert_string_equal(profile->mappings[1].names_from, ".dynsym");
	assert_string_equal(profile->mappings[1].advice, "install libx-dbgsym; or not");
	assert_string_equal(profile->mappings[2].names_from, ".dynsym");
	profile_destroy(profile);
}

// Lines that name_gaps.c never wrote are taken for what they are worth.
static void test_strange_lines(void **state)
{
	static const char *const rests[] = {"",   "; names from ", "; names from x",
					    "; ", "; advice",      "%s%n; names from ; "};
	struct profile *profile = make_profile();

	for (size_t i = 0; i < sizeof(rests) / sizeof(rests[0]); i++)
		profile_add_comment(profile, "nameless: /usr/bin/app: %s", rests[i]);
	profile_add_comment(profile, "nameless: ");
	profile_add_comment(profile, "nameless: /usr/bin/app");
	name_gaps_read(profile);
	assert_int_equal(profile->ncomments, 0);
	profile_destroy(profile);
}

static void test_many_modules(void **state)
{
	struct profile *profile = profile_create();

	profile_add_sample_type(profile, "samples", "count");
	for (uint32_t i = 0; i < NAME_GAPS_LINES + 7; i++) {
		char file[600];
		uint32_t location;

		memset(file, 'x', sizeof(file)); // longer than a line has room for
		snprintf(file, sizeof(file), "/lib\n%u", i);
		file[strlen(file)] = i % 2 ? 'x' : '\0';
		file[sizeof(file) - 1] = '\0';
		location = profile_add_location(
			profile, &(struct profile_location){fixture_mapping(profile, 0x10000 * (i + 1), file),
							    0x10000 * (i + 1) + 1, 0, NULL});
		profile_add_sample(profile, &location, 1, NULL, 0, (int64_t[]){1});
	}
	assert_int_equal(name_gaps_comment(profile), 0);
	assert_int_equal(profile->ncomments, NAME_GAPS_LINES + 1);
	assert_string_equal(profile->comments[NAME_GAPS_LINES], "nameless: 7 more modules");
	for (uint32_t i = 0; i < profile->ncomments; i++)
		assert_null(strchr(profile->comments[i], '\n'));
	profile_destroy(profile);
}

static void test_no_memory(void **state)
{
	for (long n = 0;; n++) {
		struct profile *profile = make_profile();
		bool failed;
		int error;

		alloc_fail_after(n, false);
		error = name_gaps_comment(profile);
		failed = alloc_fail_stop() > 0;
		assert_int_equal(error, failed ? -ENOMEM : 0);
		profile_destroy(profile);
		if (!failed)
			break;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shares),       cmocka_unit_test(test_value),
		cmocka_unit_test(test_comments),     cmocka_unit_test(test_strange_lines),
		cmocka_unit_test(test_many_modules), cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
