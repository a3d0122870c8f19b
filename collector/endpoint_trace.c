// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// endpoint_trace.c: /debug/pprof/trace: what the target's threads do from now on, written while it happens; or with last=N what its flight
// recorder has of the last N seconds. On the connection's thread.

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/clock.h"
#include "collector/endpoints.h"
#include "collector/trace.h"
#include "collector/trace_feed.h"
#include "collector/window.h"
#include "formats/trace.h"
#include "profd/wire.h"

#define NS_PER_S 1000000000LL
#define LOOK_NS 50000000LL // between looks for something to write

struct trace_ask {
	double seconds;
	long last; // 0: from now on
	uint32_t rate_hz;
	const struct trace_format *format;
};

// An answer under way.
struct trace_answer {
	struct endpoints *endpoints;
	struct http_client client; // who half-closes counts as gone: nothing can be said in between to find out
	int place;                 // endpoint_gate.c
	int64_t deadline_ns;
	struct trace *trace;
	struct window *window;
	struct trace_feed *feed;
};

// As Go: what is no number, or not positive, is 1 second. It takes fractions.
static double trace_seconds(const char *text)
{
	char *end = NULL;
	double value = strtod(text, &end);

	return end != text && *end == '\0' && isfinite(value) && value > 0 ? value : 1;
}

static bool trace_parse_rate(const char *text, uint32_t *ret_rate_hz)
{
	size_t length = strlen(text);

	if (length == 0 || length > 6 || strspn(text, "0123456789") != length)
		return false;
	*ret_rate_hz = (uint32_t)strtoul(text, NULL, 10);
	return *ret_rate_hz <= WIRE_MAX_RATE_HZ;
}

static bool trace_parse(const struct endpoints *endpoints, const struct http_request *request, struct trace_ask *ask,
			struct http_reply *reply)
{
	char text[32];

	if (http_request_param(request, "seconds", text, sizeof(text)))
		ask->seconds = trace_seconds(text);
	if (ask->seconds > endpoints->max_seconds) {
		http_reply_error(reply, 400, "seconds=%.0f is over the limit of %u seconds", ask->seconds,
				 endpoints->max_seconds);
		return false;
	}
	if (http_request_param(request, "last", text, sizeof(text)) &&
	    !endpoints_parse_seconds(endpoints, "last", text, &ask->last, reply))
		return false;
	if (http_request_param(request, "rate", text, sizeof(text)) && !trace_parse_rate(text, &ask->rate_hz)) {
		http_reply_error(reply, 400, "rate must be a number from 0 to %u", WIRE_MAX_RATE_HZ);
		return false;
	}
	if (http_request_param(request, "format", text, sizeof(text)) &&
	    (ask->format = trace_format_by_name(text)) == NULL) {
		http_reply_error(reply, 400, "format must be one of: %s", trace_format_names());
		return false;
	}
	return true;
}

static void trace_set_headers(const struct trace_ask *ask, struct http_reply *reply)
{
	reply->status = 200;
	reply->content_type = ask->format->content_type;
	reply->disposition = ask->format->disposition;
}

// ---- The answer -----------------------------------------------------------------------------------------------------

static void answer_destroy(void *context)
{
	struct trace_answer *answer = context;

	trace_feed_destroy(answer->feed);
	window_destroy(answer->window);
	trace_destroy(answer->trace);
	endpoints_leave(answer->endpoints, answer->place);
	free(answer);
}

// Waits a moment for something to write. false: the client is gone.
static bool answer_wait(struct trace_answer *answer, bool *ret_over)
{
	int64_t now_ns = clock_now_ns();
	int64_t until_ns = now_ns + LOOK_NS < answer->deadline_ns ? now_ns + LOOK_NS : answer->deadline_ns;

	if (!endpoints_wait(answer->endpoints, window_fd(answer->window), &answer->client, until_ns))
		return false;
	*ret_over = clock_now_ns() >= answer->deadline_ns || window_ended(answer->window) ||
		    clock_now_ns() < until_ns; // the server stops
	return true;
}

