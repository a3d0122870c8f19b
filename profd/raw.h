// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// raw.h: system calls that touch neither errno nor libc. Any context, the handler included. Returns the kernel's value:
// ≥0, or −errno.

#ifndef PROFD_RAW_H
#define PROFD_RAW_H

#include <stdint.h>
#include <sys/syscall.h>

#if !defined(__x86_64__)
#error "the agent supports x86-64"
#endif

static inline long profd_raw6(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

static inline long profd_raw4(long number, long a, long b, long c, long d)
{
	return profd_raw6(number, a, b, c, d, 0, 0);
}

static inline long profd_raw3(long number, long a, long b, long c)
{
	return profd_raw6(number, a, b, c, 0, 0, 0);
}

static inline long profd_raw1(long number, long a)
{
	return profd_raw6(number, a, 0, 0, 0, 0, 0);
}

static inline long profd_raw0(long number)
{
	return profd_raw6(number, 0, 0, 0, 0, 0, 0);
}

// Wakes nobody and waits at most timeout_ns (relative; <0: for ever) while *word == value. Private futex of the target.
static inline long profd_raw_futex_wait(uint32_t *word, uint32_t value, int64_t timeout_ns)
{
	struct {
		int64_t sec, nsec;
	} timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};

	return profd_raw6(SYS_futex, (long)word, 128 /* FUTEX_WAIT_PRIVATE */, value,
			  timeout_ns < 0 ? 0 : (long)&timeout, 0, 0);
}

static inline void profd_raw_futex_wake(uint32_t *word)
{
	profd_raw3(SYS_futex, (long)word, 129 /* FUTEX_WAKE_PRIVATE */, 0x7fffffff);
}

#endif
