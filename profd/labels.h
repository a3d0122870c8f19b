// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// labels.h: the calling thread's labels and trace, where the handler and the collector find them: a number of the shared pool in
// wire_slot.work, and wire_slot.trace. Any thread of the target, signal handlers of the program's too; not ours. Lock-free, no allocation.

#ifndef PROFD_LABELS_H
#define PROFD_LABELS_H

#include <stdbool.h>
#include <stdint.h>

#include "profd/wire.h"

// 0; −1: the key is bad, or there is no room (counted): then its value is WIRE_LABEL_NO_ROOM, or where there are eight others, there is none.
int profd_labels_set(const char *key, const char *value);
void profd_labels_clear(const char *key);
// has: the thread has one; what trace says is written in any case.
void profd_labels_set_trace(bool has, const struct wire_trace *trace);
// The thread's trace, or what is left of its last one. Returns whether it has one.
bool profd_labels_trace(struct wire_trace *ret_trace);

#endif
