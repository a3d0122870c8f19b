// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_trace_stacks.c: names of generated code in a trace of several processes (trace_stacks.c): each process's own, in bounded memory, those that come
// late included. The window and the format are this test's own; the processes' numbers are none that a process can have.

#include <inttypes.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "collector/jit_follow.h"
#include "collector/trace_stacks.h"
#include "collector/window_impl.h"
#include "formats/trace.h"
#include "formats/writer.h"

#define FIRST_PID (1 << 22) // the kernel's are below
#define MAKERS 8u
#define CODE 0x1000u // of all processes
#define LATE 0x2000u

static char last[64];          // the innermost frame of the last stack
static char lates[MAKERS][64]; // names that came late, in order
static uint32_t nlates;

// ---- The window and the format ---------------------------------------------------------------------------------------

// The node is the address.
size_t window_trace_stack(struct window *window, uint32_t stack, struct aggregate_frame *frames, size_t max)
{
	frames[0] = (struct aggregate_frame){NULL, (stack & 0xffff) | WIRE_PC_EXACT};
	return 1;
}

void window_trace_maker(struct window *window, uint32_t source, struct jit_process *ret_process)
{
	*ret_process = (struct jit_process){FIRST_PID + (pid_t)source, geteuid(), -1};
}

static void begin(struct trace_output *output, const struct trace_meta *meta) {}

static void stack(struct trace_output *output, uint32_t id, const struct trace_frame *frames, uint32_t nframes)
{
	assert_int_equal(nframes, 1);
	snprintf(last, sizeof(last), "%s", frames[0].name);
}

static void late_name(struct trace_output *output, const struct trace_frame *frame)
{
	assert_true(nlates < MAKERS);
	snprintf(lates[nlates++], sizeof(lates[0]), "%s", frame->name);
}

static void finish(struct trace_output *output) {}

static const struct trace_format format = {.state_size = sizeof(struct trace_output),
					   .begin = begin,
					   .stack = stack,
					   .late_name = late_name,
					   .finish = finish};

static int ignore(void *context, const void *data, size_t size)
{
	return 0;
}

// ---- The processes ----------------------------------------------------------------------------------------------------

static const char *map_of(uint32_t source)
{
	static char path[64];

	snprintf(path, sizeof(path), "/tmp/perf-%d.map", FIRST_PID + (int)source);
	return path;
}

// With so many other names of 4,000 bytes.
static void write_map(uint32_t source, const char *name, uint32_t address, uint32_t others)
{
	static char filler[4000];
	FILE *file = fopen(map_of(source), "a");

	assert_non_null(file);
	memset(filler, 'x', sizeof(filler) - 1);
	fprintf(file, "%x 10 %s%" PRIu32 "\n", address, name, source);
	for (uint32_t i = 0; i < others; i++)
		fprintf(file, "%x 10 %s\n", 0x10000 + i * 16, filler);
	fclose(file);
}

static int remove_maps(void **state)
{
	for (uint32_t i = 0; i < MAKERS; i++)
		unlink(map_of(i));
	return 0;
}

// ---- Tests ----------------------------------------------------------------------------------------------------------

// 45 MB of names each, which all together are more than there is room for; and one at the end.
static void test_makers_without_number(void **state)
{
	const struct trace_meta meta = {.title = ""};
	struct trace_stacks *stacks = trace_stacks_create(NULL);
	struct trace_output *output;
	struct writer writer;
	char name[64];

	writer_init(&writer, ignore, NULL);
	output = trace_create_output(&format, &writer, &meta);
	for (uint32_t i = 0; i < MAKERS; i++) {
		write_map(i, "code", CODE + i * 16, 11000);
		assert_true(trace_stacks_send(stacks, output, i, (CODE + i * 16) | i << 16) > 0);
		snprintf(name, sizeof(name), "code%" PRIu32, i);
		assert_string_equal(last, name);
		assert_true(trace_stacks_send(stacks, output, i, (LATE + i * 16) | i << 16) > 0);
		assert_true(mallinfo2().uordblks + mallinfo2().hblkhd < (size_t)350 << 20);
	}
	for (uint32_t i = 0; i < MAKERS; i++)
		write_map(i, "late", LATE + i * 16, 0);
	trace_stacks_end(stacks, output);
	assert_int_equal(nlates, MAKERS);
	for (uint32_t i = 0; i < MAKERS; i++) {
		snprintf(name, sizeof(name), "late%" PRIu32, i);
		assert_string_equal(lates[i], name);
	}
	assert_null(output->notes);
	trace_destroy_output(output);
	trace_stacks_destroy(stacks);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_makers_without_number, remove_maps, remove_maps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
