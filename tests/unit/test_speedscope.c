// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// Unit tests of speedscope's JSON: the bytes for small profiles. That speedscope reads them: tests/e2e/test_readers.py.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "alloc_fail.h"
#include "profile_fixture.h"

#define HEAD                                                                     \
	"{\"$schema\":\"https://www.speedscope.app/file-format-schema.json\",\n" \
	"\"exporter\":\"profd@" PROFD_VERSION "\",\n"

static void check_text(struct profile *profile, const struct format_options *options, const char *expected)
{
	char *text = fixture_write(&format_speedscope, profile, options, NULL);
	assert_string_equal(text, expected);
	free(text);
}

static void check_part(struct profile *profile, const struct format_options *options, const char *part)
{
	char *text = fixture_write(&format_speedscope, profile, options, NULL);
	if (!strstr(text, part))
		fail_msg("%s\nis not in\n%s", part, text);
	free(text);
}

static struct profile *empty_profile(const char *unit)
{
	struct profile *profile = profile_create();
	assert_non_null(profile);
	profile_add_sample_type(profile, "x", unit);
	return profile;
}

static void add_sample(struct profile *profile, uint32_t id, int64_t value, const struct profile_label *labels,
		       uint32_t nlabels)
{
	assert_int_equal(profile_add_sample(profile, &id, 1, labels, nlabels, &value), 0);
}

static void test_whole(void **state)
{
	struct profile *profile = fixture_profile();
	check_text(profile, &(struct format_options){.title = "T \"1\"", .value_index = 1},
		   HEAD "\"name\":\"T \\\"1\\\"\",\n\"activeProfileIndex\":0,\n"
			"\"shared\":{\"frames\":[\n"
			"{\"name\":\"app+0x1123\",\"file\":\"/usr/bin/app\"},\n"
			"{\"name\":\"tiny\",\"file\":\"b.h\",\"line\":2},\n"
			"{\"name\":\"work\",\"file\":\"a.c\",\"line\":29},\n"
			"{\"name\":\"main\",\"file\":\"a.c\",\"line\":9}]},\n"
			"\"profiles\":[\n"
			"{\"type\":\"sampled\",\"name\":\"[no thread]\",\"unit\":\"nanoseconds\",\"startValue\":0,"
			"\"endValue\":40000000,\"samples\":[\n[3]],\n\"weights\":[40000000]},\n"
			"{\"type\":\"sampled\",\"name\":\"worker (12)\",\"unit\":\"nanoseconds\",\"startValue\":0,"
			"\"endValue\":20000000,\"samples\":[\n[3,2,1]],\n\"weights\":[20000000]},\n"
			"{\"type\":\"sampled\",\"name\":\"worker (11)\",\"unit\":\"nanoseconds\",\"startValue\":0,"
			"\"endValue\":10000000,\"samples\":[\n[3,2,1,0]],\n\"weights\":[10000000]}]}\n");
	profile_destroy(profile);
}

static void test_without_threads(void **state)
{
	struct profile *profile = empty_profile("count");
	check_text(profile, NULL,
		   HEAD "\"name\":\"profd\",\n\"activeProfileIndex\":0,\n\"shared\":{\"frames\":[]},\n\"profiles\":[\n"
			"{\"type\":\"sampled\",\"name\":\"all\",\"unit\":\"none\",\"startValue\":0,\"endValue\":0,"
			"\"samples\":[],\n\"weights\":[]}]}\n");
	uint32_t f = fixture_location(profile, 0, 1, "f"), g = fixture_location(profile, 0, 2, "g");
	const struct profile_label other = {"trace_id", "1", 0, NULL};
	add_sample(profile, f, 3, NULL, 0);
	add_sample(profile, g, 4, &other, 1);
	add_sample(profile, g, 0, NULL, 0);
	check_part(profile, NULL,
		   "{\"type\":\"sampled\",\"name\":\"all\",\"unit\":\"none\",\"startValue\":0,\"endValue\":7,"
		   "\"samples\":[\n[0],\n[1]],\n\"weights\":[3,4]}]}\n");
	profile_destroy(profile);
}

static void test_units(void **state)
{
	static const char *const units[][2] = {
		{"count", "\"unit\":\"none\""},      {"nanoseconds", "\"unit\":\"nanoseconds\""},
		{"bytes", "\"unit\":\"bytes\""},     {"furlongs", "\"unit\":\"none\""},
		{"seconds", "\"unit\":\"seconds\""}, {"", "\"unit\":\"none\""}};
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		struct profile *profile = empty_profile(units[i][0]);
		check_part(profile, NULL, units[i][1]);
		profile_destroy(profile);
	}
}

