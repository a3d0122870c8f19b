// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// agent.h: the agent's one state, and its life: off → starting → on → (fork child: starting again). The agent's files
// share this header; nothing of it is visible outside libprofd.so.
//
// Who writes what: `config` and `region` are set while starting, before any of our timers exist; the rest says at its side.

#ifndef PROFD_AGENT_H
#define PROFD_AGENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "profd/ring.h"
#include "profd/wire.h"

#define PROFD_SOCKET_MAX 108

enum profd_unwinder { PROFD_UNWIND_TABLE, PROFD_UNWIND_FP, PROFD_UNWIND_LIBUNWIND };

struct profd_config {
	char socket[PROFD_SOCKET_MAX]; // PROFD_SOCKET: "@name" or a path; "" to look for the host's daemon
	const char *http;              // PROFD_HTTP, NULL: not set
	const char *output;            // PROFD_OUTPUT
	const char *rate;              // PROFD_RATE
	const char *clock;             // PROFD_CLOCK
	const char *max_overhead;      // PROFD_MAX_OVERHEAD
	const char *trace_output;      // PROFD_TRACE_OUTPUT
	uint32_t flight_s;             // PROFD_TRACE=flight:SECONDS; 0: not set
	uint32_t trace_rate_hz;        // PROFD_TRACE_RATE: of samples in traces; 0: none
	bool follow;                   // PROFD_FOLLOW, default true
	enum profd_unwinder unwinder;  // PROFD_UNWIND
	bool verbose;                  // PROFD_VERBOSE
};

struct profd_region {
	int fd; // in the helper's fd table once it has started; −1 elsewhere
	struct wire_header *header;
	struct wire_shard *shards;
	struct wire_slot *slots;
	uint32_t *pool_index;
	uint64_t *pool_words;
	struct wire_task *tasks;
	uint8_t *ring;
	uint32_t nshards, nslots, shard_size; // copies: what the handler trusts
	uint64_t size;
};

struct profd_agent {
	uint32_t on;     // atomic; the region, the slots and the handler may be used. Read by the interposed functions
	uint32_t sealed; // atomic; a filter may forbid what we do: the handler stays in place, all else is over
	pid_t pid;       // whose agent this is; another pid (a raw fork's child) means: do nothing
	uint32_t cookie; // random; high half of the sival_ptr of our timers
	uint32_t heap_unseen; // WIRE_UNSEEN_…
	bool forked;          // the process is a fork's child
	struct profd_config config;
	struct profd_region region;
};

extern struct profd_agent profd_agent;

// True in the process that the agent was started in (not in a child made by raw clone or vfork).
bool profd_agent_is_on(void);
// Starts over in a fork's child.
void profd_agent_restart(void);

// A call that changes what the calling thread may do, or that wants a process with one thread: our helper must not live through it,
// and another one, which has what the caller then has, goes on. recall … the call … resume. false: there is nothing to resume.
// In between all signals are blocked, and other threads that want the same wait. errno stays.
struct profd_recall {
	uint64_t mask;
	int cancel_state;
};
bool profd_agent_recall(struct profd_recall *recall);
void profd_agent_resume(const struct profd_recall *recall);
// Before a call that puts the thread under a filter of system calls (seccomp): ends profiling for good, since none of ours may meet it.
void profd_agent_seal(void);

// One line on fd 2 with the prefix "profd: ". Not in the handler.
void profd_message(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

void profd_config_read(struct profd_config *config);
// Takes libprofd.so out of LD_PRELOAD in the environment (PROFD_FOLLOW=0).
void profd_config_unfollow(void);

// Makes and maps a region. 0 or −errno.
int profd_region_create(struct profd_region *region);
void profd_region_destroy(struct profd_region *region);
// The same, but its pool stays mapped where it was, until it is released by the address of its index.
void profd_region_keep_pool(struct profd_region *region);
void profd_region_release_pool(void *pool);

// Starts a private collector on the abstract socket config->socket (made here) and waits until it listens. 0, or −errno
// after a message. Any thread of the target, at start-up.
int profd_spawn_collector(struct profd_config *config);

#endif
