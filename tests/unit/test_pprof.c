// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// Unit tests of the pprof writer: every field read back through protobuf-c, and failures. Readers that are not ours:
// tests/e2e/test_readers.py.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "alloc_fail.h"
#include "pprof.pb-c.h"
#include "profile_fixture.h"

#include <stdio.h>
#include <zlib.h>

static Perftools__Profiles__Profile *decode(const char *data, size_t size)
{
	z_stream zlib = {.next_in = (Bytef *)data, .avail_in = (uInt)size};
	size_t capacity = 16u << 20;
	uint8_t *bytes = malloc(capacity);
	assert_non_null(bytes);
	assert_int_equal(inflateInit2(&zlib, 15 + 16), Z_OK);
	zlib.next_out = bytes;
	zlib.avail_out = (uInt)capacity;
	assert_int_equal(inflate(&zlib, Z_FINISH), Z_STREAM_END);
	assert_int_equal(zlib.avail_in, 0);
	Perftools__Profiles__Profile *message = perftools__profiles__profile__unpack(NULL, zlib.total_out, bytes);
	assert_non_null(message);
	inflateEnd(&zlib);
	free(bytes);
	return message;
}

static Perftools__Profiles__Profile *write_and_read(const struct profile *profile)
{
	size_t size;
	char *data = fixture_write(&format_pprof, profile, NULL, &size);
	Perftools__Profiles__Profile *message = decode(data, size);
	free(data);
	return message;
}

static void release(Perftools__Profiles__Profile *message)
{
	perftools__profiles__profile__free_unpacked(message, NULL);
}

static const char *text(const Perftools__Profiles__Profile *message, int64_t id)
{
	assert_in_range(id, 0, message->n_string_table - 1);
	return message->string_table[id];
}

static void check_strings(const Perftools__Profiles__Profile *message)
{
	assert_true(message->n_string_table > 0);
	assert_string_equal(message->string_table[0], "");
	for (size_t i = 1; i < message->n_string_table; i++) {
		assert_string_not_equal(message->string_table[i], "");
		for (size_t j = 1; j < i; j++)
			assert_string_not_equal(message->string_table[i], message->string_table[j]);
	}
}

static void check_single_fields(const Perftools__Profiles__Profile *message)
{
	assert_int_equal(message->n_sample_type, 2);
	assert_string_equal(text(message, message->sample_type[0]->type), "samples");
	assert_string_equal(text(message, message->sample_type[0]->unit), "count");
	assert_string_equal(text(message, message->sample_type[1]->type), "cpu");
	assert_string_equal(text(message, message->sample_type[1]->unit), "nanoseconds");
	assert_string_equal(text(message, message->period_type->type), "cpu");
	assert_string_equal(text(message, message->period_type->unit), "nanoseconds");
	assert_int_equal(message->period, 10000000);
	assert_int_equal(message->time_nanos, 1700000000123456789);
	assert_int_equal(message->duration_nanos, 30000000000);
	assert_string_equal(text(message, message->default_sample_type), "cpu");
	assert_int_equal(message->n_comment, 2);
	assert_string_equal(text(message, message->comment[0]), "rate: 100 Hz");
	assert_string_equal(text(message, message->comment[1]), "dropped: 0");
	assert_int_equal(message->drop_frames, 0);
	assert_int_equal(message->keep_frames, 0);
}

static void check_samples(const Perftools__Profiles__Profile *message)
{
	static const uint64_t leaf_first[] = {1, 2, 3};
	assert_int_equal(message->n_sample, 3);
	for (size_t i = 0; i < 3; i++) {
		const Perftools__Profiles__Sample *sample = message->sample[i];
		assert_int_equal(sample->n_location_id, 3 - i);
		assert_memory_equal(sample->location_id, leaf_first + i, (3 - i) * sizeof(uint64_t));
		assert_int_equal(sample->n_value, 2);
		assert_int_equal(sample->value[0], 1 << i);
		assert_int_equal(sample->value[1], 10000000 << i);
		assert_int_equal(sample->n_label, i < 2 ? 2 : 0);
	}
	const Perftools__Profiles__Label *id = message->sample[1]->label[0], *name = message->sample[1]->label[1];
	assert_string_equal(text(message, id->key), "thread_id");
	assert_int_equal(id->num, 12);
	assert_int_equal(id->str, 0);
	assert_string_equal(text(message, name->key), "thread_name");
	assert_string_equal(text(message, name->str), "worker");
	assert_int_equal(name->num, 0);
}

