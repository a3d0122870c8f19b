// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// handler.h: SIGPROF. What runs there and what it promises:
//  - one of our timers' signals (SI_TIMER and our cookie, or perf_event.h's) becomes one sample, or is counted as dropped or late;
//  - any other SIGPROF goes to the program's own handler, as if ours were not there; without one it is counted and ignored;
//  - async-signal-safe: no lock, no allocation, no libc; bounded stack (< 1 KiB, the samples go through static buffers);
//  - a system call that our signal made return EINTR, and that would not be restarted by SA_RESTART, is restarted.

#ifndef PROFD_HANDLER_H
#define PROFD_HANDLER_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

// The program's own wish for SIGPROF (interpose_signal.c keeps it; the kernel's disposition is always ours while on).
struct profd_app_action {
	void (*handler)(int, siginfo_t *, void *); // SIG_DFL or SIG_IGN as a pointer, too
	uint64_t mask;                             // kernel sigset
	int flags;                                 // SA_*
};

// Points at an immutable action; swapped whole. Never NULL once the handler is installed.
extern const struct profd_app_action *profd_handler_app_action;
// This thread believes that it blocks SIGPROF, while really it does not (interpose_signal.c).
extern __thread bool profd_handler_app_blocks;
// While a thread ends: its start routine, shown as the leaf instead of libc's clean-up (profd_timer_flush). 0: does not end.
extern __thread uint64_t profd_handler_ending_pc;

// Is this SIGPROF from one of our timers? cookie: profd_agent.cookie.
static inline bool profd_handler_is_ours(const siginfo_t *info, uint32_t cookie)
{
	return info->si_code == SI_TIMER && (uint32_t)((uint64_t)(uintptr_t)info->si_value.sival_ptr >> 32) == cookie;
}

// No sample takes longer (governor.c): nearly all of it are a walk's system calls, PROFD_MAX_SAFE_READS of some 0.3 µs.
#define PROFD_HANDLER_MAX_NS 400000u

// PROFD_UNWIND=libunwind: walks from the signal's ucontext (profd/libunwind/walker.h). NULL: not loaded.
typedef uint32_t profd_ucontext_walk(const void *ucontext, uint64_t *pcs, uint32_t max, uint8_t *ret_stop);
extern profd_ucontext_walk *profd_handler_libunwind;

// Learns the vDSO's clock_gettime; clears the scratch buffers (again in a fork's child). Not in the handler.
void profd_handler_init(void);
void profd_handler(int signo, siginfo_t *info, void *context);

#endif
