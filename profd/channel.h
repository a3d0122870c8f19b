// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// channel.h: the helper thread and its socket to the collector.
//
// The helper has a file descriptor table of its own (close_range with CLOSE_RANGE_UNSHARE), so the region's memfd and the
// socket are no fds of the target: it may close everything from 3 up, and none of its files is kept open by us. The
// helper blocks all signals (but glibc's own two), sleeps in poll, and while sampling looks every TICK_MS for threads that
// came about without pthread_create and for dlopen/dlclose.

#ifndef PROFD_CHANNEL_H
#define PROFD_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Where the start has got to; helper and starter hand it to each other.
enum profd_channel_state {
	PROFD_CHANNEL_OFF,
	PROFD_CHANNEL_REGION,    // helper: the region is mapped
	PROFD_CHANNEL_JOINED,    // starter: the starting thread is in the table
	PROFD_CHANNEL_ANNOUNCED, // helper: the collector has the region's fd
	PROFD_CHANNEL_READY,     // helper: the collector said WIRE_MSG_READY
	PROFD_CHANNEL_FAILED,    // helper: see profd_channel_error
};

// Starts the helper, which makes the region. 0, or −errno when there is no thread to be had. Then wait for REGION.
int profd_channel_start(void);
// Waits until the state is at least `state`, or timeout_ms passed. Returns the state.
enum profd_channel_state profd_channel_wait(enum profd_channel_state state, int timeout_ms);
void profd_channel_joined(void);
// Ends the helper (and its connection) and joins it. Not in a fork's child: there it is gone already.
void profd_channel_stop(void);
void profd_channel_forget(void); // in a fork's child
// Ends the helper and keeps its region and connection; resume starts another, which goes on with them: 0, or −errno when that
// cannot be. Or end: nothing goes on. One thread at a time; raw system calls and pthread_*: errno may change.
void profd_channel_recall(void);
int profd_channel_resume(void);
void profd_channel_end(void);
const char *profd_channel_error(void);
// Lets the collector send unwind tables even while nothing is sampled, and waits for them, if this is the first call, up to timeout_ms.
// Any thread but the helper; not the handler.
void profd_channel_want_tables(int timeout_ms);
// The mappings of the target change: note it and let the helper tell the collector. Any thread; cheap; never waits.
void profd_channel_maps_changed(void);

#endif
