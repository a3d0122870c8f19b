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

// endpoint_profile.c. whole: of all targets, not of this one alone (the path named none, and they are one program's).
void endpoint_profile(struct endpoints *endpoints, const struct http_request *request,
		      const struct collector_target *target, bool whole, struct http_reply *reply);
uint32_t endpoint_profile_running(struct endpoints *endpoints);

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
