// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// rates.h: what of heap, mutex and block profiling is switched on (struct wire_rates). The first rate that is not 0 makes the store.

#ifndef PROFD_RATES_H
#define PROFD_RATES_H

#include <stdbool.h>

#include "profd/wire.h"

// In force; before the helper begins: wished for. A fork's child goes on with its parent's. Written by the helper, and at the constructor.
extern struct wire_rates profd_rates;

// Helper. 0, or −errno when there is no store to be had: then all is off, and wire_header.store_errno says why.
int profd_rates_set(const struct wire_rates *rates);
// One line about that, if so. Not the helper: fd 2 is none of its descriptors.
void profd_rates_say_error(void);
// Is there a store, and something that fills it?
bool profd_rates_any(void);
// Nothing is touched any more by calls that begin now.
void profd_rates_stop(void);
// In a fork's child: there is no store any more.
void profd_rates_forget(void);

#endif
