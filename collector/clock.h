// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// clock.h: the time as one number. Any thread.

#ifndef PROFD_COLLECTOR_CLOCK_H
#define PROFD_COLLECTOR_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

// CLOCK_MONOTONIC: for whatever is compared, and the time base of samples and events.
static inline int64_t clock_now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

static inline int64_t clock_now_ms(void)
{
	return clock_now_ns() / 1000000;
}

static inline int64_t clock_now_s(void)
{
	return clock_now_ns() / 1000000000;
}

// CLOCK_REALTIME: for what people read.
static inline int64_t clock_epoch_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}

#endif
