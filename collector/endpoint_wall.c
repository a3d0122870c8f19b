// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// endpoint_wall.c: /debug/pprof/wall: where threads spend their time, on a CPU or waiting: snapshots at a rate, added up. No thread is
// woken or stopped for it. On the connection's thread.

#include "collector/clock.h"
#include "collector/endpoints.h"
#include "collector/wall.h"
#include <errno.h>
#include <string.h>

#define NS_PER_S 1000000000LL

// Until the time is over, the target is gone, or the server stops. 0 or −errno; −EPIPE: the client hung up.
static int wall_run(const struct endpoints *endpoints, const struct http_request *request, struct wall *wall,
		    int64_t deadline_ns)
{
	int64_t next_ns = 0;

	while (next_ns < deadline_ns) {
		int r = wall_look(wall);

		if (r < 0)
			return r;
		next_ns = wall_next_ns(wall) < deadline_ns ? wall_next_ns(wall) : deadline_ns;
		if (!endpoints_wait(endpoints, -1, request->client, next_ns))
			return -EPIPE;
		if (clock_now_ns() < next_ns)
			break; // the server stops
	}
	return 0;
}

static void wall_answer(struct wall *wall, int error, const struct profile_ask *ask,
			const struct collector_target *target, struct http_reply *reply)
{
	struct wall_stats stats;

	wall_stats(wall, &stats);
	if (error == -ESRCH && stats.looks > 0)
		error = 0; // what was seen of it until then
	if (error == -EPIPE)
		reply->hung_up = true;
	else if (error < 0)
		http_reply_error(reply, error == -ESRCH ? 404 : 500, "cannot read the threads of %d: %s",
				 (int)target->pid, strerror(-error));
	else
		endpoint_profile_answer(ask, target, wall_profile(wall, NULL), reply);
}

void endpoint_wall(struct endpoints *endpoints, const struct http_request *request,
		   const struct collector_target *target, struct http_reply *reply)
{
	struct profile_ask ask = {.rate_hz = WALL_DEFAULT_RATE_HZ, .max_rate_hz = WALL_MAX_RATE_HZ};
	int64_t deadline_ns;
	struct wall *wall;
	int place, r;

	if (!endpoint_profile_parse(endpoints, request, &ask, reply))
		return;
	if (request->method == HTTP_HEAD) {
		endpoint_profile_set_headers(reply, ask.format);
		reply->no_body = true;
		return;
	}
	deadline_ns = clock_now_ns() + ask.seconds * NS_PER_S;
	place = endpoints_enter(endpoints, deadline_ns, reply);
	if (place < 0)
		return;
	wall = wall_create(endpoints->collector, target->pid, ask.rate_hz, &ask.view);
	r = wall ? wall_run(endpoints, request, wall, deadline_ns) : -ENOMEM;
	if (wall)
		wall_answer(wall, r, &ask, target, reply);
	else
		http_reply_error(reply, 500, "out of memory");
	wall_destroy(wall);
	endpoints_leave(endpoints, place);
}
