// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// jit_names.h: names of code that a program made at run time, as its runtime wrote them for perf: /tmp/perf-PID.map (perf_map.h) and
// jitdump files (jitdump.h). Both readers add what they find to one list, in the order in which it was written; code is made where older code
// was thrown away, and whatever was written last of an address holds:
//
//   added    old [-------- f --------)     edges   f  g  f  none
//            new      [-- g --)                    ^ a binary search away
//
// Filled, then sealed, then looked up; by one thread. All in 64 MiB: what goes beyond is not kept, and jit_names_full says so.

#ifndef PROFD_COLLECTOR_JIT_NAMES_H
#define PROFD_COLLECTOR_JIT_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define JIT_NAMES_MAX_BYTES ((size_t)64 << 20)
#define JIT_NAMES_MAX_STRING 4096u // longer ones are cut
#define JIT_NAMES_NONE UINT32_MAX

struct jit_names;

// A piece of code. Its lines are consecutive ones of jit_names_add_line, sorted by offset.
struct jit_code {
	uint64_t start, end;
	uint32_t name; // a string
	uint32_t first_line, nlines;
};

struct jit_line {
	uint32_t offset; // from the code's start
	uint32_t line;
	uint32_t file; // a string
};

// What jit_names_find says; as long as the list.
struct jit_found {
	const char *name;
	const char *file; // "" not known
	uint32_t line;    // 0 not known
};

// All that there is of a process, sealed; of the two files of one address the jitdump file holds. jitdump_fd: of jitdump_open, or
// −1. Reads files: may wait. NULL: nothing, or no memory.
struct jit_names *jit_names_load(pid_t pid, uid_t uid, int jitdump_fd);
void jit_names_destroy(struct jit_names *names); // accepts NULL
bool jit_names_find(const struct jit_names *names, uint64_t address, struct jit_found *ret_found);
bool jit_names_full(const struct jit_names *names);
size_t jit_names_bytes(const struct jit_names *names); // of memory; NULL: 0

// Opens a file that the target may have put there: only a regular one that belongs to uid, by no link, without waiting. −errno.
int jit_names_open(const char *path, uid_t uid);

// ---- For the readers ------------------------------------------------------------------------------------------------

struct jit_names *jit_names_create(size_t max_bytes); // NULL: no memory
// JIT_NAMES_NONE: no room.
uint32_t jit_names_string(struct jit_names *names, const char *text, size_t length);
uint32_t jit_names_file(struct jit_names *names, const char *text, size_t length); // kept once
// The number of the line added. JIT_NAMES_NONE: no room.
uint32_t jit_names_add_line(struct jit_names *names, const struct jit_line *line);
struct jit_line *jit_names_lines(struct jit_names *names, uint32_t first); // until the next one is added
// Code of no size is taken and has no effect. 0 or −ENOMEM.
int jit_names_add(struct jit_names *names, const struct jit_code *code);
void jit_names_drop_lines(struct jit_names *names, uint32_t first); // and all that follow
void jit_names_set_full(struct jit_names *names);                   // something that was written was not read
// Once, after the last add. 0 or −ENOMEM.
int jit_names_seal(struct jit_names *names);

#endif
