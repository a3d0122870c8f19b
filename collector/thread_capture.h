// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// thread_capture.h: registers and stack of threads that run, as the kernel finds them at one moment: a perf event of the CPU clock, for
// each, that fires once. The thread is neither stopped nor woken, and no system call of its ends early; a signal or ptrace(2) could promise
// neither. Needs leave to use perf_event_open(2) (kernel.perf_event_paranoid, seccomp).

#ifndef PROFD_COLLECTOR_THREAD_CAPTURE_H
#define PROFD_COLLECTOR_THREAD_CAPTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define THREAD_CAPTURE_REGS 33

struct thread_capture {
	bool taken;
	uint64_t regs[THREAD_CAPTURE_REGS]; // by DWARF number, as profd_unwind_context
	const uint8_t *stack;               // from SP upwards; until thread_capture_end
	size_t stack_size;                  // bytes; at most 63 KiB
	int fd;                             // the module's own, as what follows
	void *ring;
	size_t ring_size;
};

// Begins for one thread. 0 or −errno: −EACCES, −EPERM not allowed; −ESRCH it is gone; −EMFILE, −ENOMEM, … End it in any case.
int thread_capture_begin(struct thread_capture *capture, uint32_t tid);
// Until all have fired that can, or the time is over. A thread that does not run meanwhile is not taken.
void thread_capture_wait(struct thread_capture *captures, size_t count, int64_t timeout_ns);
void thread_capture_end(struct thread_capture *capture);

#endif
