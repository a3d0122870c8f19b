// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// clock.h: CLOCK_MONOTONIC through the vDSO, without libc and, where the kernel's clock source allows it, without a system call. Any
// context, the handler included; errno stays.

#ifndef PROFD_CLOCK_H
#define PROFD_CLOCK_H

#include <stdint.h>

// Finds the vDSO's function. Not in the handler; before it, each look at the clock is a system call.
void profd_clock_init(void);
uint64_t profd_clock_now_ns(void);

#endif
