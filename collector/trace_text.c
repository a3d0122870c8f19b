// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// trace_text.c: see trace_text.h.

#include "collector/trace_text.h"

#include <stdio.h>

#include "formats/label_text.h"

static const char *hex(const uint8_t *bytes, size_t n, char *text)
{
	for (size_t i = 0; i < n; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	return text;
}

void trace_text_add(const struct wire_trace *trace, char *text, size_t size)
{
	char digits[2 * sizeof(trace->trace_id) + 1];

	label_text_add(text, size, LABEL_TRACE_ID, hex(trace->trace_id, sizeof(trace->trace_id), digits));
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