// Threads are told apart by process, id and name; their names say what is known.
static void test_thread_names(void **state)
{
	static const struct profile_label labels[][3] = {
		{{"process_id", NULL, 1, NULL}, {"thread_id", NULL, 2, NULL}, {"thread_name", "a", 0, NULL}},
		{{"process_id", NULL, 2, NULL}, {"thread_id", NULL, 2, NULL}, {"thread_name", "a", 0, NULL}},
		{{"thread_id", NULL, 2, NULL}, {"thread_name", "b", 0, NULL}, {"x", "y", 0, NULL}},
		{{"thread_id", "text", 0, NULL}, {"x", "y", 0, NULL}, {"z", "y", 0, NULL}},
		{{"thread_name", "</script>\xff", 0, NULL}, {"x", "y", 0, NULL}, {"z", "y", 0, NULL}},
	};
	static const char *const names[] = {"\"name\":\"a (1:2)\"", "\"name\":\"a (2:2)\"", "\"name\":\"b (2)\"",
					    "\"name\":\"thread (text)\"", "\"name\":\"</script>\xef\xbf\xbd\""};
	struct profile *profile = empty_profile("count");
	uint32_t f = fixture_location(profile, 0, 1, "f");
	for (size_t i = 0; i < 5; i++)
		add_sample(profile, f, 1, labels[i], 3);
	for (size_t i = 0; i < 5; i++)
		check_part(profile, NULL, names[i]);
	profile_destroy(profile);
}

static void test_long_thread_name(void **state)
{
	char name[1001], expected[] = "x (12)\"";
	memset(name, 'x', 1000);
	name[1000] = '\0';
	const struct profile_label labels[] = {{"thread_id", NULL, 12, NULL}, {"thread_name", name, 0, NULL}};
	struct profile *profile = empty_profile("count");
	add_sample(profile, fixture_location(profile, 0, 1, "f"), 1, labels, 2);
	check_part(profile, NULL, expected);
	profile_destroy(profile);
}

// A function is one frame, whatever the address and the line; a name in two files is two.
static void test_frames(void **state)
{
	struct profile *profile = empty_profile("bytes");
	uint32_t mapping = fixture_mapping(profile, 0x1000, "/lib/x\"y");
	const struct profile_function function = {"f", "f", "one.c", 5}, other = {"f", "f", "two.c", 5};
	for (uint64_t i = 0; i < 4; i++) {
		const struct profile_line line = {profile_add_function(profile, i < 3 ? &function : &other),
						  10 + (int64_t)i};
		add_sample(profile, profile_add_location(profile, &(struct profile_location){mapping, i, 1, &line}), 1,
			   NULL, 0);
	}
	add_sample(profile, profile_add_location(profile, &(struct profile_location){mapping, 0x1001, 0, NULL}), 1,
		   NULL, 0);
	check_part(profile, NULL,
		   "\"frames\":[\n{\"name\":\"f\",\"file\":\"one.c\",\"line\":5},\n{\"name\":\"f\",\"file\":\"two.c\","
		   "\"line\":5},\n"
		   "{\"name\":\"x\\\"y+0x1001\",\"file\":\"/lib/x\\\"y\"}]}");
	check_part(profile, NULL, "[\n[0],\n[0],\n[0],\n[1],\n[2]]");
	profile_destroy(profile);
}

static void test_not_positive(void **state)
{
	struct profile *profile = empty_profile("count");
	const struct profile_label one = {"thread_id", NULL, 1, NULL}, two = {"thread_id", NULL, 2, NULL};
	uint32_t f = fixture_location(profile, 0, 1, "f"), g = fixture_location(profile, 0, 2, "g");
	add_sample(profile, f, -5, &one, 1);
	add_sample(profile, g, INT64_MAX, &two, 1);
	add_sample(profile, f, INT64_MAX, &two, 1);
	char *text = fixture_write(&format_speedscope, profile, NULL, NULL);
	assert_null(strstr(text, "(1)"));
	assert_non_null(strstr(text, "\"endValue\":9223372036854775807,"));
	free(text);
	profile_destroy(profile);
}

static void test_failures(void **state)
{
	struct profile *profile = fixture_profile(), *empty = profile_create();
	static struct writer writer;
	struct writer_memory memory = {0};
	size_t size;
	fixture_no_memory(&format_speedscope, profile, NULL);
	free(fixture_write(&format_speedscope, profile, NULL, &size));
	fixture_full_sink(&format_speedscope, profile, size);
	writer_init(&writer, writer_memory_sink, &memory);
	assert_int_equal(format_speedscope.write(profile, &(struct format_options){.value_index = 2}, &writer),
			 -EINVAL);
	assert_int_equal(format_speedscope.write(empty, NULL, &writer), -EINVAL);
	assert_int_equal(memory.size, 0);
	profile_destroy(profile);
	profile_destroy(empty);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_without_threads),
		cmocka_unit_test(test_units),
		cmocka_unit_test(test_thread_names),
		cmocka_unit_test(test_long_thread_name),
		cmocka_unit_test(test_frames),
		cmocka_unit_test(test_not_positive),
		cmocka_unit_test(test_failures),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
