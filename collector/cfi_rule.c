// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cfi_rule.c: see cfi_rule.h. Any thread of the collector; works on the caller's data only.

#include "collector/cfi_rule.h"

#include <dwarf.h>
#include <string.h>

// x86-64: the kernel's rt_sigframe, from SP at the trampoline: where glibc's __restore_rt says the registers are.
#define SIGNAL_FP 120
#define SIGNAL_PC 168
// aarch64: the size of the siginfo, behind which the ucontext is.
#define SIGNAL_UCONTEXT 128

const struct cfi_columns cfi_columns_of[CFI_ARCH_COUNT] = {
	[CFI_ARCH_X86_64] = {.bx = WIRE_BX, .fp = 6, .sp = 7, .ra = 16, .landing = 0, .general = 16, .link = false},
	[CFI_ARCH_AARCH64] =
		{.bx = CFI_NO_REGISTER, .fp = 29, .sp = 31, .ra = 30, .landing = 0, .general = 31, .link = true},
};

uint64_t cfi_arch_return_column(enum cfi_arch arch)
{
	return cfi_columns_of[arch].ra;
}

// breg7 8; breg16 0; lit15; and; litN; ge; lit3; shl; plus: what linkers write for x86-64's PLT. N is where the push is done.
static bool is_plt(const uint8_t *block, const uint8_t *end, int32_t *ret_n)
{
	static const uint8_t head[] = {DW_OP_breg7, 8, DW_OP_breg16, 0, DW_OP_lit15, DW_OP_and};
	static const uint8_t tail[] = {DW_OP_ge, DW_OP_lit3, DW_OP_shl, DW_OP_plus};

	if (end - block != sizeof(head) + 1 + sizeof(tail) || memcmp(block, head, sizeof(head)) != 0 ||
	    memcmp(block + sizeof(head) + 1, tail, sizeof(tail)) != 0)
		return false;
	*ret_n = block[sizeof(head)] - DW_OP_lit0;
	return *ret_n >= 0 && *ret_n < 16;
}

// breg7 off; bregN 0; lit8; mul; plus; deref; plus_uconst off2: OpenSSL's frames of as many words as a register says. Both offsets
// are small: one byte each.
static bool is_indexed(const uint8_t *block, const uint8_t *end, struct wire_rule *rule)
{
	static const uint8_t tail[] = {0, DW_OP_lit8, DW_OP_mul, DW_OP_plus, DW_OP_deref, DW_OP_plus_uconst};

	if (end - block != 4 + sizeof(tail) || block[0] != DW_OP_breg7 || block[1] >= 64 || block[2] < DW_OP_breg0 ||
	    block[2] > DW_OP_breg15 || memcmp(block + 3, tail, sizeof(tail)) != 0 || end[-1] >= 128)
		return false;
	rule->cfa = WIRE_CFA_INDEXED;
	rule->reg = block[2] - DW_OP_breg0;
	rule->off = block[1];
	rule->off2 = end[-1];
	return true;
}

static bool fits(int64_t value, int64_t limit)
{
	return value >= -limit && value < limit;
}

// bregN offset [deref [plus_uconst offset2]]
static bool cfa_from_block(const struct cfi_columns *arch, const uint8_t *block, const uint8_t *end,
			   struct wire_rule *rule)
{
	const uint8_t *cursor = block;
	uint64_t plus = 0;
	int64_t offset;
	unsigned reg;

	if (!arch->link && is_plt(block, end, &rule->off)) {
		rule->cfa = WIRE_CFA_PLT;
		return true;
	}
	if (!arch->link && is_indexed(block, end, rule))
		return true;
	if (cursor >= end || *cursor < DW_OP_breg0 || *cursor > DW_OP_breg0 + arch->general)
		return false;
	reg = *cursor++ - DW_OP_breg0;
	if (!cfi_read_sleb(&cursor, end, &offset) || !fits(offset, INT32_MAX))
		return false;
	rule->off = (int32_t)offset;
	if (cursor == end) {
		rule->cfa = reg == arch->sp ? WIRE_CFA_SP : reg == arch->fp ? WIRE_CFA_FP : WIRE_CFA_REG;
		rule->reg = (uint8_t)(rule->cfa == WIRE_CFA_REG ? reg : 0);
		return true;
	}
	if (*cursor++ != DW_OP_deref || (reg != arch->sp && reg != arch->fp))
		return false;
	if (cursor < end &&
	    (*cursor++ != DW_OP_plus_uconst || !cfi_read_uleb(&cursor, end, &plus) || plus >= INT32_MAX))
		return false;
	rule->off2 = (int32_t)plus;
	rule->cfa = reg == arch->sp ? WIRE_CFA_SP_DEREF : WIRE_CFA_FP_DEREF;
	return cursor == end;
}

static bool set_cfa(const struct cfi_columns *arch, const struct cfi_row_state *state, struct wire_rule *rule)
{
	if (state->cfa_expression)
		return cfa_from_block(arch, state->cfa_block, state->cfa_block_end, rule);
	if (!fits(state->cfa_offset, INT32_MAX) || state->cfa_register > arch->general)
		return false;
	rule->off = (int32_t)state->cfa_offset;
	if (state->cfa_register == arch->sp) {
		rule->cfa = WIRE_CFA_SP;
	} else if (state->cfa_register == arch->fp) {
		rule->cfa = WIRE_CFA_FP;
	} else {
		rule->cfa = WIRE_CFA_REG;
		rule->reg = (uint8_t)state->cfa_register;
	}
	return true;
}

