// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// jitdump.h: names and lines of code made at run time, from the files that JIT compilers write for `perf inject` (Linux,
// tools/perf/Documentation/jitdump-specification.txt). The runtime may put the file, jit-PID.dump, anywhere: it maps a page of it as code, so
// that whoever reads its mappings learns where it is. Unwind records are passed over: the walk through such code is by frame
// pointers. Any thread that may wait for files.

#ifndef PROFD_COLLECTOR_JITDUMP_H
#define PROFD_COLLECTOR_JITDUMP_H

#include <sys/types.h>

struct jit_names;
struct mapping_set;

// Opens the file that pid has mapped, its own or that of the process it was forked from. The fd serves even when the process is gone.
// −ENOENT: none.
int jitdump_open(pid_t pid, uid_t uid, const struct mapping_set *set);
// Reads it from its beginning, up to where it makes no sense or ends: it may be growing, or have been cut. Several threads may
// read one fd.
void jitdump_read(int fd, struct jit_names *names);

#endif