static void check_places(const Perftools__Profiles__Profile *message)
{
	assert_int_equal(message->n_mapping, 1);
	const Perftools__Profiles__Mapping *mapping = message->mapping[0];
	assert_int_equal(mapping->id, 1);
	assert_int_equal(mapping->memory_start, 0x400000);
	assert_int_equal(mapping->memory_limit, 0x410000);
	assert_int_equal(mapping->file_offset, 0x1000);
	assert_string_equal(text(message, mapping->filename), "/usr/bin/app");
	assert_string_equal(text(message, mapping->build_id), "c0ffee");
	assert_true(mapping->has_functions && mapping->has_inline_frames);
	assert_false(mapping->has_filenames || mapping->has_line_numbers);
	assert_int_equal(message->n_location, 3);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(message->location[i]->id, i + 1);
		assert_int_equal(message->location[i]->mapping_id, 1);
		assert_false(message->location[i]->is_folded);
	}
	assert_int_equal(message->location[0]->address, 0x400123);
	assert_int_equal(message->location[0]->n_line, 0);
	assert_int_equal(message->location[1]->n_line, 2); // innermost first
	assert_int_equal(message->location[1]->line[0]->function_id, 1);
	assert_int_equal(message->location[1]->line[0]->line, 3);
	assert_int_equal(message->location[1]->line[1]->function_id, 2);
	assert_int_equal(message->location[1]->line[1]->line, 30);
	assert_int_equal(message->location[1]->line[1]->column, 0);
}

static void check_functions(const Perftools__Profiles__Profile *message)
{
	static const char *const names[] = {"tiny", "work", "main"}, *const files[] = {"b.h", "a.c", "a.c"};
	static const int64_t start_lines[] = {2, 29, 9};
	assert_int_equal(message->n_function, 3);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(message->function[i]->id, i + 1);
		assert_string_equal(text(message, message->function[i]->name), names[i]);
		assert_string_equal(text(message, message->function[i]->system_name), names[i]);
		assert_string_equal(text(message, message->function[i]->filename), files[i]);
		assert_int_equal(message->function[i]->start_line, start_lines[i]);
	}
}

static void test_every_field(void **state)
{
	struct profile *profile = fixture_profile();
	profile->mappings[0].has_functions = profile->mappings[0].has_inline_frames = true;
	Perftools__Profiles__Profile *message = write_and_read(profile);
	check_strings(message);
	check_single_fields(message);
	check_samples(message);
	check_places(message);
	check_functions(message);
	release(message);
	profile_destroy(profile);
}

static void test_system_name_and_flags(void **state)
{
	struct profile *profile = profile_create();
	const struct profile_function function = {"ns::f(int)", "_ZN2ns1fEi", "f.cc", 0};
	assert_int_equal(profile_add_function(profile, &function), 1);
	for (uint32_t i = 0; i < 4; i++)
		fixture_mapping(profile, 0x1000 + i, "/bin/a");
	profile->mappings[0].has_functions = true;
	profile->mappings[1].has_filenames = true;
	profile->mappings[2].has_line_numbers = true;
	profile->mappings[3].has_inline_frames = true;
	Perftools__Profiles__Profile *message = write_and_read(profile);
	assert_string_equal(text(message, message->function[0]->name), "ns::f(int)");
	assert_string_equal(text(message, message->function[0]->system_name), "_ZN2ns1fEi");
	for (uint32_t i = 0; i < 4; i++) {
		const Perftools__Profiles__Mapping *mapping = message->mapping[i];
		assert_int_equal(mapping->id, i + 1);
		assert_int_equal(mapping->has_functions, i == 0);
		assert_int_equal(mapping->has_filenames, i == 1);
		assert_int_equal(mapping->has_line_numbers, i == 2);
		assert_int_equal(mapping->has_inline_frames, i == 3);
	}
	release(message);
	profile_destroy(profile);
}

