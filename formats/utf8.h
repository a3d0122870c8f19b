// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// utf8.h: names come from other people's files and may hold any bytes; every format but our own memory wants UTF-8.

#ifndef PROFD_FORMATS_UTF8_H
#define PROFD_FORMATS_UTF8_H

#include <stdbool.h>
#include <stddef.h>

#define UTF8_REPLACEMENT "\xef\xbf\xbd" // U+FFFD

// One step in a NUL-terminated string that is not at its end: n > 0: a valid character of n bytes; n < 0: −n bytes that
// together are to become one U+FFFD (a maximal subpart, Unicode 15 §3.9 "U+FFFD Substitution of Maximal Subparts").
// No surrogates, no overlong forms, nothing above U+10FFFF.
int utf8_step(const char *s);

bool utf8_is_valid(const char *s);
// Bytes of s (NUL aside) when made valid.
size_t utf8_repaired_size(const char *s);
// Writes these bytes and a NUL; dst has room for both.
void utf8_repair(char *dst, const char *s);
// The longest prefix of s, at most max bytes, that does not end within a character.
size_t utf8_prefix(const char *s, size_t max);

#endif
