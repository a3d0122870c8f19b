// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// syscall_restart.c: see syscall_restart.h. Handler.
//
// The number is not in the context. It is found by reading the code before the `syscall` instruction: libc loads it as a
// constant, mostly right before, sometimes with a few loads of other arguments in between, or copies it from a register
// that still holds it. Where that cannot be told for sure (syscall(2) itself), the EINTR stays, as with any other signal.

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

// ---- The code before the call --------------------------------------------------------------------------------------

#define WINDOW 32 // bytes looked at before the end of the `syscall` instruction
#define NO_NUMBER (-1)

// The WINDOW bytes that end at pc. They may begin on another page, which need not be mapped.
static bool code_before(uint64_t pc, uint8_t code[WINDOW])
{
	for (int i = 0; i < WINDOW / 8; i++) {
		uint64_t address = pc - WINDOW + 8 * (uint64_t)i;
		uint64_t word;

		if ((pc & 4095) >= WINDOW)
			word = *(const volatile uint64_t *)(uintptr_t)address;
		else if (!profd_safe_read(address, &word))
			return false;
		for (int byte = 0; byte < 8; byte++)
			code[8 * i + byte] = (uint8_t)(word >> (8 * byte));
	}
	return true;
}

// Length of ModRM, SIB and displacement at code; mod and r/m in the two outputs.
static int modrm_length(const uint8_t *code, int *ret_mod, int *ret_rm)
{
	int mod = code[0] >> 6, rm = code[0] & 7;
	int length = 1;

	*ret_mod = mod;
	*ret_rm = rm;
	if (mod == 3)
		return length;
	if (rm == 4) {
		length++;
		if (mod == 0 && (code[1] & 7) == 5)
			length += 4;
	} else if (mod == 0 && rm == 5) {
		length += 4;
	}
	return length + (mod == 1 ? 1 : mod == 2 ? 4 : 0);
}

// Length of the plain register instruction at code, or 0 when it is of another kind or writes rax.
static int harmless_length(const uint8_t *code)
{
	int rex = (code[0] & 0xf0) == 0x40 ? code[0] : 0;
	const uint8_t *op = rex ? code + 1 : code;
	int mod, rm, length, reg, immediate = 0;
	bool writes_rm = false;

	if (*op >= 0xb8 && *op <= 0xbf) // mov imm, reg
		return ((*op & 7) == 0 && !(rex & 1)) || (rex & 8) ? 0 : (rex ? 1 : 0) + 5;
	switch (*op) {
	case 0x8b: // mov r/m, reg
	case 0x8d: // lea
	case 0x33: // xor r/m, reg
	case 0x63: // movslq
		break;
	case 0x89: // mov reg, r/m
	case 0x31: // xor reg, r/m
		writes_rm = true;
		break;
	case 0x80: // op imm8, r/m8
	case 0x83: // op imm8, r/m
		writes_rm = true;
		immediate = 1;
		break;
	case 0x81: // op imm32, r/m
	case 0xc7: // mov imm32, r/m
		writes_rm = true;
		immediate = 4;
		break;
	default:
		return 0;
	}
	length = modrm_length(op + 1, &mod, &rm);
	reg = ((op[1] >> 3) & 7) | (rex & 4 ? 8 : 0);
	rm |= rex & 1 ? 8 : 0;
	if (writes_rm ? mod == 3 && rm == 0 : reg == 0)
		return 0;
	return (rex ? 1 : 0) + 1 + length + immediate;
}

// Do the instructions from code[from] on reach the `syscall` at code[WINDOW − 2] without touching rax?
static bool leads_to_syscall(const uint8_t *code, int from)
{
	while (from < WINDOW - 2) {
		int length = harmless_length(code + from);

		if (!length)
			return false;
		from += length;
	}
	return from == WINDOW - 2;
}

// mov %reg, %eax right before the call: the register still holds the number.
static long number_in_register(const uint8_t *code, const ucontext_t *uc)
{
	static const int greg[16] = {-1,     -1,     REG_RDX, REG_RBX, -1,      REG_RBP, REG_RSI, REG_RDI,
				     REG_R8, REG_R9, REG_R10, -1,      REG_R12, REG_R13, REG_R14, REG_R15};
	const uint8_t *mov = code + WINDOW - 4;
	int high = mov[-1] == 0x44 ? 8 : 0;
	int reg;

	if (mov[0] != 0x89 || (mov[1] & 0xc7) != 0xc0)
		return NO_NUMBER;
	reg = greg[((mov[1] >> 3) & 7) | high];
	return reg < 0 ? NO_NUMBER : (long)uc->uc_mcontext.gregs[reg];
}

static long call_number(const uint8_t *code, const ucontext_t *uc)
{
	for (int at = WINDOW - 4; at >= 0; at--) {
		if (code[at] == 0x31 && code[at + 1] == 0xc0 && leads_to_syscall(code, at + 2))
			return 0; // xor %eax, %eax
		if (at <= WINDOW - 7 && code[at] == 0xb8 && !code[at + 3] && !code[at + 4] &&
		    (at == 0 || (code[at - 1] & 0xf1) != 0x41) && leads_to_syscall(code, at + 5))
			return code[at + 1] | code[at + 2] << 8; // mov imm32, %eax
	}
	return number_in_register(code, uc);
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
	uint8_t code[WINDOW];
	bool own_mask;
	long number;

	if (uc->uc_mcontext.gregs[REG_RAX] != -EINTR || (uint64_t)uc->uc_mcontext.gregs[REG_RCX] != pc)
		return false;
	if (!code_before(pc, code) || code[WINDOW - 2] != 0x0f || code[WINDOW - 1] != 0x05)
		return false;
	number = call_number(code, uc);
	if (!restartable(number, &own_mask) || (!own_mask && other_signal_pending(uc)))
		return false;
	uc->uc_mcontext.gregs[REG_RAX] = number;
	uc->uc_mcontext.gregs[REG_RIP] = (greg_t)(pc - 2);
	return true;
}
