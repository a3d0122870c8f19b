// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// report.h: a profile as people read it on a terminal, and as JSON: which functions samples are in, by themselves and with what they call;
// which modules; and where names are missing, with what would help (name_gaps.h).

#ifndef PROFD_FORMATS_REPORT_H
#define PROFD_FORMATS_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "formats/frames.h"
#include "formats/name_gaps.h"

struct writer;

struct report_function {
	const char *name; // as in struct frame
	const char *file;
	int64_t self, total; // recursion counts once
	uint32_t seen;       // the last sample that counted
};

struct report {
	const struct profile *profile;
	uint32_t value; // index of the sample type
	uint32_t nfunctions;
	struct report_function *functions; // by self, or by total
	struct frames frames;
	struct name_gaps gaps;
};

struct report_options {
	const char *value; // name of a sample type; NULL: the one that the profile is read by
	uint32_t top;      // functions shown; 0: all
	bool by_total;     // else by self
};

// 0; −EINVAL: no such sample type, −ENOMEM. The profile must outlive it. finish in either case.
int report_init(struct report *report, const struct profile *profile, const struct report_options *options);
void report_finish(struct report *report);

// title: the file's name, or what else was read. Both flush; 0 or −errno.
int report_write_text(const struct report *report, const char *title, const struct report_options *options,
		      struct writer *writer);
int report_write_json(const struct report *report, const char *title, const struct report_options *options,
		      struct writer *writer);

#endif
