// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// wait_memory.c: see wait_memory.h.
//
// What is remembered are lines of LINE bytes, each in the one place that its address has; a line lies in one page, so all of it is readable or
// nothing. Locks share lines; what lies on the threads' own stacks does not, and pushes others out, which costs no more than it did.

#include "collector/wait_memory.h"

#include <stdlib.h>
#include <string.h>

#include "collector/process.h"

#define LINE 256u
#define LINES 1024u // a power of two

struct line {
	uint64_t number; // address / LINE, + 1; 0: none
	bool readable;
	uint8_t bytes[LINE];
};

struct wait_memory {
	pid_t pid, living; // see process.h
	struct line lines[LINES];
};

struct wait_memory *wait_memory_create(pid_t pid)
{
	struct wait_memory *memory = calloc(1, sizeof(*memory));

	if (!memory)
		return NULL;
	memory->pid = pid;
	memory->living = process_living_task(pid, 0);
	return memory;
}

void wait_memory_destroy(struct wait_memory *memory)
{
	free(memory);
}

static const struct line *get_line(struct wait_memory *memory, uint64_t number)
{
	struct line *line = &memory->lines[number % LINES];

	if (line->number == number + 1)
		return line;
	line->number = number + 1;
	line->readable = process_read_memory(memory->pid, &memory->living, number * LINE, line->bytes, LINE) == LINE;
	return line;
}

bool wait_memory_read(struct wait_memory *memory, uint64_t address, void *data, size_t size)
{
	uint8_t *to = data;

	if (address + size < address)
		return false;
	while (size > 0) {
		size_t at = address % LINE, n = size < LINE - at ? size : LINE - at;
		const struct line *line = get_line(memory, address / LINE);

		if (!line->readable)
			return false;
		memcpy(to, line->bytes + at, n);
		to += n;
		address += n;
		size -= n;
	}
	return true;
}
