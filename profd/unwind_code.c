// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// unwind_code.c: see unwind_code.h; x86-64. Encodings: Intel SDM, volume 2, CALL and JMP, 2.1.5 (ModR/M, SIB). Handler.

#include "profd/unwind_code.h"

#include "profd/unwind_ahead.h"
#include "profd/unwind_step.h"

#define CALL_REL32 0xe8
#define GROUP_5 0xff       // /2: call r/m; /4: jmp r/m
#define CALL_AT_RIP 0x15ff // ff 15 disp32
#define JMP_AT_RIP 0x25ff  // ff 25 disp32
#define ENDBR64 0xfa1e0ff3u
#define BND 0xf2
#define JMP_REL32 0xe9
#define PUSH_IMM32 0x68
#define PUSH_RBP 0x55
#define POP_RBP 0x5d
#define MOV_RBP_RSP_STORE 0xe58948u // mov %rsp,%rbp in its two encodings: 48 89 e5
#define MOV_RBP_RSP_LOAD 0xec8b48u  // 48 8b ec
#define ADD_RSP_IMM8 0xc48348u      // 48 83 c4 imm8
#define FINI 0x08c4834808ec8348u    // crti.o's _fini: sub $8,%rsp; add $8,%rsp, and a ret
#define RET 0xc3
#define RET_IMM16 0xc2
#define REP 0xf3
#define MOV_RBX_RSP 0xdc8948u    // 48 89 dc
#define XOR_RDI_CALL 0xe8ff3148u // 48 31 ff e8 rel32
#define HLT 0xf4

// code: the 8 bytes before an address; back 1 is the last of them.
static uint8_t byte_back(uint64_t code, unsigned back)
{
	return (uint8_t)(code >> (64 - 8 * back));
}

// Bytes of call r/m with this ModR/M and SIB, prefixes left out; 0: another instruction.
static unsigned call_length(uint8_t modrm, uint8_t sib)
{
	unsigned mod = modrm >> 6, rm = modrm & 7, length = 2;

	if (((modrm >> 3) & 7) != 2)
		return 0;
	if (mod == 3)
		return length;
	if (rm == 4)
		length++;
	if (mod == 1)
		return length + 1;
	if (mod == 2 || rm == 5 || (rm == 4 && (sib & 7) == 5))
		return length + 4;
	return length;
}

// The word before a return address, or at it.
static bool load_before(struct profd_walk *walk, uint64_t address, uint64_t *ret_code)
{
	return profd_ahead_find(walk, address, address - 8, ret_code) ||
	       profd_walk_load_far(walk, address - 8, ret_code);
}

static bool load_at(struct profd_walk *walk, uint64_t address, uint64_t *ret_code)
{
	return profd_ahead_find(walk, address, address, ret_code) || profd_walk_load_far(walk, address, ret_code);
}

bool profd_code_follows_call(struct profd_walk *walk, uint64_t address)
{
	uint64_t code;

	if (address < WIRE_PAGE || address >= PROFD_ARCH_USER_TOP || !load_before(walk, address, &code))
		return false;
	if (byte_back(code, 5) == CALL_REL32)
		return true;
	for (unsigned back = 2; back <= 7; back++) {
		uint8_t sib = back > 2 ? byte_back(code, back - 2) : 0;

		if (byte_back(code, back) == GROUP_5 && call_length(byte_back(code, back - 1), sib) == back)
			return true;
	}
	return false;
}

// A PLT entry is a jump through a slot, behind an endbr64 or a bnd prefix or both or none: then the slot's value is meant.
static bool through_plt(struct profd_walk *walk, uint64_t *target)
{
	uint64_t at = *target, code;

	if (!profd_walk_load_far(walk, at, &code))
		return false;
	if ((uint32_t)code == ENDBR64) {
		at += 4;
		if (!profd_walk_load_far(walk, at, &code))
			return false;
	}
	if ((code & 0xff) == BND) {
		at++;
		code >>= 8;
	}
	if ((code & 0xffff) != JMP_AT_RIP)
		return true; // not a PLT entry: the target itself
	return profd_walk_load_far(walk, at + 6 + (uint64_t)(int64_t)(int32_t)(code >> 16), target);
}

bool profd_code_call_target(struct profd_walk *walk, uint64_t return_address, uint64_t *ret_target)
{
	uint64_t code, target;

	if (return_address < WIRE_PAGE || return_address >= PROFD_ARCH_USER_TOP ||
	    !load_before(walk, return_address, &code))
		return false;
	target = return_address + (uint64_t)(int64_t)(int32_t)(code >> 32);
	if (byte_back(code, 5) == CALL_REL32) {
		if (!through_plt(walk, &target))
			return false;
	} else if (((code >> 16) & 0xffff) != CALL_AT_RIP || !profd_walk_load_far(walk, target, &target)) {
		return false;
	}
	*ret_target = target;
	return true;
}

static bool is_ret(uint64_t code)
{
	uint8_t first = (uint8_t)code;

	return first == RET || first == RET_IMM16 || ((first == REP || first == BND) && (uint8_t)(code >> 8) == RET);
}

static bool is_move_to_fp(uint64_t code)
{
	return (code & 0xffffff) == MOV_RBP_RSP_STORE || (code & 0xffffff) == MOV_RBP_RSP_LOAD;
}

// A jump through a slot: a PLT entry, or a tail call, whose frame is gone. PLT entries that bind lazily push their number first.
static bool is_plt_entry(uint64_t code)
{
	if ((uint8_t)code == BND)
		code >>= 8;
	return (uint16_t)code == JMP_AT_RIP || ((uint8_t)code == PUSH_IMM32 && (uint8_t)(code >> 40) == JMP_REL32);
}

bool profd_code_return_slot(struct profd_walk *walk, uint64_t address, uint32_t *ret_offset, bool *ret_fp_saved)
{
	uint64_t code, before;
	uint32_t offset = 0;
	bool fp_saved = false;

	if (!profd_walk_load_far(walk, address, &code))
		return false;
	if ((uint32_t)code == ENDBR64 && !profd_walk_load_far(walk, address + 4, &code))
		return false;
	if (is_move_to_fp(code) && profd_walk_load_far(walk, address - 8, &before)) {
		fp_saved = byte_back(before, 1) == PUSH_RBP;
		if (!fp_saved)
			return false;
	} else if ((uint8_t)code == POP_RBP && is_ret(code >> 8)) {
		fp_saved = true;
	} else if ((code & 0xffffff) == ADD_RSP_IMM8 && is_ret(code >> 32)) {
		offset = (uint8_t)(code >> 24);
	} else if (!is_ret(code) && !is_plt_entry(code) && code != FINI &&
		   !((uint8_t)code == PUSH_RBP && is_move_to_fp(code >> 8))) {
		return false;
	}
	if (offset > INT8_MAX || offset % 8)
		return false;
	*ret_offset = offset + (fp_saved ? 8 : 0);
	*ret_fp_saved = fp_saved;
	return true;
}

bool profd_code_leaves_stack(struct profd_walk *walk, uint64_t address)
{
	uint64_t code, after;

	if (!load_at(walk, address, &code))
		return false;
	if ((uint32_t)code == XOR_RDI_CALL)
		return profd_walk_load_far(walk, address + 8, &after) && (uint8_t)after == HLT;
	return (code & 0xffffff) == MOV_RBX_RSP;
}
