// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_trace_formats.c: the writers of traces: what a small one looks like in each format, byte for byte; names with odd bytes; a trace cut
// short; a sink that fails, and memory that runs out.

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "formats/trace.h"
#include "formats/writer.h"
#include "tests/unit/alloc_fail.h"

static const struct trace_format *const all[] = {&trace_format_perfetto, &trace_format_chrome,
						 &trace_format_speedscope};

struct made {
	struct writer_memory memory;
	int result;
};

static void put_small(struct trace_output *output)
{
	const struct trace_frame frames[] = {{.name = "leaf", .file = "a.c", .line = 7}, {.name = "main", .file = ""}};

	trace_process(output, 10, "prog");
	trace_thread(output, &(struct trace_thread){.track = 1, .pid = 10, .tid = 10, .name = "main"});
	trace_thread(output, &(struct trace_thread){.track = 2, .pid = 10, .tid = 11, .name = "w\"\xff"});
	trace_stack(output, 1, frames, 2);
	trace_event(output,
		    &(struct trace_event){
			    .phase = TRACE_BEGIN, .track = 1, .time_ns = 1000, .name = "alive", .category = "thread"});
	trace_event(output,
		    &(struct trace_event){
			    .phase = TRACE_BEGIN, .track = 2, .time_ns = 1500, .name = "alive", .category = "thread"});
	trace_event(output, &(struct trace_event){.phase = TRACE_BEGIN,
						  .track = 2,
						  .time_ns = 2000,
						  .name = "sem wait",
						  .category = "wait",
						  .object = 0xabc});
	trace_event(output, &(struct trace_event){.phase = TRACE_INSTANT,
						  .track = 1,
						  .time_ns = 3000,
						  .name = "wake",
						  .category = "wake",
						  .object = 0xabc,
						  .flow_out = 5});
	trace_event(
		output,
		&(struct trace_event){
			.phase = TRACE_END, .track = 2, .time_ns = 3001, .other_tid = 10, .flow_in = 5, .stack = 1});
	trace_event(output, &(struct trace_event){.phase = TRACE_INSTANT,
						  .track = 2,
						  .time_ns = 6001,
						  .name = "on CPU",
						  .category = "cpu",
						  .stack = 1,
						  .weight_ns = 1000});
	trace_note(output, "%d events", 6);
	trace_note(output, "nothing lost");
}

// Two frames whose names are not known at first; one of them gets one.
static void put_late(struct trace_output *output)
{
	const struct trace_frame frames[] = {{.name = "0x10", .file = "", .late = 1},
					     {.name = "0x20", .file = "", .late = 2},
					     {.name = "main", .file = ""}};

	trace_process(output, 10, "prog");
	trace_thread(output, &(struct trace_thread){.track = 1, .pid = 10, .tid = 10, .name = "main"});
	trace_stack(output, 1, frames, 3);
	trace_stack(output, 2, frames, 1);
	for (uint32_t stack = 1; stack <= 2; stack++)
		trace_event(output, &(struct trace_event){.phase = TRACE_INSTANT,
							  .track = 1,
							  .time_ns = 2000 * stack,
							  .name = "on CPU",
							  .category = "cpu",
							  .stack = stack,
							  .weight_ns = 1000});
	trace_late_name(output, &(struct trace_frame){.name = "made", .file = "b.js", .line = 9, .late = 1});
}

// The tracks' own slices are left open.
static struct made make_of(void (*put)(struct trace_output *output), const struct trace_format *format, size_t max)
{
	const struct trace_meta meta = {.title = "t\"1", .start_ns = 1000, .realtime_ns = 5000};
	struct made made = {.memory.max = max};
	struct trace_output *output;
	struct writer writer;

	writer_init(&writer, writer_memory_sink, &made.memory);
	output = trace_create_output(format, &writer, &meta);
	made.result = output ? 0 : -ENOMEM;
	if (output) {
		put(output);
		made.result = trace_end(output, 7001);
	}
	if (writer_flush(&writer) < 0 && made.result == 0)
		made.result = writer.error;
	trace_destroy_output(output);
	return made;
}

static struct made make(const struct trace_format *format, size_t max)
{
	return make_of(put_small, format, max);
}

static void put_slice(struct trace_output *output, enum trace_phase phase, uint64_t time_ns, const char *name,
		      uint32_t stack)
{
	trace_event(output, &(struct trace_event){.phase = phase,
						  .track = 1,
						  .time_ns = time_ns,
						  .name = name,
						  .category = "wait",
						  .stack = stack});
}