static int answer_next(void *context, struct writer *writer)
{
	struct trace_answer *answer = context;
	bool over = false;
	int r = trace_feed_some(answer->feed, writer);

	if (r != 0)
		return r;
	if (!answer_wait(answer, &over))
		return -EPIPE;
	if (!over)
		return 1;
	window_stop(answer->window);
	return trace_feed_end(answer->feed, writer);
}

static int answer_open(struct trace_answer *answer, const struct trace_ask *ask, const struct collector_target *target,
		       bool whole)
{
	const struct trace_options trace = {.keep_ns = (uint64_t)ask->last * NS_PER_S, .passive = ask->last > 0};
	struct window_options window = {.pid = whole ? 0 : target->pid, .rate_hz = ask->last > 0 ? 0 : ask->rate_hz};
	char title[96];
	int r;

	snprintf(title, sizeof(title), "%.15s (%d)", target->comm, (int)target->pid);
	window.trace = answer->trace = trace_create(&trace);
	if (!answer->trace)
		return -ENOMEM;
	r = window_open(answer->endpoints->collector, &window, &answer->window);
	if (r < 0)
		return r;
	answer->feed = trace_feed_create(answer->window, answer->trace, ask->format, title);
	return answer->feed ? 0 : -ENOMEM;
}

static void trace_refuse(int error, const struct collector_target *target, struct http_reply *reply)
{
	if (error == -ESRCH)
		http_reply_error(reply, 404, "target %d is gone", (int)target->pid);
	else if (error == -EBUSY)
		http_reply_error(reply, 503, "too many profiles are running");
	else
		http_reply_error(reply, 500, "Could not enable tracing: %s", strerror(-error)); // as Go
	reply->retry_after_s = error == -EBUSY;
}

// A recorder that is not there has nothing.
static bool has_nothing(const struct trace_answer *answer, const struct trace_ask *ask, struct http_reply *reply)
{
	struct trace_counts counts;

	if (ask->last == 0)
		return false;
	window_stop(answer->window);
	trace_read_counts(answer->trace, &counts);
	if (counts.recording > 0)
		return false;
	http_reply_error(reply, 404,
			 "nothing is recorded: last=N needs a flight recorder: PROFD_TRACE=flight in the program's "
			 "environment, or profd run --trace FILE --flight");
	return true;
}

void endpoint_trace(struct endpoints *endpoints, const struct http_request *request,
		    const struct collector_target *target, bool whole, struct http_reply *reply)
{
	struct trace_ask ask = {.seconds = 1, .rate_hz = endpoints->default_rate_hz, .format = &trace_format_perfetto};
	struct trace_answer *answer;
	int r;

	if (!trace_parse(endpoints, request, &ask, reply))
		return;
	if (request->method == HTTP_HEAD) {
		trace_set_headers(&ask, reply);
		reply->no_body = true;
		return;
	}
	answer = calloc(1, sizeof(*answer));
	if (!answer) {
		http_reply_error(reply, 500, "out of memory");
		return;
	}
	answer->endpoints = endpoints;
	answer->client.fd = request->client->fd;
	answer->deadline_ns = ask.last > 0 ? 0 : clock_now_ns() + (int64_t)(ask.seconds * 1e9);
	answer->place = endpoints_enter(endpoints, answer->deadline_ns ? answer->deadline_ns : 1, reply);
	if (answer->place < 0) {
		free(answer);
		return;
	}
	r = answer_open(answer, &ask, target, whole);
	if (r < 0)
		trace_refuse(r, target, reply);
	if (r < 0 || has_nothing(answer, &ask, reply)) {
		answer_destroy(answer);
		return;
	}
	reply->stream = (struct http_stream){answer_next, answer_destroy, answer};
	trace_set_headers(&ask, reply);
}
