// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// endpoint_store.c: what is made of the targets' stores: /debug/pprof/heap and allocs, the same profile, one shown by what is in use, the other
// by all that was ever allocated; mutex and block. As Go's, with all of profile's formats besides. On the connection's thread.

#include "collector/clock.h"
#include "collector/endpoints.h"
#include "collector/heap_profile.h"
#include "collector/store_profile.h"
#include "collector/wait_profile.h"
#include "formats/heap_text.h"
#include "formats/profile.h"
#include "formats/wait_text.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_MAX_BYTES (256u << 20)
#define NS_PER_S 1000000000LL

struct store_kind {
	const char *name; // for titles
	const char *disposition, *delta_disposition;
	enum wire_bucket_kind bucket;
	uint32_t shown; // index of the value that graphs are of
	struct profile *(*make)(const struct store_kind *kind, const struct store_reading *reading,
				const struct store_reading *before);
	int (*write_text)(const struct store_kind *kind, const struct profile *profile, struct writer *writer);
};

struct store_ask {
	const struct store_kind *kind;
	int debug;
	long seconds; // 0: all since the start
	const struct format *format;
	enum name_form names;
	struct profile_view view;
};

// gc=1 is Go's, and nothing to us: what is freed is not in use. false: reply says why not.
static bool store_parse(const struct endpoints *endpoints, const struct http_request *request, struct store_ask *ask,
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
	return endpoint_names_parse(request, &ask->names, reply) && endpoint_view_parse(request, &ask->view, reply);
}

static void store_set_headers(const struct store_ask *ask, struct http_reply *reply)
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

static int store_write(const struct store_ask *ask, struct profile *profile, const char *title, struct writer *writer)
{
	struct format_options options = {.title = title, .value_index = ask->kind->shown};
	int r = name_form_prepare(ask->names, ask->debug > 0 ? NULL : ask->format, profile, &options);

	if (r < 0)
		return r;
	return ask->debug > 0 ? ask->kind->write_text(ask->kind, profile, writer)
			      : ask->format->write(profile, &options, writer);
}

static void store_answer(const struct store_ask *ask, const struct collector_target *target,
			 const struct store_reading *reading, const struct store_reading *before,
			 struct http_reply *reply)
{
	struct profile *profile = ask->kind->make(ask->kind, reading, before);
	struct http_page page;
	char title[96];
	int r;

	if (profile == NULL) {
		http_reply_error(reply, 500, "out of memory while the profile was made");
		return;
	}
	snprintf(title, sizeof(title), "%s of %.15s (%d)", ask->kind->name, target->comm, (int)target->pid);
	http_page_init(&page, ANSWER_MAX_BYTES);
	r = store_write(ask, profile, title, &page.writer);
	if (r != 0 && page.writer.error == 0)
		page.writer.error = r;
	http_page_end(&page, reply, "text/plain; charset=utf-8");
	if (reply->status == 200)
		store_set_headers(ask, reply);
	profile_destroy(profile);
}

static void store_refuse(int error, const struct collector_target *target, struct http_reply *reply)
{
	if (error == -ESRCH)
		http_reply_error(reply, 404, "target %d is gone", (int)target->pid);
	else
		http_reply_error(reply, 500, "cannot read the profile of %d: %s", (int)target->pid, strerror(-error));
}

// Waits its seconds. 0; −EPIPE: the client hung up; −EBUSY: reply says that it may not now.
static int store_wait(struct endpoints *endpoints, const struct http_request *request, const struct store_ask *ask,
		      struct http_reply *reply)
{
	int64_t deadline_ns = clock_now_ns() + ask->seconds * NS_PER_S;
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
		  const struct collector_target *target, bool whole, const struct store_kind *kind,
		  struct http_reply *reply)
{
	struct store_ask ask = {.kind = kind, .format = &format_pprof};
	struct store_reading *before = NULL, *reading = NULL;
	pid_t pid = whole ? 0 : target->pid;
	int r = 0;

	if (!store_parse(endpoints, request, &ask, reply))
		return;
	if (request->method == HTTP_HEAD) {
		store_set_headers(&ask, reply);
		reply->no_body = true;
		return;
	}
	if (ask.seconds > 0) {
		r = store_reading_take(endpoints->collector, pid, kind->bucket, &before);
		if (r == 0)
			r = store_wait(endpoints, request, &ask, reply);
	}
	if (r == 0)
		r = store_reading_take(endpoints->collector, pid, kind->bucket, &reading);
	if (r == 0) {
		reading->view = ask.view;
		reading->view.hides_traces = ask.debug > 0;
	}
	if (r == 0)
		store_answer(&ask, target, reading, before, reply);
	else if (!reply->hung_up && reply->status == 0)
		store_refuse(r, target, reply);
	store_reading_destroy(reading);
	store_reading_destroy(before);
}

// ---- The kinds -----------------------------------------------------------------------------------------------------

static struct profile *make_heap(const struct store_kind *kind, const struct store_reading *reading,
				 const struct store_reading *before)
{
	const struct heap_profile_options options = {.before = before, .shown = (enum heap_value)kind->shown};

	return heap_profile_make(reading, &options);
}

static int write_heap_text(const struct store_kind *kind, const struct profile *profile, struct writer *writer)
{
	(void)kind;
	return heap_text_write(profile, writer);
}

static struct profile *make_waits(const struct store_kind *kind, const struct store_reading *reading,
				  const struct store_reading *before)
{
	return wait_profile_make(reading, before, kind->bucket, NULL);
}

static int write_wait_text(const struct store_kind *kind, const struct profile *profile, struct writer *writer)
{
	return wait_text_write(profile, kind->bucket == WIRE_BUCKET_MUTEX, writer);
}

#define KIND(kind_name, bucket_kind, shown_value, make_function, write_function)                              \
	{                                                                                                     \
		.name = (kind_name), .disposition = "attachment; filename=\"" kind_name "\"",                 \
		.delta_disposition = "attachment; filename=\"" kind_name "-delta\"", .bucket = (bucket_kind), \
		.shown = (shown_value), .make = (make_function), .write_text = (write_function)               \
	}

void endpoint_store(struct endpoints *endpoints, const struct http_request *request,
		    const struct collector_target *target, bool whole, struct http_reply *reply)
{
	static const struct store_kind heap =
		KIND("heap", WIRE_BUCKET_HEAP, HEAP_INUSE_SPACE, make_heap, write_heap_text);
	static const struct store_kind allocs =
		KIND("allocs", WIRE_BUCKET_HEAP, HEAP_ALLOC_SPACE, make_heap, write_heap_text);
	static const struct store_kind mutex =
		KIND("mutex", WIRE_BUCKET_MUTEX, WAIT_DELAY, make_waits, write_wait_text);
	static const struct store_kind block =
		KIND("block", WIRE_BUCKET_BLOCK, WAIT_DELAY, make_waits, write_wait_text);

	serve(endpoints, request, target, whole,
	      reply->endpoint == HTTP_ENDPOINT_HEAP     ? &heap
	      : reply->endpoint == HTTP_ENDPOINT_ALLOCS ? &allocs
	      : reply->endpoint == HTTP_ENDPOINT_MUTEX  ? &mutex
							: &block,
	      reply);
}