static void test_chrome(void **state)
{
	static const char wanted[] =
		"{\"displayTimeUnit\":\"ns\",\n\"otherData\":{\"exporter\":\"profd@" PROFD_VERSION
		"\",\"title\":\"t\\\"1\",\"clock\":"
		"\"CLOCK_MONOTONIC\",\"start_ns\":\"1000\",\"realtime_ns\":\"5000\"},\n\"traceEvents\":[\n"
		"{\"ph\":\"M\",\"pid\":10,\"tid\":10,\"name\":\"process_name\",\"args\":{\"name\":\"prog\"}},\n"
		"{\"ph\":\"M\",\"pid\":10,\"tid\":10,\"name\":\"thread_name\",\"args\":{\"name\":\"main\"}},\n"
		"{\"ph\":\"M\",\"pid\":10,\"tid\":11,\"name\":\"thread_name\",\"args\":{\"name\":\"w\\\"\xef\xbf\xbd\"}"
		"},\n"
		"{\"ph\":\"B\",\"pid\":10,\"tid\":10,\"ts\":1.000,\"name\":\"alive\",\"cat\":\"thread\"},\n"
		"{\"ph\":\"B\",\"pid\":10,\"tid\":11,\"ts\":1.500,\"name\":\"alive\",\"cat\":\"thread\"},\n"
		"{\"ph\":\"B\",\"pid\":10,\"tid\":11,\"ts\":2.000,\"name\":\"sem "
		"wait\",\"cat\":\"wait\",\"args\":{\"object\":\"0xabc\"}},\n"
		"{\"ph\":\"i\",\"pid\":10,\"tid\":10,\"ts\":3.000,\"name\":\"wake\",\"cat\":\"wake\",\"s\":\"t\","
		"\"args\":{\"object\":\"0xabc\"}},\n"
		"{\"ph\":\"s\",\"pid\":10,\"tid\":10,\"ts\":3.000,\"name\":\"flow\",\"cat\":\"flow\",\"id\":\"0x5\"},\n"
		"{\"ph\":\"f\",\"pid\":10,\"tid\":11,\"ts\":3.001,\"name\":\"flow\",\"cat\":\"flow\",\"id\":\"0x5\","
		"\"bp\":\"e\"},\n"
		"{\"ph\":\"E\",\"pid\":10,\"tid\":11,\"ts\":3.001,\"sf\":\"2\",\"args\":{\"thread\":10}},\n"
		"{\"ph\":\"i\",\"pid\":10,\"tid\":11,\"ts\":6.001,\"name\":\"on "
		"CPU\",\"cat\":\"cpu\",\"s\":\"t\",\"sf\":\"2\",\"args\":{\"cpu_ns\":1000}},\n"
		"{\"ph\":\"E\",\"pid\":10,\"tid\":10,\"ts\":7.001},\n"
		"{\"ph\":\"E\",\"pid\":10,\"tid\":11,\"ts\":7.001}],\n"
		"\"stackFrames\":{\n\"1\":{\"name\":\"main\"},\n\"2\":{\"parent\":\"1\",\"name\":\"leaf\"}},\n"
		"\"notes\":\"6 events\\nnothing lost\"}\n";
	struct made made = make(&trace_format_chrome, 0);

	(void)state;
	assert_int_equal(made.result, 0);
	assert_int_equal(made.memory.size, sizeof(wanted) - 1);
	assert_memory_equal(made.memory.data, wanted, sizeof(wanted) - 1);
	free(made.memory.data);
}

static void test_speedscope(void **state)
{
	static const char wanted[] =
		"{\"$schema\":\"https://www.speedscope.app/"
		"file-format-schema.json\",\n\"exporter\":\"profd@" PROFD_VERSION "\",\n"
		"\"name\":\"t\\\"1\",\n\"notes\":\"6 events\\nnothing "
		"lost\",\n\"activeProfileIndex\":0,\n\"shared\":{\"frames\":[\n"
		"{\"name\":\"leaf\",\"file\":\"a.c\",\"line\":7},\n{\"name\":\"main\"},\n{\"name\":\"alive\"},\n{"
		"\"name\":\"sem wait 0xabc\"},\n{\"name\":\"↳ woken by\"}]},\n"
		"\"profiles\":[\n{\"type\":\"evented\",\"name\":\"main "
		"(10)\",\"unit\":\"nanoseconds\",\"startValue\":0,\"endValue\":6001,\"events\":[\n"
		"{\"type\":\"O\",\"frame\":2,\"at\":0},\n{\"type\":\"C\",\"frame\":2,\"at\":6001}]},\n"
		"{\"type\":\"evented\",\"name\":\"w\\\"\xef\xbf\xbd "
		"(11)\",\"unit\":\"nanoseconds\",\"startValue\":0,\"endValue\":6001,\"events\":[\n"
		"{\"type\":\"O\",\"frame\":2,\"at\":500},\n{\"type\":\"O\",\"frame\":3,\"at\":1000},\n"
		"{\"type\":\"O\",\"frame\":4,\"at\":1000},\n{\"type\":\"O\",\"frame\":1,\"at\":1000},\n"
		"{\"type\":\"O\",\"frame\":0,\"at\":1000},\n{\"type\":\"C\",\"frame\":0,\"at\":2001},\n"
		"{\"type\":\"C\",\"frame\":1,\"at\":2001},\n{\"type\":\"C\",\"frame\":4,\"at\":2001},\n"
		"{\"type\":\"C\",\"frame\":3,\"at\":2001},\n"
		"{\"type\":\"O\",\"frame\":1,\"at\":4001},\n{\"type\":\"O\",\"frame\":0,\"at\":4001},\n{\"type\":\"C\","
		"\"frame\":0,\"at\":5001},\n"
		"{\"type\":\"C\",\"frame\":1,\"at\":5001},\n{\"type\":\"C\",\"frame\":2,\"at\":6001}]}]}\n";
	struct made made = make(&trace_format_speedscope, 0);

	(void)state;
	assert_int_equal(made.result, 0);
	assert_int_equal(made.memory.size, sizeof(wanted) - 1);
	assert_memory_equal(made.memory.data, wanted, sizeof(wanted) - 1);
	free(made.memory.data);
}

