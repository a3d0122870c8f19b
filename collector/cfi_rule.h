// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cfi_rule.h: from what call frame instructions say of one row to the rule that the walkers follow; and what of it differs from machine
// to machine. Any thread of the collector.

#ifndef PROFD_COLLECTOR_CFI_RULE_H
#define PROFD_COLLECTOR_CFI_RULE_H

#include <stdbool.h>
#include <stdint.h>

#include "collector/cfi_program.h"

#define CFI_NO_REGISTER UINT64_MAX

// Columns of the table, by DWARF register number.
struct cfi_columns {
	uint64_t bx, fp, sp, ra;
	uint64_t landing; // the first of those that a landing pad gets its arguments in
	uint64_t general; // registers below are general ones; this one may be a CFA's base, too
	bool link;        // a call leaves the return address in its register, so an unsaved one is there
};

extern const struct cfi_columns cfi_columns_of[CFI_ARCH_COUNT];

enum cfi_saved_kind {
	CFI_SAVED_SAME,
	CFI_SAVED_OFFSET,
	CFI_SAVED_UNDEFINED,
	CFI_SAVED_AT_FP,
	CFI_SAVED_AT_SP,
	CFI_SAVED_REGISTER,
	CFI_SAVED_OTHER
};

struct cfi_saved {
	enum cfi_saved_kind kind;
	int64_t offset;
};

struct cfi_row_state {
	bool cfa_expression; // cfa_block instead of register and offset
	uint64_t cfa_register;
	int64_t cfa_offset;
	const uint8_t *cfa_block, *cfa_block_end;
	struct cfi_saved fp, bx, ra, landing;
	struct cfi_saved sp; // CFI_SAVED_SAME: the caller's SP is the CFA, as it is everywhere but in signal frames
};

// WIRE_CFA_NONE where the row cannot be expressed.
void cfi_rule_make(const struct cfi_row_state *state, enum cfi_arch arch, bool signal_frame,
		   struct wire_rule *ret_rule);

#endif
