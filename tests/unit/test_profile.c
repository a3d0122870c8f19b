// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// Unit tests of the profile in memory: interning, merging, names, and what happens when memory runs out.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "alloc_fail.h"
#include "profile_fixture.h"

#include <inttypes.h>
#include <stdio.h>

static const int64_t one[PROFILE_MAX_VALUES] = {1, 10, 100, 1000};

static void test_strings(void **state)
{
	struct profile *profile = profile_create();
	char text[] = "name";
	const char *first = profile_string(profile, text);
	assert_string_equal(first, "name");
	assert_ptr_not_equal(first, text);
	text[0] = 'g';
	assert_string_equal(first, "name");
	assert_string_equal(profile_string(profile, text), "game");
	assert_ptr_equal(profile_string(profile, "name"), first);
	assert_string_equal(profile_string(profile, NULL), "");
	assert_ptr_equal(profile_string(profile, NULL), profile_string(profile, ""));
	char *large = malloc(3000001);
	memset(large, 'x', 3000000);
	large[3000000] = '\0';
	assert_string_equal(profile_string(profile, large), large);
	free(large);
	for (int i = 0; i < 10000; i++) {
		char number[16];
		snprintf(number, sizeof(number), "%d", i);
		assert_string_equal(profile_string(profile, number), number);
	}
	assert_ptr_equal(profile_string(profile, "name"), first); // still there after the tables grew
	assert_false(profile_failed(profile));
	profile_destroy(profile);
}

static void test_functions(void **state)
{
	struct profile *profile = profile_create();
	const struct profile_function functions[] = {
		{"f", "_f", "a.c", 1}, {"f", "_f", "b.c", 1}, {"f", "__f", "a.c", 1}, {"g", "_f", "a.c", 1}};
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(profile_add_function(profile, &functions[i]), i + 1);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(profile_add_function(profile, &functions[i]), i + 1);
	assert_int_equal(profile_add_function(profile, &(struct profile_function){"f", "_f", "a.c", 99}), 1);
	assert_int_equal(profile->nfunctions, 4);
	assert_int_equal(profile->functions[0].start_line, 1);
	assert_int_equal(profile_add_function(profile, &(struct profile_function){NULL, NULL, NULL, 0}), 5);
	assert_string_equal(profile->functions[4].file, "");
	profile_destroy(profile);
}

static void test_locations(void **state)
{
	struct profile *profile = profile_create();
	uint32_t mapping = fixture_mapping(profile, 0x1000, "/bin/x");
	struct profile_line lines[2] = {fixture_line(profile, "inner", "a.h", 1),
					fixture_line(profile, "outer", "a.c", 2)};
	assert_int_equal(profile_find_location(profile, mapping, 0x1234), 0);
	assert_int_equal(profile_add_location(profile, &(struct profile_location){mapping, 0x1234, 2, lines}), 1);
	lines[0].line = 77; // the profile has its own copy
	assert_int_equal(profile->locations[0].lines[0].line, 1);
	assert_int_equal(profile->locations[0].nlines, 2);
	assert_int_equal(profile_find_location(profile, mapping, 0x1234), 1);
	assert_int_equal(profile_find_location(profile, 0, 0x1234), 0);
	assert_int_equal(profile_add_location(profile, &(struct profile_location){0, 0x1234, 0, NULL}), 2);
	assert_int_equal(profile_add_location(profile, &(struct profile_location){mapping, 0x1234, 0, NULL}), 1);
	assert_int_equal(profile->locations[0].nlines, 2);
	assert_int_equal(profile->nlocations, 2);
	profile_destroy(profile);
}

static void test_ids_that_do_not_exist(void **state)
{
	struct profile *profile = profile_create();
	uint32_t mapping = fixture_mapping(profile, 0x1000, "/bin/x");
	struct profile_line none = {0, 1}, beyond = {1, 1};
	assert_int_equal(profile_add_location(profile, &(struct profile_location){mapping + 1, 1, 0, NULL}), 0);
	assert_int_equal(profile_add_location(profile, &(struct profile_location){mapping, 1, 1, &none}), 0);
	assert_int_equal(profile_add_location(profile, &(struct profile_location){mapping, 1, 1, &beyond}), 0);
	uint32_t id = fixture_location(profile, mapping, 2, "f");
	const uint32_t bad[] = {id, id + 1}, zero[] = {0};
	assert_int_equal(profile_add_sample(profile, bad, 2, NULL, 0, one), -EINVAL);
	assert_int_equal(profile_add_sample(profile, zero, 1, NULL, 0, one), -EINVAL);
	const struct profile_label no_key = {NULL, "x", 0, NULL}, empty_key = {"", "x", 0, NULL};
	assert_int_equal(profile_add_sample(profile, &id, 1, &no_key, 1, one), -EINVAL);
	assert_int_equal(profile_add_sample(profile, &id, 1, &empty_key, 1, one), -EINVAL);
	assert_int_equal(profile->nsamples, 0);
	assert_int_equal(profile->nlocations, 1);
	assert_false(profile_failed(profile));
	profile_destroy(profile);
}

