// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// syscall_restart.c: see syscall_restart.h. Handler.
//
// The number is not in the context. It is known when the instruction before `syscall` loads it (mov imm32, %eax), as in
// libc's wrappers. Otherwise (syscall(2) itself) the EINTR stays, as with any other signal.

#include "profd/syscall_restart.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>

#include "profd/raw.h"
#include "profd/safe_read.h"

// Calls that can be made again with the same arguments when they were interrupted before they did anything.
// `own_mask`: they wait under a mask of their own, so that a pending signal is delivered by the restarted call itself.
static bool restartable(long number, bool *ret_own_mask)
{
	*ret_own_mask = false;
	switch (number) {
	case SYS_epoll_pwait:
	case SYS_epoll_pwait2:
	case SYS_ppoll:
	case SYS_pselect6:
	case SYS_rt_sigsuspend:
		*ret_own_mask = true;
		return true;
	case SYS_epoll_wait:
	case SYS_poll:
	case SYS_select:
	case SYS_nanosleep:
	case SYS_clock_nanosleep:
	case SYS_futex:
	case SYS_rt_sigtimedwait:
	case SYS_pause:
	case SYS_msgrcv:
	case SYS_msgsnd:
	case SYS_semop:
	case SYS_semtimedop:
	case SYS_io_getevents:
	case SYS_io_uring_enter:
	// SO_RCVTIMEO and SO_SNDTIMEO, inotify's and friends' read, make these return EINTR in spite of SA_RESTART.
	case SYS_read:
	case SYS_readv:
	case SYS_recvfrom:
	case SYS_recvmsg:
	case SYS_recvmmsg:
	case SYS_accept:
	case SYS_accept4:
	case SYS_write:
	case SYS_writev:
	case SYS_sendto:
	case SYS_sendmsg:
	case SYS_wait4:
	case SYS_waitid:
		return true;
	default:
		return false;
	}
}

// Reads size ≤ 8 bytes that end right before pc.
static bool code_before(uint64_t pc, uint8_t bytes[8])
{
	uint64_t word;

	// The 8 bytes may begin on another page, which need not be mapped.
	if ((pc & 4095) >= 8)
		word = *(const uint64_t *)(uintptr_t)(pc - 8);
	else if (!profd_safe_read(pc - 8, &word))
		return false;
	for (int i = 0; i < 8; i++)
		bytes[i] = (uint8_t)(word >> (8 * i));
	return true;
}

// A signal of the program's own that waits to be delivered: its EINTR is meant to be seen.
static bool other_signal_pending(const ucontext_t *uc)
{
	uint64_t pending = 0;
	uint64_t blocked = *(const uint64_t *)(const void *)&uc->uc_sigmask;

	if (profd_raw4(SYS_rt_sigpending, (long)&pending, sizeof(pending), 0, 0) < 0)
		return true;
	return (pending & ~blocked & ~(1ULL << (SIGPROF - 1))) != 0;
}

bool profd_syscall_restart(ucontext_t *uc)
{
	uint64_t pc = (uint64_t)uc->uc_mcontext.gregs[REG_RIP];
	uint8_t code[8];
	bool own_mask;
	long number;

	if (uc->uc_mcontext.gregs[REG_RAX] != -EINTR || (uint64_t)uc->uc_mcontext.gregs[REG_RCX] != pc)
		return false;
	if (!code_before(pc, code) || code[6] != 0x0f || code[7] != 0x05 || code[1] != 0xb8)
		return false;
	number = (long)(code[2] | (uint32_t)code[3] << 8 | (uint32_t)code[4] << 16 | (uint32_t)code[5] << 24);
	if (!restartable(number, &own_mask) || (!own_mask && other_signal_pending(uc)))
		return false;
	uc->uc_mcontext.gregs[REG_RAX] = number;
	uc->uc_mcontext.gregs[REG_RIP] = (greg_t)(pc - 2);
	return true;
}
