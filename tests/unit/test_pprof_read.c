// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_pprof_read.c: profiles read back (pprof_read.c): what pprof.c wrote, byte for byte the same when it is written again; what other tools
// write; what breaks the form, refused.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zlib.h>

#include "alloc_fail.h"
#include "formats/name_gaps.h"
#include "formats/pprof_read.h"
#include "pprof.pb-c.h"
#include "profile_fixture.h"

static void test_round_trip(void **state)
{
	struct profile *profile = fixture_profile(), *again = NULL;
	size_t size, size_again;
	char *bytes = fixture_write(&format_pprof, profile, NULL, &size), *bytes_again;

	assert_int_equal(pprof_read(bytes, size, &again), 0);
	bytes_again = fixture_write(&format_pprof, again, NULL, &size_again);
	assert_int_equal(size, size_again);
	assert_memory_equal(bytes, bytes_again, size);
	free(bytes);
	free(bytes_again);
	profile_destroy(profile);
	profile_destroy(again);
}

// Comments on names are read into the mappings, and come out again as they were.
static void test_advice(void **state)
{
	struct profile *profile = fixture_profile(), *again = NULL;
	size_t size;
	char *bytes;

	profile_explain_mapping(profile, 1, ".dynsym", "install app-dbgsym");
	assert_int_equal(name_gaps_comment(profile), 0);
	bytes = fixture_write(&format_pprof, profile, NULL, &size);
	assert_int_equal(pprof_read(bytes, size, &again), 0);
	assert_int_equal(again->ncomments, profile->ncomments - 1);
	assert_string_equal(again->mappings[0].names_from, ".dynsym");
	assert_string_equal(again->mappings[0].advice, "install app-dbgsym");
	assert_int_equal(name_gaps_comment(again), 0);
	assert_string_equal(again->comments[again->ncomments - 1], profile->comments[profile->ncomments - 1]);
	free(bytes);
	profile_destroy(profile);
	profile_destroy(again);
}

// ---- As other tools write --------------------------------------------------------------------------------------------

// One sample with one location, whose ids and texts a test changes.
struct foreign {
	Perftools__Profiles__Profile profile;
	Perftools__Profiles__ValueType type, *types[1];
	Perftools__Profiles__Sample sample, *samples[1];
	Perftools__Profiles__Location locations[2], *location_list[2];
	Perftools__Profiles__Line line, *lines[1];
	Perftools__Profiles__Function function, *functions[1];
	uint64_t ids[2];
	int64_t values[2];
	char *strings[4];
};

static void make_foreign(struct foreign *foreign)
{
	*foreign =
		(struct foreign){.ids = {UINT64_MAX, 77}, .values = {5, 6}, .strings = {"", "cpu", "nanoseconds", "f"}};
	perftools__profiles__profile__init(&foreign->profile);
	perftools__profiles__value_type__init(&foreign->type);
	perftools__profiles__sample__init(&foreign->sample);
	perftools__profiles__line__init(&foreign->line);
	perftools__profiles__function__init(&foreign->function);
	foreign->type.type = 1;
	foreign->type.unit = 2;
	foreign->types[0] = &foreign->type;
	foreign->profile.n_sample_type = 1;
	foreign->profile.sample_type = foreign->types;
	foreign->sample.n_location_id = 2;
	foreign->sample.location_id = foreign->ids;
	foreign->sample.n_value = 1;
	foreign->sample.value = foreign->values;
	foreign->samples[0] = &foreign->sample;
	foreign->profile.n_sample = 1;
	foreign->profile.sample = foreign->samples;
	for (int i = 0; i < 2; i++) {
		perftools__profiles__location__init(&foreign->locations[i]);
		foreign->locations[i].id = foreign->ids[i];
		foreign->locations[i].n_line = 1;
		foreign->locations[i].line = foreign->lines;
		foreign->location_list[i] = &foreign->locations[i];
	}
	foreign->lines[0] = &foreign->line;
	foreign->line.function_id = foreign->function.id = 9;
	foreign->function.name = 3;
	foreign->functions[0] = &foreign->function;
	foreign->profile.n_location = 2;
	foreign->profile.location = foreign->location_list;
	foreign->profile.n_function = 1;
	foreign->profile.function = foreign->functions;
	foreign->profile.n_string_table = 4;
	foreign->profile.string_table = foreign->strings;
}

