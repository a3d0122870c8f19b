// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// endpoint_config.c: /debug/pprof/config: what is switched on in a running target; a POST changes it. That is more than looking, so it is for
// who is on this host: a connection from a loopback address. On the connection's thread.

#include "collector/endpoints.h"
#include "collector/http_address.h"
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_MAX_BYTES 4096
#define CONFIG_MAX_RATE (1ULL << 40)

// 1: it was given; 0: not; −1: reply says what is wrong with it.
static int config_number(const struct http_request *request, const char *name, uint64_t *ret_number,
			 struct http_reply *reply)
{
	char text[32];
	size_t length;
	uint64_t number;

	if (!http_request_param(request, name, text, sizeof(text)))
		return 0;
	length = strlen(text);
	number = strtoull(text, NULL, 10);
	if (length == 0 || length > 13 || strspn(text, "0123456789") != length || number > CONFIG_MAX_RATE) {
		http_reply_error(reply, 400, "%s must be a number of bytes, 0 to switch it off", name);
		return -1;
	}
	*ret_number = number;
	return 1;
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
	given = config_number(request, "heap_rate", &change.rates.heap_bytes, reply);
	if (given < 0)
		return -EINVAL;
	if (given == 0) {
		http_reply_error(reply, 400, "there is nothing to change: heap_rate=BYTES");
		return -EINVAL;
	}
	change.has_heap = true;
	return collector_change_rates(endpoints->collector, pid, &change);
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
	writer_printf(&page.writer, "heap_rate %" PRIu64 "\n", rates.heap_bytes);
	http_page_end(&page, reply, "text/plain; charset=utf-8");
}
