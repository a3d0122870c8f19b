// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// wait_state.h: what a thread waits for, in words, from the system call that it is in, the functions that called it, and the memory
// and descriptors of its process. Reads /proc and the target's memory; never stops or wakes anything.

#ifndef PROFD_COLLECTOR_WAIT_STATE_H
#define PROFD_COLLECTOR_WAIT_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// What one process's threads have in common, so that 10,000 threads on one descriptor cost one readlink. Not thread-safe.
struct wait_state_process;

#define WAIT_OPERAND_BYTES 16u

// helper_tid: a thread whose descriptors are not the process's; 0: none. NULL: no memory.
struct wait_state_process *wait_state_open(pid_t pid, uint32_t helper_tid);
void wait_state_close(struct wait_state_process *process); // accepts NULL

struct wait_state_input {
	uint32_t tid;
	bool starved;    // it was to run, and got no CPU
	char run_state;  // of /proc/PID/task/TID/stat: R S D T t Z X I; '\0': not read
	bool in_syscall; // it waits in the system call nr(args); false: outside of one, or running
	int64_t nr;
	uint64_t args[6];
	uint64_t operand_at; // of args, one that points to what is in operand; 0: none
	uint8_t operand[WAIT_OPERAND_BYTES];
	const char *const *names; // functions of its stack, leaf first, as in the symbol table; may be empty
	size_t nnames;
};

struct wait_state {
	char state[32]; // "epoll", "mutex lock", "cond wait", "running"…
	char object
		[128]; // "fd 5; 312 fds", "0x7f…", "pipe:[123]", "tcp 127.0.0.1:5432"…; "": nothing to say. No ',' or ']'
	uint32_t owner_tid; // holder of the lock, thread that is joined; 0: not known
	uint64_t address;   // of the lock, condition variable…; 0: none
};

void wait_state_find(struct wait_state_process *process, const struct wait_state_input *input,
		     struct wait_state *ret_state);

#endif
