// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// log.c: see log.h.

#include "collector/log.h"

#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "collector/clock.h"

#define LINE_SIZE 1024
#define MINUTE_NS 60000000000LL

static pthread_mutex_t limit_lock = PTHREAD_MUTEX_INITIALIZER;

static bool has_room(void)
{
	struct pollfd poll_fd = {.fd = STDERR_FILENO, .events = POLLOUT};

	return poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & POLLOUT);
}

static void put(const char *fmt, va_list arguments)
{
	char line[LINE_SIZE] = "profd: ";
	size_t used = strlen(line);
	int n = vsnprintf(line + used, sizeof(line) - used - 1, fmt, arguments);

	if (n < 0 || !has_room())
		return;
	used += (size_t)n < sizeof(line) - used - 2 ? (size_t)n : sizeof(line) - used - 2;
	for (size_t i = 0; i < used; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = '?';
	line[used++] = '\n';
	// Nobody could be told that the line could not be written.
	(void)!write(STDERR_FILENO, line, used);
}

void log_line(const char *fmt, ...)
{
	va_list arguments;

	va_start(arguments, fmt);
	put(fmt, arguments);
	va_end(arguments);
}

// May a line be written now? *ret_left_out: how many were not since the last one.
static bool take_turn(struct log_limit *limit, uint32_t *ret_left_out)
{
	int64_t now = clock_now_ns();
	bool turn;

	pthread_mutex_lock(&limit_lock);
	if (limit->lines == 0 || now - limit->minute_start_ns > MINUTE_NS) {
		limit->minute_start_ns = now;
		limit->lines = 0;
	}
	turn = limit->lines < LOG_LIMIT_LINES;
	*ret_left_out = turn ? limit->left_out : 0;
	if (turn) {
		limit->lines++;
		limit->left_out = 0;
	} else {
		limit->left_out++;
	}
	pthread_mutex_unlock(&limit_lock);
	return turn;
}

void log_limited(struct log_limit *limit, const char *fmt, ...)
{
	uint32_t left_out;
	va_list arguments;

	if (!take_turn(limit, &left_out))
		return;
	if (left_out > 0)
		log_line("(%u lines like the next one left out)", left_out);
	va_start(arguments, fmt);
	put(fmt, arguments);
	va_end(arguments);
}
