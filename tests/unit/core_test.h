// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// core_test.h: what the tests of the collector's core share: a collector on a socket of its own, windows, counters.

#ifndef PROFD_TESTS_CORE_TEST_H
#define PROFD_TESTS_CORE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "collector/collector.h"
#include "collector/window.h"
#include "formats/profile.h"
#include "tests/unit/fake_agent.h"

static char socket_name[64]; // of the collector started last

static inline struct collector *start_on(const char *name, bool any_uid)
{
	const struct collector_options options = {.socket = name, .any_uid = any_uid};
	struct collector *collector;

	assert_int_equal(collector_create(&options, &collector), 0);
	return collector;
}

static inline struct collector *start(bool any_uid)
{
	static unsigned last;

	snprintf(socket_name, sizeof(socket_name), "@profd-test-%d-%u", (int)getpid(), ++last);
	return start_on(socket_name, any_uid);
}

static inline struct window *open_window(struct collector *collector, pid_t pid, uint32_t rate_hz)
{
	const struct window_options options = {.pid = pid, .rate_hz = rate_hz};
	struct window *window;

	assert_int_equal(window_open(collector, &options, &window), 0);
	return window;
}

static inline struct collector_counters counters_of(struct collector *collector)
{
	struct collector_counters counters;

	collector_counters(collector, &counters);
	return counters;
}

static inline bool targets_become(struct collector *collector, uint32_t n)
{
	for (int i = 0; i < 1000 && counters_of(collector).targets_now != n; i++)
		fake_sleep_ms(5);
	return counters_of(collector).targets_now == n;
}

static inline uint64_t records_of(struct window *window)
{
	struct window_stats stats;

	window_stats(window, &stats);
	return stats.records;
}

#endif
