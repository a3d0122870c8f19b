// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// task_program.h: the program that the kernel runs for each thread of a process, and what it writes of it.

#ifndef PROFD_COLLECTOR_TASK_PROGRAM_H
#define PROFD_COLLECTOR_TASK_PROGRAM_H

#include <stdint.h>

// As the kernel has it, in whose words.
struct task_program_row {
	uint32_t tid;      // in the first PID namespace
	uint32_t is_whole; // it waited, and did not begin to run meanwhile: what follows switches is of one moment
	uint64_t exec_start_ns, sum_exec_ns;
	uint64_t switches;
	char name[16];
	uint64_t number, args[6], sp, pc; // of the system call; as an int: negative outside of one
};

// A descriptor of the program, loaded. −errno: the kernel does not let us, or is another than we know.
int task_program_load(void);

#endif
