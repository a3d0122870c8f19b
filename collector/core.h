// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// core.h: the collector's one state, which its core's files share: collector.c (the loop), session.c, window.c. Nothing outside of
// them includes it.
//
// Locking: `lock` guards everything here, in the sessions and in the open windows. It is held for short work only: a drain, a message.
// What may wait (files, /proc/PID/maps, tables) runs in worker jobs without it; symbolizing runs in the caller's thread without it.
//
// Lifetime: windows hold a reference to the collector, so that one may be closed after collector_destroy. A session lives until its
// last reference (list, jobs, windows that have samples of it); what it costs (region, fds, maps) goes at session_close.
// An epoll event names its owner by pointer; owners that are closed wait in `closed` until the batch of events is done.

#ifndef PROFD_COLLECTOR_CORE_H
#define PROFD_COLLECTOR_CORE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "collector/collector.h"
#include "collector/frame_lookup.h"
#include "collector/kinship.h"
#include "collector/transport.h"
#include "collector/window.h"
#include "profd/wire.h"

#define CORE_MAX_SESSIONS 8192u
#define CORE_MAX_FOREIGN_SESSIONS 1024u // of one other user
#define CORE_MAX_UNREGISTERED 128u      // connections that have not said hello
#define CORE_MAX_WINDOWS 64u
#define CORE_MAX_ENDED_STORES 256u // that are kept for the end of a run
#define CORE_WINDOW_BYTES (256u << 20)
#define CORE_MAX_INTERVAL_MS 100u
#define CORE_MIN_INTERVAL_MS 5u
#define CORE_FIRST_INTERVAL_MS 20u

struct session;
struct store_source;

TAILQ_HEAD(session_list, session);
TAILQ_HEAD(window_list, window);

// What an epoll event points to.
struct core_source {
	void (*ready)(void *owner, uint32_t events);
	void *owner;
};

struct collector {
	pthread_mutex_t lock;
	pthread_cond_t changed; // CLOCK_MONOTONIC; something that a waiting caller may be waiting for happened
	uint32_t refs;
	bool stopping;
	bool any_uid, keeps_stores;
	struct collector_sampling sampling;
	struct collector_rates_change told; // of the rates: what was changed for all processes, and those to come

	int epoll_fd, timer_fd, wake_fd;
	int spare_fd; // given up to accept, and turn away, when fds run out
	struct transport_listener listener;
	struct core_source listen_source, timer_source, wake_source;
	unsigned interval_ms; // between drains
	bool ticking;
	bool started;
	pthread_t thread;

	struct worker_pool *workers;
	struct module_cache *modules;
	struct table_cache *tables;
	struct session_list sessions, closed;
	uint32_t nsessions, nunregistered, last_session_id;
	struct window_list windows;
	struct store_source *ended[CORE_MAX_ENDED_STORES]; // references
	size_t nended;
	struct kinship kinship;             // who is or was a target
	struct collector_counters counters; // of what is gone or drained; sessions add what they see
	struct frame_lookup lookup;         // scratch of a drain
};

// Adds what the live targets' stores have (session_store.c). Lock held.
void collector_count_stores(const struct collector *collector, struct collector_counters *counters);

void core_unref(struct collector *collector); // not with the lock held
// Waits for `changed` until deadline_ns (clock_now_ns). false: the time is over.
bool core_wait(struct collector *collector, int64_t deadline_ns);
int core_watch(struct collector *collector, int fd, uint32_t events, struct core_source *source); // 0 or −errno
void core_unwatch(struct collector *collector, int fd);
// Agents that have connected and are not known yet. The loop does it, too; a window that ends may be sooner.
void core_accept_agents(struct collector *collector);
// Starts or stops the ticks, after anything that may need or no longer need them.
void core_update_timer(struct collector *collector);

#endif
