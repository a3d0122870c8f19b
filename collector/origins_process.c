// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// origins_process.c: see origins_read_process. The agent's region is found by its name among the process's mappings, and what is needed of
// it is copied: a copy cannot change or vanish while it is checked and read, whatever the process does, and needs no right that a dump does not.

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/origin_spans.h"
#include "collector/origins.h"
#include "collector/process.h"
#include "collector/region.h"

#define REGION_NAME "/memfd:profd-ring (deleted)\n"
#define MAX_REGIONS 4 // that are tried: fork's child may have its parent's mapped for a while
#define MAX_LINES 1000000u

struct place {
	uint64_t start, size;
};

static size_t find_regions(pid_t tid, struct place places[MAX_REGIONS])
{
	char path[64], line[512];
	size_t found = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)tid);
	file = fopen(path, "re");
	for (unsigned n = 0; file && n < MAX_LINES && found < MAX_REGIONS && fgets(line, sizeof(line), file); n++) {
		const char *name = strchr(line, '/');
		uint64_t start, end;

		// NOLINTNEXTLINE(cert-err34-c): the kernel wrote them
		if (name && strcmp(name, REGION_NAME) == 0 && sscanf(line, "%" SCNx64 "-%" SCNx64, &start, &end) == 2 &&
		    end > start)
			places[found++] = (struct place){start, end - start};
	}
	if (file)
		(void)fclose(file);
	return found;
}

static void *copy(pid_t pid, pid_t *living, uint64_t address, size_t size)
{
	void *data = calloc(1, size ? size : 1);

	if (data && process_read_memory(pid, living, address, data, size) == size)
		return data;
	free(data);
	return NULL;
}

static void add_spans(struct origins *origins, pid_t pid, pid_t *living, const struct origins_past *past,
		      uint64_t slots, struct region *region)
{
	if (!origin_spans_find(origins, pid, past))
		return;
	free(region->slots);
	region->slots = copy(pid, living, slots, region->nslots * sizeof(*region->slots));
	origins_confirm_spans(origins, region->slots ? region : NULL);
}

static struct origins *read_region(pid_t pid, pid_t *living, const struct origins_past *past, const struct place *place)
{
	struct region region = {.size = place->size};
	struct origins *origins = NULL;
	uint32_t *index = NULL;
	uint64_t *words = NULL, pool, slots;

	region.header = copy(pid, living, place->start, sizeof(*region.header));
	if (!region.header || region_check_header(region.header, place->size, pid) < 0)
		goto done;
	// Those that were ever used: what lies behind them is not memory yet.
	region.nslots =
		region.header->slots_used < region.header->nslots ? region.header->slots_used : region.header->nslots;
	slots = place->start + region.header->slots_off;
	region.slots = copy(pid, living, slots, region.nslots * sizeof(*region.slots));
	pool = place->start + region.header->pool_off;
	region.pool.nwords = region.header->pool_used < WIRE_POOL_WORDS ? region.header->pool_used : WIRE_POOL_WORDS;
	index = copy(pid, living, pool, WIRE_POOL_INDEX * sizeof(*index));
	words = copy(pid, living, pool + WIRE_POOL_INDEX * sizeof(*index), region.pool.nwords * sizeof(*words));
	region.tasks = copy(pid, living, place->start + region.header->tasks_off,
			    (region.header->tasks_used < WIRE_TASKS ? region.header->tasks_used : WIRE_TASKS) *
				    sizeof(*region.tasks));
	region.pool.index = index;
	region.pool.words = words;
	if (region.slots && region.tasks && index && words)
		origins = origins_read(&region);
	add_spans(origins, pid, living, past, slots, &region);
done:
	free(index);
	free(words);
	free(region.tasks);
	free(region.header);
	free(region.slots);
	return origins;
}

struct origins *origins_read_process(pid_t pid, const struct origins_past *past)
{
	pid_t living = process_living_task(pid, 0);
	struct place places[MAX_REGIONS];
	size_t count = find_regions(living, places);
	struct origins *origins = NULL;

	for (size_t i = 0; i < count && !origins; i++)
		origins = read_region(pid, &living, past, &places[i]);
	return origins;
}
