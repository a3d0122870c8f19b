// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// Unit tests of the thread dump: its model, its texts in Go's grammars, its JSON, names made to break them, and what happens when
// memory runs out or a sink is full.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "alloc_fail.h"
#include "formats/thread_dump.h"
#include "profile_fixture.h"

#define MINUTE_NS 60000000000LL

// Null when memory ran out.
static struct thread_dump *build(void)
{
	struct thread_dump *dump = thread_dump_create();
	struct thread_dump_thread thread = {
		.name = "main", .state = "join", .object = "", .owner_tid = 17, .cpu_ns = -1};
	uint32_t mapping, work, main_id, bare;
	int r = 0;

	if (!dump)
		return NULL;
	mapping = fixture_mapping(dump->profile, 0x400000, "/usr/bin/app");
	const struct profile_line lines[2] = {fixture_line(dump->profile, "tiny", "b.h", 3),
					      fixture_line(dump->profile, "work", "a.c", 30)};
	work = profile_add_location(dump->profile, &(struct profile_location){mapping, 0x400200, 2, lines});
	main_id = fixture_location(dump->profile, mapping, 0x400300, "main");
	bare = profile_add_location(dump->profile, &(struct profile_location){mapping, 0x400123, 0, NULL});
	dump->pid = 5;
	dump->time_ns = 1700000000123456789;
	dump->duration_ns = 1000;
	const uint32_t stack[] = {work, main_id};
	uint32_t whole = thread_dump_add_stack(dump, stack, 2, "");
	uint32_t partial = thread_dump_add_stack(dump, &bare, 1, "no unwind information");

	thread.tid = 5;
	thread.stack = whole;
	r |= thread_dump_add_thread(dump, &thread);
	thread = (struct thread_dump_thread){.tid = 18,
					     .name = "w",
					     .state = "mutex lock",
					     .object = "0x10",
					     .owner_tid = 17,
					     .waiting_ns = 3 * MINUTE_NS + 1,
					     .cpu_ns = 7,
					     .stack = partial,
					     .creator_tid = 5,
					     .creator_stack = whole};
	r |= thread_dump_add_thread(dump, &thread);
	thread.tid = 17;
	thread.name = "worker";
	thread.owner_tid = 0;
	thread.waiting_ns = MINUTE_NS - 1;
	r |= thread_dump_add_thread(dump, &thread);
	thread = (struct thread_dump_thread){.tid = 19, .name = "", .state = "running", .object = "", .cpu_ns = 0};
	r |= thread_dump_add_thread(dump, &thread);
	thread.tid = 20;
	thread.hidden = true;
	r |= thread_dump_add_thread(dump, &thread);
	if (r || !whole || !partial || profile_failed(dump->profile)) {
		thread_dump_destroy(dump);
		return NULL;
	}
	thread_dump_finish(dump);
	return dump;
}

static int write_grouped(const struct thread_dump *dump, struct writer *writer)
{
	return thread_dump_write_grouped(dump, "goroutine", writer);
}

typedef int (*write_function)(const struct thread_dump *dump, struct writer *writer);
static const write_function writers[] = {write_grouped, thread_dump_write_threads, thread_dump_write_json};

static char *text_of(const struct thread_dump *dump, write_function write)
{
	struct writer_memory memory = {0};
	struct writer writer;
	char *text;

	writer_init(&writer, writer_memory_sink, &memory);
	assert_int_equal(write(dump, &writer), 0);
	assert_int_equal(writer.used, 0);
	text = realloc(memory.data, memory.size + 1);
	assert_non_null(text);
	text[memory.size] = '\0';
	return text;
}

static void check_text(const struct thread_dump *dump, write_function write, const char *expected)
{
	char *text = text_of(dump, write);

	assert_string_equal(text, expected);
	free(text);
}

