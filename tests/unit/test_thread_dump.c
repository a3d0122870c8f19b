// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_thread_dump.c: the model of a thread dump (thread_dump.c) and its text and JSON (threads_text.c, threads_json.c).

#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "formats/thread_dump.h"
#include "formats/writer.h"

#define HOSTILE "a]:\n\ngoroutine 9 [b, 3 minutes\"\\\x01\xff"

static uint32_t add_location(struct thread_dump *dump, const char *name, const char *file, uint64_t address)
{
	const struct profile_function function = {.name = name, .system_name = name, .file = file};
	const struct profile_mapping mapping = {
		.start = 0x1000, .limit = 0x9000, .file_offset = 0x200, .file = "/bin/x", .build_id = ""};
	uint32_t mapping_id = dump->profile->nmappings ? 1 : profile_add_mapping(dump->profile, &mapping);
	const struct profile_line line = {.function_id = profile_add_function(dump->profile, &function), .line = 7};
	const struct profile_location location = {
		.mapping_id = mapping_id, .address = address, .nlines = name ? 1 : 0, .lines = &line};

	return profile_add_location(dump->profile, &location);
}

static struct thread_dump *make_dump(void)
{
	struct thread_dump *dump = thread_dump_create();
	uint32_t ids[2], stack, partial;

	assert_non_null(dump);
	ids[0] = add_location(dump, "leaf", "/src/leaf.c", 0x1500);
	ids[1] = add_location(dump, NULL, "", 0x1600);
	stack = thread_dump_add_stack(dump, ids, 2, "");
	assert_int_equal(thread_dump_add_stack(dump, ids, 2, ""), stack);
	partial = thread_dump_add_stack(dump, ids, 2, "broken stack");
	assert_int_not_equal(partial, stack);
	const struct thread_dump_thread threads[] = {
		{.tid = 30,
		 .name = "writer",
		 .state = "sleep",
		 .object = "",
		 .stack = stack,
		 .cpu_ns = 5,
		 .waiting_ns = 59000000000},
		{.tid = 10,
		 .name = "b",
		 .state = "mutex lock",
		 .object = "0x1",
		 .owner_tid = 30,
		 .stack = stack,
		 .waiting_ns = 125000000000,
		 .cpu_ns = -1,
		 .creator_tid = 30,
		 .creator_stack = stack},
		{.tid = 20, .name = "", .state = "sleep", .object = "", .stack = partial, .cpu_ns = -1},
		{.tid = 40, .name = "r", .state = "running", .object = "", .cpu_ns = -1},
		{.tid = 50, .name = "x", .state = "sleep", .object = "", .stack = stack, .cpu_ns = -1},
	};
	for (size_t i = 0; i < sizeof(threads) / sizeof(threads[0]); i++)
		assert_int_equal(thread_dump_add_thread(dump, &threads[i]), 0);
	thread_dump_finish(dump);
	return dump;
}

static char *written(const struct thread_dump *dump, char kind)
{
	struct writer_memory memory = {0};
	struct writer *writer = malloc(sizeof(*writer));
	int r;

	writer_init(writer, writer_memory_sink, &memory);
	r = kind == '1'   ? thread_dump_write_grouped(dump, "goroutine", writer)
	    : kind == '2' ? thread_dump_write_threads(dump, writer)
			  : thread_dump_write_json(dump, writer);
	assert_int_equal(r, 0);
	free(writer);
	memory.data = realloc(memory.data, memory.size + 1);
	memory.data[memory.size] = '\0';
	return memory.data;
}

static void assert_written(const struct thread_dump *dump, char kind, const char *expected)
{
	char *text = written(dump, kind);

	assert_string_equal(text, expected);
	free(text);
}

static void test_threads(void **state)
{
	struct thread_dump *dump = make_dump();

#define NO_STACK "stack unavailable(...)\n\t\?\?:0 +0x0\n...additional frames elided...\n"
#define STACK "leaf(...)\n\t/src/leaf.c:7 +0x700\nx+0x800(...)\n\t??:0 +0x800\n"
	assert_written(dump, '2',
		       "goroutine 10 [mutex lock 0x1 held by thread 30 \"writer\"; \"b\", 2 minutes]:\n" STACK
		       "created by leaf in goroutine 30\n\t/src/leaf.c:7 +0x700\n\n"
		       "goroutine 20 [sleep; partial: broken stack]:\n" STACK "...additional frames elided...\n\n"
		       "goroutine 30 [sleep; \"writer\"]:\n" STACK "\n"
		       "goroutine 40 [running; \"r\"]:\n" NO_STACK "\n"
		       "goroutine 50 [sleep; \"x\"]:\n" STACK "\n");
	thread_dump_destroy(dump);
}