// Who ended a wait is drawn in it, but not around what else is: a sample, and another wait.
static void test_speedscope_ender(void **state)
{
	static const char wanted[] = "O2@0 O3@10 O5@10 O1@10 O0@10 "
				     "C0@25 C1@25 C5@25 O1@25 O0@25 C0@30 C1@30 O5@30 O1@30 O0@30 "
				     "C0@40 C1@40 C5@40 O4@40 C4@50 O5@50 O1@50 O0@50 C0@60 C1@60 C5@60 C3@60 C2@70 ";
	const struct trace_frame frames[] = {{.name = "leaf", .file = ""}, {.name = "main", .file = ""}};
	const struct trace_meta meta = {.title = "t"};
	struct writer_memory memory = {0};
	struct trace_output *output;
	struct writer writer;
	char found[512] = "";

	(void)state;
	writer_init(&writer, writer_memory_sink, &memory);
	output = trace_create_output(&trace_format_speedscope, &writer, &meta);
	assert_non_null(output);
	trace_thread(output, &(struct trace_thread){.track = 1, .pid = 1, .tid = 1, .name = "main"});
	trace_stack(output, 1, frames, 2);
	put_slice(output, TRACE_BEGIN, 0, "alive", 0);
	put_slice(output, TRACE_BEGIN, 10, "outer", 0);
	trace_event(output, &(struct trace_event){.phase = TRACE_INSTANT,
						  .track = 1,
						  .time_ns = 30,
						  .name = "on CPU",
						  .category = "cpu",
						  .stack = 1,
						  .weight_ns = 5});
	put_slice(output, TRACE_BEGIN, 40, "inner", 0);
	put_slice(output, TRACE_END, 50, "", 0);
	put_slice(output, TRACE_END, 60, "", 1);
	assert_int_equal(trace_end(output, 70), 0);
	writer_put(&writer, "", 1); // its NUL
	assert_int_equal(writer_flush(&writer), 0);
	for (const char *at = memory.data; (at = strstr(at, "{\"type\":\"")) != NULL; at++) {
		unsigned frame, time;
		char type;

		// NOLINTNEXTLINE(cert-err34-c): our own few digits
		if (sscanf(at, "{\"type\":\"%c\",\"frame\":%u,\"at\":%u}", &type, &frame, &time) == 3)
			snprintf(found + strlen(found), sizeof(found) - strlen(found), "%c%u@%u ", type, frame, time);
	}
	assert_string_equal(found, wanted);
	trace_destroy_output(output);
	free(memory.data);
}

// The first packet and the one of the wake, by the schema's numbers; the whole is read back in tests/e2e/test_trace.py.
static void test_perfetto(void **state)
{
	static const uint8_t first[] = {0x0a, 0x28, 0x40, 0xe8, 0x07, 0xd0, 0x03, 0x03, 0x32, 0x10, 0x0a, 0x05, 0x08,
					0x03, 0x10, 0xe8, 0x07, 0x0a, 0x05, 0x08, 0x01, 0x10, 0x88, 0x27, 0x10, 0x03,
					0xda, 0x03, 0x03, 0xd0, 0x03, 0x03, 0xb8, 0x05, 0x01, 0x50, 0x01, 0x68, 0x01};
	struct made made = make(&trace_format_perfetto, 0);

	(void)state;
	assert_int_equal(made.result, 0);
	assert_true(made.memory.size > sizeof(first));
	assert_memory_equal(made.memory.data + 2, first + 2, sizeof(first) - 2);
	assert_int_equal(made.memory.data[1], sizeof(first) - 2);
	assert_non_null(memmem(made.memory.data, made.memory.size, "w\"\xef\xbf\xbd", 5));
	assert_non_null(memmem(made.memory.data, made.memory.size, "6 events\nnothing lost", 21));
	free(made.memory.data);
}