static void test_samples_merge(void **state)
{
	struct profile *profile = profile_create();
	profile_add_sample_type(profile, "samples", "count");
	profile_add_sample_type(profile, "cpu", "nanoseconds");
	const uint32_t a[] = {fixture_location(profile, 0, 1, "f"), fixture_location(profile, 0, 2, "g")};
	const uint32_t b[] = {a[1], a[0]};
	assert_int_equal(profile_add_sample(profile, a, 2, NULL, 0, one), 0);
	assert_int_equal(profile_add_sample(profile, b, 2, NULL, 0, one), 0);
	assert_int_equal(profile_add_sample(profile, a, 2, NULL, 0, one), 0);
	assert_int_equal(profile_add_sample(profile, a, 1, NULL, 0, one), 0);
	assert_int_equal(profile_add_sample(profile, NULL, 0, NULL, 0, one), 0);
	assert_int_equal(profile_add_sample(profile, NULL, 0, NULL, 0, one), 0);
	assert_int_equal(profile->nsamples, 4);
	assert_int_equal(profile->samples[0].values[0], 2);
	assert_int_equal(profile->samples[0].values[1], 20);
	assert_int_equal(profile->samples[0].values[2], 0); // there are two types only
	assert_int_equal(profile->samples[0].location_ids[1], a[1]);
	assert_int_equal(profile->samples[1].values[0], 1);
	assert_int_equal(profile->samples[2].nlocations, 1);
	assert_int_equal(profile->samples[3].values[1], 20);
	profile_destroy(profile);
}

static void test_labels(void **state)
{
	struct profile *profile = profile_create();
	profile_add_sample_type(profile, "samples", "count");
	uint32_t id = fixture_location(profile, 0, 1, "f");
	const struct profile_label sorted[] = {{"a", "x", 0, NULL}, {"b", NULL, 5, "bytes"}};
	const struct profile_label turned[] = {{"b", NULL, 5, "bytes"}, {"a", "x", 7, "ignored"}};
	const struct profile_label repeated[] = {
		{"b", NULL, 4, "bytes"}, {"a", "y", 0, NULL}, {"b", NULL, 5, "bytes"}, {"a", "x", 0, NULL}};
	assert_int_equal(profile_add_sample(profile, &id, 1, sorted, 2, one), 0);
	assert_int_equal(profile_add_sample(profile, &id, 1, turned, 2, one), 0);
	assert_int_equal(profile_add_sample(profile, &id, 1, repeated, 4, one), 0);
	assert_int_equal(profile->nsamples, 1);
	const struct profile_sample *sample = &profile->samples[0];
	assert_int_equal(sample->values[0], 3);
	assert_int_equal(sample->nlabels, 2);
	assert_string_equal(sample->labels[0].key, "a");
	assert_string_equal(sample->labels[0].str, "x");
	assert_int_equal(sample->labels[0].num, 0);
	assert_null(sample->labels[1].str);
	assert_int_equal(sample->labels[1].num, 5);
	assert_string_equal(sample->labels[1].num_unit, "bytes");
	const struct profile_label others[] = {{"b", NULL, 6, "bytes"},
					       {"b", NULL, 5, "items"},
					       {"b", "5", 0, NULL},
					       {"b", "", 0, NULL},
					       {"c", NULL, 5, "bytes"}};
	for (uint32_t i = 0; i < 5; i++) {
		assert_int_equal(profile_add_sample(profile, &id, 1, &others[i], 1, one), 0);
		assert_int_equal(profile->nsamples, i + 2);
	}
	profile_destroy(profile);
}

