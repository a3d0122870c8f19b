// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// event_process.c: see event_process.h. The process goes on writing while it is copied. So its memory is copied twice, and an event whose state
// is not the same in both was touched in between: it counts as not finished.

#include "collector/event_process.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/process.h"

#define EVENTS_NAME "/memfd:profd-events (deleted)\n"
#define MAX_LINES 1000000u

// The last one: where it was made anew, that is in force.
static bool find_file(pid_t tid, uint64_t *ret_start, uint64_t *ret_size)
{
	char path[64], line[512];
	bool found = false;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)tid);
	file = fopen(path, "re");
	for (unsigned n = 0; file && n < MAX_LINES && fgets(line, sizeof(line), file); n++) {
		const char *name = strchr(line, '/');
		uint64_t start, end;

		// NOLINTNEXTLINE(cert-err34-c): the kernel wrote them
		if (name && strcmp(name, EVENTS_NAME) == 0 && sscanf(line, "%" SCNx64 "-%" SCNx64, &start, &end) == 2 &&
		    end > start) {
			*ret_start = start;
			*ret_size = end - start;
			found = true;
		}
	}
	if (file)
		(void)fclose(file);
	return found;
}

// What is not the same twice is being written.
static void compare_cells(struct event_file *file, const struct wire_event *again)
{
	struct wire_event *cells = (struct wire_event *)file->cells; // our own copy

	for (uint64_t i = 0; i < (uint64_t)file->nshards * file->ncells; i++)
		if (memcmp(&cells[i], &again[i], sizeof(cells[i])) != 0)
			cells[i].state = (cells[i].state & ~3u) | WIRE_EVENT_BUSY;
}

static bool may_be_taken_back(const struct wire_event *cell, uint64_t position)
{
	return event_is_unfinished(cell, position) || (WIRE_EVENT_TYPE(cell->what) == WIRE_EVENT_PARK &&
						       WIRE_EVENT_REASON(cell->what) > WIRE_WAIT_LAST_ADDRESS);
}

// Their places may be other events' in the next copy, which has them all.
static void leave_the_last(struct event_file *file)
{
	for (uint32_t shard = 0; shard < file->nshards; shard++)
		file->shards[shard].head =
			event_file_head_without(file, shard, file->shards[shard].head, may_be_taken_back);
}

int event_process_copy(pid_t pid, struct event_file *ret_file)
{
	pid_t living = process_living_task(pid, 0);
	uint64_t start = 0, size = 0;
	char *base, *again;
	int r = -ENODATA;

	if (!find_file(living, &start, &size))
		return -ENODATA;
	if (size > (uint64_t)WIRE_EVENTS_MAX_MIB << 21)
		return -ENODATA;
	base = malloc(size);
	again = malloc(size);
	if (!base || !again)
		r = -ENOMEM;
	else if (process_read_memory(pid, &living, start, base, size) != size ||
		 process_read_memory(pid, &living, start, again, size) != size)
		r = -EPERM;
	else
		r = event_file_of(base, size, pid, ret_file);
	if (r == 0) {
		compare_cells(ret_file, (const struct wire_event *)(again + ((const char *)ret_file->cells - base)));
		leave_the_last(ret_file);
	} else {
		free(base);
	}
	free(again);
	return r;
}

void event_process_free(struct event_file *copy)
{
	free((void *)copy->header);
	*copy = (struct event_file){0};
}
