// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// endpoint_profile.c: /debug/pprof/profile. Each request has a window of its own on the shared stream of samples; it ends after its
// seconds, when the target is gone, when the client hangs up, or when the server stops. On the connection's thread.

#include "collector/clock.h"
#include "collector/endpoints.h"
#include "collector/window.h"
#include "formats/profile.h"
#include "profd/wire.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROFILE_DEFAULT_SECONDS 30
#define PROFILE_MAX_BYTES (256u << 20)
#define PROFILE_BUSY_RETRY_S 1
#define NS_PER_S 1000000000LL
#define PROFILE_LAST_LOOK_NS NS_PER_S

// As Go: what strconv.ParseInt refuses, and what is not positive, is 30.
static int64_t profile_seconds(const char *text)
{
	char *end = NULL;
	const char *digits = text + (*text == '+' || *text == '-');

	errno = 0;
	long long value = strtoll(text, &end, 10);
	if (*digits < '0' || *digits > '9' || *end != '\0' || errno != 0 || value <= 0)
		return PROFILE_DEFAULT_SECONDS;
	return value;
}

// 0: not a number from 1 to max.
static uint32_t profile_rate(const char *text, uint32_t max)
{
	size_t length = strlen(text);

	if (length == 0 || length > 6 || strspn(text, "0123456789") != length)
		return 0;
	unsigned long rate = strtoul(text, NULL, 10);
	return rate <= max ? (uint32_t)rate : 0;
}

bool endpoint_names_parse(const struct http_request *request, enum name_form *form, struct http_reply *reply)
{
	char text[16];

	if (!http_request_param(request, "names", text, sizeof(text)) || name_form_by_name(text, form))
		return true;
	http_reply_error(reply, 400, "names must be full or short");
	return false;
}

bool endpoint_profile_parse(const struct endpoints *endpoints, const struct http_request *request,
			    struct profile_ask *ask, struct http_reply *reply)
{
	uint32_t max_rate_hz = ask->max_rate_hz;
	char text[32];

	ask->seconds = PROFILE_DEFAULT_SECONDS;
	ask->format = &format_pprof;
	if (http_request_param(request, "seconds", text, sizeof(text)))
		ask->seconds = profile_seconds(text);
	if (ask->seconds > endpoints->max_seconds) {
		http_reply_error(reply, 400, "seconds=%lld is over the limit of %u seconds", (long long)ask->seconds,
				 endpoints->max_seconds);
		return false;
	}
	if (http_request_param(request, "rate", text, sizeof(text)) &&
	    (ask->rate_hz = profile_rate(text, max_rate_hz)) == 0) {
		http_reply_error(reply, 400, "rate must be a number from 1 to %u", max_rate_hz);
		return false;
	}
	if (http_request_param(request, "format", text, sizeof(text)) && (ask->format = format_by_name(text)) == NULL) {
		http_reply_error(reply, 400, "format must be one of: %s", format_names());
		return false;
	}
	return endpoint_names_parse(request, &ask->names, reply) && endpoint_view_parse(request, &ask->view, reply);
}

void endpoint_profile_set_headers(struct http_reply *reply, const struct format *format)
{
	reply->status = 200;
	reply->content_type = format->content_type;
	if (format == &format_pprof)
		reply->disposition = "attachment; filename=\"profile\""; // as Go
	else if (format == &format_speedscope)
		reply->disposition = "attachment; filename=\"profile.speedscope.json\"";
	else // our own page: its script and style are inline, and it may fetch nothing
		reply->policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
				"img-src data: blob:";
}

void endpoint_profile_answer(const struct profile_ask *ask, const struct collector_target *target,
			     struct profile *profile, struct http_reply *reply)
{
	char title[96];
	struct format_options options = {.title = title};
	struct http_page page;

	if (profile == NULL) {
		http_reply_error(reply, 500, "out of memory while the profile was made");
		return;
	}
	snprintf(title, sizeof(title), "%.15s (%d)", target->comm, (int)target->pid);
	http_page_init(&page, PROFILE_MAX_BYTES);
	int error = name_form_prepare(ask->names, ask->format, profile, &options);
	if (error == 0)
		error = ask->format->write(profile, &options, &page.writer);
	if (error != 0 && page.writer.error == 0)
		page.writer.error = error;
	http_page_end(&page, reply, ask->format->content_type);
	if (reply->status == 200)
		endpoint_profile_set_headers(reply, ask->format);
}

static void profile_refuse(int error, const struct collector_target *target, struct http_reply *reply)
{
	if (error == -ESRCH) {
		http_reply_error(reply, 404, "target %d is gone", (int)target->pid);
	} else if (error == -EBUSY) {
		http_reply_error(reply, 503, "too many profiles are running");
		reply->retry_after_s = PROFILE_BUSY_RETRY_S;
	} else {
		http_reply_error(reply, 500, "Could not enable CPU profiling: %s", strerror(-error)); // as Go
	}
}

// Names of what was seen are read meanwhile: at half time most of the program is known, and a second before the end nearly all.
// false: the client hung up.
static bool profile_wait(const struct endpoints *endpoints, struct window *window, struct http_client *client,
			 int64_t deadline_ns)
{
	int64_t start_ns = clock_now_ns();
	const int64_t stops_ns[] = {start_ns + (deadline_ns - start_ns) / 2, deadline_ns - PROFILE_LAST_LOOK_NS};

	for (size_t i = 0; i < 2 && deadline_ns - start_ns > 2 * PROFILE_LAST_LOOK_NS; i++) {
		if (!endpoints_wait(endpoints, window_fd(window), client, stops_ns[i]))
			return false;
		if (clock_now_ns() < stops_ns[i])
			return true; // there is no more to come
		window_prepare(window);
	}
	return endpoints_wait(endpoints, window_fd(window), client, deadline_ns);
}

static void profile_run(struct endpoints *endpoints, const struct profile_ask *ask, const struct http_request *request,
			const struct collector_target *target, bool whole, int64_t deadline_ns,
			struct http_reply *reply)
{
	struct window_options options = {.pid = whole ? 0 : target->pid, .rate_hz = ask->rate_hz, .view = ask->view};
	struct window *window = NULL;
	int error = window_open(endpoints->collector, &options, &window);

	if (error != 0) {
		profile_refuse(error, target, reply);
		return;
	}
	reply->hung_up = !profile_wait(endpoints, window, request->client, deadline_ns);
	window_stop(window);
	if (!reply->hung_up) {
		struct profile *profile = window_profile(window);

		endpoint_profile_answer(ask, target, profile, reply);
		profile_destroy(profile);
	}
	window_destroy(window);
}

void endpoint_profile(struct endpoints *endpoints, const struct http_request *request,
		      const struct collector_target *target, bool whole, struct http_reply *reply)
{
	struct profile_ask ask = {.rate_hz = endpoints->default_rate_hz, .max_rate_hz = WIRE_MAX_RATE_HZ};

	if (!endpoint_profile_parse(endpoints, request, &ask, reply))
		return;
	if (request->method == HTTP_HEAD) {
		endpoint_profile_set_headers(reply, ask.format);
		reply->no_body = true;
		return;
	}
	int64_t deadline_ns = clock_now_ns() + ask.seconds * NS_PER_S;
	int place = endpoints_enter(endpoints, deadline_ns, reply);
	if (place < 0)
		return;
	profile_run(endpoints, &ask, request, target, whole, deadline_ns, reply);
	endpoints_leave(endpoints, place);
}
