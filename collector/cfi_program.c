// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cfi_program.c: see cfi_program.h. Any thread of the collector; works on the caller's data only. Every loop consumes a
// byte of the program or ends, so a hostile program costs what it weighs.

#include "collector/cfi_program.h"

#include <dwarf.h>
#include <string.h>

#define REMEMBER_DEPTH 32
#define NO_REGISTER UINT64_MAX
#define CFA_AARCH64_NEGATE_RA_STATE_WITH_PC 0x2c // DWARF for the Arm 64-bit architecture, 2024Q1

// x86-64: the kernel's rt_sigframe, from SP at the trampoline: where glibc's __restore_rt says the registers are.
#define SIGNAL_FP 120
#define SIGNAL_PC 168
// aarch64: the size of the siginfo, behind which the ucontext is.
#define SIGNAL_UCONTEXT 128

// Columns of the table, by DWARF register number.
struct arch {
	uint64_t bx, fp, sp, ra;
	uint64_t general; // registers below are general ones; this one may be a CFA's base, too
	bool link;        // a call leaves the return address in its register, so an unsaved one is there
};

static const struct arch archs[CFI_ARCH_COUNT] = {
	[CFI_ARCH_X86_64] = {.bx = WIRE_BX, .fp = 6, .sp = 7, .ra = 16, .general = 16, .link = false},
	[CFI_ARCH_AARCH64] = {.bx = NO_REGISTER, .fp = 29, .sp = 31, .ra = 30, .general = 31, .link = true},
};

enum saved { SAVED_SAME, SAVED_OFFSET, SAVED_UNDEFINED, SAVED_AT_FP, SAVED_AT_SP, SAVED_REGISTER, SAVED_OTHER };

struct saved_rule {
	enum saved kind;
	int64_t offset;
};

struct row_state {
	bool cfa_expression; // cfa_block instead of register and offset
	uint64_t cfa_register;
	int64_t cfa_offset;
	const uint8_t *cfa_block, *cfa_block_end;
	struct saved_rule fp, bx, ra;
	struct saved_rule sp; // SAVED_SAME: the caller's SP is the CFA, as it is everywhere but in signal frames
};

struct machine {
	const struct cfi_fde *fde;
	const struct arch *arch;
	struct row_state state, initial;
	struct row_state remembered[REMEMBER_DEPTH]; // [0, depth)
	unsigned depth;
	bool in_cie;       // its instructions may not advance: they would be run for each FDE again
	uint64_t location; // where the current row starts
	cfi_row row;
	void *context;
	bool stopped;
};

uint64_t cfi_arch_return_column(enum cfi_arch arch)
{
	return archs[arch].ra;
}

bool cfi_read_uleb(const uint8_t **cursor, const uint8_t *end, uint64_t *ret_value)
{
	uint64_t value = 0;

	for (unsigned shift = 0; *cursor < end; shift += 7) {
		uint8_t byte = *(*cursor)++;

		if (shift < 64)
			value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80)) {
			*ret_value = value;
			return true;
		}
	}
	return false;
}

bool cfi_read_sleb(const uint8_t **cursor, const uint8_t *end, int64_t *ret_value)
{
	uint64_t value = 0;

	for (unsigned shift = 0; *cursor < end;) {
		uint8_t byte = *(*cursor)++;

		if (shift < 64)
			value |= (uint64_t)(byte & 0x7f) << shift;
		shift += 7;
		if (!(byte & 0x80)) {
			if (shift < 64 && (byte & 0x40))
				value |= ~0ULL << shift;
			*ret_value = (int64_t)value;
			return true;
		}
	}
	return false;
}

static bool read_fixed(const uint8_t **cursor, const uint8_t *end, unsigned size, uint64_t *ret_value)
{
	uint64_t value = 0;

	if ((uint64_t)(end - *cursor) < size)
		return false;
	memcpy(&value, *cursor, size); // little-endian, as the machines we know
	*cursor += size;
	*ret_value = value;
	return true;
}

