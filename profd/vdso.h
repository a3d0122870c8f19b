// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// vdso.h: finds the vDSO's clock_gettime, so that the handler can read the clock without libc and without a system call.

#ifndef PROFD_VDSO_H
#define PROFD_VDSO_H

#include <time.h>

typedef int profd_vdso_clock_gettime(clockid_t, struct timespec *);

// NULL when there is none. At start-up, not in the handler.
profd_vdso_clock_gettime *profd_vdso_find_clock_gettime(void);

#endif
