// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// outside.h: the agent's stack walker, built a second time for the collector, where it walks threads of other processes: from PC and SP alone
// or all registers, through the memory that outside_safe_read reads. It has names of its own here, so that one program may hold both.

#ifndef PROFD_COLLECTOR_OUTSIDE_H
#define PROFD_COLLECTOR_OUTSIDE_H

#define PROFD_UNWIND_OUTSIDE
#define PROFD_MAX_SAFE_READS 1000000u // nearly all of them from memory that was copied
#define profd_unwind_table outside_unwind_table
#define profd_table_check outside_table_check
#define profd_safe_read outside_safe_read
#define profd_code_follows_call outside_code_follows_call
#define profd_code_call_target outside_code_call_target
#define profd_code_return_slot outside_code_return_slot
#define profd_code_leaves_stack outside_code_leaves_stack
#define profd_code_is_sigreturn outside_code_is_sigreturn
#define profd_runtime_find outside_runtime_find

#include "profd/safe_read.h"
#include "profd/unwind.h"
#include "profd/unwind_runtime.h"

#endif
