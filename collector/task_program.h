// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// task_program.h: the program that the kernel runs for each thread of a process, and what it writes of it.

#ifndef PROFD_COLLECTOR_TASK_PROGRAM_H
#define PROFD_COLLECTOR_TASK_PROGRAM_H

#include <stdint.h>

#if defined(__x86_64__)
#define TASK_PROGRAM_HAS_PLACES 1
#else
#define TASK_PROGRAM_HAS_PLACES 0
#endif

// As the kernel has it, in whose words.
struct task_program_row {
	uint32_t tid;   // in the first PID namespace
	uint32_t waits; // 1: it did, and did not begin to run while all this was read
	uint64_t exec_start_ns, sum_exec_ns;
	uint64_t switches;
	char name[16];
	// Of one that waits, if TASK_PROGRAM_HAS_PLACES; the number is that of the system call, as an int: negative outside of one
	uint64_t number, args[6], sp, pc;
};

// A descriptor of the program, loaded. −errno: the kernel does not let us, or is another than we know.
int task_program_load(void);

#endif
