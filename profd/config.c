// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// config.c: the agent's settings, all from the environment (libprofd(3)). At the constructor.

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "profd/agent.h"
#include "profd/rates.h"

#define DEFAULT_FLIGHT_S 10
#define MAX_FLIGHT_S 86400
#define DEFAULT_RATE_HZ 100

static const char *get(const char *name)
{
	const char *value = getenv(name);

	return value && *value ? value : NULL;
}

static bool get_bool(const char *name, bool otherwise)
{
	const char *value = get(name);

	return value ? strcmp(value, "0") != 0 : otherwise;
}

static enum profd_unwinder get_unwinder(void)
{
	const char *value = get("PROFD_UNWIND");

	if (!value || strcmp(value, "table") == 0)
		return PROFD_UNWIND_TABLE;
	if (strcmp(value, "fp") == 0)
		return PROFD_UNWIND_FP;
	if (strcmp(value, "libunwind") == 0)
		return PROFD_UNWIND_LIBUNWIND;
	profd_message("PROFD_UNWIND '%s': not table, fp or libunwind; stacks are walked by tables", value);
	return PROFD_UNWIND_TABLE;
}

// "flight" or "flight:SECONDS".
static uint32_t get_flight_s(void)
{
	const char *value = get("PROFD_TRACE");
	char *end = NULL;
	unsigned long seconds;

	if (!value || strcmp(value, "0") == 0)
		return 0;
	if (strcmp(value, "flight") == 0)
		return DEFAULT_FLIGHT_S;
	seconds = strncmp(value, "flight:", 7) == 0 ? strtoul(value + 7, &end, 10) : 0;
	if (seconds > 0 && seconds <= MAX_FLIGHT_S && !*end)
		return (uint32_t)seconds;
	profd_message("PROFD_TRACE '%s': not flight or flight:SECONDS; nothing is traced until it is asked for", value);
	return 0;
}

static bool is_rate(const char *value)
{
	size_t length = value ? strlen(value) : 0;

	return length > 0 && length <= 5 && strspn(value, "0123456789") == length &&
	       strtoul(value, NULL, 10) <= WIRE_MAX_RATE_HZ;
}

// What is said for it, or else for all samples, whose mistakes the collector speaks of.
static uint32_t get_trace_rate(void)
{
	const char *value = get("PROFD_TRACE_RATE"), *rate = get("PROFD_RATE");

	if (is_rate(value))
		return (uint32_t)strtoul(value, NULL, 10);
	if (value)
		profd_message("PROFD_TRACE_RATE '%s': not a number from 0 to %u; it is as if it were not set", value,
			      WIRE_MAX_RATE_HZ);
	return is_rate(rate) && strtoul(rate, NULL, 10) > 0 ? (uint32_t)strtoul(rate, NULL, 10) : DEFAULT_RATE_HZ;
}

// A number of `unit`; 0: off.
static uint64_t get_rate(const char *name, const char *unit)
{
	const char *value = get(name);
	size_t length = value ? strlen(value) : 0;

	if (length == 0)
		return 0;
	if (length <= 13 && strspn(value, "0123456789") == length)
		return strtoull(value, NULL, 10);
	profd_message("%s '%s': not a number of %s; it stays off", name, value, unit);
	return 0;
}

static struct wire_rates get_rates(void)
{
	return (struct wire_rates){.heap_bytes = get_rate("PROFD_HEAP_RATE", "bytes"),
				   .mutex = get_rate("PROFD_MUTEX_FRACTION", "contentions"),
				   .block = get_rate("PROFD_BLOCK_RATE", "nanoseconds"),
				   .block_io = get_bool("PROFD_BLOCK_IO", false),
				   .wakers = get_bool("PROFD_WAKERS", false),
				   .heap_mmap = get_bool("PROFD_HEAP_MMAP", false)};
}

void profd_config_read(struct profd_config *config)
{
	const char *socket = get("PROFD_SOCKET");

	memset(config, 0, sizeof(*config));
	if (socket && strlen(socket) < sizeof(config->socket))
		memcpy(config->socket, socket, strlen(socket) + 1);
	config->http = get("PROFD_HTTP");
	config->output = get("PROFD_OUTPUT");
	config->rate = get("PROFD_RATE");
	config->clock = get("PROFD_CLOCK");
	config->max_overhead = get("PROFD_MAX_OVERHEAD");
	config->trace_output = get("PROFD_TRACE_OUTPUT");
	config->flight_s = get_flight_s();
	config->trace_rate_hz = get_trace_rate();
	profd_rates = get_rates();
	config->follow = get_bool("PROFD_FOLLOW", true);
	config->unwinder = get_unwinder();
	config->verbose = get_bool("PROFD_VERBOSE", false);
}

static bool is_agent(const char *item, size_t length)
{
	static const char name[] = "libprofd.so";
	size_t n = sizeof(name) - 1;

	return length >= n && strncmp(item + length - n, name, n) == 0;
}

// In place: the string only gets shorter.
static void drop_agent(char *list)
{
	char *out = list;

	for (char *item = list; *item;) {
		size_t length = strcspn(item, ": ");

		if (length && !is_agent(item, length)) {
			if (out != list)
				*out++ = ':';
			memmove(out, item, length); // overlaps: out ≤ item
			out += length;
		}
		item += length;
		while (*item == ':' || *item == ' ')
			item++;
	}
	*out = 0;
}

void profd_config_unfollow(void)
{
	char *list = getenv("LD_PRELOAD");

	if (!list)
		return;
	drop_agent(list);
	if (!*list)
		unsetenv("LD_PRELOAD");
}
