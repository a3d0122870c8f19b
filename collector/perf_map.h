// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// perf_map.h: names of code made at run time, as JIT compilers write them for perf: /tmp/perf-PID.map, lines of
// "START SIZE NAME" with hexadecimal numbers. A plain value: load, look up, destroy.

#ifndef PROFD_COLLECTOR_PERF_MAP_H
#define PROFD_COLLECTOR_PERF_MAP_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct perf_map;

// Looks in the target's /tmp; in ours when the target is gone. Takes only a regular file that belongs to uid. NULL: none, or no memory.
struct perf_map *perf_map_load(pid_t pid, uid_t uid);
// Parses size bytes of text, which it takes over (malloc'ed, one byte more than size). Lines that make no sense are skipped.
struct perf_map *perf_map_parse(char *text, size_t size);
void perf_map_destroy(struct perf_map *map); // accepts NULL
// The last entry written that covers address; as long as the map. NULL: none.
const char *perf_map_find(const struct perf_map *map, uint64_t address);

#endif