static void test_threads(void **state)
{
	struct thread_dump *dump = build();

	check_text(dump, thread_dump_write_threads,
		   "goroutine 5 [join thread 17 \"worker\"; \"main\"]:\n"
		   "tiny(...)\n\tb.h:3 +0x1200\n"
		   "work(...)\n\ta.c:30 +0x1200\n"
		   "main(...)\n\ta.c:10 +0x1300\n"
		   "\n"
		   "goroutine 17 [mutex lock 0x10; \"worker\"; partial: no unwind information]:\n"
		   "app+0x1123(...)\n\t??:0 +0x1123\n"
		   "...additional frames elided...\n"
		   "created by tiny in goroutine 5\n\tb.h:3 +0x1200\n"
		   "\n"
		   "goroutine 18 [mutex lock 0x10 held by thread 17 \"worker\"; \"w\"; partial: no unwind "
		   "information, 3 minutes]:\n"
		   "app+0x1123(...)\n\t??:0 +0x1123\n"
		   "...additional frames elided...\n"
		   "created by tiny in goroutine 5\n\tb.h:3 +0x1200\n"
		   "\n"
		   "goroutine 19 [running]:\n"
		   "stack unavailable(...)\n\t\?\?:0 +0x0\n...additional frames elided...\n"
		   "\n");
	thread_dump_destroy(dump);
}

// Threads with other labels are another group; those of other traces are not.
static void test_grouped_by_labels(void **state)
{
	struct thread_dump *dump = build();
	char *text;

	dump->threads[1].labels = "path\x1f/\"a\x1etrace_id\x1f"
				  "01\x1e";
	dump->threads[2].labels = "path\x1f/\"a\x1etrace_id\x1f"
				  "02\x1etrace_sampled\x1f"
				  "1\x1e";
	text = text_of(dump, write_grouped);
	assert_non_null(strstr(text, "2 @ 0x400123\n# labels: {\"state\":\"mutex lock\", \"path\":\"/\\\"a\"}\n#\t"));
	free(text);
	dump->threads[2].labels = "state\x1fidle\x1epath\x1f/b\x1e";
	text = text_of(dump, write_grouped);
	assert_non_null(strstr(text, "1 @ 0x400123\n# labels: {\"state\":\"mutex lock\", \"path\":\"/\\\"a\"}\n#\t"));
	assert_non_null(strstr(text, "1 @ 0x400123\n# labels: {\"state\":\"mutex lock\", \"path\":\"/b\"}\n#\t"));
	free(text);
	thread_dump_destroy(dump);
}

// Highest count first; the hidden thread counts nowhere; a group without a stack keeps an address, or pprof refuses the file.
static void test_grouped(void **state)
{
	struct thread_dump *dump = build();

	check_text(dump, write_grouped,
		   "goroutine profile: total 4\n"
		   "2 @ 0x400123\n# labels: {\"state\":\"mutex lock\"}\n"
		   "#\t0x400123\tapp+0x1123\t??:0\n\n"
		   "1 @ 0x400200 0x400301\n# labels: {\"state\":\"join\"}\n"
		   "#\t0x400200\ttiny+0x1200\tb.h:3\n"
		   "#\t0x400200\twork+0x1200\ta.c:30\n"
		   "#\t0x400300\tmain+0x1300\ta.c:10\n\n"
		   "1 @ 0x1\n# labels: {\"state\":\"running\"}\n\n"
		   "# nameless: /usr/bin/app: 50.00% of threads (self 50.00%)\n");
	thread_dump_destroy(dump);
}

static void test_json(void **state)
{
	struct thread_dump *dump = build();
	char *text = text_of(dump, thread_dump_write_json);

	assert_non_null(
		strstr(text, "{\"tid\":18,\"name\":\"w\",\"state\":\"mutex lock\",\"object\":\"0x10\",\"owner_tid\":17,"
			     "\"waiting_ns\":180000000001,\"cpu_ns\":7,\"stack\":2,"
			     "\"created_by\":{\"tid\":5,\"stack\":1}}"));
	assert_non_null(strstr(text, "{\"id\":2,\"partial\":\"no unwind information\",\"frames\":[\n  {\"function\":"
				     "\"app+0x1123\",\"address\":\"0x400123\",\"module\":\"/usr/bin/app\"}]}]}\n"));
	assert_null(strstr(text, "\"tid\":20"));
	free(text);
	thread_dump_destroy(dump);
}

