// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// trace_text.h: labels and traces of the wire as label_text.h's text.

#ifndef PROFD_COLLECTOR_TRACE_TEXT_H
#define PROFD_COLLECTOR_TRACE_TEXT_H

#include <stddef.h>

#include "collector/context_pool.h"
#include "profd/wire.h"

// Adds trace_id (32 hexadecimal digits) and span_id (16) where there are any, and trace_sampled=1 where it is so.
void trace_text_add(const struct wire_trace *trace, char *text, size_t size);
// Returns text.
const char *context_labels_text(const struct context_labels *labels, char *text, size_t size);

#endif
