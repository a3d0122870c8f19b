// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// metrics.h: what /metrics shows (Prometheus text): the collector's counters, and the server's own, which are kept here.

#ifndef PROFD_COLLECTOR_METRICS_H
#define PROFD_COLLECTOR_METRICS_H

#include "collector/http_message.h"
#include <stdint.h>

struct collector;

#define METRICS_STATUSES 11 // as many as metrics.c lists, and one for the rest

// Counted by connection threads, with atomic operations.
struct metrics {
	uint64_t requests[HTTP_ENDPOINT_COUNT][METRICS_STATUSES];
	uint64_t hangups; // clients that went away before their answer was ready
};

void metrics_count(struct metrics *metrics, const struct http_reply *reply);
void metrics_write(struct metrics *metrics, struct collector *collector, uint32_t profiles_running, bool with_states,
		   struct writer *writer);

#endif