static bool read_block(const uint8_t **cursor, const uint8_t *end, const uint8_t **ret_block, const uint8_t **ret_end)
{
	uint64_t size;

	if (!cfi_read_uleb(cursor, end, &size) || size > (uint64_t)(end - *cursor))
		return false;
	*ret_block = *cursor;
	*ret_end = *cursor + size;
	*cursor += size;
	return true;
}

// ---- From a row's state to a rule ----------------------------------------------------------------------------------

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

static bool fits(int64_t value, int64_t limit)
{
	return value >= -limit && value < limit;
}

// bregN offset [deref [plus_uconst offset2]]
static bool cfa_from_block(const struct arch *arch, const uint8_t *block, const uint8_t *end, struct wire_rule *rule)
{
	const uint8_t *cursor = block;
	uint64_t plus = 0;
	int64_t offset;
	unsigned reg;

	if (!arch->link && is_plt(block, end, &rule->off)) {
		rule->cfa = WIRE_CFA_PLT;
		return true;
	}
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

static bool set_cfa(const struct arch *arch, const struct row_state *state, struct wire_rule *rule)
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

static bool set_saved(const struct saved_rule *saved, uint8_t *ret_kind, int16_t *ret_offset)
{
	*ret_offset = 0;
	switch (saved->kind) {
	case SAVED_SAME:
		*ret_kind = WIRE_SAVED_SAME;
		return true;
	case SAVED_UNDEFINED:
		*ret_kind = WIRE_SAVED_UNDEF;
		return true;
	case SAVED_OFFSET:
	case SAVED_AT_FP:
		if (!fits(saved->offset, INT16_MAX))
			return false;
		*ret_kind = saved->kind == SAVED_OFFSET ? WIRE_SAVED_AT : WIRE_SAVED_AT_FP;
		*ret_offset = (int16_t)saved->offset;
		return true;
	default:
		return false;
	}
}

// An FDE marked 'S' is a signal trampoline. Only the kernel's own frame has a rule; anything else would be a guess.
static bool is_x86_signal_frame(const struct row_state *state)
{
	static const uint8_t cfa[] = {DW_OP_breg7, 0xa0, 0x01, DW_OP_deref}; // 160 = SIGNAL_SP, as SLEB128

	return state->cfa_expression && state->cfa_block_end - state->cfa_block == sizeof(cfa) &&
	       memcmp(state->cfa_block, cfa, sizeof(cfa)) == 0 && state->ra.kind == SAVED_AT_SP &&
	       state->ra.offset == SIGNAL_PC && state->fp.kind == SAVED_AT_SP && state->fp.offset == SIGNAL_FP;
}

// Before Linux 5.8 the vDSO's trampoline had CFI: the frame record that the kernel puts below the signal frame, at x29. The
// interrupted registers are where they always are.
static bool is_arm_signal_frame(const struct row_state *state)
{
	const struct arch *arch = &archs[CFI_ARCH_AARCH64];

	return !state->cfa_expression && state->cfa_register == arch->fp && state->cfa_offset == 0 &&
	       state->ra.kind == SAVED_OFFSET && state->ra.offset == 8 && state->fp.kind == SAVED_OFFSET &&
	       state->fp.offset == 0;
}

static void make_signal_rule(const struct machine *machine, struct wire_rule *rule)
{
	bool arm = machine->fde->arch == CFI_ARCH_AARCH64;

	if (!(arm ? is_arm_signal_frame(&machine->state) : is_x86_signal_frame(&machine->state)))
		return;
	rule->cfa = WIRE_CFA_SIGNAL;
	rule->off = arm ? SIGNAL_UCONTEXT : 0;
}

static bool set_return_address(const struct arch *arch, const struct saved_rule *ra, struct wire_rule *rule)
{
	if (ra->kind != SAVED_REGISTER)
		return set_saved(ra, &rule->ra, &rule->ra_off) &&
		       (rule->ra == WIRE_SAVED_AT || (arch->link && rule->ra == WIRE_SAVED_SAME));
	if (rule->cfa == WIRE_CFA_REG || ra->offset < 0 || (uint64_t)ra->offset >= arch->general)
		return false;
	rule->ra = WIRE_SAVED_REG;
	rule->reg = (uint8_t)ra->offset;
	return true;
}

// aarch64 saves its registers below what else a frame has: wire.h's off2 is how far, where an int16_t is too small.
static void set_far_base(struct saved_rule *ra, struct saved_rule *fp, struct wire_rule *rule)
{
	bool loads = rule->cfa == WIRE_CFA_FP_DEREF || rule->cfa == WIRE_CFA_SP_DEREF;

	if (loads || ra->kind != SAVED_OFFSET || fits(ra->offset, INT16_MAX) || !fits(ra->offset, INT32_MAX))
		return;
	rule->off2 = (int32_t)ra->offset;
	if (fp->kind == SAVED_OFFSET)
		fp->offset = (int64_t)((uint64_t)fp->offset - (uint64_t)ra->offset);
	ra->offset = 0;
}

// CFA, caller's FP and return address of an ordinary frame; false: what holds there has no rule.
static bool make_frame_rule(const struct arch *arch, const struct row_state *state, struct wire_rule *rule)
{
	struct saved_rule ra = state->ra, fp = state->fp;

	if (state->sp.kind != SAVED_SAME || !set_cfa(arch, state, rule))
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
	return true;
}

static void make_rule(const struct machine *machine, struct wire_rule *rule)
{
	const struct row_state *state = &machine->state;

	memset(rule, 0, sizeof(*rule));
	if (machine->fde->signal_frame) {
		make_signal_rule(machine, rule);
	} else if (state->ra.kind == SAVED_UNDEFINED) {
		rule->cfa = WIRE_CFA_SP; // never used: the walk ends here
		rule->ra = WIRE_SAVED_UNDEF;
	} else if (!make_frame_rule(machine->arch, state, rule)) {
		memset(rule, 0, sizeof(*rule)); // WIRE_CFA_NONE
	}
}

static void emit_until(struct machine *machine, uint64_t next)
{
	struct wire_rule rule;

	if (next <= machine->location)
		return;
	if (next > machine->fde->end)
		next = machine->fde->end;
	if (machine->location < next && !machine->stopped) {
		make_rule(machine, &rule);
		machine->stopped = !machine->row(machine->context, machine->location, next, &rule);
	}
	machine->location = next;
}

// ---- The instructions ----------------------------------------------------------------------------------------------

static struct saved_rule *saved_of(const struct arch *arch, struct row_state *state, uint64_t reg)
{
	if (reg == arch->fp)
		return &state->fp;
	if (reg == arch->bx)
		return &state->bx;
	if (reg == arch->ra)
		return &state->ra;
	return reg == arch->sp ? &state->sp : NULL;
}

static void set_rule(struct machine *machine, uint64_t reg, enum saved kind, int64_t offset)
{
	struct saved_rule *saved = saved_of(machine->arch, &machine->state, reg);

	if (saved)
		*saved = (struct saved_rule){kind, offset};
}

static void restore_rule(struct machine *machine, uint64_t reg)
{
	const struct saved_rule *saved = saved_of(machine->arch, &machine->initial, reg);

	if (saved)
		set_rule(machine, reg, saved->kind, saved->offset);
}

// DW_CFA_val_offset: the register's value is CFA + offset, which says what we take for granted when it is SP and 0.
static void set_value(struct machine *machine, uint64_t reg, int64_t offset)
{
	set_rule(machine, reg, reg == machine->arch->sp && offset == 0 ? SAVED_SAME : SAVED_OTHER, 0);
}

static int64_t scaled(const struct machine *machine, uint64_t factored)
{
	return (int64_t)(factored * (uint64_t)machine->fde->data_align);
}

// DW_CFA_expression: the register is saved at the address that the block computes. FP + N is gcc's way after realignment on x86-64,
// SP + N the signal trampolines'.
static void set_expression(struct machine *machine, uint64_t reg, const uint8_t *block, const uint8_t *end)
{
	uint64_t base = block < end ? *block++ - (uint64_t)DW_OP_breg0 : NO_REGISTER;
	const struct arch *arch = machine->arch;
	int64_t offset;

	if ((base == arch->fp || base == arch->sp) && cfi_read_sleb(&block, end, &offset) && block == end)
		set_rule(machine, reg, base == arch->fp ? SAVED_AT_FP : SAVED_AT_SP, offset);
	else
		set_rule(machine, reg, SAVED_OTHER, 0);
}

static bool advance(struct machine *machine, uint64_t delta)
{
	uint64_t next;

	if (machine->in_cie || __builtin_mul_overflow(delta, machine->fde->code_align, &next) ||
	    __builtin_add_overflow(next, machine->location, &next))
		return false;
	emit_until(machine, next);
	return true;
}

static bool run_location(struct machine *machine, uint8_t op, const uint8_t **cursor, const uint8_t *end)
{
	uint64_t value;

	switch (op) {
	case DW_CFA_advance_loc1:
		return read_fixed(cursor, end, 1, &value) && advance(machine, value);
	case DW_CFA_advance_loc2:
		return read_fixed(cursor, end, 2, &value) && advance(machine, value);
	case DW_CFA_advance_loc4:
		return read_fixed(cursor, end, 4, &value) && advance(machine, value);
	case DW_CFA_set_loc:
		if (machine->in_cie || machine->fde->pointer_encoding != DW_EH_PE_absptr ||
		    !read_fixed(cursor, end, 8, &value))
			return false;
		emit_until(machine, value);
		return true;
	default:
		return false;
	}
}

static bool run_cfa(struct machine *machine, uint8_t op, const uint8_t **cursor, const uint8_t *end)
{
	struct row_state *state = &machine->state;
	uint64_t value;
	int64_t offset;

	switch (op) {
	case DW_CFA_def_cfa:
		state->cfa_expression = false;
		if (!cfi_read_uleb(cursor, end, &state->cfa_register) || !cfi_read_uleb(cursor, end, &value))
			return false;
		state->cfa_offset = (int64_t)value;
		return true;
	case DW_CFA_def_cfa_sf:
		state->cfa_expression = false;
		if (!cfi_read_uleb(cursor, end, &state->cfa_register) || !cfi_read_sleb(cursor, end, &offset))
			return false;
		state->cfa_offset = scaled(machine, (uint64_t)offset);
		return true;
	case DW_CFA_def_cfa_register:
		state->cfa_expression = false;
		return cfi_read_uleb(cursor, end, &state->cfa_register);
	case DW_CFA_def_cfa_offset:
		if (!cfi_read_uleb(cursor, end, &value))
			return false;
		state->cfa_offset = (int64_t)value;
		return true;
	case DW_CFA_def_cfa_offset_sf:
		if (!cfi_read_sleb(cursor, end, &offset))
			return false;
		state->cfa_offset = scaled(machine, (uint64_t)offset);
		return true;
	case DW_CFA_def_cfa_expression:
		state->cfa_expression = true;
		return read_block(cursor, end, &state->cfa_block, &state->cfa_block_end);
	default:
		return false;
	}
}

// Instructions with a register first, then nothing, an offset or a block.
static bool run_register(struct machine *machine, uint8_t op, const uint8_t **cursor, const uint8_t *end)
{
	const uint8_t *block, *block_end;
	uint64_t reg, value;
	int64_t offset;

	if (!cfi_read_uleb(cursor, end, &reg))
		return false;
	switch (op) {
	case DW_CFA_offset_extended:
	case DW_CFA_GNU_negative_offset_extended:
		if (!cfi_read_uleb(cursor, end, &value))
			return false;
		offset = scaled(machine, value);
		set_rule(machine, reg, SAVED_OFFSET,
			 op == DW_CFA_offset_extended ? offset : (int64_t)(0 - (uint64_t)offset));
		return true;
	case DW_CFA_offset_extended_sf:
		if (!cfi_read_sleb(cursor, end, &offset))
			return false;
		set_rule(machine, reg, SAVED_OFFSET, scaled(machine, (uint64_t)offset));
		return true;
	case DW_CFA_restore_extended:
		restore_rule(machine, reg);
		return true;
	case DW_CFA_undefined:
		set_rule(machine, reg, SAVED_UNDEFINED, 0);
		return true;
	case DW_CFA_same_value:
		set_rule(machine, reg, SAVED_SAME, 0);
		return true;
	case DW_CFA_register:
		if (!cfi_read_uleb(cursor, end, &value))
			return false;
		set_rule(machine, reg,
			 reg == machine->arch->ra && value < machine->arch->general ? SAVED_REGISTER : SAVED_OTHER,
			 (int64_t)value);
		return true;
	case DW_CFA_val_offset:
		if (!cfi_read_uleb(cursor, end, &value))
			return false;
		set_value(machine, reg, scaled(machine, value));
		return true;
	case DW_CFA_val_offset_sf:
		if (!cfi_read_sleb(cursor, end, &offset))
			return false;
		set_value(machine, reg, scaled(machine, (uint64_t)offset));
		return true;
	case DW_CFA_expression:
	case DW_CFA_val_expression:
		if (!read_block(cursor, end, &block, &block_end))
			return false;
		if (op == DW_CFA_expression)
			set_expression(machine, reg, block, block_end);
		else
			set_rule(machine, reg, SAVED_OTHER, 0);
		return true;
	default:
		return false;
	}
}

static bool run_other(struct machine *machine, uint8_t op, const uint8_t **cursor, const uint8_t *end)
{
	uint64_t value;

	switch (op) {
	case DW_CFA_nop:
		return true;
	case DW_CFA_remember_state:
		if (machine->depth == REMEMBER_DEPTH)
			return false;
		machine->remembered[machine->depth++] = machine->state;
		return true;
	case DW_CFA_restore_state:
		if (!machine->depth)
			return false;
		machine->state = machine->remembered[--machine->depth];
		return true;
	case DW_CFA_AARCH64_negate_ra_state: // signed from here on, or no more: whoever reads an address takes the signature out
	case CFA_AARCH64_NEGATE_RA_STATE_WITH_PC:
		return machine->fde->arch == CFI_ARCH_AARCH64;
	case DW_CFA_GNU_args_size:
		return cfi_read_uleb(cursor, end, &value);
	default:
		return run_location(machine, op, cursor, end) || run_cfa(machine, op, cursor, end) ||
		       run_register(machine, op, cursor, end);
	}
}

static bool run(struct machine *machine, const uint8_t *cursor, const uint8_t *end)
{
	while (cursor < end && !machine->stopped && machine->location < machine->fde->end) {
		uint8_t op = *cursor++;
		uint64_t operand;

		switch (op & 0xc0) {
		case DW_CFA_advance_loc:
			if (!advance(machine, op & 0x3f))
				return false;
			break;
		case DW_CFA_offset:
			if (!cfi_read_uleb(&cursor, end, &operand))
				return false;
			set_rule(machine, op & 0x3f, SAVED_OFFSET, scaled(machine, operand));
			break;
		case DW_CFA_restore:
			restore_rule(machine, op & 0x3f);
			break;
		default:
			if (!run_other(machine, op, &cursor, end))
				return false;
		}
	}
	return true;
}

static bool run_both(struct machine *machine)
{
	machine->in_cie = true;
	if (!run(machine, machine->fde->initial, machine->fde->initial_end))
		return false;
	machine->in_cie = false;
	machine->initial = machine->state;
	machine->depth = 0;
	return run(machine, machine->fde->program, machine->fde->program_end);
}

bool cfi_program_run(const struct cfi_fde *fde, cfi_row row, void *context)
{
	struct machine machine;
	bool whole;

	machine.fde = fde;
	machine.arch = &archs[fde->arch];
	machine.row = row;
	machine.context = context;
	machine.location = fde->start;
	machine.stopped = false;
	machine.depth = 0;
	memset(&machine.state, 0, sizeof(machine.state));
	machine.state.ra.kind = machine.arch->link ? SAVED_SAME : SAVED_OTHER;
	machine.state.cfa_register = NO_REGISTER; // not defined yet
	machine.initial = machine.state;
	whole = run_both(&machine);
	if (!whole) { // the rest has no rule
		machine.state.cfa_expression = false;
		machine.state.cfa_register = NO_REGISTER;
		machine.state.ra.kind = SAVED_OTHER;
	}
	emit_until(&machine, fde->end);
	return whole;
}
