// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// oracle.h: what the parts of unwind_oracle share. One process is traced; at each stop its registers are known, and its stack
// is walked three ways.
//
//   oracle_memory.c  the traced process's memory, its modules, and the files behind them
//   oracle_walk.c    the walks: ours (unwind_table.c), libunwind's, libdw's
//   oracle_storm.c   a run at nearly full speed that stops once at each instruction
//   unwind_oracle.c  single steps and the true stack; comparing, the report, main

#ifndef PROFD_TESTS_ORACLE_H
#define PROFD_TESTS_ORACLE_H

#include <elfutils/libdw.h>
#include <libunwind.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

#include "tests/unit/unwind_modules.h"

#define ORACLE_MAX_FRAMES 1024

struct oracle_stack {
	uint32_t count;
	uint8_t stop; // ours: enum wire_stop
	bool no_cfi;  // libunwind, libdw: the walk came to a frame that has no CFI
	uint64_t pcs[ORACLE_MAX_FRAMES];
};

// A file behind a module.
struct oracle_file {
	const struct unwind_file *file; // NULL: this entry is free
	const uint8_t *image;           // mapped; NULL: cannot be read
	size_t size;
	Elf *elf;
	Dwarf_CFI *cfi; // NULL: none
	uint64_t table; // vaddr of .eh_frame_hdr, 0: none
};

// The traced thread at hand, and its registers.
extern pid_t oracle_pid, oracle_tid;
extern struct user_regs_struct oracle_regs;
extern struct unwind_modules oracle_modules;

// ---- oracle_memory.c

// Registers or memory have changed: nothing read before counts any more.
void oracle_memory_forget(void);
// Files' text comes from the files: breakpoints are not seen.
bool oracle_read(uint64_t address, void *data, size_t size);
void oracle_modules_renew(void);
// NULL: no module, or its file cannot be read. Covers a module's headers and read-only data as well as its text.
const struct oracle_file *oracle_file_at(uint64_t address, uint64_t *ret_vaddr);
const struct profd_module *oracle_module_at(uint64_t address, struct oracle_file **ret_file);

// ---- oracle_walk.c

void oracle_walk_init(void);
// After oracle_modules_renew.
void oracle_walk_forget(void);
void oracle_walk_ours(struct oracle_stack *stack);
void oracle_walk_libunwind(struct oracle_stack *stack);
void oracle_walk_libdw(struct oracle_stack *stack);
// Does any CFI that libdw reads cover this address?
bool oracle_has_cfi(uint64_t address);

// ---- oracle_storm.c

// Runs the traced process, just after exec, to its end or for so many seconds; calls visit at each instruction's first execution.
// Returns waitpid's status of its end; −1: it had not ended, or another program took its place.
int oracle_storm(void (*visit)(void), unsigned seconds);

#endif
