// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// perf_map.h: names of code made at run time, as JIT compilers write them for perf: /tmp/perf-PID.map, lines of
// "START SIZE NAME" with hexadecimal numbers. Any thread that may wait for files.

#ifndef PROFD_COLLECTOR_PERF_MAP_H
#define PROFD_COLLECTOR_PERF_MAP_H

#include <sys/types.h>

struct jit_names;

// Looks in the target's /tmp; in ours when it has none there, or is gone.
void perf_map_load(pid_t pid, uid_t uid, struct jit_names *names);
// Takes the fd over. Lines that make no sense are skipped.
void perf_map_read(int fd, struct jit_names *names);

#endif
