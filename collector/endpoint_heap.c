// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// endpoint_heap.c: /debug/pprof/heap and /debug/pprof/allocs: the same profile, one shown by what is in use, the other by all that was ever
// allocated; as Go's, with all of profile's formats besides. On the connection's thread.

#include "collector/endpoints.h"
#include "collector/heap_profile.h"
#include "formats/heap_text.h"
#include "formats/profile.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAP_MAX_BYTES (256u << 20)
#define NS_PER_S 1000000000LL

struct heap_kind {
	enum heap_value shown;
	const char *disposition, *delta_disposition;
};

struct heap_ask {
	const struct heap_kind *kind;
	int debug;
	long seconds; // 0: all since the start
	const struct format *format;
};

// gc=1 is Go's, and nothing to us: what is freed is not in use. false: reply says why not.
static bool heap_parse(const struct endpoints *endpoints, const struct http_request *request, struct heap_ask *ask,
		       struct http_reply *reply)
{
	char text[32];

	if (http_request_param(request, "debug", text, sizeof(text)))
		ask->debug = (int)strtol(text, NULL, 10); // as Go: what is no number is 0
	if (http_request_param(request, "seconds", text, sizeof(text)) &&
	    !endpoints_parse_seconds(endpoints, "seconds", text, &ask->seconds, reply))
		return false;
	if (ask->seconds > 0 && ask->debug != 0) {
		http_reply_error(reply, 400, "seconds and debug params are incompatible");
		return false;
	}
	if (http_request_param(request, "format", text, sizeof(text)) && (ask->format = format_by_name(text)) == NULL) {
		http_reply_error(reply, 400, "format must be one of: %s", format_names());
		return false;
	}
	return true;
}

static void heap_set_headers(const struct heap_ask *ask, struct http_reply *reply)
{
	if (ask->debug > 0) {
		reply->status = 200;
		reply->content_type = "text/plain; charset=utf-8";
		return;
	}
	endpoint_profile_set_headers(reply, ask->format);
	if (ask->format == &format_pprof)
		reply->disposition = ask->seconds ? ask->kind->delta_disposition : ask->kind->disposition; // as Go
}

static int heap_write(const struct heap_ask *ask, const struct profile *profile, const char *title,
		      struct writer *writer)
{
	struct format_options options = {.title = title, .value_index = profile_default_value(profile)};

	return ask->debug > 0 ? heap_text_write(profile, writer) : ask->format->write(profile, &options, writer);
}

static void heap_answer(const struct heap_ask *ask, const struct collector_target *target,
			const struct heap_reading *reading, const struct heap_reading *before, struct http_reply *reply)
{
	const struct heap_profile_options options = {.before = before, .shown = ask->kind->shown};
	struct profile *profile = heap_profile_make(reading, &options);
	struct http_page page;
	char title[96];
	int r;

	if (profile == NULL) {
		http_reply_error(reply, 500, "out of memory while the profile was made");
		return;
	}
	snprintf(title, sizeof(title), "heap of %.15s (%d)", target->comm, (int)target->pid);
	http_page_init(&page, HEAP_MAX_BYTES);
	r = heap_write(ask, profile, title, &page.writer);
	if (r != 0 && page.writer.error == 0)
		page.writer.error = r;
	http_page_end(&page, reply, "text/plain; charset=utf-8");
	if (reply->status == 200)
		heap_set_headers(ask, reply);
	profile_destroy(profile);
}

static void heap_refuse(int error, const struct collector_target *target, struct http_reply *reply)
{
	if (error == -ESRCH)
		http_reply_error(reply, 404, "target %d is gone", (int)target->pid);
	else
		http_reply_error(reply, 500, "cannot read the heap profile of %d: %s", (int)target->pid,
				 strerror(-error));
}

// Waits its seconds. 0; −EPIPE: the client hung up; −EBUSY: reply says that it may not now.
static int heap_wait(struct endpoints *endpoints, const struct http_request *request, const struct heap_ask *ask,
		     struct http_reply *reply)
{
	int64_t deadline_ns = endpoints_now_ns() + ask->seconds * NS_PER_S;
	int place = endpoints_enter(endpoints, deadline_ns, reply);
	bool there;

	if (place < 0)
		return -EBUSY;
	there = endpoints_wait(endpoints, -1, request->client, deadline_ns);
	endpoints_leave(endpoints, place);
	reply->hung_up = !there;
	return there ? 0 : -EPIPE;
}

static void serve(struct endpoints *endpoints, const struct http_request *request,
		  const struct collector_target *target, bool whole, const struct heap_kind *kind,
		  struct http_reply *reply)
{
	struct heap_ask ask = {.kind = kind, .format = &format_pprof};
	struct heap_reading *before = NULL, *reading = NULL;
	pid_t pid = whole ? 0 : target->pid;
	int r = 0;

	if (!heap_parse(endpoints, request, &ask, reply))
		return;
	if (request->method == HTTP_HEAD) {
		heap_set_headers(&ask, reply);
		reply->no_body = true;
		return;
	}
	if (ask.seconds > 0) {
		r = heap_reading_take(endpoints->collector, pid, &before);
		if (r == 0)
			r = heap_wait(endpoints, request, &ask, reply);
	}
	if (r == 0)
		r = heap_reading_take(endpoints->collector, pid, &reading);
	if (r == 0)
		heap_answer(&ask, target, reading, before, reply);
	else if (!reply->hung_up && reply->status == 0)
		heap_refuse(r, target, reply);
	heap_reading_destroy(reading);
	heap_reading_destroy(before);
}

void endpoint_heap(struct endpoints *endpoints, const struct http_request *request,
		   const struct collector_target *target, bool whole, struct http_reply *reply)
{
	static const struct heap_kind kind = {HEAP_INUSE_SPACE, "attachment; filename=\"heap\"",
					      "attachment; filename=\"heap-delta\""};

	serve(endpoints, request, target, whole, &kind, reply);
}

void endpoint_allocs(struct endpoints *endpoints, const struct http_request *request,
		     const struct collector_target *target, bool whole, struct http_reply *reply)
{
	static const struct heap_kind kind = {HEAP_ALLOC_SPACE, "attachment; filename=\"allocs\"",
					      "attachment; filename=\"allocs-delta\""};

	serve(endpoints, request, target, whole, &kind, reply);
}
