// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// unwind_arch.h: what the walkers have to know of the machine: registers by DWARF number, what lies where in the kernel's signal
// frame, how a return address is kept. Handler. Nothing here costs the other machine anything: all of it is constant. What
// instructions look like is in unwind_code.c (x86-64) and unwind_code_aarch64.c.
//
//   PROFD_ARCH_REGS, _SP, _FP, _PC  registers of a context: how many, and three of them
//   PROFD_ARCH_LINK                 the register that a call puts the return address in; 0: the call pushes it
//   PROFD_ARCH_KEPT                 the register that is carried from frame to frame on request
//   PROFD_ARCH_USER_TOP             first address that is no program's
//   PROFD_ARCH_RECORD_TOPS_FRAME    a frame record (FP, return address) is the frame's last two words: behind it is the CFA.
//                                   Otherwise SP is only known to be above the record.
//   PROFD_ARCH_SIGRETURN_BY_CODE    the signal trampoline has no CFI: it is known by its instructions
//   PROFD_ARCH_UCONTEXT             where the signal frame has the ucontext, from SP at the trampoline
//   PROFD_ARCH_SIGNAL_RECORD        and where above it a frame record (x86-64: none)
//   PROFD_CACHE_…                   see unwind_cache.h

#ifndef PROFD_UNWIND_ARCH_H
#define PROFD_UNWIND_ARCH_H

#include <stdbool.h>
#include <stdint.h>

#include "profd/wire.h"

#if defined(__x86_64__)

#define PROFD_ARCH_MACHINE WIRE_MACHINE_X86_64
#define PROFD_ARCH_REGS 17
#define PROFD_ARCH_FP 6
#define PROFD_ARCH_SP 7
#define PROFD_ARCH_PC 16
#define PROFD_ARCH_LINK 0
#define PROFD_ARCH_KEPT WIRE_BX
#define PROFD_ARCH_USER_TOP (1ULL << 47)
#define PROFD_ARCH_RECORD_TOPS_FRAME 1
#define PROFD_ARCH_SIGRETURN_BY_CODE 0
#define PROFD_ARCH_UCONTEXT 0
#define PROFD_ARCH_SIGNAL_RECORD 0

#define PROFD_CACHE_ADDRESS_SHIFT 29
#define PROFD_CACHE_BELOW_BITS 8
#define PROFD_CACHE_OFF_SHIFT 3
#define PROFD_CACHE_OFF_BITS 15
#define PROFD_CACHE_OFF_UNIT 8

// From the ucontext: asm/sigcontext.h.
static inline uint32_t profd_arch_ucontext_offset(uint8_t reg)
{
	static const uint8_t offsets[PROFD_ARCH_REGS] = {144, 136, 152, 128, 112, 104, 120, 160, 40,
							 48,  56,  64,  72,  80,  88,  96,  168};

	return offsets[reg];
}

static inline uint64_t profd_arch_strip(uint64_t return_address)
{
	return return_address;
}

static inline bool profd_arch_is_pc(uint64_t pc)
{
	return pc < PROFD_ARCH_USER_TOP;
}

#elif defined(__aarch64__)

#define PROFD_ARCH_MACHINE WIRE_MACHINE_AARCH64
#define PROFD_ARCH_REGS 33 // x0–x30, SP; and the PC, which has no number of its own in older versions of the ABI
#define PROFD_ARCH_FP 29
#define PROFD_ARCH_SP 31
#define PROFD_ARCH_PC 32
#define PROFD_ARCH_LINK 30
#define PROFD_ARCH_KEPT 0xff // none
#define PROFD_ARCH_USER_TOP (1ULL << 48)
#define PROFD_ARCH_RECORD_TOPS_FRAME 0
#define PROFD_ARCH_SIGRETURN_BY_CODE 1 // Linux 5.8 took the CFI away from it, and musl's has none either
#define PROFD_ARCH_UCONTEXT 128        // behind the siginfo
#define PROFD_ARCH_SIGNAL_RECORD 4688 // behind the ucontext, whose last 4 KiB take all vectors but those above 512 bits

#define PROFD_CACHE_ADDRESS_SHIFT 28
#define PROFD_CACHE_BELOW_BITS 12
#define PROFD_CACHE_OFF_SHIFT 0
#define PROFD_CACHE_OFF_BITS 13
#define PROFD_CACHE_OFF_UNIT 16

// asm-generic/ucontext.h: uc_mcontext, aligned to 16, is at 176; asm/sigcontext.h: regs[31], sp and pc are behind 8 bytes.
static inline uint32_t profd_arch_ucontext_offset(uint8_t reg)
{
	return 176 + 8 + 8 * (uint32_t)reg;
}

// xpaclri: takes the signature out of x30, however many bits the kernel's addresses leave for it; an older CPU does nothing.
static inline uint64_t profd_arch_strip(uint64_t return_address)
{
	register uint64_t x30 __asm__("x30") = return_address;

	__asm__("hint #7" : "+r"(x30));
	return x30;
}

static inline bool profd_arch_is_pc(uint64_t pc)
{
	return pc < PROFD_ARCH_USER_TOP && !(pc & 3);
}

#else
#error "the walkers know x86-64 and aarch64"
#endif

#endif
