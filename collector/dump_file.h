// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// dump_file.h: a snapshot read back from the JSON that `profd dump --json` wrote (formats/threads_json.c). The file is anybody's:
// whatever breaks its form is refused, in one line that says where, and nothing of it is used.
//
//   dump_file ─┬─ stacks[]    frames leaf first; stack 0 is nobody's: it has no frames and stands for "not known". Else the index is
//              │              the id, as the format has it
//              └─ threads[]   each names its stack, and its creator's, by index: always within stacks[]
//
// Immutable once read: any thread may look.

#ifndef PROFD_COLLECTOR_DUMP_FILE_H
#define PROFD_COLLECTOR_DUMP_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DUMP_FILE_MAX_BYTES ((size_t)1 << 30) // of JSON; 10,000 threads take some MB

// Strings are UTF-8 without NUL, owned by the dump_file; control characters are as in the file.
struct dump_file_frame {
	const char *function; // "module+0x12" when it has no symbol, "0x7f12" when it has no module either
	const char *file;     // source; "" not known
	const char *module;   // ELF file's path; "" not known
};

struct dump_file_stack {
	uint32_t nframes;
	const struct dump_file_frame *frames; // leaf first
	bool partial;                         // does not reach the thread's start
};

struct dump_file_thread {
	uint32_t tid;
	const char *name, *state;
	uint32_t stack;         // 0: none could be read
	uint32_t creator_stack; // 0: not known
};

struct dump_file {
	uint32_t nthreads, nstacks; // nstacks counts stack 0
	struct dump_file_thread *threads;
	struct dump_file_stack *stacks;
	struct dump_file_frame *frames; // of all stacks
	void *json;                     // jansson's tree, which owns the strings
};

// Parses size bytes. On success *ret_dump is the caller's, to destroy. −EINVAL: not a snapshot; −ENOMEM: no memory, or more than
// DUMP_FILE_MAX_BYTES; either is told in error, one line without control characters.
int dump_file_parse(const char *data, size_t size, struct dump_file **ret_dump, char *error, size_t error_size);
// The same with a file's contents (a pipe does as well); also the −errno of opening and reading it.
int dump_file_read(const char *path, struct dump_file **ret_dump, char *error, size_t error_size);
void dump_file_destroy(struct dump_file *dump); // accepts NULL and half-built ones

#endif
