// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_dump_file.c: snapshots read back: what thread_dump_write_json writes, and files that lie.

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "alloc_fail.h"
#include "collector/dump_file.h"
#include "formats/thread_dump.h"
#include "formats/utf8.h"
#include "formats/writer.h"
#include "profile_fixture.h"

static int parse(const char *text, struct dump_file **ret_dump, char error[256])
{
	return dump_file_parse(text, strlen(text), ret_dump, error, 256);
}

// One thread with a creator, with bytes that are not UTF-8 in a name.
static char *written(void)
{
	struct thread_dump *dump = thread_dump_create();
	struct thread_dump_thread thread = {
		.tid = 7, .name = "w\xff\n", .state = "epoll", .object = "", .cpu_ns = INT64_MAX, .creator_tid = 5};
	struct writer_memory memory = {0};
	struct writer writer;

	uint32_t mapping = fixture_mapping(dump->profile, 0x400000, "/usr/bin/app");
	const uint32_t frames[] = {fixture_location(dump->profile, mapping, 0x400100, "work"),
				   fixture_location(dump->profile, mapping, 0x400200, "main")};
	thread.stack = thread_dump_add_stack(dump, frames, 2, "");
	thread.creator_stack = thread_dump_add_stack(dump, frames + 1, 1, "cut");
	assert_int_equal(thread_dump_add_thread(dump, &thread), 0);
	thread_dump_finish(dump);
	writer_init(&writer, writer_memory_sink, &memory);
	assert_int_equal(thread_dump_write_json(dump, &writer), 0);
	writer_memory_sink(&memory, "", 1);
	thread_dump_destroy(dump);
	return memory.data;
}

static void test_what_we_write(void **state)
{
	char *text = written(), error[256];
	struct dump_file *dump = NULL;

	assert_int_equal(parse(text, &dump, error), 0);
	assert_int_equal(dump->nthreads, 1);
	assert_int_equal(dump->nstacks, 3);
	assert_int_equal(dump->stacks[0].nframes, 0);
	assert_int_equal(dump->threads[0].tid, 7);
	assert_string_equal(dump->threads[0].name, "w" UTF8_REPLACEMENT "\n");
	assert_string_equal(dump->threads[0].state, "epoll");
	const struct dump_file_stack *stack = &dump->stacks[dump->threads[0].stack];
	assert_int_equal(stack->nframes, 2);
	assert_false(stack->partial);
	assert_string_equal(stack->frames[0].function, "work");
	assert_string_equal(stack->frames[1].function, "main");
	assert_string_equal(stack->frames[0].module, "/usr/bin/app");
	stack = &dump->stacks[dump->threads[0].creator_stack];
	assert_int_equal(stack->nframes, 1);
	assert_true(stack->partial);
	dump_file_destroy(dump);
	free(text);
}

#define STACK "{\"id\":1,\"frames\":[{\"function\":\"f\"}]}"
#define THREADS(fields) "{\"version\":1,\"threads\":[{\"tid\":1,\"state\":\"s\"," fields "}],\"stacks\":[" STACK "]}"
#define STACKS(stack) "{\"version\":1,\"threads\":[],\"stacks\":[" stack "]}"

static const struct {
	const char *text, *error;
} lies[] = {
	{"", "not JSON: line 1:"},
	{"{\"version\":1,", "not JSON: line 1:"},
	{"{\"version\":1}x", "not JSON: line 1: end of file expected"},
	{"{\"version\":1,\"version\":1}", "not JSON: line 1: duplicate object key"},
	{"{\"version\":\"\xff\"}", "not JSON: line 1: unable to decode byte 0xff"},
	{"[]", "not a snapshot"},
	{"{}", "it has no \"version\""},
	{"{\"version\":2}", "\"version\" is 2, not from 1 to 1"},
	{"{\"version\":1.0}", "\"version\" is not an integer"},
	{"{\"version\":1}", "it has no \"stacks\""},
	{"{\"version\":1,\"stacks\":{}}", "\"stacks\" is not an array"},
	{"{\"version\":1,\"stacks\":[],\"threads\":null}", "\"threads\" is not an array"},
	{"{\"version\":1,\"stacks\":[],\"threads\":[1]}", "thread 1: it is not an object"},
	{"{\"version\":1,\"stacks\":[],\"threads\":[{}]}", "thread 1: it has no \"tid\""},
	{"{\"version\":1,\"stacks\":[],\"threads\":[{\"tid\":0}]}", "thread 1: \"tid\" is 0"},
	{"{\"version\":1,\"stacks\":[],\"threads\":[{\"tid\":1}]}", "thread 1: it has no \"state\""},
	{"{\"version\":1,\"stacks\":[],\"threads\":[{\"tid\":1,\"state\":2}]}", "thread 1: \"state\" is not a string"},
	{"{\"version\":1,\"stacks\":[],\"threads\":[{\"tid\":1,\"state\":\"\\u0000\"}]}", "not JSON: line 1:"},
	{THREADS("\"stack\":2"), "thread 1: there is no stack 2"},
	{THREADS("\"stack\":0"), "thread 1: \"stack\" is 0, not from 1 to 4294967295"},
	{THREADS("\"stack\":-1"), "thread 1: \"stack\" is -1"},
	{THREADS("\"stack\":4294967297"), "thread 1: \"stack\" is 4294967297"},
	{THREADS("\"stack\":9223372036854775808"), "not JSON: line 1: too big integer"},
	{THREADS("\"stack\":1e999"), "not JSON: line 1: real number overflow"},
	{THREADS("\"stack\":null"), "thread 1: \"stack\" is not an integer"},
	{THREADS("\"name\":[]"), "thread 1: \"name\" is not a string"},
	{THREADS("\"created_by\":1"), "thread 1: \"created_by\" is not an object"},
	{THREADS("\"created_by\":{}"), "thread 1: it has no \"stack\""},
	{THREADS("\"created_by\":{\"stack\":9}"), "thread 1: there is no stack 9"},
	{THREADS("\"created_by\":{\"tid\":-1,\"stack\":1}"), "thread 1: \"tid\" is -1"},
	{STACKS("7"), "stack 1: it is not an object"},
	{STACKS("{\"id\":1}"), "stack 1: it has no \"frames\""},
	{STACKS("{\"frames\":[]}"), "stack 1: it has no \"id\""},
	{STACKS(STACK "," STACK), "stack 2: \"id\" is 1"},
	{STACKS("{\"id\":1,\"frames\":[1]}"), "stack 1: a frame is not an object"},
	{STACKS("{\"id\":1,\"frames\":[{}]}"), "stack 1: it has no \"function\""},
	{STACKS("{\"id\":1,\"frames\":[{\"function\":\"f\",\"file\":1}]}"), "stack 1: \"file\" is not a string"},
	{STACKS("{\"id\":1,\"frames\":[{\"function\":\"f\",\"module\":{}}]}"), "stack 1: \"module\" is not a string"},
	{STACKS("{\"id\":1,\"partial\":true,\"frames\":[]}"), "stack 1: \"partial\" is not a string"},
	{"{\"a\x1b\":\"\x1b\"}", "not JSON: line 1:"},
};