static void test_groups(void **state)
{
	struct thread_dump *dump = make_dump();

#define LINES "#\t0x1500\tleaf+0x700\t/src/leaf.c:7\n#\t0x1600\tx+0x800\t\?\?:0\n\n"
	assert_written(dump, '1',
		       "goroutine profile: total 5\n"
		       "2 @ 0x1500 0x1601\n# labels: {\"state\":\"sleep\"}\n" LINES
		       "1 @ 0x1500 0x1601\n# labels: {\"state\":\"mutex lock\"}\n" LINES
		       "1 @ 0x1500 0x1601\n# labels: {\"state\":\"sleep\"}\n" LINES
		       "1 @ 0x1\n# labels: {\"state\":\"running\"}\n\n"
		       "# nameless: /bin/x: 80.00% of threads (self 0.00%)\n");
	dump->threads[0].hidden = dump->threads[4].hidden = true;
	assert_written(dump, '1',
		       "goroutine profile: total 3\n"
		       "1 @ 0x1500 0x1601\n# labels: {\"state\":\"sleep\"}\n" LINES
		       "1 @ 0x1500 0x1601\n# labels: {\"state\":\"sleep\"}\n" LINES
		       "1 @ 0x1\n# labels: {\"state\":\"running\"}\n\n"
		       "# nameless: /bin/x: 66.67% of threads (self 0.00%)\n");
	thread_dump_destroy(dump);
}

static void test_json(void **state)
{
	struct thread_dump *dump = make_dump();

	dump->pid = 7;
	dump->nthreads = 1;
	dump->nstacks = 1;
	assert_written(
		dump, 'j',
		"{\"version\":1,\"pid\":7,\"command\":\"\",\"time_ns\":0,\"duration_ns\":0,\n\"verdicts\":[],"
		"\n\"threads\":[\n "
		"{\"tid\":10,\"name\":\"b\",\"state\":\"mutex lock\",\"object\":\"0x1\",\"owner_tid\":30,"
		"\"waiting_ns\":125000000000,\"stack\":1,\"created_by\":{\"tid\":30,\"stack\":1}}],\n\"stacks\":[\n "
		"{\"id\":1,\"frames\":[\n  {\"function\":\"leaf\",\"file\":\"/src/leaf.c\",\"line\":7,"
		"\"address\":\"0x1500\",\"module\":\"/bin/x\"},\n  {\"function\":\"x+0x800\",\"address\":\"0x1600\","
		"\"module\":\"/bin/x\"}]}]}\n");
	thread_dump_destroy(dump);
}

// Whatever names say, a header is a line, and a block ends where it ends.
static void test_hostile_names(void **state)
{
	struct thread_dump *dump = thread_dump_create();
	uint32_t id = add_location(dump, HOSTILE, HOSTILE, 0x1500);
	const struct thread_dump_thread thread = {.tid = 1,
						  .name = HOSTILE,
						  .state = HOSTILE,
						  .object = HOSTILE,
						  .stack = thread_dump_add_stack(dump, &id, 1, HOSTILE)};
	int blocks = 0, lines = 0;
	char *text;

	assert_int_equal(thread_dump_add_thread(dump, &thread), 0);
	text = written(dump, '2');
	for (const char *at = text; *at; at = strchr(at, '\n') + 1) {
		blocks += strncmp(at, "goroutine ", 10) == 0;
		lines++;
	}
	assert_int_equal(blocks, 1);
	assert_int_equal(lines, 5); // header, function, file, elided, empty
	assert_ptr_equal(strchr(text, ']'), strchr(text, '\n') - 2);
	free(text);
	text = written(dump, 'j');
	for (const unsigned char *at = (unsigned char *)text; *at; at++)
		assert_true(*at >= ' ' || *at == '\n');
	free(text);
	thread_dump_destroy(dump);
}

static void test_what_is_refused(void **state)
{
	struct thread_dump *dump = make_dump();
	const uint32_t wrong[] = {99};
	struct thread_dump_thread thread = {.tid = 1, .name = "", .state = "sleep", .object = "", .stack = 99};

	assert_int_equal(thread_dump_add_stack(dump, wrong, 1, ""), 0);
	assert_int_equal(thread_dump_add_thread(dump, &thread), -EINVAL);
	thread.stack = 0;
	thread.state = "";
	assert_int_equal(thread_dump_add_thread(dump, &thread), -EINVAL);
	thread_dump_destroy(dump);
	thread_dump_destroy(NULL);
}