static void test_empty(void **state)
{
	struct profile *profile = profile_create();
	profile->default_sample_type = NULL; // as good as ""
	Perftools__Profiles__Profile *message = write_and_read(profile);
	assert_int_equal(message->n_string_table, 1);
	assert_string_equal(message->string_table[0], "");
	assert_int_equal(message->n_sample + message->n_location + message->n_function + message->n_mapping, 0);
	release(message);
	profile_destroy(profile);
}

// Two runs of one program on one target are to give the same bytes.
static void test_same_bytes(void **state)
{
	struct profile *a = fixture_profile(), *b = fixture_profile();
	size_t a_size, b_size;
	char *a_data = fixture_write(&format_pprof, a, NULL, &a_size),
	     *b_data = fixture_write(&format_pprof, b, NULL, &b_size);
	assert_int_equal(a_size, b_size);
	assert_memory_equal(a_data, b_data, a_size);
	free(a_data);
	free(b_data);
	profile_destroy(a);
	profile_destroy(b);
}

static void test_odd_text(void **state)
{
	struct profile *profile = profile_create();
	profile_add_sample_type(profile, "samples", "count");
	uint32_t id = fixture_location(profile, 0, 1,
				       "a\xff\xe2\x82"
				       "b;\"<script>\n\xc3\xa4");
	const struct profile_label labels[] = {
		{"empty", "", 0, NULL}, {"full", "\x80", 0, NULL}, {"zero", NULL, 0, "items"}};
	const int64_t value = -7; // a difference of profiles
	assert_int_equal(profile_add_sample(profile, &id, 1, labels, 3, &value), 0);
	Perftools__Profiles__Profile *message = write_and_read(profile);
	const Perftools__Profiles__Sample *sample = message->sample[0];
	assert_string_equal(text(message, message->function[0]->name), "a\xef\xbf\xbd\xef\xbf\xbd"
								       "b;\"<script>\n\xc3\xa4");
	assert_int_equal(sample->value[0], -7);
	assert_int_equal(sample->n_label, 2); // an empty text would be read as the number 0
	assert_string_equal(text(message, sample->label[0]->key), "full");
	assert_string_equal(text(message, sample->label[0]->str), "\xef\xbf\xbd");
	assert_string_equal(text(message, sample->label[1]->key), "zero");
	assert_string_equal(text(message, sample->label[1]->num_unit), "items");
	release(message);
	profile_destroy(profile);
}

static void test_large(void **state)
{
	enum { LOCATIONS = 5000, SAMPLES = 3000, DEPTH = 1024 };
	struct profile *profile = profile_create();
	static uint32_t ids[LOCATIONS];
	const int64_t value = INT64_MAX;
	profile_add_sample_type(profile, "samples", "count");
	for (uint32_t i = 0; i < LOCATIONS; i++) {
		char name[32];
		snprintf(name, sizeof(name), "function_%u", i);
		ids[i] = fixture_location(profile, 0, UINT64_MAX - i, name);
	}
	for (uint32_t i = 0; i < SAMPLES; i++)
		assert_int_equal(profile_add_sample(profile, ids + i, DEPTH, NULL, 0, &value), 0);
	Perftools__Profiles__Profile *message = write_and_read(profile);
	assert_int_equal(message->n_sample, SAMPLES);
	assert_int_equal(message->n_location, LOCATIONS);
	assert_int_equal(message->location[LOCATIONS - 1]->address, UINT64_MAX - LOCATIONS + 1);
	assert_int_equal(message->sample[SAMPLES - 1]->n_location_id, DEPTH);
	assert_int_equal(message->sample[SAMPLES - 1]->location_id[DEPTH - 1], ids[SAMPLES + DEPTH - 2]);
	assert_int_equal(message->sample[0]->value[0], INT64_MAX);
	release(message);
	profile_destroy(profile);
}

static void test_failures(void **state)
{
	struct profile *profile = fixture_profile();
	profile_add_comment(profile, "bad\xff");
	size_t size;
	fixture_no_memory(&format_pprof, profile, NULL);
	free(fixture_write(&format_pprof, profile, NULL, &size));
	fixture_full_sink(&format_pprof, profile, size);
	profile_destroy(profile);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_field), cmocka_unit_test(test_system_name_and_flags),
		cmocka_unit_test(test_empty),       cmocka_unit_test(test_same_bytes),
		cmocka_unit_test(test_odd_text),    cmocka_unit_test(test_large),
		cmocka_unit_test(test_failures),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
