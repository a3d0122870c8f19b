// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// unwind_code_aarch64.c: see unwind_code.h; aarch64. Encodings: Arm ARM (DDI 0487), C4.1 and C6.2. Handler.

#include "profd/unwind_code.h"

#include "profd/unwind_step.h"

#define MOV_X8_139 0xd2801168u // rt_sigreturn's number
#define SVC_0 0xd4000001u
#define NOP 0xd503201fu
#define BTI_C 0xd503245fu
#define MOV_X0_X19 0xaa1303e0u
#define CBNZ_X0 0xb5000000u // + imm19 << 5
#define CBNZ_MASK 0xff00001fu

static bool load_code(struct profd_walk *walk, uint64_t address, uint32_t *ret_code)
{
	uint64_t both;

	// An aligned load stays in the page that the instruction is in.
	if ((address & 3) || address < WIRE_PAGE || address >= PROFD_ARCH_USER_TOP ||
	    !profd_walk_load_far(walk, address & ~7ULL, &both))
		return false;
	*ret_code = (uint32_t)(address & 4 ? both >> 32 : both);
	return true;
}

static bool is_bl(uint32_t code)
{
	return (code & 0xfc000000) == 0x94000000;
}

// BLR, and the forms that authenticate: BLRAAZ, BLRABZ; BLRAA, BLRAB.
static bool is_blr(uint32_t code)
{
	return (code & 0xfffffc1f) == 0xd63f0000 || (code & 0xfffff81f) == 0xd63f081f ||
	       (code & 0xfffff800) == 0xd73f0800;
}

bool profd_code_follows_call(struct profd_walk *walk, uint64_t address)
{
	uint32_t code;

	return load_code(walk, address - 4, &code) && (is_bl(code) || is_blr(code));
}

static uint64_t sign_extend(uint64_t value, unsigned bits)
{
	return (uint64_t)((int64_t)(value << (64 - bits)) >> (64 - bits));
}

// ADRP x16, page: the page's address.
static bool adrp_x16(uint32_t code, uint64_t at, uint64_t *ret_page)
{
	uint64_t pages = (uint64_t)(code >> 5 & 0x7ffff) << 2 | (code >> 29 & 3);

	*ret_page = (at & ~0xfffULL) + (sign_extend(pages, 21) << 12);
	return (code & 0x9f00001f) == 0x90000010;
}

// A PLT entry is [bti c]; adrp x16, page; ldr x17, [x16, #slot]; add …; br x17: then the slot's value is meant.
static bool through_plt(struct profd_walk *walk, uint64_t *target)
{
	uint64_t at = *target, page;
	uint32_t code;

	if (!load_code(walk, at, &code))
		return false;
	if (code == BTI_C) {
		at += 4;
		if (!load_code(walk, at, &code))
			return false;
	}
	if (!adrp_x16(code, at, &page))
		return true; // not a PLT entry: the target itself
	if (!load_code(walk, at + 4, &code))
		return false;
	if ((code & 0xffc003ff) != 0xf9400211)
		return true;
	return profd_walk_load_far(walk, page + 8 * (uint64_t)(code >> 10 & 0xfff), target);
}

bool profd_code_call_target(struct profd_walk *walk, uint64_t return_address, uint64_t *ret_target)
{
	uint64_t target;
	uint32_t code;

	if (!load_code(walk, return_address - 4, &code) || !is_bl(code))
		return false;
	target = return_address - 4 + (sign_extend(code & 0x3ffffff, 26) << 2);
	if (!through_plt(walk, &target))
		return false;
	*ret_target = target;
	return true;
}

// glibc's __startcontext: [nop;] mov x0, x19; cbnz x0, setcontext.
bool profd_code_leaves_stack(struct profd_walk *walk, uint64_t address)
{
	uint32_t code;

	if (!load_code(walk, address, &code))
		return false;
	if (code == NOP) {
		address += 4;
		if (!load_code(walk, address, &code))
			return false;
	}
	return code == MOV_X0_X19 && load_code(walk, address + 4, &code) && (code & CBNZ_MASK) == CBNZ_X0;
}

bool profd_code_is_sigreturn(struct profd_walk *walk, uint64_t address)
{
	uint32_t code;

	if (!load_code(walk, address, &code))
		return false;
	if (code == MOV_X8_139)
		return load_code(walk, address + 4, &code) && code == SVC_0;
	return code == SVC_0 && load_code(walk, address - 4, &code) && code == MOV_X8_139;
}
