// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// fuzz_table.c: any bytes as a table, a stack and registers: the agent's check takes the table or not, both checks agree on what the
// collector would send, and a walk by a table that was taken ends, in bounds. All memory of the target is the fuzz input's: each
// load that is not of it is a finding.

#include <string.h>

#include "collector/cfi_table.h"
#include "profd/safe_read.h"
#include "profd/unwind.h"
#include "profd/unwind_step.h"
#include "profd/wire.h"
#include "tests/fuzz/fuzz.h"

#define STACK_ADDRESS 0x7ffe00000000ULL
#define TEXT_ADDRESS 0x555500000000ULL
#define MAX_FRAMES 128u

struct input {
	uint64_t regs[PROFD_UNWIND_REGS];
	uint8_t pc_in_text, sp_in_stack;
	uint16_t stack_words;
	uint32_t reserved;
};

static const uint64_t *stack;
static size_t stack_words;
static uint64_t reads;
uint64_t fuzz_got_through;

void profd_safe_read_init(void) {}

static bool read_stack(uint64_t address, uint64_t *ret_value)
{
	uint64_t index = (address - STACK_ADDRESS) / 8;

	if (address < STACK_ADDRESS || index >= stack_words)
		return false;
	*ret_value = stack[index];
	return true;
}

bool profd_safe_read(uint64_t address, uint64_t *ret_value)
{
	FUZZ_CHECK(++reads <= PROFD_MAX_SAFE_READS);
	return read_stack(address, ret_value);
}

uint32_t profd_safe_read_around(const uint64_t *addresses, uint32_t count, uint64_t (*ret_words)[2])
{
	uint32_t done = 0;

	FUZZ_CHECK(++reads <= PROFD_MAX_SAFE_READS);
	FUZZ_CHECK(count > 0 && count <= PROFD_SAFE_READ_MAX);
	while (done < count && read_stack(addresses[done] - 8, &ret_words[done][0]) &&
	       read_stack(addresses[done], &ret_words[done][1]))
		done++;
	return done;
}

static void walk(const struct input *input, const struct wire_table *table)
{
	static uint64_t cache[PROFD_UNWIND_CACHE_ENTRIES];
	struct profd_module module = {.start = TEXT_ADDRESS,
				      .end = TEXT_ADDRESS + 0x100000,
				      .bias = TEXT_ADDRESS - table->text_start,
				      .table = table};
	struct profd_module_set set = {.count = 1, .modules = &module, .cache = cache};
	struct profd_unwind_context context;
	struct profd_stack_range unknown = {0, 0};
	uint64_t pcs[MAX_FRAMES + 1];

	memcpy(context.regs, input->regs, sizeof(context.regs));
	if (input->pc_in_text)
		context.regs[16] = TEXT_ADDRESS + context.regs[16] % 0x100000;
	if (input->sp_in_stack)
		context.regs[7] = STACK_ADDRESS + context.regs[7] % (stack_words * 8 + 1) / 8 * 8;
	memset(cache, 0, sizeof(cache));
	for (int round = 0; round < 2; round++) { // the second one through the cache
		uint32_t max = round ? MAX_FRAMES : 1 + (uint32_t)input->regs[0] % MAX_FRAMES, count;
		uint8_t stop = 0xff;

		pcs[max] = 0x600d;
		reads = 0;
		count = profd_unwind_table(&set, &context, unknown, pcs, max, &stop);
		FUZZ_CHECK(count >= 1 && count <= max && pcs[max] == 0x600d);
		FUZZ_CHECK(stop < WIRE_STOP_COUNT);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input;
	struct wire_table *table;
	size_t table_size;

	if (size < sizeof(input))
		return 0;
	memcpy(&input, data, sizeof(input));
	stack_words = input.stack_words % 512;
	if (size - sizeof(input) < stack_words * 8)
		return 0;
	table_size = size - sizeof(input) - stack_words * 8;
	table = malloc(table_size + 1);
	stack = malloc(stack_words * 8 + 1);
	if (table && stack) {
		memcpy((void *)(uintptr_t)stack, data + sizeof(input), stack_words * 8);
		memcpy(table, data + sizeof(input) + stack_words * 8, table_size);
		if (cfi_table_check(table, table_size) == 0 && table->machine == WIRE_MACHINE_X86_64)
			FUZZ_CHECK(profd_table_check(table, table_size) == 0);
		if (profd_table_check(table, table_size) == 0) {
			fuzz_got_through++;
			walk(&input, table);
		}
	}
	free(table);
	free((void *)(uintptr_t)stack);
	return 0;
}
