// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// endpoint_config.c: /debug/pprof/config: what is switched on in a running target; a POST changes it. That is more than looking, so it is for
// who is on this host: a connection from a loopback address. On the connection's thread.

#include "collector/endpoints.h"
#include "collector/http_address.h"
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_MAX_BYTES 4096
#define CONFIG_MAX_RATE (1ULL << 40)

// What may be set, and in what unit.
static const struct config_rate {
	const char *name, *unit;
	size_t offset, flag; // in wire_rates; in collector_rates_change
	bool is_switch;      // 32 bits: 0 or 1
} config_rates[] = {
#define RATE(name_, unit_, member_, flag_, is_switch_)                                            \
	{                                                                                         \
		.name = (name_), .unit = (unit_), .offset = offsetof(struct wire_rates, member_), \
		.flag = offsetof(struct collector_rates_change, flag_), .is_switch = (is_switch_) \
	}
	RATE("heap_rate", "bytes", heap_bytes, has_heap, false),
	RATE("mutex_fraction", "contentions", mutex, has_mutex, false),
	RATE("block_rate", "nanoseconds", block, has_block, false),
	RATE("block_io", "0 or 1", block_io, has_block_io, true),
	RATE("wakers", "0 or 1", wakers, has_wakers, true),
	RATE("heap_mmap", "0 or 1", heap_mmap, has_heap_mmap, true),
#undef RATE
};
#define CONFIG_RATES (sizeof(config_rates) / sizeof(config_rates[0]))

static bool config_parse(const char *text, uint64_t max, uint64_t *ret_number)
{
	size_t length = strlen(text);

	if (length == 0 || length > 13 || strspn(text, "0123456789") != length)
		return false;
	*ret_number = strtoull(text, NULL, 10);
	return *ret_number <= max;
}

static void config_set(struct collector_rates_change *change, const struct config_rate *rate, uint64_t number)
{
	char *at = (char *)&change->rates + rate->offset;

	*(bool *)((char *)change + rate->flag) = true;
	if (rate->is_switch)
		*(uint32_t *)(void *)at = (uint32_t)number;
	else
		*(uint64_t *)(void *)at = number;
}

static uint64_t config_get(const struct wire_rates *rates, const struct config_rate *rate)
{
	const char *at = (const char *)rates + rate->offset;

	return rate->is_switch ? *(const uint32_t *)(const void *)at : *(const uint64_t *)(const void *)at;
}

// How many were given; −1: reply says what is wrong with one.
static int config_read(const struct http_request *request, struct collector_rates_change *change,
		       struct http_reply *reply)
{
	int given = 0;

	for (size_t i = 0; i < CONFIG_RATES; i++) {
		const struct config_rate *rate = &config_rates[i];
		uint64_t number;
		char text[32];

		if (!http_request_param(request, rate->name, text, sizeof(text)))
			continue;
		if (!config_parse(text, rate->is_switch ? 1 : CONFIG_MAX_RATE, &number)) {
			http_reply_error(reply, 400,
					 rate->is_switch ? "%s must be %s"
							 : "%s must be a number of %s, 0 to switch it off",
					 rate->name, rate->unit);
			return -1;
		}
		config_set(change, rate, number);
		given++;
	}
	return given;
}

static int config_change(struct endpoints *endpoints, const struct http_request *request, pid_t pid,
			 struct http_reply *reply)
{
	struct collector_rates_change change = {0};
	int given;

	if (!http_address_peer_is_loopback(request->client->fd)) {
		http_reply_error(reply, 403, "only this host may change what is switched on");
		return -EPERM;
	}
	given = config_read(request, &change, reply);
	if (given == 0)
		http_reply_error(
			reply, 400,
			"there is nothing to change: heap_rate=BYTES, mutex_fraction=N, block_rate=NANOSECONDS, "
			"block_io=0|1, wakers=0|1, heap_mmap=0|1");
	return given > 0 ? collector_change_rates(endpoints->collector, pid, &change) : -EINVAL;
}

void endpoint_config(struct endpoints *endpoints, const struct http_request *request,
		     const struct collector_target *target, bool whole, struct http_reply *reply)
{
	struct wire_rates rates = {0};
	struct http_page page;
	int r = 0;

	if (request->method == HTTP_POST)
		r = config_change(endpoints, request, whole ? 0 : target->pid, reply);
	if (r == 0)
		r = collector_rates(endpoints->collector, target->pid, &rates);
	if (r < 0) {
		if (reply->status == 0)
			http_reply_error(reply, 404, "target %d is gone", (int)target->pid);
		return;
	}
	http_page_init(&page, CONFIG_MAX_BYTES);
	for (size_t i = 0; i < CONFIG_RATES; i++)
		writer_printf(&page.writer, "%s %" PRIu64 "\n", config_rates[i].name,
			      config_get(&rates, &config_rates[i]));
	http_page_end(&page, reply, "text/plain; charset=utf-8");
}
