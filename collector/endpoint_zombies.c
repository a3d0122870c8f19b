// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// endpoint_zombies.c: /debug/pprof/zombies: who lives and will not be woken again (zombies.h). Two snapshots, window seconds apart, and the
// event trace in between; where a flight recorder is on, the time before as well. On the connection's thread.

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "collector/clock.h"
#include "collector/endpoints.h"
#include "collector/thread_watch.h"
#include "collector/trace.h"
#include "collector/wake_history.h"
#include "collector/window.h"
#include "collector/zombies.h"
#include "formats/thread_dump.h"

#define DEFAULT_WINDOW_S 10
#define NS_PER_S 1000000000LL
#define LOOK_NS 50000000LL
#define ZOMBIES_MAX_BYTES (64u << 20)

struct hunt {
	struct endpoints *endpoints;
	struct http_client *client;
	pid_t pid;
	int64_t deadline_ns;
	struct trace *trace;
	struct window *window;
	struct thread_watch *watch;
	struct wake_history *history;
	struct thread_dump *dump;
	struct zombies_window span;
	struct zombies_counts counts;
};

static void hunt_finish(struct hunt *hunt)
{
	thread_dump_destroy(hunt->dump);
	wake_history_destroy(hunt->history);
	thread_watch_destroy(hunt->watch);
	window_destroy(hunt->window);
	trace_destroy(hunt->trace);
}

static int hunt_begin(struct hunt *hunt)
{
	const struct trace_options trace = {.from_oldest = true};
	struct window_options window = {.pid = hunt->pid};
	int r;

	window.trace = hunt->trace = trace_create(&trace);
	hunt->history = wake_history_create();
	if (!hunt->trace || !hunt->history)
		return -ENOMEM;
	r = window_open(hunt->endpoints->collector, &window, &hunt->window);
	hunt->span.begin_ns = (uint64_t)clock_now_ns();
	if (r == 0)
		r = collector_watch_threads(hunt->endpoints->collector, hunt->pid, &hunt->watch);
	if (r == 0 && hunt->watch)
		thread_watch_be_strict(hunt->watch);
	return r;
}

static void hunt_listen(struct hunt *hunt)
{
	struct trace_item items[64];
	size_t n;

	while ((n = trace_take(hunt->trace, items, sizeof(items) / sizeof(items[0]))) > 0)
		for (size_t i = 0; i < n; i++)
			wake_history_add(hunt->history, &items[i]);
}

// −EPIPE: the client is gone.
static int hunt_wait(struct hunt *hunt)
{
	int64_t now_ns, until_ns;

	while ((now_ns = clock_now_ns()) < hunt->deadline_ns && !window_ended(hunt->window)) {
		until_ns = now_ns + LOOK_NS < hunt->deadline_ns ? now_ns + LOOK_NS : hunt->deadline_ns;
		if (!endpoints_wait(hunt->endpoints, window_fd(hunt->window), hunt->client, until_ns))
			return -EPIPE;
		hunt_listen(hunt);
		if (clock_now_ns() < until_ns) // it ended, or the server does
			break;
	}
	return 0;
}

static int hunt_end(struct hunt *hunt)
{
	struct trace_counts counts;
	int r = collector_snapshot_watched(hunt->endpoints->collector, hunt->pid, hunt->watch, &hunt->dump);

	hunt->span.end_ns = (uint64_t)clock_now_ns();
	window_stop(hunt->window);
	hunt_listen(hunt);
	trace_read_counts(hunt->trace, &counts);
	hunt->span.lost =
		counts.events.lost + counts.events.bad + counts.dropped + wake_history_forgotten(hunt->history);
	if (r == 0 && counts.recording == 0)
		return -ENODATA;
	return r < 0 ? r : zombies_judge(hunt->dump, hunt->history, &hunt->span, &hunt->counts);
}

static void zombies_reply(const struct hunt *hunt, bool json, struct http_reply *reply)
{
	const char *type = json ? "application/json" : "text/plain; charset=utf-8";
	struct http_page page;
	int r;

	http_page_init(&page, ZOMBIES_MAX_BYTES);
	r = json ? thread_dump_write_json(hunt->dump, &page.writer)
		 : zombies_write(hunt->dump, &hunt->span, &hunt->counts, &page.writer);
	if (r != 0 && page.writer.error == 0)
		page.writer.error = r;
	http_page_end(&page, reply, type);
	if (reply->status == 200)
		reply->content_type = type;
}

static bool zombies_parse(const struct endpoints *endpoints, const struct http_request *request, long *ret_window_s,
			  bool *ret_json, struct http_reply *reply)
{
	char text[32];

	if (http_request_param(request, "window", text, sizeof(text)) &&
	    !endpoints_parse_seconds(endpoints, "window", text, ret_window_s, reply))
		return false;
	if (!http_request_param(request, "format", text, sizeof(text)) || strcmp(text, "text") == 0)
		return true;
	*ret_json = strcmp(text, "json") == 0;
	if (!*ret_json)
		http_reply_error(reply, 400, "format must be one of: text, json");
	return *ret_json;
}

void endpoint_zombies(struct endpoints *endpoints, const struct http_request *request,
		      const struct collector_target *target, struct http_reply *reply)
{
	struct hunt hunt = {.endpoints = endpoints, .client = request->client, .pid = target->pid};
	long window_s = DEFAULT_WINDOW_S;
	bool json = false;
	int r, place;

	if (!zombies_parse(endpoints, request, &window_s, &json, reply))
		return;
	if (request->method == HTTP_HEAD) {
		reply->status = 200;
		reply->content_type = json ? "application/json" : "text/plain; charset=utf-8";
		reply->no_body = true;
		return;
	}
	hunt.deadline_ns = clock_now_ns() + window_s * NS_PER_S;
	place = endpoints_enter(endpoints, hunt.deadline_ns, reply);
	if (place < 0)
		return;
	r = hunt_begin(&hunt);
	if (r == 0)
		r = hunt_wait(&hunt);
	if (r == 0)
		r = hunt_end(&hunt);
	if (r == -EPIPE)
		reply->hung_up = true;
	else if (r == -ENODATA)
		http_reply_error(reply, 500, "target %d cannot trace its threads", (int)target->pid);
	else if (r < 0)
		endpoint_threads_refuse(r, target, reply);
	else
		zombies_reply(&hunt, json, reply);
	hunt_finish(&hunt);
	endpoints_leave(endpoints, place);
}
