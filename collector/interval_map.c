// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// interval_map.c: see interval_map.h.

#include "collector/interval_map.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

int interval_map_add(struct interval_map *map, uint64_t start, uint64_t end, uint32_t value, uint32_t rank, size_t max)
{
	if (start >= end)
		return 0;
	if (map->count >= max)
		return -ENOMEM;
	if (map->count == map->capacity) {
		size_t capacity = map->capacity ? map->capacity * 2 : 64;
		struct interval *grown = realloc(map->intervals, capacity * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		map->intervals = grown;
		map->capacity = capacity;
	}
	map->intervals[map->count++] = (struct interval){start, end, value, rank};
	return 0;
}

static int compare(const struct interval *x, const struct interval *y)
{
	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	return (x->rank > y->rank) - (x->rank < y->rank);
}

static void merge(const struct interval *from, size_t low, size_t middle, size_t high, struct interval *to)
{
	size_t a = low, b = middle;

	for (size_t i = low; i < high; i++)
		to[i] = a < middle && (b >= high || compare(&from[a], &from[b]) <= 0) ? from[a++] : from[b++];
}

// Compilers write what they describe nearly in order: a natural merge sort, stable, takes that order as it finds it.
static int sort(struct interval_map *map)
{
	struct interval *from = map->intervals, *to = malloc(map->count * sizeof(*to));
	bool sorted = false;

	if (!to)
		return -ENOMEM;
	while (!sorted) {
		size_t low = 0, runs = 0;

		while (low < map->count) {
			size_t middle = low + 1, high;

			while (middle < map->count && compare(&from[middle - 1], &from[middle]) <= 0)
				middle++;
			high = middle < map->count ? middle + 1 : middle;
			while (high < map->count && high > middle && compare(&from[high - 1], &from[high]) <= 0)
				high++;
			merge(from, low, middle, high, to);
			low = high;
			runs++;
		}
		sorted = runs <= 1;
		map->intervals = to;
		to = from;
		from = map->intervals;
	}
	free(to);
	return 0;
}

// What is open at an address; the innermost on top.
struct sweep {
	struct interval_edge *edges;
	size_t count;
	const struct interval **open;
	size_t depth;
};

static void put_edge(struct sweep *sweep, uint64_t start, uint32_t value)
{
	size_t count = sweep->count;

	if (count > 0 && sweep->edges[count - 1].start == start)
		sweep->edges[count - 1].value = value;
	else if (count == 0 || sweep->edges[count - 1].value != value)
		sweep->edges[sweep->count++] = (struct interval_edge){start, value};
}

// Closes what ends at or before limit. What lies below the top and ended earlier shows nowhere.
static void close_until(struct sweep *sweep, uint64_t limit)
{
	while (sweep->depth > 0 && sweep->open[sweep->depth - 1]->end <= limit) {
		uint64_t end = sweep->open[--sweep->depth]->end;

		while (sweep->depth > 0 && sweep->open[sweep->depth - 1]->end <= end)
			sweep->depth--;
		put_edge(sweep, end, sweep->depth > 0 ? sweep->open[sweep->depth - 1]->value : INTERVAL_NONE);
	}
}

int interval_map_build(struct interval_map *map)
{
	struct sweep sweep = {0};

	if (map->count == 0)
		return 0;
	if (sort(map) < 0)
		return -ENOMEM;
	sweep.edges = malloc(2 * map->count * sizeof(*sweep.edges));
	sweep.open = malloc(map->count * sizeof(const struct interval *));
	if (!sweep.edges || !sweep.open) {
		free(sweep.edges);
		free(sweep.open);
		return -ENOMEM;
	}
	for (size_t i = 0; i < map->count; i++) {
		close_until(&sweep, map->intervals[i].start);
		sweep.open[sweep.depth++] = &map->intervals[i];
		put_edge(&sweep, map->intervals[i].start, map->intervals[i].value);
	}
	close_until(&sweep, UINT64_MAX);
	free(sweep.open);
	free(map->intervals);
	map->intervals = NULL;
	map->edges = sweep.edges;
	map->count = map->capacity = sweep.count;
	return 0;
}

uint32_t interval_map_find(const struct interval_map *map, uint64_t address)
{
	size_t low = 0, high = map->edges ? map->count : 0;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (map->edges[middle].start <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low > 0 ? map->edges[low - 1].value : INTERVAL_NONE;
}

void interval_map_finish(struct interval_map *map)
{
	free(map->intervals);
	free(map->edges);
	*map = (struct interval_map){0};
}
