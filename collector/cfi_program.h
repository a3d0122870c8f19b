// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cfi_program.h: runs the call frame instructions of one FDE (DWARF 5, section 6.4) and reports each row as a wire_rule.
// CFA, FP (x86-64: rbp; aarch64: x29), the return address (x86-64: column 16; aarch64: x30) and, on x86-64, rbx are followed, and whether
// the register is saved that a landing pad gets its first argument in; other registers' rules are skipped.

#ifndef PROFD_COLLECTOR_CFI_PROGRAM_H
#define PROFD_COLLECTOR_CFI_PROGRAM_H

#include <stdbool.h>
#include <stdint.h>

#include "profd/wire.h"

enum cfi_arch { CFI_ARCH_X86_64, CFI_ARCH_AARCH64, CFI_ARCH_COUNT };

// The column of the return address.
uint64_t cfi_arch_return_column(enum cfi_arch arch);

// What an FDE needs of its CIE, and where it lies. Pointers into the section's data; nothing there is trusted.
struct cfi_fde {
	uint64_t start, end; // vaddrs
	uint64_t code_align;
	int64_t data_align;
	uint8_t pointer_encoding; // of DW_CFA_set_loc
	bool signal_frame;
	enum cfi_arch arch;
	const uint8_t *initial, *initial_end; // the CIE's instructions
	const uint8_t *program, *program_end; // the FDE's
};

// Called for each row in order of address: [start, end) is unwound by rule. Returns false to stop.
typedef bool (*cfi_row)(void *context, uint64_t start, uint64_t end, const struct wire_rule *rule);

// Rows whose rule cannot be expressed come with cfa = WIRE_CFA_NONE, and so does all that follows a damaged or unknown
// instruction (false is returned then). The rows together cover [start, end) unless row stopped it.
bool cfi_program_run(const struct cfi_fde *fde, cfi_row row, void *context);

// Bounded LEB128 readers, shared with cfi_table.c. They move *cursor, at most to end; false at the end of the data.
bool cfi_read_uleb(const uint8_t **cursor, const uint8_t *end, uint64_t *ret_value);
bool cfi_read_sleb(const uint8_t **cursor, const uint8_t *end, int64_t *ret_value);

#endif