static void test_many_labels(void **state)
{
	enum { COUNT = 300 };
	struct profile *profile = profile_create();
	profile_add_sample_type(profile, "samples", "count");
	uint32_t id = fixture_location(profile, 0, 1, "f");
	struct profile_label labels[COUNT];
	char keys[COUNT][8];
	for (int i = 0; i < COUNT; i++) {
		snprintf(keys[i], sizeof(keys[i]), "k%03d", (i * 7) % COUNT);
		labels[i] = (struct profile_label){keys[i], NULL, i, NULL};
	}
	assert_int_equal(profile_add_sample(profile, &id, 1, labels, COUNT, one), 0);
	assert_int_equal(profile->samples[0].nlabels, COUNT);
	for (int i = 1; i < COUNT; i++)
		assert_true(strcmp(profile->samples[0].labels[i - 1].key, profile->samples[0].labels[i].key) < 0);
	profile_destroy(profile);
}

static void test_sums_stop(void **state)
{
	struct profile *profile = profile_create();
	profile_add_sample_type(profile, "up", "count");
	profile_add_sample_type(profile, "down", "count");
	uint32_t id = fixture_location(profile, 0, 1, "f");
	const int64_t values[] = {INT64_MAX - 1, INT64_MIN + 1}, more[] = {3, -3};
	assert_int_equal(profile_add_sample(profile, &id, 1, NULL, 0, values), 0);
	assert_int_equal(profile_add_sample(profile, &id, 1, NULL, 0, more), 0);
	assert_int_equal(profile->samples[0].values[0], INT64_MAX);
	assert_int_equal(profile->samples[0].values[1], INT64_MIN);
	profile_destroy(profile);
}

static void test_too_many_types(void **state)
{
	struct profile *profile = profile_create();
	for (int i = 0; i < PROFILE_MAX_VALUES; i++)
		profile_add_sample_type(profile, "t", "count");
	assert_false(profile_failed(profile));
	profile_add_sample_type(profile, "t", "count");
	assert_true(profile_failed(profile));
	assert_int_equal(profile->nsample_types, PROFILE_MAX_VALUES);
	profile_destroy(profile);
}

static void test_comments(void **state)
{
	struct profile *profile = profile_create();
	char large[5001];
	memset(large, 'c', 5000);
	large[5000] = '\0';
	profile_add_comment(profile, "%s, %d", "rate", 100);
	profile_add_comment(profile, "%s!", large);
	assert_int_equal(profile->ncomments, 2);
	assert_string_equal(profile->comments[0], "rate, 100");
	assert_int_equal(strlen(profile->comments[1]), 5001);
	assert_int_equal(profile->comments[1][5000], '!');
	profile_destroy(profile);
}

static const char *name_of(struct profile *profile, uint32_t id, uint32_t line, size_t size)
{
	static char buf[256];
	memset(buf, '#', sizeof(buf));
	assert_ptr_equal(profile_frame_name(profile, &profile->locations[id - 1], line, buf, size), buf);
	assert_true(size == 0 || strlen(buf) < size);
	assert_int_equal(buf[size], '#');
	return buf;
}

static void test_frame_names(void **state)
{
	struct profile *profile = fixture_profile();
	assert_string_equal(name_of(profile, 2, 0, 255), "tiny");
	assert_string_equal(name_of(profile, 2, 1, 255), "work");
	assert_string_equal(name_of(profile, 2, 2, 255), "app+0x1200"); // no third line
	assert_string_equal(name_of(profile, 1, 0, 255), "app+0x1123"); // 0x400123 − start + file_offset
	assert_string_equal(name_of(profile, 1, 0, 10), "ap+0x1123");   // the offset stays
	assert_string_equal(name_of(profile, 1, 0, 4), "+0x");
	assert_string_equal(name_of(profile, 2, 0, 3), "ti");
	assert_string_equal(name_of(profile, 2, 0, 1), "");
	name_of(profile, 2, 0, 0);
	uint32_t wide = fixture_location(profile, 0, 0x99, "n\xc3\xa4\xe2\x82\xac");
	assert_string_equal(name_of(profile, wide, 0, 7), "n\xc3\xa4\xe2\x82\xac");
	assert_string_equal(name_of(profile, wide, 0, 6), "n\xc3\xa4");
	assert_string_equal(name_of(profile, wide, 0, 3), "n");
	uint32_t nowhere = profile_add_location(profile, &(struct profile_location){0, 0xabc, 0, NULL});
	assert_string_equal(name_of(profile, nowhere, 0, 255), "0xabc");
	uint32_t vdso = fixture_mapping(profile, 0x7000, "[vdso]"), slash = fixture_mapping(profile, 0x8000, "/odd/");
	uint32_t in_vdso = profile_add_location(profile, &(struct profile_location){vdso, 0x7010, 0, NULL});
	uint32_t in_slash = profile_add_location(profile, &(struct profile_location){slash, 0x8010, 0, NULL});
	assert_string_equal(name_of(profile, in_vdso, 0, 255), "[vdso]+0x1010");
	assert_string_equal(name_of(profile, in_slash, 0, 255), "/odd/+0x1010");
	uint32_t unnamed = fixture_location(profile, 1, 0x400500, "");
	assert_string_equal(name_of(profile, unnamed, 0, 255), "app+0x1500");
	profile_destroy(profile);
}

