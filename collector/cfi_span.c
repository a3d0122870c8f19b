// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cfi_span.c: see cfi_span.h. Half of what compiling a table took was qsort; spans are many, their starts have few bits. So they are
// dealt out by one digit of the start after the other, the lowest first, from one array to the other and back.

#include "collector/cfi_span.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define DIGIT_BITS 9 // as many places to write to at once as stay in the first cache and its TLB
#define DIGITS (1u << DIGIT_BITS)

static bool is_sorted(const struct cfi_span *spans, size_t count)
{
	for (size_t i = 1; i < count; i++)
		if (spans[i].start < spans[i - 1].start)
			return false;
	return true;
}

static uint64_t highest(const struct cfi_span *spans, size_t count, uint64_t base)
{
	uint64_t bits = 0;

	for (size_t i = 0; i < count; i++)
		bits |= spans[i].start - base;
	return bits;
}

static size_t digit_of(const struct cfi_span *span, uint64_t base, unsigned shift)
{
	return (size_t)((span->start - base) >> shift) & (DIGITS - 1);
}

// Stable, so that what the lower digits have put in order stays so.
static void deal(const struct cfi_span *from, struct cfi_span *to, size_t count, uint64_t base, unsigned shift)
{
	size_t next[DIGITS] = {0}, at = 0;

	for (size_t i = 0; i < count; i++)
		next[digit_of(&from[i], base, shift)]++;
	for (size_t i = 0; i < DIGITS; i++) {
		size_t n = next[i];

		next[i] = at;
		at += n;
	}
	for (size_t i = 0; i < count; i++)
		to[next[digit_of(&from[i], base, shift)]++] = from[i];
}

int cfi_span_sort(struct cfi_span *spans, size_t count, uint64_t base)
{
	struct cfi_span *scratch, *from = spans, *to;
	uint64_t bits;

	if (is_sorted(spans, count))
		return 0;
	scratch = malloc(count * sizeof(*scratch));
	if (!scratch)
		return -ENOMEM;
	bits = highest(spans, count, base);
	to = scratch;
	for (unsigned shift = 0; shift < 64 && bits >> shift; shift += DIGIT_BITS) {
		struct cfi_span *dealt = to;

		deal(from, dealt, count, base, shift);
		to = from;
		from = dealt;
	}
	if (from != spans)
		memcpy(spans, from, count * sizeof(*spans));
	free(scratch);
	return 0;
}
