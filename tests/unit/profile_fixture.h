// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// profile_fixture.h: what the tests of the formats share: building small profiles, writing them to memory, and trying a
// format with each allocation failing in turn. Include alloc_fail.h and cmocka.h first.

#ifndef PROFD_TESTS_PROFILE_FIXTURE_H
#define PROFD_TESTS_PROFILE_FIXTURE_H

#include "formats/profile.h"
#include "formats/writer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline uint32_t fixture_mapping(struct profile *profile, uint64_t start, const char *file)
{
	const struct profile_mapping mapping = {
		.start = start, .limit = start + 0x10000, .file_offset = 0x1000, .file = file, .build_id = "c0ffee"};
	return profile_add_mapping(profile, &mapping);
}

static inline struct profile_line fixture_line(struct profile *profile, const char *name, const char *file,
					       int64_t line)
{
	const struct profile_function function = {name, name, file, line ? line - 1 : 0};
	return (struct profile_line){profile_add_function(profile, &function), line};
}

static inline uint32_t fixture_location(struct profile *profile, uint32_t mapping, uint64_t address, const char *name)
{
	const struct profile_line line = fixture_line(profile, name, "a.c", 10);
	return profile_add_location(profile, &(struct profile_location){mapping, address, 1, &line});
}

// main → work (with tiny inlined in it) → no symbol, on two threads, and main alone on none.
static inline struct profile *fixture_profile(void)
{
	struct profile *profile = profile_create();
	if (!profile)
		return NULL;
	profile_add_sample_type(profile, "samples", "count");
	profile_add_sample_type(profile, "cpu", "nanoseconds");
	profile_set_period(profile, "cpu", "nanoseconds", 10000000);
	profile->default_sample_type = "cpu";
	profile->time_ns = 1700000000123456789;
	profile->duration_ns = 30000000000;
	profile_add_comment(profile, "rate: %d Hz", 100);
	profile_add_comment(profile, "dropped: 0");
	uint32_t mapping = fixture_mapping(profile, 0x400000, "/usr/bin/app");
	const struct profile_line lines[2] = {fixture_line(profile, "tiny", "b.h", 3),
					      fixture_line(profile, "work", "a.c", 30)};
	uint32_t bare = profile_add_location(profile, &(struct profile_location){mapping, 0x400123, 0, NULL});
	uint32_t work = profile_add_location(profile, &(struct profile_location){mapping, 0x400200, 2, lines});
	uint32_t main_id = fixture_location(profile, mapping, 0x400300, "main");
	const uint32_t stack[3] = {bare, work, main_id};
	const struct profile_label first[2] = {{"thread_id", NULL, 11, NULL}, {"thread_name", "worker", 0, NULL}};
	const struct profile_label second[2] = {{"thread_id", NULL, 12, NULL}, {"thread_name", "worker", 0, NULL}};
	const int64_t values[3][2] = {{1, 10000000}, {2, 20000000}, {4, 40000000}};
	profile_add_sample(profile, stack, 3, first, 2, values[0]);
	profile_add_sample(profile, stack + 1, 2, second, 2, values[1]);
	profile_add_sample(profile, stack + 2, 1, NULL, 0, values[2]);
	if (profile_failed(profile)) {
		profile_destroy(profile);
		return NULL;
	}
	return profile;
}

// The bytes, with a NUL behind them; to be freed.
static inline char *fixture_write(const struct format *format, const struct profile *profile,
				  const struct format_options *options, size_t *ret_size)
{
	struct writer_memory memory = {0};
	struct writer writer;
	writer_init(&writer, writer_memory_sink, &memory);
	assert_int_equal(format->write(profile, options, &writer), 0);
	assert_int_equal(writer.error, 0);
	assert_int_equal(writer.used, 0); // a format flushes
	assert_int_equal(writer.written, memory.size);
	char *text = realloc(memory.data, memory.size + 1);
	assert_non_null(text);
	text[memory.size] = '\0';
	if (ret_size)
		*ret_size = memory.size;
	return text;
}

struct fixture_limit {
	size_t left; // bytes that still go out
};

static inline int fixture_limited_sink(void *context, const void *data, size_t size)
{
	struct fixture_limit *limit = context;
	if (size > limit->left)
		return -ENOSPC;
	limit->left -= size;
	return 0;
}

// A sink that is full at any byte is told as such, and leaves no memory behind.
static inline void fixture_full_sink(const struct format *format, const struct profile *profile, size_t size)
{
	for (size_t room = 0; room < size; room += 1 + size / 50) {
		struct fixture_limit limit = {room};
		struct writer writer;
		long blocks = alloc_fail_blocks;
		writer_init(&writer, fixture_limited_sink, &limit);
		assert_int_equal(format->write(profile, NULL, &writer), -ENOSPC);
		assert_int_equal(alloc_fail_blocks, blocks);
	}
}

static inline int fixture_write_failing(const struct format *format, const struct profile *profile,
					const struct format_options *options, long n, bool once, bool *ret_failed)
{
	struct writer_memory memory = {0};
	struct writer writer;
	long blocks = alloc_fail_blocks;
	writer_init(&writer, writer_memory_sink, &memory);
	alloc_fail_after(n, once);
	int error = format->write(profile, options, &writer);
	*ret_failed = alloc_fail_stop() > 0;
	free(memory.data);
	assert_int_equal(alloc_fail_blocks, blocks);
	return error;
}

// Each allocation fails in turn, alone and with all that follow: always −ENOMEM, never a crash or a leak.
static inline void fixture_no_memory(const struct format *format, const struct profile *profile,
				     const struct format_options *options)
{
	for (int once = 0; once < 2; once++) {
		bool failed = true;
		long n = 0;
		for (; failed; n++) {
			int error = fixture_write_failing(format, profile, options, n, once, &failed);
			assert_int_equal(error, failed ? -ENOMEM : 0);
		}
		assert_in_range(n, 5, 100000);
	}
}

#endif