static bool set_saved(const struct cfi_saved *saved, uint8_t *ret_kind, int16_t *ret_offset)
{
	*ret_offset = 0;
	switch (saved->kind) {
	case CFI_SAVED_SAME:
		*ret_kind = WIRE_SAVED_SAME;
		return true;
	case CFI_SAVED_UNDEFINED:
		*ret_kind = WIRE_SAVED_UNDEF;
		return true;
	case CFI_SAVED_OFFSET:
	case CFI_SAVED_AT_FP:
		if (!fits(saved->offset, INT16_MAX))
			return false;
		*ret_kind = saved->kind == CFI_SAVED_OFFSET ? WIRE_SAVED_AT : WIRE_SAVED_AT_FP;
		*ret_offset = (int16_t)saved->offset;
		return true;
	default:
		return false;
	}
}

// An FDE marked 'S' is a signal trampoline. Only the kernel's own frame has a rule; anything else would be a guess.
static bool is_x86_signal_frame(const struct cfi_row_state *state)
{
	static const uint8_t cfa[] = {DW_OP_breg7, 0xa0, 0x01, DW_OP_deref}; // 160 = SIGNAL_SP, as SLEB128

	return state->cfa_expression && state->cfa_block_end - state->cfa_block == sizeof(cfa) &&
	       memcmp(state->cfa_block, cfa, sizeof(cfa)) == 0 && state->ra.kind == CFI_SAVED_AT_SP &&
	       state->ra.offset == SIGNAL_PC && state->fp.kind == CFI_SAVED_AT_SP && state->fp.offset == SIGNAL_FP;
}

// Before Linux 5.8 the vDSO's trampoline had CFI: the frame record that the kernel puts below the signal frame, at x29. The
// interrupted registers are where they always are.
static bool is_arm_signal_frame(const struct cfi_row_state *state)
{
	const struct cfi_columns *arch = &cfi_columns_of[CFI_ARCH_AARCH64];

	return !state->cfa_expression && state->cfa_register == arch->fp && state->cfa_offset == 0 &&
	       state->ra.kind == CFI_SAVED_OFFSET && state->ra.offset == 8 && state->fp.kind == CFI_SAVED_OFFSET &&
	       state->fp.offset == 0;
}

static void make_signal_rule(const struct cfi_row_state *state, enum cfi_arch arch, struct wire_rule *rule)
{
	bool arm = arch == CFI_ARCH_AARCH64;

	if (!(arm ? is_arm_signal_frame(state) : is_x86_signal_frame(state)))
		return;
	rule->cfa = WIRE_CFA_SIGNAL;
	rule->off = arm ? SIGNAL_UCONTEXT : 0;
}

static bool set_return_address(const struct cfi_columns *arch, const struct cfi_saved *ra, struct wire_rule *rule)
{
	if (ra->kind != CFI_SAVED_REGISTER)
		return set_saved(ra, &rule->ra, &rule->ra_off) &&
		       (rule->ra == WIRE_SAVED_AT || (arch->link && rule->ra == WIRE_SAVED_SAME));
	if (rule->cfa == WIRE_CFA_REG || rule->cfa == WIRE_CFA_INDEXED || ra->offset < 0 ||
	    (uint64_t)ra->offset >= arch->general)
		return false;
	rule->ra = WIRE_SAVED_REG;
	rule->reg = (uint8_t)ra->offset;
	return true;
}

// aarch64 saves its registers below what else a frame has: wire.h's off2 is how far, where an int16_t is too small.
static void set_far_base(struct cfi_saved *ra, struct cfi_saved *fp, struct wire_rule *rule)
{
	bool loads = rule->cfa == WIRE_CFA_FP_DEREF || rule->cfa == WIRE_CFA_SP_DEREF;

	if (loads || ra->kind != CFI_SAVED_OFFSET || fits(ra->offset, INT16_MAX) || !fits(ra->offset, INT32_MAX))
		return;
	rule->off2 = (int32_t)ra->offset;
	if (fp->kind == CFI_SAVED_OFFSET)
		fp->offset = (int64_t)((uint64_t)fp->offset - (uint64_t)ra->offset);
	ra->offset = 0;
}

// CFA, caller's FP and return address of an ordinary frame; false: what holds there has no rule.
static bool make_frame_rule(const struct cfi_columns *arch, const struct cfi_row_state *state, struct wire_rule *rule)
{
	struct cfi_saved ra = state->ra, fp = state->fp;

	if (state->sp.kind != CFI_SAVED_SAME || !set_cfa(arch, state, rule))
		return false;
	if (arch->link)
		set_far_base(&ra, &fp, rule);
	if (!set_return_address(arch, &ra, rule))
		return false;
	// Where FP went is not worth losing the frame for: without it, only callers that need it stop the walk.
	if (!set_saved(&fp, &rule->fp, &rule->fp_off))
		rule->fp = WIRE_SAVED_UNDEF;
	if (!set_saved(&state->bx, &rule->bx, &rule->bx_off) || rule->bx == WIRE_SAVED_AT_FP) {
		rule->bx = WIRE_SAVED_UNDEF;
		rule->bx_off = 0;
	}
	rule->lands = state->landing.kind == CFI_SAVED_OFFSET;
	return true;
}

void cfi_rule_make(const struct cfi_row_state *state, enum cfi_arch arch, bool signal_frame, struct wire_rule *ret_rule)
{
	memset(ret_rule, 0, sizeof(*ret_rule));
	if (signal_frame) {
		make_signal_rule(state, arch, ret_rule);
	} else if (state->ra.kind == CFI_SAVED_UNDEFINED) {
		ret_rule->cfa = WIRE_CFA_SP; // never used: the walk ends here
		ret_rule->ra = WIRE_SAVED_UNDEF;
	} else if (!make_frame_rule(&cfi_columns_of[arch], state, ret_rule)) {
		memset(ret_rule, 0, sizeof(*ret_rule)); // WIRE_CFA_NONE
	}
}
