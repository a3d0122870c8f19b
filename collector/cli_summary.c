// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cli_summary.c: a window's totals in words. Pure functions.

#include "collector/cli.h"
#include "profd/wire.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SUMMARY_NS 1e9
#define SUMMARY_RATE_MIN_SAMPLES 100 // fewer say nothing about a rate

static const char *const summary_drops[WIRE_DROP_COUNT] = {
	[WIRE_DROP_RING_FULL] = "ring full",
	[WIRE_DROP_CONTENTION] = "contention",
	[WIRE_DROP_NO_SCRATCH] = "no scratch buffer",
};

static void __attribute__((format(printf, 3, 4))) summary_add(char *buf, size_t size, const char *fmt, ...)
{
	size_t used = strlen(buf);
	va_list args;

	va_start(args, fmt);
	vsnprintf(buf + used, size - used, fmt, args);
	va_end(args);
}

static void summary_add_drops(const struct window_stats *stats, char *buf, size_t size)
{
	uint64_t total = stats->dropped_aggregate;
	const char *comma = "";

	for (int i = 0; i < WIRE_DROP_COUNT; i++)
		total += stats->dropped[i];
	if (total == 0)
		return;
	summary_add(buf, size, ", %" PRIu64 " dropped (", total);
	for (int i = 0; i < WIRE_DROP_COUNT; i++) {
		if (stats->dropped[i] == 0)
			continue;
		summary_add(buf, size, "%s%" PRIu64 " %s", comma, stats->dropped[i], summary_drops[i]);
		comma = ", ";
	}
	if (stats->dropped_aggregate != 0)
		summary_add(buf, size, "%s%" PRIu64 " memory limit", comma, stats->dropped_aggregate);
	summary_add(buf, size, ")");
}

static const char *summary_plural(uint64_t count)
{
	return count == 1 ? "" : "s";
}

void cli_summary(const struct window_stats *stats, char *buf, size_t size)
{
	snprintf(buf, size, "%" PRIu64 " sample%s, %.2f s of CPU, %u thread%s", stats->samples,
		 summary_plural(stats->samples), (double)stats->cpu_ns / SUMMARY_NS, stats->threads,
		 summary_plural(stats->threads));
	if (stats->targets > 1)
		summary_add(buf, size, ", %u processes", stats->targets);
	if (stats->records > 0)
		summary_add(buf, size, ", reached %.0f Hz, %.1f%% of stacks truncated", window_reached_hz(stats),
			    window_truncated_percent(stats));
	summary_add_drops(stats, buf, size);
	if (stats->threads_unsampled > 0)
		summary_add(buf, size, ", %" PRIu64 " threads could not be sampled%s%s", stats->threads_unsampled,
			    stats->timer_errno != 0 ? ": " : "",
			    stats->timer_errno != 0 ? strerror(stats->timer_errno) : "");
}

bool cli_summary_rate(const struct window_stats *stats, uint32_t rate_hz, char *buf, size_t size)
{
	char why[256] = "the kernel fires CPU timers at its tick, and not inside a system call";
	double reached = window_reached_hz(stats);

	if (stats->samples < SUMMARY_RATE_MIN_SAMPLES || reached >= 0.97 * rate_hz)
		return false;
	if (stats->perf_errno)
		snprintf(why + strlen(why), sizeof(why) - strlen(why), "; perf events, which pass it: %s",
			 window_perf_reason(stats->perf_errno));
	else if (stats->slowed)
		snprintf(why, sizeof(why), "--max-overhead lowered the rate of threads %" PRIu64 " times",
			 stats->slowed);
	else if (stats->clock == WIRE_CLOCK_PERF)
		snprintf(why, sizeof(why), "perf events came late");
	snprintf(buf, size,
		 "asked for %u samples a second of CPU, reached %.0f (%s); samples count for the CPU time they stand "
		 "for",
		 rate_hz, reached, why);
	return true;
}

void cli_summary_progress(const struct window_stats *stats, int64_t elapsed_s, char *buf, size_t size)
{
	snprintf(buf, size, "%" PRId64 " s, %" PRIu64 " sample%s, %u thread%s", elapsed_s, stats->samples,
		 summary_plural(stats->samples), stats->threads, summary_plural(stats->threads));
}
