// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// governor.h: keeps what sampling costs a thread below a share of its CPU time, by lowering that thread's rate. Helper thread.
// It goes by the time from the handler's entry to its end; what the kernel takes to deliver the signal is not in it.

#ifndef PROFD_GOVERNOR_H
#define PROFD_GOVERNOR_H

#include <stdint.h>

// The most that the handler may take, in 1/1000 of a thread's CPU time. 0: no limit.
void profd_governor_set(uint32_t max_overhead_permille);
// Judges every thread by what its handler took since the last time.
void profd_governor_look(void);

#endif
