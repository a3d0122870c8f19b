// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// walker.h: what libprofd-libunwind.so has for the agent; see walker.c.

#ifndef PROFD_LIBUNWIND_WALKER_H
#define PROFD_LIBUNWIND_WALKER_H

#include <link.h>
#include <stdint.h>

#include "profd/wire.h"

typedef int profd_iterate_phdr(int (*)(struct dl_phdr_info *, size_t, void *), void *);

// Learns which objects are loaded, by libc's dl_iterate_phdr. The helper, often; not in the handler.
void profd_libunwind_learn(profd_iterate_phdr *iterate);
// As profd_unwind_table (profd/unwind.h), from the signal's ucontext. Handler.
uint32_t profd_libunwind_walk(const void *ucontext, uint64_t *pcs, uint32_t max, uint8_t *ret_stop);

#endif
