// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// clock.c: see clock.h. Handler, and any thread.

#include "profd/clock.h"

#include <time.h>

#include "profd/raw.h"
#include "profd/vdso.h"

static profd_vdso_clock_gettime *vdso_clock_gettime;

void profd_clock_init(void)
{
	vdso_clock_gettime = profd_vdso_find_clock_gettime();
}

uint64_t profd_clock_now_ns(void)
{
	struct timespec now = {0, 0};

	if (!vdso_clock_gettime || vdso_clock_gettime(CLOCK_MONOTONIC, &now) != 0)
		profd_raw3(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&now, 0);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
