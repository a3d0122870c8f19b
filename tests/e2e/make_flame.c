// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// make_flame.c: make_flame KIND FILE.(svg|html): a profile made up for the tests of the flame graph page.
//
//   demo     a small server: three modules, four threads, inlined calls, known shares (the test relies on them)
//   hostile  names that try to break out of the page
//   deep     one stack of 1024 frames beside a flat one
//   many     50,000 distinct stacks, 30 frames deep, with common callers as real ones have
//   worst    50,000 distinct stacks, 30 frames deep, that share nothing but main: 1,450,001 frames
//   empty    no sample

#include "formats/profile.h"
#include "formats/writer.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HOSTILE "</script><img src=x onerror=\"document.title='pwned'\">'\xe2\x80\xa8\xe2\x80\xae\xff & \x01"

static uint32_t add_mapping(struct profile *profile, const char *file)
{
	struct profile_mapping mapping = {.start = 0x1000, .limit = 0x100000, .file = file, .build_id = ""};
	return profile_add_mapping(profile, &mapping);
}

static uint32_t add_function(struct profile *profile, uint32_t mapping, const char *name, const char *file,
			     int64_t line)
{
	static uint64_t address = 0x1000;
	struct profile_function function = {name, name, file, line > 4 ? line - 4 : line};
	struct profile_line at = {profile_add_function(profile, &function), line};
	struct profile_location location = {mapping, address++, 1, &at};
	return profile_add_location(profile, &location);
}

static void add_sample(struct profile *profile, const uint32_t *ids, uint32_t count, int64_t samples,
		       const char *thread, int64_t tid)
{
	struct profile_label labels[2] = {{"thread_id", NULL, tid, ""}, {"thread_name", thread, 0, ""}};
	int64_t values[2] = {samples, samples * 10000000};
	if (profile_add_sample(profile, ids, count, labels, 2, values))
		abort();
}

// Of 10,000 samples: parse_json 3,000 + 600 on the flusher's way, lookup 2,500 (1,000 of them in memcmp), deflate 2,000…
static void make_demo(struct profile *profile)
{
	uint32_t exe = add_mapping(profile, "/usr/local/bin/shop-server"),
		 libz = add_mapping(profile, "/usr/lib/libz.so.1.2.13");
	uint32_t libc = add_mapping(profile, "/usr/lib/x86_64-linux-gnu/libc.so.6");
	uint32_t start = add_function(profile, libc, "start_thread", "nptl/pthread_create.c", 442);
	uint32_t worker = add_function(profile, exe, "shop::Worker::run()", "src/worker.cc", 88);
	uint32_t handle = add_function(profile, exe, "shop::Worker::handle(shop::Request const&, shop::Response&)",
				       "src/worker.cc", 131);
	uint32_t parse = add_function(profile, exe, "parse_json", "src/json.c", 210);
	uint32_t lookup = add_function(profile, exe, "std::map<std::string, shop::Item>::find(std::string const&)",
				       "/usr/include/c++/12/bits/stl_map.h", 1218);
	uint32_t compare = add_function(profile, libc, "__memcmp_avx2_movbe", "", 0);
	uint32_t render = add_function(profile, exe, "shop::render", "src/render.cc", 57);
	uint32_t deflate_id = add_function(profile, libz, "deflate", "deflate.c", 763);
	uint32_t longest = add_function(profile, libz, "longest_match", "deflate.c", 1120);
	uint32_t flush = add_function(profile, exe, "shop::Log::flush_loop()", "src/log.cc", 40);
	uint32_t write_id = add_function(profile, libc, "write", "", 0);
	uint32_t rare = add_function(profile, exe, "rare_path", "src/rare.c", 5);
	for (int i = 0; i < 3; i++) {
		const uint32_t a[] = {parse, handle, worker, start}, b[] = {lookup, handle, worker, start};
		const uint32_t c[] = {compare, lookup, handle, worker, start}, d[] = {render, handle, worker, start};
		const uint32_t e[] = {longest, deflate_id, handle, worker, start};
		const uint32_t f[] = {rare, handle, worker, start};
		add_sample(profile, a, 4, 1000, "worker", 101 + i);
		add_sample(profile, b, 4, 500, "worker", 101 + i);
		add_sample(profile, c, 5, i ? 333 : 334, "worker", 101 + i);
		add_sample(profile, d, 4, 400, "worker", 101 + i);
		add_sample(profile, e, 5, i ? 667 : 666, "worker", 101 + i);
		add_sample(profile, f, 4, 1, "worker", 101 + i);
	}
	const uint32_t g[] = {write_id, flush, start}, h[] = {parse, parse, flush, start};
	add_sample(profile, g, 3, 697, "log-flusher", 104);
	add_sample(profile, h, 4, 600, "log-flusher", 104);
	profile_add_comment(profile, "rate asked: 100 Hz, reached: 99.8 Hz");
	profile_add_comment(profile, "dropped: 12 of 10012 (ring full 12)");
	profile_add_comment(profile, "truncated stacks: 3");
}

static void make_hostile(struct profile *profile)
{
	uint32_t mapping = add_mapping(profile, "/tmp/" HOSTILE);
	uint32_t evil = add_function(profile, mapping, HOSTILE, HOSTILE, 7);
	uint32_t plain = add_function(profile, mapping, "plain", "plain.c", 3);
	uint32_t wide = add_function(profile, mapping, "函数名称很长很长的一个例子", "宽.c", 3);
	const uint32_t a[] = {evil, plain}, b[] = {wide, plain};
	add_sample(profile, a, 2, 60, HOSTILE, 1);
	add_sample(profile, b, 2, 40, "ok", 2);
	profile_add_comment(profile, "%s", HOSTILE);
}

