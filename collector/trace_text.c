// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// trace_text.c: see trace_text.h.

#include "collector/trace_text.h"

#include <stdbool.h>
#include <stdio.h>

#include "formats/label_text.h"

_Static_assert(LABEL_TEXT_VALUE_KEPT == WIRE_LABEL_VALUE_BYTES - 1,
	       "labels that are chosen are cut as those that are kept");

static const char *hex(const uint8_t *bytes, size_t n, char *text)
{
	for (size_t i = 0; i < n; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	return text;
}

// An id that was never set, or is none (W3C's Trace Context: all bytes are zero), is not shown.
static bool is_set(const uint8_t *id, size_t n)
{
	uint8_t any = 0;

	for (size_t i = 0; i < n; i++)
		any |= id[i];
	return any != 0;
}

void trace_text_add(const struct wire_trace *trace, char *text, size_t size)
{
	char digits[2 * sizeof(trace->trace_id) + 1];

	if (is_set(trace->trace_id, sizeof(trace->trace_id)))
		label_text_add(text, size, LABEL_TRACE_ID, hex(trace->trace_id, sizeof(trace->trace_id), digits));
	if (is_set(trace->span_id, sizeof(trace->span_id)))
		label_text_add(text, size, LABEL_SPAN_ID, hex(trace->span_id, sizeof(trace->span_id), digits));
	if (trace->flags & WIRE_TRACE_SAMPLED)
		label_text_add(text, size, LABEL_TRACE_SAMPLED, "1");
}

const char *context_labels_text(const struct context_labels *labels, char *text, size_t size)
{
	text[0] = '\0';
	for (uint32_t i = 0; i < labels->count; i++)
		label_text_add(text, size, labels->labels[i].key, labels->labels[i].value);
	return text;
}