static size_t count(const struct made *made, const char *text)
{
	const char *at = made->memory.data, *end = at + made->memory.size;
	size_t n = 0;

	while ((at = memmem(at, (size_t)(end - at), text, strlen(text))) != NULL) {
		at += strlen(text);
		n++;
	}
	return n;
}

static void test_late_names(void **state)
{
	// The packet's symbols: the mapping's path, the frame's number, its name, file and line.
	static const char symbols[] = "\x0a\x0f/generated code\x1a\x12\x08\x01\x12\x0e\x0a\x04made\x12\x04"
				      "b.js\x18\x09";
	struct made made = make_of(put_late, &trace_format_chrome, 0);

	(void)state;
	assert_int_equal(made.result, 0);
	assert_int_equal(count(&made, "\"name\":\"made\"}"), 2); // under a caller, and outermost
	assert_int_equal(count(&made, "0x10"), 0);
	assert_int_equal(count(&made, "\"name\":\"0x20\"}"), 1);
	free(made.memory.data);
	made = make_of(put_late, &trace_format_speedscope, 0);
	assert_int_equal(made.result, 0);
	assert_int_equal(count(&made, "{\"name\":\"made\",\"file\":\"b.js\",\"line\":9}]"), 1); // the fourth
	assert_int_equal(count(&made, "{\"type\":\"O\",\"frame\":3,\"at\":0}"), 1);
	assert_int_equal(count(&made, "{\"type\":\"C\",\"frame\":3,\"at\":3000}"), 1);
	assert_int_equal(count(&made, "\"frame\":0"), 0);
	free(made.memory.data);
	made = make_of(put_late, &trace_format_perfetto, 0);
	assert_int_equal(made.result, 0);
	assert_int_equal(count(&made, symbols), 1);
	free(made.memory.data);
}

static void test_empty(void **state)
{
	const struct trace_meta meta = {.title = "t"};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct writer_memory memory = {0};
		struct trace_output *output;
		struct writer writer;

		writer_init(&writer, writer_memory_sink, &memory);
		output = trace_create_output(all[i], &writer, &meta);
		assert_non_null(output);
		assert_int_equal(trace_end(output, 5), 0);
		assert_int_equal(writer_flush(&writer), 0);
		assert_true(memory.size > 0);
		trace_destroy_output(output);
		free(memory.data);
	}
}

static void test_full_sinks(void **state)
{
	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct made made = make(all[i], 100);

		assert_int_equal(made.result, -ENOMEM);
		free(made.memory.data);
	}
}

// Whichever allocation fails: an error, and no block is left.
static void test_out_of_memory(void **state)
{
	(void)state;
	for (size_t i = 0; i < 6; i++) {
		struct made made = {.result = -1};

		for (long n = 0; made.result != 0; n++) {
			long blocks = alloc_fail_blocks;
			unsigned long failures;

			assert_true(n < 1000);
			alloc_fail_after(n, true);
			made = make_of(i < 3 ? put_small : put_late, all[i % 3], 0);
			failures = alloc_fail_stop();
			free(made.memory.data);
			assert_int_equal(alloc_fail_blocks, blocks);
			if (failures > 0)
				assert_int_equal(made.result, -ENOMEM);
			else
				assert_int_equal(made.result, 0);
		}
	}
}

static void test_names(void **state)
{
	(void)state;
	assert_ptr_equal(trace_format_by_name("chrome"), &trace_format_chrome);
	assert_null(trace_format_by_name("svg"));
	assert_ptr_equal(trace_format_by_path("a/x.perfetto-trace"), &trace_format_perfetto);
	assert_ptr_equal(trace_format_by_path("x.pftrace"), &trace_format_perfetto);
	assert_ptr_equal(trace_format_by_path("x.trace.json"), &trace_format_chrome);
	assert_ptr_equal(trace_format_by_path("x.speedscope.json"), &trace_format_speedscope);
	assert_null(trace_format_by_path("x.json"));
	assert_null(trace_format_by_path(".pftrace"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_chrome),
		cmocka_unit_test(test_speedscope),
		cmocka_unit_test(test_speedscope_ender),
		cmocka_unit_test(test_perfetto),
		cmocka_unit_test(test_late_names),
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_full_sinks),
		cmocka_unit_test(test_out_of_memory),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
