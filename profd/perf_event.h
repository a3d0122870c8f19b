// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// perf_event.h: the clock that passes the kernel's tick: one perf_event of the CPU clock for each thread, which sends that thread
// SIGPROF (F_SETSIG, F_SETOWN_EX). The events' fds are the helper's, in its own fd table: the target sees none of them, and
// they end with the helper, at exec too. So only the helper arms and disarms; a thread begins with a CPU timer, and the
// helper's next sweep gives it an event instead.
//
// Such a signal carries no cookie, only the fd: si_code POLL_IN and an fd that was one of ours, in the thread it was for.

#ifndef PROFD_PERF_EVENT_H
#define PROFD_PERF_EVENT_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#define PROFD_PERF_FDS 65536u

// fd → tid << 32 | slot of the thread that it was last opened for. Written by the helper; entries stay when the fd is closed,
// for its last signal may still be on its way.
extern uint64_t profd_perf_owner[PROFD_PERF_FDS];

// The slot + 1 whose perf event sent this; 0: it is none of ours. Handler.
static inline uint32_t profd_perf_slot(const siginfo_t *info, uint32_t tid)
{
	uint64_t owner;

	if (info->si_code != POLL_IN && info->si_code != POLL_HUP)
		return 0;
	if (info->si_fd < 0 || (uint32_t)info->si_fd >= PROFD_PERF_FDS)
		return 0;
	owner = __atomic_load_n(&profd_perf_owner[info->si_fd], __ATOMIC_RELAXED);
	return owner >> 32 == tid && tid ? (uint32_t)owner + 1 : 0;
}

// The rest is the helper's. A new region: no event is open (a fork's child has none of its parent's).
void profd_perf_init(void);
// The kernel's tick, in ns: what CPU timers are checked at.
uint32_t profd_perf_tick_ns(void);
// Can this process have such events at all? 0 or −errno. Kernel time must count, or the samples would not be the CPU time.
int profd_perf_probe(void);
// Opens and starts thread tid's event, or sets the period of the one that the slot has. 0 or −errno.
int profd_perf_arm(uint32_t slot, uint32_t tid, uint32_t period_ns);
// Closes the slot's event. When it returns, the last signal is at least pending.
void profd_perf_disarm(uint32_t slot);
// Closes the events of threads that are gone.
void profd_perf_sweep(void);

#endif