static void test_profile(void **state)
{
	struct thread_dump *dump = build();
	int64_t total = 0;

	assert_int_equal(thread_dump_to_profile(dump, "goroutine", false), 0);
	assert_string_equal(dump->profile->sample_types[0].type, "goroutine");
	assert_int_equal(dump->profile->period, 1);
	assert_int_equal(dump->profile->nsamples, 3);
	for (uint32_t i = 0; i < dump->profile->nsamples; i++) {
		assert_string_equal(dump->profile->samples[i].labels[0].key, "state");
		total += dump->profile->samples[i].values[0];
	}
	assert_int_equal(total, 4);
	thread_dump_destroy(dump);
}

static void test_refused(void **state)
{
	struct thread_dump *dump = build();
	struct thread_dump_thread thread = {.tid = 1, .name = "", .state = "sleep", .object = "", .stack = 3};
	const uint32_t none = 99, zero = 0, one = 1;

	assert_int_equal(thread_dump_add_thread(dump, &thread), -EINVAL);
	thread.stack = 0;
	thread.creator_stack = 3;
	assert_int_equal(thread_dump_add_thread(dump, &thread), -EINVAL);
	thread.creator_stack = 0;
	thread.state = "";
	assert_int_equal(thread_dump_add_thread(dump, &thread), -EINVAL);
	assert_int_equal(thread_dump_add_stack(dump, &none, 1, ""), 0);
	assert_int_equal(thread_dump_add_stack(dump, &zero, 1, ""), 0);
	// The reason is part of a stack.
	assert_int_equal(thread_dump_add_stack(dump, &one, 1, ""), 3);
	assert_int_equal(thread_dump_add_stack(dump, &one, 1, "why"), 4);
	assert_int_equal(thread_dump_add_stack(dump, &one, 1, ""), 3);
	assert_int_equal(dump->nthreads, 5);
	thread_dump_destroy(dump);
	thread_dump_destroy(NULL);
}

// One thread named NAME in a function NAME of a file NAME, waiting for NAME.
static struct thread_dump *hostile(const char *name, int64_t line)
{
	struct thread_dump *dump = thread_dump_create();
	struct thread_dump_thread thread = {.tid = 1, .name = name, .state = "epoll", .object = name, .owner_tid = 1};

	assert_non_null(dump);
	const struct profile_line at = {
		profile_add_function(dump->profile, &(struct profile_function){name, name, name, 0}), line};
	const uint32_t id = profile_add_location(dump->profile, &(struct profile_location){0, 0xabc, 1, &at});

	thread.stack = thread.creator_stack = thread_dump_add_stack(dump, &id, 1, name);
	assert_int_equal(thread_dump_add_thread(dump, &thread), 0);
	thread_dump_finish(dump);
	return dump;
}

static size_t count_lines(const char *text)
{
	size_t n = 0;

	for (; (text = strchr(text, '\n')); text++)
		n++;
	return n;
}

static void test_hostile(void **state)
{
	static char huge[200001];
	static const char *const names[] = {"a\nb]:\ngoroutine 9 [x]:\n",
					    "\r\x01\x7f\t",
					    "],[",
					    "\"\\\"",
					    "\xff\xfe\xc3",
					    "%",
					    "operator/",
					    "1 minutes",
					    huge};

	memset(huge, 'x', sizeof(huge) - 1);
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		struct thread_dump *dump = hostile(names[i], -4);
		char *text = text_of(dump, thread_dump_write_threads);
		const char *header = strchr(text, ']');

		assert_int_equal(count_lines(text), 7 - (size_t)(strstr(text, "elided...") == NULL));
		assert_memory_equal(text, "goroutine 1 [epoll ", 19);
		assert_memory_equal(header, "]:\n", 3);
		assert_memory_equal(strchr(text, '\n') - 2, "]:\n", 3);
		assert_null(strstr(text, ", 1 minutes"));
		assert_null(strstr(text, ":-"));
		assert_in_range(strlen(text), 1, 20000);
		free(text);
		text = text_of(dump, write_grouped);
		assert_int_equal(count_lines(text), 5);
		assert_in_range(strlen(text), 1, 20000);
		free(text);
		free(text_of(dump, thread_dump_write_json));
		thread_dump_destroy(dump);
	}
}

