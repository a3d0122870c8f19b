// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// log.h: one line to stderr. Only main, session and the endpoints log. Any thread.

#ifndef PROFD_COLLECTOR_LOG_H
#define PROFD_COLLECTOR_LOG_H

#include <stdint.h>

// "profd: MESSAGE\n" in one write. Control characters in it become '?' (names of targets are not trusted). Never blocks: a
// line that stderr has no room for is lost.
void log_line(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

// At most LOG_LIMIT_LINES a minute for each limit (one static struct for each kind of message); what was left out is
// said with the next line.
#define LOG_LIMIT_LINES 10
struct log_limit {
	int64_t minute_start_ns; // guarded by log.c's lock
	uint32_t lines, left_out;
};
void log_limited(struct log_limit *limit, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
