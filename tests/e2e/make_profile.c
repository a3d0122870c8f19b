// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// make_profile.c: make_profile FORMAT [scale N]: writes a profile made up for the tests to stdout.
//
// Without `scale`: names of every odd kind; test_readers.py knows what is in it. With it: N samples over N/5 locations,
// 30 frames deep; what it cost in time and memory goes to stderr.

#include "formats/profile.h"
#include "formats/writer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static uint32_t add_mapping(struct profile *profile, uint64_t start, const char *file, bool symbols)
{
	const struct profile_mapping mapping = {
		.start = start,
		.limit = start + 0x100000,
		.file_offset = 0x1000,
		.file = file,
		.build_id = symbols ? "0123456789abcdef0123456789abcdef01234567" : "",
		.has_functions = symbols,
		.has_filenames = symbols,
		.has_line_numbers = symbols,
		.has_inline_frames = symbols,
	};
	return profile_add_mapping(profile, &mapping);
}

static struct profile_line line_in(struct profile *profile, const char *name, const char *file, int64_t line)
{
	const struct profile_function function = {name, name, file, line > 5 ? line - 5 : line};
	return (struct profile_line){profile_add_function(profile, &function), line};
}

static uint32_t location_of(struct profile *profile, uint32_t mapping, uint64_t address, const char *name,
			    const char *file, int64_t line)
{
	const struct profile_line at = line_in(profile, name, file, line);
	return profile_add_location(profile, &(struct profile_location){mapping, address, 1, &at});
}

static void add_sample(struct profile *profile, const uint32_t *ids, uint32_t n, int64_t count, int64_t tid,
		       const char *thread)
{
	const struct profile_label labels[] = {{"thread_name", thread, 0, NULL}, {"thread_id", NULL, tid, NULL}};
	const int64_t values[] = {count, count * 10000000};
	if (profile_add_sample(profile, ids, n, labels, thread ? 2 : 0, values))
		abort();
}

static const char *const odd_names[] = {
	"say \"hi\" \\ back",
	"semi;colon",
	"new\nline\ttab",
	"gr\u00fc\u00dfe \u51fd\u6570 \U0001f600",
	"bad\xff\xe2\x82 utf8",
	"<script>document.title='pwned'</script>&amp;",
	"count 12",
	"std::map<int, std::string>::find(int const&) const",
};
#define NODD (sizeof(odd_names) / sizeof(odd_names[0]))

// Sample i (1…8) is odd name i under main, i times; then inlined calls, code without symbols, and a deep recursion.
static void make_odd(struct profile *profile)
{
	uint32_t exe = add_mapping(profile, 0x400000, "/usr/bin/odd \"quoted\" program", true);
	uint32_t lib = add_mapping(profile, 0x7f0000000000, "/usr/lib/lib\xff.so.1", false);
	uint32_t main_id = location_of(profile, exe, 0x400010, "main", "/src/main.c", 42);
	static const char *const threads[] = {"main", "worker 1", "wor;ker\n2", "bad\xff"};
	for (uint32_t i = 0; i < NODD; i++) {
		const uint32_t stack[] = {
			location_of(profile, exe, 0x400100 + i, odd_names[i], "/src/odd \"file\".c", 100 + i), main_id};
		add_sample(profile, stack, 2, i + 1, 100 + i % 4, threads[i % 4]);
	}
	const struct profile_line lines[] = {line_in(profile, "inner_inline", "/src/inline.h", 7),
					     line_in(profile, "middle_inline", "/src/inline.h", 17),
					     line_in(profile, "outer", "/src/outer.c", 77)};
	uint32_t inlined = profile_add_location(profile, &(struct profile_location){exe, 0x400200, 3, lines});
	uint32_t bare = profile_add_location(profile, &(struct profile_location){lib, 0x7f0000000123, 0, NULL});
	uint32_t nowhere = profile_add_location(profile, &(struct profile_location){0, 0x1234, 0, NULL});
	const uint32_t a[] = {inlined, main_id}, b[] = {bare, inlined, main_id}, c[] = {nowhere};
	add_sample(profile, a, 2, 100, 100, "main");
	add_sample(profile, b, 3, 50, 101, "worker 1");
	add_sample(profile, c, 1, 25, 0, NULL);
	uint32_t deep[600];
	for (uint32_t i = 0; i < 599; i++)
		deep[i] = location_of(profile, exe, 0x400300, "recurse", "/src/main.c", 50);
	deep[599] = main_id;
	add_sample(profile, deep, 600, 10, 100, "main");
	profile_add_comment(profile, "rate: 100 Hz asked, 99.8 Hz reached");
	profile_add_comment(profile, "bad \xff comment; \"quoted\"");
}