static void check_call(const char *name, const char *expected)
{
	struct thread_dump *dump = hostile(name, 1);
	char *text = text_of(dump, thread_dump_write_threads), line[100];

	snprintf(line, sizeof(line), "]:\n%s(...)\n\t", expected);
	assert_non_null(strstr(text, line));
	free(text);
	thread_dump_destroy(dump);
}

// What panicparse takes for a broken Go path or a broken escape.
static void test_go_names(void **state)
{
	check_call("operator/(A, B)", "operator\xe2\x88\x95(A, B)");
	check_call("operator%(A, B)", "operator\xef\xbc\x85(A, B)");
	check_call("~f /a.b/c", "~f \xe2\x88\x95"
				"a.b\xe2\x88\x95"
				"c");
	check_call("~f /a/b.js", "~f /a/b.js");
	check_call("100%", "100\xef\xbc\x85");
}

#define OPEN "\xef\xbc\x88"
#define CLOSE "\xef\xbc\x89"

// gostackparse takes pairs of parentheses, but none within another, and none alone.
static void test_parentheses(void **state)
{
	check_call("(anonymous namespace)::f(int, char)", "(anonymous namespace)::f(int, char)");
	check_call("f(int (*)(int), g())", "f(int " OPEN "*" CLOSE OPEN "int" CLOSE ", g" OPEN CLOSE ")");
	check_call("f(int", "f" OPEN "int");
	check_call("f)(", "f" CLOSE OPEN);
}

static void check_has(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("no '%s' in: %s", part, text);
}

static void test_not_utf8(void **state)
{
	struct thread_dump *dump = hostile("caf\xe9 \xc3\xa9", 1);
	char *text = text_of(dump, thread_dump_write_threads);

#define CAFE "caf\xef\xbf\xbd \xc3\xa9"
	check_has(text, "goroutine 1 [epoll " CAFE " held by thread 1 \"" CAFE "\"; \"" CAFE "\"; partial: " CAFE
			"]:\n" CAFE "(...)\n\t" CAFE ":1 +0xabc\n");
	free(text);
	text = text_of(dump, write_grouped);
	check_has(text, "\t" CAFE "+0xabc\t" CAFE ":1\n");
	free(text);
	thread_dump_destroy(dump);
}

static void test_file_names(void **state)
{
	struct thread_dump *dump = hostile("a:1:b.c", 3);
	char *text = text_of(dump, thread_dump_write_threads);

	check_has(text, "\n\ta\xe2\x88\xb6"
			"1:b.c:3 +0xabc\n");
	free(text);
	thread_dump_destroy(dump);
}

static void check_go_file(const char *file, const char *line)
{
	struct thread_dump *dump = hostile(file, 3);
	struct thread_dump_stream *stream = thread_dump_stream_threads(dump, true);
	struct writer_memory memory = {0};
	struct writer writer;

	writer_init(&writer, writer_memory_sink, &memory);
	while (thread_dump_stream_next(stream, &writer) > 0)
		;
	writer_put(&writer, "", 1);
	assert_int_equal(writer_flush(&writer), 0);
	check_has(memory.data, line);
	thread_dump_stream_destroy(stream);
	free(memory.data);
	thread_dump_destroy(dump);
}

// panicparse: `^(?:\t| +)(\?\?|\<autogenerated\>|.+\.(?:c|go|s))\:(\d+)…`
static void test_go_files(void **state)
{
	static const char *const others[] = {"x.h", "x.S", "x.cpp", "x.rs", "x", "x.c/y", "x.cc"};

	check_go_file("x.c", "\n\tx.c:3 +0xabc\n");
	check_go_file("x.go", "\n\tx.go:3 +0xabc\n");
	check_go_file("x.y.s", "\n\tx.y.s:3 +0xabc\n");
	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
		check_go_file(others[i], "\n\t\?\?:0 +0xabc\n");
}

