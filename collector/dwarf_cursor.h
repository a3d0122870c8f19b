// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// dwarf_cursor.h: reads numbers out of bytes that nobody vouches for. Past the end everything is 0, and `failed` stays set.
// Little-endian, as elf_file.c sees to it.

#ifndef PROFD_COLLECTOR_DWARF_CURSOR_H
#define PROFD_COLLECTOR_DWARF_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "collector/dwarf_sections.h"

struct dwarf_cursor {
	const uint8_t *at, *end;
	bool failed;
};

// An offset past the end is a failure.
static inline struct dwarf_cursor dwarf_cursor_at(const struct dwarf_bytes *bytes, uint64_t offset)
{
	if (offset > bytes->size || !bytes->data)
		return (struct dwarf_cursor){NULL, NULL, true};
	return (struct dwarf_cursor){bytes->data + offset, bytes->data + bytes->size, false};
}

static inline void dwarf_cursor_fail(struct dwarf_cursor *cursor)
{
	cursor->failed = true;
	cursor->at = cursor->end;
}

static inline void dwarf_cursor_skip(struct dwarf_cursor *cursor, uint64_t size)
{
	if (size > (uint64_t)(cursor->end - cursor->at))
		dwarf_cursor_fail(cursor);
	else
		cursor->at += size;
}

// size: up to 8.
static inline uint64_t dwarf_cursor_number(struct dwarf_cursor *cursor, unsigned size)
{
	uint64_t value = 0;

	if (size > (size_t)(cursor->end - cursor->at)) {
		dwarf_cursor_fail(cursor);
		return 0;
	}
	memcpy(&value, cursor->at, size);
	cursor->at += size;
	return value;
}

static inline uint64_t dwarf_cursor_uleb(struct dwarf_cursor *cursor)
{
	uint64_t value = 0;

	for (unsigned shift = 0; cursor->at < cursor->end; shift += 7) {
		uint8_t byte = *cursor->at++;

		if (shift < 64)
			value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return value;
	}
	dwarf_cursor_fail(cursor);
	return 0;
}

static inline int64_t dwarf_cursor_sleb(struct dwarf_cursor *cursor)
{
	uint64_t value = 0;

	for (unsigned shift = 0; cursor->at < cursor->end;) {
		uint8_t byte = *cursor->at++;

		if (shift < 64)
			value |= (uint64_t)(byte & 0x7f) << shift;
		shift += 7;
		if (!(byte & 0x80)) {
			if ((byte & 0x40) && shift < 64)
				value |= ~(uint64_t)0 << shift;
			return (int64_t)value;
		}
	}
	dwarf_cursor_fail(cursor);
	return 0;
}

// NULL: not ended before the end.
static inline const char *dwarf_cursor_string(struct dwarf_cursor *cursor)
{
	const char *string = (const char *)cursor->at;
	const uint8_t *nul =
		cursor->at < cursor->end ? memchr(cursor->at, 0, (size_t)(cursor->end - cursor->at)) : NULL;

	if (!nul) {
		dwarf_cursor_fail(cursor);
		return NULL;
	}
	cursor->at = nul + 1;
	return string;
}

#endif
