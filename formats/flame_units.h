// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// flame_units.h: numbers as people read them. Integer arithmetic only, so that no locale changes a byte.

#ifndef PROFD_FORMATS_FLAME_UNITS_H
#define PROFD_FORMATS_FLAME_UNITS_H

#include <stddef.h>
#include <stdint.h>

struct profile_value_type;

// "12,345 samples", "1.23 s", "4.56 MiB", "78 parsecs". Always NUL-terminated; returns buf. 64 bytes do for any number
// and a type name of ordinary length; a longer text is cut.
char *flame_units_format(char *buf, size_t size, int64_t value, const struct profile_value_type *type);

// part of whole as "12.34%"; "0.00%" of nothing. 16 bytes do.
char *flame_units_percent(char *buf, size_t size, int64_t part, int64_t whole);

#endif
