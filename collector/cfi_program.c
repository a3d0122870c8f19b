// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cfi_program.c: see cfi_program.h. Any thread of the collector; works on the caller's data only. Every loop consumes a
// byte of the program or ends, so a hostile program costs what it weighs.

#include "collector/cfi_program.h"

#include <dwarf.h>
#include <string.h>

#include "collector/cfi_rule.h"

#define REMEMBER_DEPTH 32
#define CFA_AARCH64_NEGATE_RA_STATE_WITH_PC 0x2c // DWARF for the Arm 64-bit architecture, 2024Q1

struct machine {
	const struct cfi_fde *fde;
	const struct cfi_columns *arch;
	struct cfi_row_state state, initial;
	struct cfi_row_state remembered[REMEMBER_DEPTH]; // [0, depth)
	unsigned depth;
	bool in_cie;       // its instructions may not advance: they would be run for each FDE again
	uint64_t location; // where the current row starts
	cfi_row row;
	void *context;
	bool stopped;
};

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

static void emit_until(struct machine *machine, uint64_t next)
{
	struct wire_rule rule;

	if (next <= machine->location)
		return;
	if (next > machine->fde->end)
		next = machine->fde->end;
	if (machine->location < next && !machine->stopped) {
		cfi_rule_make(&machine->state, machine->fde->arch, machine->fde->signal_frame, &rule);
		machine->stopped = !machine->row(machine->context, machine->location, next, &rule);
	}
	machine->location = next;
}

// ---- The instructions ----------------------------------------------------------------------------------------------

static struct cfi_saved *saved_of(const struct cfi_columns *arch, struct cfi_row_state *state, uint64_t reg)
{
	if (reg == arch->fp)
		return &state->fp;
	if (reg == arch->bx)
		return &state->bx;
	if (reg == arch->ra)
		return &state->ra;
	if (reg == arch->landing)
		return &state->landing;
	return reg == arch->sp ? &state->sp : NULL;
}

static void set_rule(struct machine *machine, uint64_t reg, enum cfi_saved_kind kind, int64_t offset)
{
	struct cfi_saved *saved = saved_of(machine->arch, &machine->state, reg);

	if (saved)
		*saved = (struct cfi_saved){kind, offset};
}

static void restore_rule(struct machine *machine, uint64_t reg)
{
	const struct cfi_saved *saved = saved_of(machine->arch, &machine->initial, reg);

	if (saved)
		set_rule(machine, reg, saved->kind, saved->offset);
}

// DW_CFA_val_offset: the register's value is CFA + offset, which says what we take for granted when it is SP and 0.
static void set_value(struct machine *machine, uint64_t reg, int64_t offset)
{
	set_rule(machine, reg, reg == machine->arch->sp && offset == 0 ? CFI_SAVED_SAME : CFI_SAVED_OTHER, 0);
}

static int64_t scaled(const struct machine *machine, uint64_t factored)
{
	return (int64_t)(factored * (uint64_t)machine->fde->data_align);
}

// DW_CFA_expression: the register is saved at the address that the block computes. FP + N is gcc's way after realignment on x86-64,
// SP + N the signal trampolines'.
static void set_expression(struct machine *machine, uint64_t reg, const uint8_t *block, const uint8_t *end)
{
	uint64_t base = block < end ? *block++ - (uint64_t)DW_OP_breg0 : CFI_NO_REGISTER;
	const struct cfi_columns *arch = machine->arch;
	int64_t offset;

	if ((base == arch->fp || base == arch->sp) && cfi_read_sleb(&block, end, &offset) && block == end)
		set_rule(machine, reg, base == arch->fp ? CFI_SAVED_AT_FP : CFI_SAVED_AT_SP, offset);
	else
		set_rule(machine, reg, CFI_SAVED_OTHER, 0);
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
	struct cfi_row_state *state = &machine->state;
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
		set_rule(machine, reg, CFI_SAVED_OFFSET,
			 op == DW_CFA_offset_extended ? offset : (int64_t)(0 - (uint64_t)offset));
		return true;
	case DW_CFA_offset_extended_sf:
		if (!cfi_read_sleb(cursor, end, &offset))
			return false;
		set_rule(machine, reg, CFI_SAVED_OFFSET, scaled(machine, (uint64_t)offset));
		return true;
	case DW_CFA_restore_extended:
		restore_rule(machine, reg);
		return true;
	case DW_CFA_undefined:
		set_rule(machine, reg, CFI_SAVED_UNDEFINED, 0);
		return true;
	case DW_CFA_same_value:
		set_rule(machine, reg, CFI_SAVED_SAME, 0);
		return true;
	case DW_CFA_register:
		if (!cfi_read_uleb(cursor, end, &value))
			return false;
		set_rule(machine, reg,
			 reg == machine->arch->ra && value < machine->arch->general ? CFI_SAVED_REGISTER
										    : CFI_SAVED_OTHER,
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
			set_rule(machine, reg, CFI_SAVED_OTHER, 0);
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
			set_rule(machine, op & 0x3f, CFI_SAVED_OFFSET, scaled(machine, operand));
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
	machine.arch = &cfi_columns_of[fde->arch];
	machine.row = row;
	machine.context = context;
	machine.location = fde->start;
	machine.stopped = false;
	machine.depth = 0;
	memset(&machine.state, 0, sizeof(machine.state));
	machine.state.ra.kind = machine.arch->link ? CFI_SAVED_SAME : CFI_SAVED_OTHER;
	machine.state.cfa_register = CFI_NO_REGISTER; // not defined yet
	machine.initial = machine.state;
	whole = run_both(&machine);
	if (!whole) { // the rest has no rule
		machine.state.cfa_expression = false;
		machine.state.cfa_register = CFI_NO_REGISTER;
		machine.state.ra.kind = CFI_SAVED_OTHER;
	}
	emit_until(&machine, fde->end);
	return whole;
}