static int read_foreign(struct foreign *foreign, struct profile **ret_profile)
{
	size_t size = perftools__profiles__profile__get_packed_size(&foreign->profile);
	uint8_t *bytes = malloc(size);
	int error;

	perftools__profiles__profile__pack(&foreign->profile, bytes);
	error = pprof_read(bytes, size, ret_profile);
	free(bytes);
	return error;
}

// Any ids, no mappings, all addresses 0, not packed.
static void test_foreign(void **state)
{
	struct profile *profile = NULL;
	struct foreign foreign;

	make_foreign(&foreign);
	assert_int_equal(read_foreign(&foreign, &profile), 0);
	assert_int_equal(profile->nlocations, 2);
	assert_int_equal(profile->nsamples, 1);
	assert_int_equal(profile->samples[0].nlocations, 2);
	assert_int_equal(profile->samples[0].values[0], 5);
	assert_string_equal(profile->functions[profile->locations[1].lines[0].function_id - 1].name, "f");
	profile_destroy(profile);
}

static void assert_refused(struct foreign *foreign, int wanted)
{
	struct profile *profile = NULL;

	assert_int_equal(read_foreign(foreign, &profile), wanted);
	assert_null(profile);
	make_foreign(foreign);
}

static void test_refused(void **state)
{
	Perftools__Profiles__ValueType *many[5];
	struct foreign foreign;

	make_foreign(&foreign);
	foreign.type.type = 4;
	assert_refused(&foreign, -EINVAL);
	foreign.type.type = -1;
	assert_refused(&foreign, -EINVAL);
	foreign.ids[0] = 5;
	assert_refused(&foreign, -EINVAL);
	foreign.line.function_id = 8;
	assert_refused(&foreign, -EINVAL);
	foreign.locations[1].mapping_id = 1;
	assert_refused(&foreign, -EINVAL);
	foreign.locations[1].id = UINT64_MAX;
	assert_refused(&foreign, -EINVAL);
	foreign.sample.n_value = 2;
	assert_refused(&foreign, -EINVAL);
	foreign.profile.n_sample_type = 0;
	assert_refused(&foreign, -EINVAL);
	for (int i = 0; i < 5; i++)
		many[i] = &foreign.type;
	foreign.profile.n_sample_type = 5;
	foreign.profile.sample_type = many;
	assert_refused(&foreign, -E2BIG);
}

static void test_damaged(void **state)
{
	struct profile *profile = fixture_profile(), *again;
	size_t size;
	char *bytes = fixture_write(&format_pprof, profile, NULL, &size);

	for (size_t cut = 0; cut < size; cut++)
		assert_int_equal(pprof_read(bytes, cut, &again), -EINVAL);
	assert_int_equal(pprof_read("\x0a\xff", 2, &again), -EINVAL);
	free(bytes);
	profile_destroy(profile);
}

// A gigabyte of zeros is a megabyte when packed.
static void test_bomb(void **state)
{
	static uint8_t zeros[1 << 20], packed[1 << 22];
	z_stream zlib = {.next_out = packed, .avail_out = sizeof(packed)};
	struct profile *profile = NULL;

	assert_int_equal(deflateInit2(&zlib, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
	for (int i = 0; i <= 256; i++) {
		zlib.next_in = zeros;
		zlib.avail_in = sizeof(zeros);
		assert_int_equal(deflate(&zlib, i == 256 ? Z_FINISH : Z_NO_FLUSH), i == 256 ? Z_STREAM_END : Z_OK);
	}
	deflateEnd(&zlib);
	assert_int_equal(pprof_read(packed, zlib.total_out, &profile), -EFBIG);
}

static void test_no_memory(void **state)
{
	struct profile *profile = fixture_profile();
	size_t size;
	char *bytes = fixture_write(&format_pprof, profile, NULL, &size);
	bool failed = true;
	long n = 0;

	for (; failed; n++) {
		struct profile *again = NULL;
		long blocks = alloc_fail_blocks;
		int error;

		alloc_fail_after(n, false);
		error = pprof_read(bytes, size, &again);
		failed = alloc_fail_stop() > 0;
		assert_true(failed ? error < 0 && !again : error == 0);
		profile_destroy(again);
		assert_int_equal(alloc_fail_blocks, blocks);
	}
	assert_true(n > 10);
	free(bytes);
	profile_destroy(profile);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip), cmocka_unit_test(test_advice),  cmocka_unit_test(test_foreign),
		cmocka_unit_test(test_refused),    cmocka_unit_test(test_damaged), cmocka_unit_test(test_bomb),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
