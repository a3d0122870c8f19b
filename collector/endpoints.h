// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// endpoints.h: what is served under which path. A request in, an answer out; runs on the connection's own thread and may
// block there (a profile takes its seconds). Paths: "/", "/metrics", "/debug/pprof/NAME" and "/PID/debug/pprof/NAME".

#ifndef PROFD_COLLECTOR_ENDPOINTS_H
#define PROFD_COLLECTOR_ENDPOINTS_H

#include "collector/collector.h"
#include "collector/http_message.h"
#include "collector/metrics.h"
#include "formats/profile_view.h"
#include "formats/short_name.h"
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ENDPOINTS_MAX_PROFILES 256

// Who may run a profile now: a fixed number at once, the others are told when to come back. deadlines_ns[i] (monotonic)
// is when profile i will have its samples; 0: free. Guarded by lock.
struct endpoints_gate {
	pthread_mutex_t lock;
	uint32_t max, running;
	int64_t deadlines_ns[ENDPOINTS_MAX_PROFILES];
};

struct endpoints {
	struct collector *collector;
	bool has_index;
	uint32_t max_seconds, default_rate_hz;
	int stop_fd; // readable: the server ends, running profiles answer what they have
	struct metrics metrics;
	struct endpoints_gate gate;
};

// Fills in reply (zeroed by the caller, who finishes it).
void endpoints_serve(struct endpoints *endpoints, const struct http_request *request, struct http_reply *reply);

// endpoint_gate.c: requests that take their seconds. A place among them until endpoints_leave; −1: none is free, reply says so.
int endpoints_enter(struct endpoints *endpoints, int64_t deadline_ns, struct http_reply *reply);
void endpoints_leave(struct endpoints *endpoints, int place);
uint32_t endpoints_running(struct endpoints *endpoints);
// Waits until deadline_ns (clock_now_ns), until early_fd (−1: none) is readable, or the server stops. false: the client hung up.
bool endpoints_wait(const struct endpoints *endpoints, int early_fd, struct http_client *client, int64_t deadline_ns);
// The value of a parameter that is a number of seconds, 1 to the limit. false: reply says why not.
bool endpoints_parse_seconds(const struct endpoints *endpoints, const char *name, const char *text, long *ret_seconds,
			     struct http_reply *reply);

// endpoint_profile.c. whole: of all targets, not of this one alone (the path named none, and they are one program's).
void endpoint_profile(struct endpoints *endpoints, const struct http_request *request,
		      const struct collector_target *target, bool whole, struct http_reply *reply);

// What a request for a profile asks for; set rate_hz (the default) and max_rate_hz before it is parsed. false: reply says why not.
struct profile_ask {
	int64_t seconds;
	uint32_t rate_hz, max_rate_hz;
	const struct format *format;
	enum name_form names;
	struct profile_view view;
};
struct profile;
bool endpoint_profile_parse(const struct endpoints *endpoints, const struct http_request *request,
			    struct profile_ask *ask, struct http_reply *reply);
// The parameter "names". false: reply says what is wrong.
bool endpoint_names_parse(const struct http_request *request, enum name_form *form, struct http_reply *reply);
void endpoint_profile_set_headers(struct http_reply *reply, const struct format *format);
// profile stays the caller's; NULL: there was no memory for it.
void endpoint_profile_answer(const struct profile_ask *ask, const struct collector_target *target,
			     struct profile *profile, struct http_reply *reply);

// endpoint_store.c, endpoint_config.c. whole: as for endpoint_profile. The former: heap, allocs, mutex or block, as reply->endpoint says.
void endpoint_store(struct endpoints *endpoints, const struct http_request *request,
		    const struct collector_target *target, bool whole, struct http_reply *reply);
void endpoint_config(struct endpoints *endpoints, const struct http_request *request,
		     const struct collector_target *target, bool whole, struct http_reply *reply);
// endpoint_view.c. false: reply says why not.
bool endpoint_view_parse(const struct http_request *request, struct profile_view *ret_view, struct http_reply *reply);
// endpoint_trace.c. whole: as for endpoint_profile.
void endpoint_trace(struct endpoints *endpoints, const struct http_request *request,
		    const struct collector_target *target, bool whole, struct http_reply *reply);
// endpoint_zombies.c
void endpoint_zombies(struct endpoints *endpoints, const struct http_request *request,
		      const struct collector_target *target, struct http_reply *reply);
// endpoint_threads.c: why a target's threads cannot be read; error: −errno.
void endpoint_threads_refuse(int error, const struct collector_target *target, struct http_reply *reply);

// endpoint_wall.c
void endpoint_wall(struct endpoints *endpoints, const struct http_request *request,
		   const struct collector_target *target, struct http_reply *reply);
// endpoint_threads.c
void endpoint_threads(struct endpoints *endpoints, const struct http_request *request,
		      const struct collector_target *target, struct http_reply *reply);
void endpoint_threadcreate(struct endpoints *endpoints, const struct http_request *request,
			   const struct collector_target *target, struct http_reply *reply);

// index_page.c: targets as html, text or json (format may be NULL); the index of one target.
void index_page_targets(const struct collector_target *targets, size_t count, const char *format,
			struct http_reply *reply);
void index_page_target(struct endpoints *endpoints, const struct collector_target *target, struct http_reply *reply);

#endif
