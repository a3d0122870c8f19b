// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// modules.h: which address ranges have which unwind table. The helper changes the set; handlers read it without ever
// waiting: a set is immutable, published by a pointer swap, and freed (with the tables that only it used) once no
// thread's hazard pointer (profd_slot_private.modules) names it.

#ifndef PROFD_MODULES_H
#define PROFD_MODULES_H

#include "profd/unwind.h"
#include "profd/wire.h"

// The set in force; NULL: none. Handlers load it, store it to their slot's hazard word, and load it again.
extern const struct profd_module_set *profd_modules_current;

// Helper. fd: the table, not kept. 0 or −errno (a bad table changes nothing).
int profd_modules_add(const struct wire_table_msg *message, int fd);
void profd_modules_forget(uint64_t start, uint64_t end);
// Helper: frees retired sets that nobody reads any more.
void profd_modules_reclaim(void);

#endif