static uint32_t next_random(uint32_t below)
{
	static uint64_t state = 7;
	state = state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(state >> 33) % below;
}

// Against a plain array: which of 4096 stacks of two frames (of 64 locations) was seen how often.
static void test_many_samples(void **state)
{
	enum { LOCATIONS = 64, ADDS = 100000 };
	static int64_t expected[LOCATIONS * LOCATIONS];
	struct profile *profile = profile_create();
	uint32_t ids[LOCATIONS], distinct = 0;
	profile_add_sample_type(profile, "samples", "count");
	for (int i = 0; i < LOCATIONS; i++)
		ids[i] = fixture_location(profile, 0, 0x1000 + i, "f");
	for (int i = 0; i < ADDS; i++) {
		uint32_t a = next_random(LOCATIONS), b = next_random(LOCATIONS);
		const uint32_t stack[] = {ids[a], ids[b]};
		assert_int_equal(profile_add_sample(profile, stack, 2, NULL, 0, one), 0);
		distinct += expected[a * LOCATIONS + b]++ == 0;
	}
	assert_int_equal(profile->nsamples, distinct);
	for (uint32_t i = 0; i < profile->nsamples; i++) {
		const struct profile_sample *sample = &profile->samples[i];
		uint32_t cell = (sample->location_ids[0] - ids[0]) * LOCATIONS + (sample->location_ids[1] - ids[0]);
		assert_int_equal(sample->values[0], expected[cell]);
		expected[cell] = -1;
	}
	profile_destroy(profile);
}

// ---- Memory --------------------------------------------------------------------------------------------------------

// Adds a lot, ignoring all errors, as a builder may that checks once.
static bool build_with_failures(long n, bool once)
{
	alloc_fail_after(n, once);
	struct profile *profile = profile_create();
	if (profile) {
		profile_add_sample_type(profile, "samples", "count");
		profile_set_period(profile, "cpu", "nanoseconds", 1);
		uint32_t mapping = fixture_mapping(profile, 0x1000, "/bin/x");
		for (int i = 0; i < 300; i++) {
			char name[32];
			snprintf(name, sizeof(name), "function_%d", i);
			uint32_t id = fixture_location(profile, mapping, 0x1000 + i, name);
			const struct profile_label label = {"name", name, 0, NULL};
			int error = profile_add_sample(profile, &id, 1, &label, 1, one);
			assert_true(error == 0 || profile_failed(profile));
			profile_add_comment(profile, "%600d", i);
		}
	}
	bool failed = alloc_fail_stop() > 0;
	assert_int_equal(failed, !profile || profile_failed(profile));
	for (uint32_t i = 0; profile && i < profile->nsamples; i++)
		assert_in_range(profile->samples[i].location_ids[0], 1, profile->nlocations);
	profile_destroy(profile);
	return failed;
}

static void test_no_memory(void **state)
{
	long blocks = alloc_fail_blocks;
	for (int once = 0; once < 2; once++) {
		long n = 0;
		while (build_with_failures(n, once))
			n++;
		assert_in_range(n, 20, 100000);
	}
	assert_int_equal(alloc_fail_blocks, blocks);
	profile_destroy(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_strings),        cmocka_unit_test(test_functions),
		cmocka_unit_test(test_locations),      cmocka_unit_test(test_ids_that_do_not_exist),
		cmocka_unit_test(test_samples_merge),  cmocka_unit_test(test_labels),
		cmocka_unit_test(test_many_labels),    cmocka_unit_test(test_sums_stop),
		cmocka_unit_test(test_too_many_types), cmocka_unit_test(test_comments),
		cmocka_unit_test(test_frame_names),    cmocka_unit_test(test_many_samples),
		cmocka_unit_test(test_no_memory),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
