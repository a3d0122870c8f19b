// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// labels.h: the calling thread's labels and trace, where the handler and the collector find them: a number of the shared pool in
// wire_slot.work, and wire_slot.trace. Any thread of the target, signal handlers of the program's too; not ours. Lock-free, no allocation.

#ifndef PROFD_LABELS_H
#define PROFD_LABELS_H

#include <stdint.h>

#include "profd/wire.h"

// 0; −1: the key is bad, or there is no room (counted).
int profd_labels_set(const char *key, const char *value);
void profd_labels_clear(const char *key);
// NULL: none.
void profd_labels_set_trace(const struct wire_trace *trace);
// NULL: there is none.
const struct wire_trace *profd_labels_trace(void);

#endif
