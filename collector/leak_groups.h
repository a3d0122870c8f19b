// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// leak_groups.h: which kinds of threads became more from one snapshot to the next. Pure: no process, no files, no printing.
//
// Threads are of one kind when they have the same stack, the same creator's stack and the same state. Stacks are the same when their
// frames' functions and files are: addresses differ between two processes, and lines between two turns of a loop.
//
//   before: 2 × [worker ← thread_main, cond wait]                 group: before 2, after 5, leak
//   after:  5 × [worker ← thread_main, cond wait]         ⇒
//           1 × [accept ← serve ← main, accept]                   group: before 0, after 1, leak

#ifndef PROFD_COLLECTOR_LEAK_GROUPS_H
#define PROFD_COLLECTOR_LEAK_GROUPS_H

#include <regex.h>
#include <stdbool.h>
#include <stdint.h>

struct dump_file;
struct dump_file_frame;
struct dump_file_stack;

// What counts as a leak. The expressions are compiled with REG_EXTENDED | REG_NOSUB, and stay the caller's.
struct leak_rules {
	uint32_t max_new;            // a group that grew by more is one
	const regex_t *fail_pattern; // NULL: none. Groups with a function that matches are one from fail_new on as well
	uint32_t fail_new;           // at least 1
	const regex_t *ignored;      // groups with a function that matches are left out
	uint32_t nignored;
};

struct leak_group {
	const struct dump_file_stack *stack, *creator; // of one of the two dumps; without frames: not known
	const char *state;
	uint32_t before, after; // threads
	uint64_t id;            // of the kind, the same in every run: a hash
	bool leak;
};

// Leaks first, then what grew most; then by id. Groups that are ignored are not in it.
struct leak_groups {
	uint32_t count, nleaks;
	struct leak_group *list;
};

// 0 or −ENOMEM. The groups point into both dumps, which must live as long. The caller calls leak_groups_finish.
// Threads that have ended, and that nobody has buried yet, do not count.
int leak_groups_compare(const struct dump_file *before, const struct dump_file *after, const struct leak_rules *rules,
			struct leak_groups *ret_groups);
void leak_groups_finish(struct leak_groups *groups); // accepts what is all zero

// No thread of it lives: there is nothing to compare.
bool leak_groups_has_ended(const struct dump_file *dump);

// The function as it is compared and shown; "[no name]" for one that is only an address.
const char *leak_groups_function(const struct dump_file_frame *frame);
// The source file, or, when that is not known, the module; may be "".
const char *leak_groups_file(const struct dump_file_frame *frame);
// What best tells a group from others: the first function from the leaf on that is neither libc's nor the C++ library's; else the
// leaf's; "no stack" without frames.
const char *leak_groups_title(const struct leak_group *group);

#endif
