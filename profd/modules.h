// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// modules.h: which address ranges have which unwind table. The helper changes the set; handlers read it without ever
// waiting: a set is immutable, published by a pointer swap, and freed (with the tables that only it used) once no
// thread's hazard pointer (profd_slot_private.modules) names it.

#ifndef PROFD_MODULES_H
#define PROFD_MODULES_H

#include "profd/threads.h"
#include "profd/unwind.h"
#include "profd/wire.h"

// The set in force; NULL: none. Handlers load it, store it to their slot's hazard word, and load it again.
extern const struct profd_module_set *profd_modules_current;
// atomic; its serial, a moment later. 0: there was none yet.
extern uint64_t profd_modules_serial;

// Publishes which set the thread of this slot reads from now on, so that the helper does not free it. NULL: none is to be had.
// *ret_held is for profd_modules_leave. A handler may interrupt a reader: what that one holds is safe to read only while it is in force.
static inline const struct profd_module_set *profd_modules_enter(struct profd_slot_private *private, uint64_t *ret_held)
{
	const struct profd_module_set *set = __atomic_load_n(&profd_modules_current, __ATOMIC_SEQ_CST);

	*ret_held = private->modules;
	if (*ret_held)
		return *ret_held == (uintptr_t)set ? set : NULL;
	for (int i = 0; i < 8; i++) {
		const struct profd_module_set *again;

		__atomic_store_n(&private->modules, (uintptr_t)set, __ATOMIC_SEQ_CST);
		again = __atomic_load_n(&profd_modules_current, __ATOMIC_SEQ_CST);
		if (again == set)
			return set;
		set = again;
	}
	return NULL;
}

static inline void profd_modules_leave(struct profd_slot_private *private, uint64_t held)
{
	__atomic_store_n(&private->modules, held, __ATOMIC_RELEASE);
}

// Helper. fd: the table, not kept. 0 or −errno (a bad table changes nothing).
int profd_modules_add(const struct wire_table_msg *message, int fd);
void profd_modules_forget(uint64_t start, uint64_t end);
// Helper: frees retired sets that nobody reads any more.
void profd_modules_reclaim(void);

#endif
