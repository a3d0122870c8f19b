// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// unwind_aarch64.h: the functions that unwind_aarch64.c stops at each of their instructions. They lie in a section of their own,
// and unwind_scenario calls each of them once, from one place.

#ifndef PROFD_TESTS_UNWIND_AARCH64_H
#define PROFD_TESTS_UNWIND_AARCH64_H

#include <signal.h>
#include <stdint.h>

enum called_by { CALLED_BY_CODE, CALLED_BY_KERNEL, CALLED_BY_LIBC, CALLED_BY_NOBODY };

struct storm_function {
	const char *name;
	const void *entry;
	enum called_by called_by;
	const void *from; // CALLED_BY_KERNEL: the instruction that raises the signal; CALLED_BY_LIBC: who calls libc
	uint64_t return_address; // x30 at the entry
};

// Ends with an entry of NULL.
extern struct storm_function storm_functions[];
// A function that is walked without its table, too; called by one that keeps a frame record, and that by one that keeps none.
extern const void *const storm_untabled, *const storm_leaf_of_untabled;
extern uint32_t __start_storm[], __stop_storm[];

void unwind_scenario_prepare(void);
// lazy: 0 to UNWIND_LAZY_CALLS − 1 calls a function of libc that nothing else here calls, through the PLT; −1 does not.
#define UNWIND_LAZY_CALLS 5
void unwind_scenario(int lazy);

#endif