static void test_lies(void **state)
{
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		struct dump_file *dump = NULL;
		char error[256];

		assert_int_equal(parse(lies[i].text, &dump, error), -EINVAL);
		assert_null(dump);
		if (strncmp(error, lies[i].error, strlen(lies[i].error)) != 0)
			fail_msg("%s: '%s', not '%s'", lies[i].text, error, lies[i].error);
		for (const char *at = error; *at; at++)
			assert_true((unsigned char)*at >= ' ');
	}
}

// Deep nesting must not eat the stack.
static void test_deep(void **state)
{
	size_t size = 4000000;
	char *text = malloc(size), error[256];
	struct dump_file *dump = NULL;

	memset(text, '[', size);
	assert_int_equal(dump_file_parse(text, size, &dump, error, sizeof(error)), -EINVAL);
	free(text);
}

// Every prefix, and every byte changed: refused or read, never more.
static void test_damaged(void **state)
{
	char *text = written(), error[256];
	size_t size = strlen(text);

	for (size_t i = 0; i < size; i++) {
		static const char bytes[] = "\"{[,9-\\\xff";
		struct dump_file *dump = NULL;
		char saved = text[i];

		// The line's end may go.
		assert_int_equal(dump_file_parse(text, i, &dump, error, sizeof(error)), i == size - 1 ? 0 : -EINVAL);
		dump_file_destroy(dump);
		for (size_t k = 0; k < sizeof(bytes); k++) {
			dump = NULL;
			text[i] = bytes[k];
			if (dump_file_parse(text, size, &dump, error, sizeof(error)) == 0)
				dump_file_destroy(dump);
			else
				assert_int_not_equal(error[0], '\0');
		}
		text[i] = saved;
	}
	free(text);
}

static void test_no_memory(void **state)
{
	char *text = written(), error[256];
	struct dump_file *dump = NULL;
	int r = -ENOMEM;

	for (long n = 0; r == -ENOMEM; n++) {
		long blocks = alloc_fail_blocks;

		alloc_fail_after(n, true);
		r = parse(text, &dump, error);
		alloc_fail_after(-1, false);
		if (r == -ENOMEM) {
			assert_string_equal(error, "out of memory");
			assert_int_equal(alloc_fail_blocks, blocks);
		}
	}
	assert_int_equal(r, 0);
	dump_file_destroy(dump);
	free(text);
}

static void test_files(void **state)
{
	char path[] = "/tmp/profd-test-dump-file-XXXXXX", error[256];
	int fd = mkstemp(path);
	struct dump_file *dump = NULL;
	const char *text = STACKS(STACK);

	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	assert_int_equal(dump_file_read(path, &dump, error, sizeof(error)), 0);
	assert_int_equal(dump->nstacks, 2);
	dump_file_destroy(dump);
	unlink(path);
	assert_int_equal(dump_file_read(path, &dump, error, sizeof(error)), -ENOENT);
	assert_string_equal(error, "No such file or directory");
	assert_int_equal(dump_file_read("/tmp", &dump, error, sizeof(error)), -EISDIR);
	assert_int_equal(dump_file_read("/dev/null", &dump, error, sizeof(error)), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_we_write), cmocka_unit_test(test_lies),      cmocka_unit_test(test_deep),
		cmocka_unit_test(test_damaged),       cmocka_unit_test(test_no_memory), cmocka_unit_test(test_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
