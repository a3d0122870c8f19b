// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// endpoint_wall.c: /debug/pprof/wall: where threads spend their time, on a CPU or waiting: snapshots at a rate, added up. No thread is
// woken or stopped for it. On the connection's thread.

#include "collector/endpoints.h"
#include "formats/profile.h"
#include "formats/thread_dump.h"
#include <errno.h>
#include <string.h>

#define WALL_DEFAULT_RATE_HZ 20
#define WALL_MAX_RATE_HZ 100
#define NS_PER_S 1000000000LL

struct wall {
	struct endpoints *endpoints;
	const struct http_request *request;
	pid_t pid;
	int64_t start_ns, deadline_ns, period_ns;
	struct thread_dump *sum;
	uint32_t ticks;
};

// 0, or −errno: the target's end is one.
static int wall_tick(struct wall *wall)
{
	struct thread_dump *dump = NULL;
	int r = collector_sample_threads(wall->endpoints->collector, wall->pid, &dump);

	if (r < 0)
		return r;
	wall->ticks++;
	if (!wall->sum) {
		wall->sum = dump;
		return 0;
	}
	r = thread_dump_accumulate(wall->sum, dump);
	thread_dump_destroy(dump);
	return r;
}

// Until the time is over, the target is gone, or the server stops. 0 or −errno; −EPIPE: the client hung up.
static int wall_run(struct wall *wall)
{
	int64_t next_ns = wall->start_ns;
	int r = 0;

	while (next_ns < wall->deadline_ns) {
		int64_t now_ns;

		r = wall_tick(wall);
		if (r < 0)
			break;
		next_ns += wall->period_ns;
		now_ns = endpoints_now_ns();
		if (next_ns < now_ns)
			next_ns = now_ns; // a tick took longer than the period: the period becomes longer
		if (next_ns > wall->deadline_ns)
			next_ns = wall->deadline_ns;
		if (!endpoints_wait(wall->endpoints, -1, wall->request->fd, next_ns))
			return -EPIPE;
		if (endpoints_now_ns() < next_ns)
			break; // the server stops
	}
	return r == -ESRCH && wall->sum ? 0 : r;
}

static void wall_answer(struct wall *wall, const struct profile_ask *ask, const struct collector_target *target,
			struct http_reply *reply)
{
	int64_t elapsed_ns = endpoints_now_ns() - wall->start_ns;

	wall->sum->duration_ns = elapsed_ns;
	// By what was reached: threads × duration is what the samples add up to.
	if (thread_dump_to_wall(wall->sum, elapsed_ns / wall->ticks) < 0)
		endpoint_profile_answer(ask, target, NULL, reply);
	else
		endpoint_profile_answer(ask, target, wall->sum->profile, reply);
}

void endpoint_wall(struct endpoints *endpoints, const struct http_request *request,
		   const struct collector_target *target, struct http_reply *reply)
{
	struct profile_ask ask = {.rate_hz = WALL_DEFAULT_RATE_HZ, .max_rate_hz = WALL_MAX_RATE_HZ};
	struct wall wall = {.endpoints = endpoints, .request = request, .pid = target->pid};
	int place, r;

	if (!endpoint_profile_parse(endpoints, request, &ask, reply))
		return;
	if (request->method == HTTP_HEAD) {
		endpoint_profile_set_headers(reply, ask.format);
		reply->no_body = true;
		return;
	}
	wall.start_ns = endpoints_now_ns();
	wall.deadline_ns = wall.start_ns + ask.seconds * NS_PER_S;
	wall.period_ns = NS_PER_S / ask.rate_hz;
	place = endpoints_enter(endpoints, wall.deadline_ns, reply);
	if (place < 0)
		return;
	r = wall_run(&wall);
	if (r == -EPIPE)
		reply->hung_up = true;
	else if (r < 0 || !wall.sum)
		http_reply_error(reply, r == -ESRCH ? 404 : 500, "cannot read the threads of %d: %s", (int)target->pid,
				 strerror(-r));
	else
		wall_answer(&wall, &ask, target, reply);
	thread_dump_destroy(wall.sum);
	endpoints_leave(endpoints, place);
}
