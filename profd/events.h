// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// events.h: the event trace (wire_events.h), the agent's side.
//
//  - profd_event: any thread of the target, also in a signal handler and while another event is being written: lock-free, no libc, bounded;
//    errno stays. While tracing is off, one branch.
//  - all else: the helper (event_file.c).
//
// What says that tracing is on is in a page that the kernel clears in each child of fork, however it was forked: a child never writes among
// its parent's events. (A vfork's child does: it has its parent's memory, and its parent waits.)

#ifndef PROFD_EVENTS_H
#define PROFD_EVENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "profd/clock.h"
#include "profd/wire.h"

struct profd_events {
	uint32_t on;              // atomic; set last, when the others are. They stay as long as the process lives
	uint32_t nshards, ncells; // powers of two; copies, for the file's header is in memory that others may write
	struct wire_event_shard *shards;
	struct wire_event *cells;
};

union profd_events_page {
	struct profd_events events;
	_Alignas(WIRE_PAGE) char page[WIRE_PAGE];
};
extern union profd_events_page profd_events_page;

struct profd_event {
	enum wire_event_type type;
	enum wire_wait reason;
	uint32_t other;   // thread
	uint32_t context; // of the pool (wire.h); 0: none
	uint64_t object;
	uint64_t time_ns; // 0: now
};

// Where an event was written.
struct profd_event_place {
	uint64_t position;
	uint32_t shard;
};

// tid: of whom; 0: the calling thread. what: WIRE_EVENT_WHAT.
struct profd_event_place profd_events_write(uint32_t tid, uint64_t time_ns, uint64_t what, uint32_t other,
					    uint32_t context);

static inline struct profd_event_place profd_events_put(const struct profd_event *event)
{
	return profd_events_write(0, event->time_ns ? event->time_ns : profd_clock_now_ns(),
				  WIRE_EVENT_WHAT(event->type, event->reason, event->object), event->other,
				  event->context);
}

// The calling thread's event that was written there with that time is to be none. false: it stays, for somebody may have read it; or it is there no more.
bool profd_events_take_back(struct profd_event_place place, uint64_t time_ns);

// A thread (0: the calling one) has another name; NUL-terminated, cut. Call it while tracing is on.
void profd_events_put_name(uint32_t tid, const char *name);

static inline bool profd_events_are_on(void)
{
	return __builtin_expect(__atomic_load_n(&profd_events_page.events.on, __ATOMIC_ACQUIRE), 0);
}

// profd_event(WIRE_EVENT_PARK, .reason = WIRE_WAIT_JOIN, .object = thread)
#define profd_event(event_type, ...)                                                                \
	do {                                                                                        \
		if (profd_events_are_on())                                                          \
			profd_events_put(&(struct profd_event){.type = (event_type), __VA_ARGS__}); \
	} while (0)

// ---- event_file.c: the helper ----------------------------------------------------------------------------------------

// Writes events from now on; makes the file, of so many MiB, if it is not there yet. 0 or −errno.
int profd_events_begin(uint32_t mib);
void profd_events_end(void);
// For good, whatever the environment wants: the agent gives up, or may make no system call any more. Without a helper, any thread.
void profd_events_stop(void);
// At the helper's start, with a region: what the environment asks for, and what a fork's parent had on. There is no one to tell of an error;
// a collector that wants events asks again.
void profd_events_start(uint32_t flight_s, uint32_t flight_rate_hz);
// The file's descriptor, in the helper's table, and its size (NULL: not asked for); −1: there is none.
int profd_events_fd(uint64_t *ret_size);
// The descriptor is another one, in the next helper's table; −1: it is lost, and the next one told of is of another file.
void profd_events_set_fd(int fd);

// ---- event_control.c: the helper, for the collector of its connection --------------------------------------------------

// fd: the socket.
void profd_events_request(const struct wire_trace_msg *request, int fd);
// Said hello: what is on already is told of. It hung up: nothing is on, but what the environment wants.
void profd_events_connected(int fd);
void profd_events_disconnected(void);

#endif