// ---- Scale ---------------------------------------------------------------------------------------------------------

static uint32_t next_random(uint32_t below)
{
	static uint64_t state = 42;
	state = state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(state >> 33) % below;
}

static void make_scale(struct profile *profile, uint32_t nsamples)
{
	enum { DEPTH = 30 };
	uint32_t exe = add_mapping(profile, 0x400000, "/usr/bin/large", true), nlocations = nsamples / 5 + 1;
	uint32_t *ids = calloc(nlocations, sizeof(*ids));
	if (!ids)
		abort();
	for (uint32_t i = 0; i < nlocations; i++) {
		char name[96], file[64];
		snprintf(name, sizeof(name), "service::module_%02" PRIu32 "::Class%" PRIu32 "::method_%" PRIu32 "(int)",
			 i % 37, i % 101, i / 4);
		snprintf(file, sizeof(file), "/src/module_%02" PRIu32 ".cc", i % 37);
		ids[i] = location_of(profile, exe, 0x400000 + i, name, file, i % 1000);
	}
	for (uint32_t i = 0; i < nsamples; i++) {
		uint32_t stack[DEPTH];
		char thread[16];
		for (uint32_t d = 0; d < DEPTH; d++) // few callers near the root, many leaves
			stack[DEPTH - 1 - d] = ids[next_random(d < 8 ? 2 + d * d : nlocations)];
		snprintf(thread, sizeof(thread), "worker-%" PRIu32, i % 64);
		add_sample(profile, stack, DEPTH, 1, 1000 + i % 64, thread);
	}
	free(ids);
}

static double now_s(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static long peak_mib(void)
{
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_maxrss / 1024;
}

static void make(struct profile *profile, uint32_t scale)
{
	double begin = now_s();
	if (!scale) {
		make_odd(profile);
		return;
	}
	make_scale(profile, scale);
	fprintf(stderr, "%" PRIu32 " samples, %" PRIu32 " locations: built in %.2f s, peak %ld MiB\n",
		profile->nsamples, profile->nlocations, now_s() - begin, peak_mib());
}

static int write_out(const struct profile *profile, const struct format *format, bool tell)
{
	static struct writer writer;
	int fd = STDOUT_FILENO;
	double begin = now_s();
	writer_init(&writer, writer_fd_sink, &fd);
	int error = format->write(profile, &(struct format_options){.title = "Odd \"names\""}, &writer);
	if (tell)
		fprintf(stderr, "%s: %" PRIu64 " bytes written in %.2f s, peak %ld MiB\n", format->name, writer.written,
			now_s() - begin, peak_mib());
	return error;
}

int main(int argc, char **argv)
{
	const struct format *format = argc > 1 ? format_by_name(argv[1]) : NULL;
	uint32_t scale = argc == 4 && strcmp(argv[2], "scale") == 0 ? (uint32_t)strtoul(argv[3], NULL, 10) : 0;
	if (!format || (argc != 2 && !scale)) {
		fprintf(stderr, "usage: make_profile FORMAT [scale N]; formats: %s\n", format_names());
		return 2;
	}
	struct profile *profile = profile_create();
	if (!profile)
		return 1;
	profile_add_sample_type(profile, "samples", "count");
	profile_add_sample_type(profile, "cpu", "nanoseconds");
	profile_set_period(profile, "cpu", "nanoseconds", 10000000);
	profile->default_sample_type = "cpu";
	profile->time_ns = 1700000000000000000;
	profile->duration_ns = 30000000000;
	make(profile, scale);
	int error = profile_failed(profile) ? -1 : write_out(profile, format, scale > 0);
	profile_destroy(profile);
	return error ? 1 : 0;
}
