// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// utf8.c: see utf8.h. Pure functions.

#include "formats/utf8.h"

#include <string.h>

#define REPLACEMENT_SIZE (sizeof(UTF8_REPLACEMENT) - 1)

// Unicode 15, table 3-7 "Well-Formed UTF-8 Byte Sequences": only the second byte's range depends on the first.
static int step_multibyte(const unsigned char *s)
{
	int size = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	unsigned low = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : 0x80;
	unsigned high = s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : 0xbf;

	for (int i = 1; i < size; i++) {
		if (s[i] < low || s[i] > high)
			return -i;
		low = 0x80;
		high = 0xbf;
	}
	return size;
}

int utf8_step(const char *s)
{
	unsigned char first = (unsigned char)*s;

	if (first < 0x80)
		return 1;
	return first < 0xc2 || first > 0xf4 ? -1 : step_multibyte((const unsigned char *)s);
}

bool utf8_is_valid(const char *s)
{
	while (*s) {
		int step = utf8_step(s);
		if (step < 0)
			return false;
		s += step;
	}
	return true;
}

size_t utf8_repaired_size(const char *s)
{
	size_t size = 0;

	while (*s) {
		int step = utf8_step(s);
		size += step > 0 ? (size_t)step : REPLACEMENT_SIZE;
		s += step > 0 ? step : -step;
	}
	return size;
}

void utf8_repair(char *dst, const char *s)
{
	while (*s) {
		int step = utf8_step(s);
		size_t size = step > 0 ? (size_t)step : REPLACEMENT_SIZE;
		memcpy(dst, step > 0 ? s : UTF8_REPLACEMENT, size);
		dst += size;
		s += step > 0 ? step : -step;
	}
	*dst = '\0';
}

size_t utf8_prefix(const char *s, size_t max)
{
	size_t size = 0;

	while (s[size]) {
		int step = utf8_step(s + size);
		size_t bytes = (size_t)(step > 0 ? step : -step);
		if (bytes > max - size)
			break;
		size += bytes;
	}
	return size;
}
