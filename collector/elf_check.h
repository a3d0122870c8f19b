// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// elf_check.h: will an ELF file profile well, and if not, why, and what to change: can its stacks be unwound, will its frames have names.
// Reads the file alone; runs nothing. Whether the agent gets into a program at all is program.h's.

#ifndef PROFD_COLLECTOR_ELF_CHECK_H
#define PROFD_COLLECTOR_ELF_CHECK_H

#include <stdbool.h>
#include <stddef.h>

#include "collector/debug_file.h"
#include "collector/elf_file.h"

enum check_level {
	CHECK_GOOD,
	CHECK_NOTE, // worth knowing; profiles are whole
	CHECK_POOR, // profiles lack something: names, or the outer part of stacks
	CHECK_BAD,  // there will be no profile
};

struct check_finding {
	enum check_level level;
	const char *topic; // static: one word or two
	char text[320];    // what is so
	char advice[320];  // what to do about it; "" nothing
};

#define CHECK_MAX_FINDINGS 16

struct check_report {
	char path[512];
	char build_id[ELF_BUILD_ID_HEX];
	bool is_library;       // no program of its own
	bool lacks_debug_info; // it could be installed beside the file, or is not at hand
	size_t count;
	struct check_finding findings[CHECK_MAX_FINDINGS];
};

// Adds a finding; text and advice are cut to what fits. For what only the caller knows; more than fit are left out.
void check_report_add(struct check_report *report, enum check_level level, const char *topic, const char *advice,
		      const char *fmt, ...) __attribute__((format(printf, 5, 6)));
// The worst of all.
enum check_level check_report_level(const struct check_report *report);
const char *check_level_name(enum check_level level); // "good", "note", "poor", "bad"

// Takes over fd, an open regular file. path: as the user knows it. places: where separate debug files are looked for. 0; −ENOEXEC neither a program nor a library, −ENOTSUP not 64-bit little-endian, −ENOMEM, −errno.
int elf_check(int fd, const char *path, const struct debug_places *places, struct check_report *ret_report);

#endif