// Whatever the buffer, it ends in a NUL and between characters.
static void test_state_sizes(void **state)
{
	struct thread_dump *dump = build();
	char buf[64], whole[64];

	thread_dump_state(dump, &dump->threads[2], whole, sizeof(whole));
	assert_string_equal(whole, "mutex lock 0x10 held by thread 17 \"worker\"");
	for (size_t size = 1; size < sizeof(buf); size++) {
		memset(buf, '#', sizeof(buf));
		thread_dump_state(dump, &dump->threads[2], buf, size);
		assert_in_range(strlen(buf), 0, size - 1);
		assert_memory_equal(buf, whole, strlen(buf));
	}
	thread_dump_destroy(dump);
}

static void test_empty(void **state)
{
	struct thread_dump *dump = thread_dump_create();

	thread_dump_finish(dump);
	check_text(dump, thread_dump_write_threads, "");
	check_text(dump, write_grouped, "goroutine profile: total 0\n");
	assert_int_equal(thread_dump_to_profile(dump, "goroutine", true), 0);
	assert_int_equal(dump->profile->nsamples, 0);
	thread_dump_destroy(dump);
}

// A stack that two threads have is made once, and is the same text at each, a frameless one with a reason too.
static void test_shared(void **state)
{
	struct thread_dump *dump = build();
	struct thread_dump_thread thread = {.name = "", .state = "sleep", .object = ""};

	thread.stack = thread_dump_add_stack(dump, NULL, 0, "why");
	for (thread.tid = 30; thread.tid < 33; thread.tid++)
		assert_int_equal(thread_dump_add_thread(dump, &thread), 0);
	thread_dump_finish(dump);
	char *text = text_of(dump, thread_dump_write_threads);

	assert_non_null(strstr(text, "goroutine 32 [sleep; partial: why]:\n"
				     "stack unavailable(...)\n\t\?\?:0 +0x0\n...additional frames elided...\n\n"));
	free(text);
	thread_dump_destroy(dump);
}

static void test_build_no_memory(void **state)
{
	for (int once = 0; once < 2; once++) {
		bool failed = true;
		long n = 0;

		for (; failed; n++) {
			long blocks = alloc_fail_blocks;
			alloc_fail_after(n, once);
			struct thread_dump *dump = build();
			failed = alloc_fail_stop() > 0;
			assert_true(failed == !dump);
			thread_dump_destroy(dump);
			assert_int_equal(alloc_fail_blocks, blocks);
		}
		assert_in_range(n, 10, 1000);
	}
}

static void test_write_no_memory(void **state)
{
	struct thread_dump *dump = build();

	for (size_t i = 0; i < sizeof(writers) / sizeof(*writers); i++) {
		bool failed = true;

		for (long n = 0; failed; n++) {
			struct writer_memory memory = {0};
			struct writer writer;
			long blocks = alloc_fail_blocks;
			int r;

			writer_init(&writer, writer_memory_sink, &memory);
			alloc_fail_after(n, true);
			r = writers[i](dump, &writer);
			failed = alloc_fail_stop() > 0;
			free(memory.data);
			assert_int_equal(r, failed ? -ENOMEM : 0);
			assert_int_equal(alloc_fail_blocks, blocks);
		}
	}
	thread_dump_destroy(dump);
}

static void test_full_sink(void **state)
{
	struct thread_dump *dump = build();

	for (size_t i = 0; i < sizeof(writers) / sizeof(*writers); i++) {
		for (size_t room = 0; room < 240; room += 37) {
			struct fixture_limit limit = {room};
			struct writer writer;
			long blocks = alloc_fail_blocks;

			writer_init(&writer, fixture_limited_sink, &limit);
			assert_int_equal(writers[i](dump, &writer), -ENOSPC);
			assert_int_equal(alloc_fail_blocks, blocks);
		}
	}
	thread_dump_destroy(dump);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_grouped),
		cmocka_unit_test(test_grouped_by_labels),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_profile),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_go_names),
		cmocka_unit_test(test_parentheses),
		cmocka_unit_test(test_not_utf8),
		cmocka_unit_test(test_file_names),
		cmocka_unit_test(test_go_files),
		cmocka_unit_test(test_state_sizes),
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_shared),
		cmocka_unit_test(test_build_no_memory),
		cmocka_unit_test(test_write_no_memory),
		cmocka_unit_test(test_full_sink),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
