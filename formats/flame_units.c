// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// flame_units.c: see flame_units.h. Pure functions.

#include "formats/flame_units.h"
#include "formats/profile.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct scale {
	const char *unit; // in the profile
	const char *shown;
	int64_t factor; // units in one of what is shown
};

// Per unit of the profile, the largest first.
static const struct scale scales[] = {
	{"nanoseconds", "s", 1000000000},
	{"nanoseconds", "ms", 1000000},
	{"nanoseconds", "µs", 1000},
	{"nanoseconds", "ns", 1},
	{"microseconds", "s", 1000000},
	{"microseconds", "ms", 1000},
	{"microseconds", "µs", 1},
	{"milliseconds", "s", 1000},
	{"milliseconds", "ms", 1},
	{"seconds", "s", 1},
	{"bytes", "TiB", 1LL << 40},
	{"bytes", "GiB", 1 << 30},
	{"bytes", "MiB", 1 << 20},
	{"bytes", "KiB", 1 << 10},
	{"bytes", "B", 1},
};

// Decimal digits in groups of three.
static void group_digits(char *buf, size_t size, int64_t value)
{
	char digits[24];
	int length = snprintf(digits, sizeof(digits), "%" PRIu64, (uint64_t)(value < 0 ? 0 : value));
	size_t used = 0;
	for (int i = 0; i < length && used + 2 < size; i++) {
		buf[used++] = digits[i];
		if ((length - 1 - i) % 3 == 0 && i < length - 1)
			buf[used++] = ',';
	}
	buf[used] = '\0';
}

static const struct scale *find_scale(int64_t value, const char *unit)
{
	const struct scale *found = NULL;
	for (size_t i = 0; i < sizeof(scales) / sizeof(scales[0]); i++) {
		if (strcmp(scales[i].unit, unit) != 0)
			continue;
		found = &scales[i];
		if (value >= found->factor)
			break;
	}
	return found;
}

char *flame_units_format(char *buf, size_t size, int64_t value, const struct profile_value_type *type)
{
	const char *unit = type->unit ? type->unit : "";
	const struct scale *scale = find_scale(value, unit);
	char whole[32];
	if (!scale) {
		group_digits(whole, sizeof(whole), value);
		snprintf(buf, size, "%s %s", whole, strcmp(unit, "count") == 0 && type->type ? type->type : unit);
		return buf;
	}
	group_digits(whole, sizeof(whole), value / scale->factor);
	if (scale->factor == 1) {
		snprintf(buf, size, "%s %s", whole, scale->shown);
		return buf;
	}
	int64_t hundredths = (int64_t)((__int128)(value % scale->factor) * 100 / scale->factor);
	snprintf(buf, size, "%s.%02d %s", whole, (int)hundredths, scale->shown);
	return buf;
}

char *flame_units_percent(char *buf, size_t size, int64_t part, int64_t whole)
{
	__int128 hundredths = whole > 0 ? ((__int128)part * 10000 + whole / 2) / whole : 0;
	snprintf(buf, size, "%" PRId64 ".%02d%%", (int64_t)(hundredths / 100), (int)(hundredths % 100));
	return buf;
}