static void test_samples(void **state)
{
	struct thread_dump *dump = make_dump();
	int64_t total = 0;

	assert_int_equal(thread_dump_to_profile(dump, "goroutine", true), 0);
	for (uint32_t i = 0; i < dump->profile->nsamples; i++)
		total += dump->profile->samples[i].values[0];
	assert_int_equal(total, 5);
	assert_string_equal(dump->profile->sample_types[0].type, "goroutine");
	thread_dump_destroy(dump);
}

#define MANY_THREADS 100000u
#define MANY_STACKS 20000u

// A sum says what any of its parts says, once.
static void test_comments_of_a_sum(void **state)
{
	struct thread_dump *sum = make_dump(), *other = make_dump();
	const uint32_t before = sum->profile->ncomments;

	profile_add_comment(sum->profile, "names of /a are missing: why; again in 9 s");
	profile_add_comment(other->profile, "names of /a are missing: why; again in 8 s");
	profile_add_comment(other->profile, "names of /b are missing: why; again in 8 s");
	profile_add_comment(other->profile, "names of /a");
	for (int i = 0; i < 2; i++)
		assert_int_equal(thread_dump_accumulate(sum, other), 0);
	assert_int_equal(sum->profile->ncomments, before + 3);
	assert_string_equal(sum->profile->comments[before], "names of /a are missing: why; again in 9 s");
	assert_string_equal(sum->profile->comments[before + 1], "names of /b are missing: why; again in 8 s");
	assert_string_equal(sum->profile->comments[before + 2], "names of /a");
	thread_dump_destroy(sum);
	thread_dump_destroy(other);
}

static struct thread_dump *make_many(void)
{
	struct thread_dump *dump = thread_dump_create();
	static uint32_t stacks[MANY_STACKS];

	for (uint32_t i = 0; i < MANY_STACKS; i++) {
		uint32_t ids[12];

		for (uint32_t k = 0; k < 12; k++)
			ids[k] = add_location(dump, "function", "/src/file.c", 0x1000 + i % 1000 * 16 + k);
		ids[11] = ids[i / 1000 % 12]; // no two are equal
		ids[10] = ids[i / 1000 / 12];
		stacks[i] = thread_dump_add_stack(dump, ids, 12, "");
	}
	for (uint32_t i = 0; i < MANY_THREADS; i++) {
		const struct thread_dump_thread thread = {.tid = i + 1,
							  .name = "worker",
							  .state = "cond wait",
							  .object = "0x7f0000000000",
							  .cpu_ns = 1,
							  .stack = stacks[i % MANY_STACKS]};

		assert_int_equal(thread_dump_add_thread(dump, &thread), 0);
	}
	thread_dump_finish(dump);
	return dump;
}

static int counting_sink(void *context, const void *data, size_t size)
{
	*(uint64_t *)context += size;
	return 0;
}

// However much text a dump makes: of it, no more is held than a writer's buffer, and some texts of stacks that many threads have.
static void check_stream(const struct thread_dump *dump, struct thread_dump_stream *stream, uint64_t least)
{
	uint64_t bytes = 0, before = 0, largest = 0;
	struct writer *writer = malloc(sizeof(*writer));
	size_t used = mallinfo2().uordblks, most = used;
	uint32_t pieces = 0;

	assert_non_null(stream);
	writer_init(writer, counting_sink, &bytes);
	for (int r = 1; r > 0; pieces++) {
		r = thread_dump_stream_next(stream, writer);
		assert_true(r >= 0);
		if (bytes + writer->used - before > largest)
			largest = bytes + writer->used - before;
		before = bytes + writer->used;
		if (mallinfo2().uordblks > most)
			most = mallinfo2().uordblks;
	}
	thread_dump_stream_destroy(stream);
	free(writer);
	assert_true(pieces >= dump->nthreads);
	assert_true(bytes >= least);
	assert_in_range(largest, 1, 100000);
	assert_in_range(most - used, 0, 8 << 20);
}

static void test_many_threads(void **state)
{
	struct thread_dump *dump = make_many();

	check_stream(dump, thread_dump_stream_threads(dump, false), 30 << 20);
	check_stream(dump, thread_dump_stream_json(dump), 8 << 20);
	thread_dump_destroy(dump);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_groups),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_hostile_names),
		cmocka_unit_test(test_what_is_refused),
		cmocka_unit_test(test_samples),
		cmocka_unit_test(test_comments_of_a_sum),
		cmocka_unit_test(test_many_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