static void make_deep(struct profile *profile)
{
	enum { DEPTH = 1024 };
	uint32_t mapping = add_mapping(profile, "/bin/deep"), ids[DEPTH];
	for (uint32_t i = 0; i < DEPTH; i++) {
		char name[32];
		snprintf(name, sizeof(name), "level_%04" PRIu32, DEPTH - i);
		ids[i] = add_function(profile, mapping, name, "deep.c", i + 1);
	}
	add_sample(profile, ids, DEPTH, 90, "main", 1);
	add_sample(profile, ids + DEPTH - 1, 1, 10, "main", 1);
}

// A name that does not fit its box.
static void make_long(struct profile *profile)
{
	uint32_t mapping = add_mapping(profile, "/usr/bin/app");
	struct profile_function function = {
		"void ns::sort<std::pair<int, long> >(std::pair<int, long>*, unsigned long)", "_ZN2ns4sort", "sort.cc",
		5};
	struct profile_line at = {profile_add_function(profile, &function), 9};
	uint32_t id = profile_add_location(profile, &(struct profile_location){mapping, 0x1000, 1, &at});
	add_sample(profile, &id, 1, 100, "main", 1);
	uint32_t bare = profile_add_location(profile, &(struct profile_location){mapping, 0x2000, 0, NULL});
	profile_explain_mapping(profile, mapping, ".dynsym", "install app-dbgsym");
	add_sample(profile, &bare, 1, 100, "main", 1);
}

static uint32_t next_random(uint32_t below)
{
	static uint64_t state = 42;
	state = state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(state >> 33) % below;
}

// shared: a level has few functions near the root, so that callers are common, and one of these is taken most often.
static void make_stacks(struct profile *profile, bool shared)
{
	enum { STACKS = 50000, DEPTH = 30, NAMES = 1000 };
	static uint32_t names[NAMES];
	const uint32_t mappings[3] = {add_mapping(profile, "/usr/bin/big-service"),
				      add_mapping(profile, "/usr/lib/libcore.so.4"),
				      add_mapping(profile, "/usr/lib/libc.so.6")};
	for (uint32_t i = 0; i < NAMES; i++) {
		char name[96], file[64];
		snprintf(name, sizeof(name), "service::module_%02" PRIu32 "::Class%" PRIu32 "::method_%" PRIu32 "(int)",
			 i % 37, i % 101, i);
		snprintf(file, sizeof(file), "src/module_%02" PRIu32 ".cc", i % 37);
		names[i] = add_function(profile, mappings[i % 7 == 0 ? 1 : i % 11 == 0 ? 2 : 0], name, file, i + 5);
	}
	for (uint32_t i = 0; i < STACKS; i++) {
		uint32_t stack[DEPTH];
		for (uint32_t d = 0; d < DEPTH; d++) {
			uint32_t choices = shared ? 1 + d / 4 : NAMES;
			uint32_t pick = next_random(3) ? 0 : next_random(choices);
			stack[DEPTH - 1 - d] = names[shared ? (d * 31 + pick) % NAMES : next_random(NAMES)];
		}
		stack[DEPTH - 1] = names[0];
		stack[0] = names[i % NAMES]; // with the next: never the same stack twice
		stack[1] = names[i / NAMES];
		add_sample(profile, stack, DEPTH, 1 + next_random(20), "worker", 100 + i % 8);
	}
}

static int write_file(const struct profile *profile, const char *path)
{
	const char *extension = strrchr(path, '.');
	const struct format *format = extension && strcmp(extension, ".svg") == 0 ? &format_svg : &format_html;
	struct format_options options = {.title = "Flame graph of shop-server"};
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	static struct writer writer;
	if (fd < 0)
		return -1;
	writer_init(&writer, writer_fd_sink, &fd);
	int err = format->write(profile, &options, &writer);
	return close(fd) || err ? -1 : 0;
}

static void make(struct profile *profile, const char *kind)
{
	if (strcmp(kind, "demo") == 0)
		make_demo(profile);
	else if (strcmp(kind, "hostile") == 0)
		make_hostile(profile);
	else if (strcmp(kind, "long") == 0)
		make_long(profile);
	else if (strcmp(kind, "deep") == 0)
		make_deep(profile);
	else if (strcmp(kind, "many") == 0 || strcmp(kind, "worst") == 0)
		make_stacks(profile, kind[0] == 'm');
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: make_flame demo|hostile|long|deep|many|worst|empty FILE.(svg|html)\n");
		return 2;
	}
	struct profile *profile = profile_create();
	if (!profile)
		return 1;
	profile_add_sample_type(profile, "samples", "count");
	profile_add_sample_type(profile, "cpu", "nanoseconds");
	profile_set_period(profile, "cpu", "nanoseconds", 10000000);
	profile->duration_ns = 30000000000;
	profile->time_ns = 1700000000000000000;
	make(profile, argv[1]);
	int err = profile_failed(profile) ? -1 : write_file(profile, argv[2]);
	profile_destroy(profile);
	return err ? 1 : 0;
}
