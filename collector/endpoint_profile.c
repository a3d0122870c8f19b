// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// endpoint_profile.c: /debug/pprof/profile. Each request has a window of its own on the shared stream of samples; it ends after its
// seconds, when the target is gone, when the client hangs up, or when the server stops. On the connection's thread.

#include "collector/endpoints.h"
#include "collector/window.h"
#include "formats/profile.h"
#include "profd/wire.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PROFILE_DEFAULT_SECONDS 30
#define PROFILE_MAX_BYTES (256u << 20)
#define PROFILE_BUSY_RETRY_S 1
#define NS_PER_S 1000000000LL
#define NS_PER_MS 1000000LL

struct profile_ask {
	int64_t seconds;
	uint32_t rate_hz;
	const struct format *format;
};

static int64_t profile_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * NS_PER_S + now.tv_nsec;
}

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

// 0: not a number from 1 to the highest rate.
static uint32_t profile_rate(const char *text)
{
	size_t length = strlen(text);

	if (length == 0 || length > 6 || strspn(text, "0123456789") != length)
		return 0;
	unsigned long rate = strtoul(text, NULL, 10);
	return rate <= WIRE_MAX_RATE_HZ ? (uint32_t)rate : 0;
}

static bool profile_parse(const struct endpoints *endpoints, const struct http_request *request,
			  struct profile_ask *ask, struct http_reply *reply)
{
	char text[32];

	*ask = (struct profile_ask){PROFILE_DEFAULT_SECONDS, endpoints->default_rate_hz, &format_pprof};
	if (http_request_param(request, "seconds", text, sizeof(text)))
		ask->seconds = profile_seconds(text);
	if (ask->seconds > endpoints->max_seconds) {
		http_reply_error(reply, 400, "seconds=%lld is over the limit of %u seconds", (long long)ask->seconds,
				 endpoints->max_seconds);
		return false;
	}
	if (http_request_param(request, "rate", text, sizeof(text)) && (ask->rate_hz = profile_rate(text)) == 0) {
		http_reply_error(reply, 400, "rate must be a number from 1 to %u", WIRE_MAX_RATE_HZ);
		return false;
	}
	if (http_request_param(request, "format", text, sizeof(text)) && (ask->format = format_by_name(text)) == NULL) {
		http_reply_error(reply, 400, "format must be one of: %s", format_names());
		return false;
	}
	return true;
}

// Takes a place until profile_leave. −1: none is free, and *ret_retry_s says when the first will be.
static int profile_enter(struct endpoints_gate *gate, int64_t deadline_ns, uint32_t *ret_retry_s)
{
	int64_t first_ns = INT64_MAX;
	int place = -1;

	pthread_mutex_lock(&gate->lock);
	for (uint32_t i = 0; i < gate->max && place < 0; i++) {
		if (gate->deadlines_ns[i] == 0)
			place = (int)i;
		else if (gate->deadlines_ns[i] < first_ns)
			first_ns = gate->deadlines_ns[i];
	}
	if (place >= 0) {
		gate->deadlines_ns[place] = deadline_ns;
		gate->running++;
	}
	pthread_mutex_unlock(&gate->lock);
	if (place < 0) {
		int64_t left_ns = first_ns - profile_now_ns();
		*ret_retry_s = left_ns > 0 ? (uint32_t)(left_ns / NS_PER_S) + 1 : PROFILE_BUSY_RETRY_S;
	}
	return place;
}

static void profile_leave(struct endpoints_gate *gate, int place)
{
	pthread_mutex_lock(&gate->lock);
	gate->deadlines_ns[place] = 0;
	gate->running--;
	pthread_mutex_unlock(&gate->lock);
}

uint32_t endpoint_profile_running(struct endpoints *endpoints)
{
	pthread_mutex_lock(&endpoints->gate.lock);
	uint32_t running = endpoints->gate.running;
	pthread_mutex_unlock(&endpoints->gate.lock);
	return running;
}

// Lets the window fill. false: the client hung up.
static bool profile_wait(const struct endpoints *endpoints, struct window *window, int client_fd, int64_t deadline_ns)
{
	struct pollfd fds[] = {
		{.fd = client_fd, .events = POLLRDHUP},
		{.fd = window_fd(window), .events = POLLIN},
		{.fd = endpoints->stop_fd, .events = POLLIN},
	};

	for (;;) {
		int64_t left_ns = deadline_ns - profile_now_ns();
		int64_t left_ms = left_ns > 0 ? (left_ns + NS_PER_MS - 1) / NS_PER_MS : 0;
		int ready = poll(fds, 3, left_ms > 60000 ? 60000 : (int)left_ms);
		if (ready > 0 && (fds[0].revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) != 0)
			return false;
		if (left_ms == 0 || (ready > 0 && (fds[1].revents != 0 || fds[2].revents != 0)))
			return true;
	}
}

static void profile_set_headers(struct http_reply *reply, const struct format *format)
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

static void profile_answer(const struct profile_ask *ask, const struct collector_target *target, struct window *window,
			   struct http_reply *reply)
{
	char title[96];
	struct format_options options = {.title = title};
	struct http_page page;
	struct profile *profile = window_profile(window);

	if (profile == NULL) {
		http_reply_error(reply, 500, "out of memory while the profile was made");
		return;
	}
	snprintf(title, sizeof(title), "%.15s (%d)", target->comm, (int)target->pid);
	http_page_init(&page, PROFILE_MAX_BYTES);
	int error = ask->format->write(profile, &options, &page.writer);
	if (error != 0 && page.writer.error == 0)
		page.writer.error = error;
	profile_destroy(profile);
	http_page_end(&page, reply, ask->format->content_type);
	if (reply->status == 200)
		profile_set_headers(reply, ask->format);
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

static void profile_run(struct endpoints *endpoints, const struct profile_ask *ask, const struct http_request *request,
			const struct collector_target *target, bool whole, int64_t deadline_ns,
			struct http_reply *reply)
{
	struct window_options options = {.pid = whole ? 0 : target->pid, .rate_hz = ask->rate_hz};
	struct window *window = NULL;
	int error = window_open(endpoints->collector, &options, &window);

	if (error != 0) {
		profile_refuse(error, target, reply);
		return;
	}
	reply->hung_up = !profile_wait(endpoints, window, request->fd, deadline_ns);
	window_stop(window);
	if (!reply->hung_up)
		profile_answer(ask, target, window, reply);
	window_destroy(window);
}

void endpoint_profile(struct endpoints *endpoints, const struct http_request *request,
		      const struct collector_target *target, bool whole, struct http_reply *reply)
{
	struct profile_ask ask;
	uint32_t retry_after_s = 0;

	if (!profile_parse(endpoints, request, &ask, reply))
		return;
	if (request->method == HTTP_HEAD) {
		profile_set_headers(reply, ask.format);
		reply->no_body = true;
		return;
	}
	int64_t deadline_ns = profile_now_ns() + ask.seconds * NS_PER_S;
	int place = profile_enter(&endpoints->gate, deadline_ns, &retry_after_s);
	if (place < 0) {
		http_reply_error(reply, 503, "%u profiles are running, which is the limit", endpoints->gate.max);
		reply->retry_after_s = retry_after_s;
		return;
	}
	profile_run(endpoints, &ask, request, target, whole, deadline_ns, reply);
	profile_leave(&endpoints->gate, place);
}
