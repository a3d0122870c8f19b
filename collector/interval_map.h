// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// interval_map.h: address ranges that may nest, made flat: after interval_map_build each address has one value, that of the range
// that begins last before it (of those that begin at the same place, the one with the highest rank, then the last added).
//
//   added   [----------- A -----------)         edges   A  B  C  B  A  none
//              [------ B -----)                         ^ a binary search away
//                  [-C-)
//
// A plain value; zeroed is empty.

#ifndef PROFD_COLLECTOR_INTERVAL_MAP_H
#define PROFD_COLLECTOR_INTERVAL_MAP_H

#include <stddef.h>
#include <stdint.h>

#define INTERVAL_NONE UINT32_MAX

struct interval {
	uint64_t start, end;
	uint32_t value, rank;
};

struct interval_edge {
	uint64_t start; // up to the next edge's
	uint32_t value;
};

struct interval_map {
	struct interval *intervals; // until it is built
	struct interval_edge *edges;
	size_t count, capacity; // of intervals, then of edges
};

// An empty range is taken and has no effect. 0 or −ENOMEM (also at max ranges).
int interval_map_add(struct interval_map *map, uint64_t start, uint64_t end, uint32_t value, uint32_t rank, size_t max);
// Once, after the last add. 0 or −ENOMEM.
int interval_map_build(struct interval_map *map);
uint32_t interval_map_find(const struct interval_map *map, uint64_t address); // INTERVAL_NONE: nothing there
void interval_map_finish(struct interval_map *map);

#endif
