// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// session.h: one process image of a target, from its agent's connection to its last sample. Collector's lock held, unless said.
//
//   NEW ──hello──► LIVE ──socket closed, or dead──► ENDING ──rings drained──► CLOSED
//     └────────────────────────── refused ────────────────────────────────────┘
//
// ENDING waits until the process is dead, a moment for those that live on (exec, a lost agent), and for the mappings that its samples need.
// Preparing a target runs in steps, each begun by session_advance when the one before is done: read the mappings (a job), build the
// unwind tables (a job each), send SAMPLING, send READY. For the tables it waits a moment only.

#ifndef PROFD_COLLECTOR_SESSION_H
#define PROFD_COLLECTOR_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "collector/aggregate.h"
#include "collector/core.h"
#include "collector/event_reader.h"
#include "collector/mapping.h"
#include "collector/otel_context.h"
#include "collector/region.h"
#include "collector/ring_reader.h"
#include "collector/transport.h"
#include "collector/worker.h"

struct flight_samples;
struct snapshot_source;
struct store;

#define SESSION_MAPPING_SETS 4

enum session_state { SESSION_NEW, SESSION_LIVE, SESSION_ENDING, SESSION_CLOSED };

// Records whose mappings are not known yet stay in the ring, for a while. When a window is to be stopped, what is known is asked for
// at once; then what there is must do.
enum session_patience { SESSION_WAITS, SESSION_HURRIES, SESSION_WAITS_NO_MORE };

struct session {
	TAILQ_ENTRY(session) link;   // of collector.sessions or .closed
	struct collector *collector; // outlives it
	uint32_t refs;
	uint32_t id; // unique in this collector
	enum session_state state;

	// Who it is; set at hello, but for cmdline and main_mapping (first set)
	pid_t pid, ppid;
	uid_t uid;
	char comm[16];
	char exe[256];
	char service[OTEL_NAME_BYTES]; // OpenTelemetry's service.name; "": not known
	char *cmdline;                 // for people: arguments with a blank between. NULL: not known
	int64_t since_ns;
	struct mapping *main_mapping; // of exe; a reference, kept to the end
	bool jit_skips_callers;       // jvm_options.h; set once a Java VM is in its mappings

	struct transport transport;
	int pidfd;
	struct core_source socket_source, pidfd_source;
	struct region region;
	struct ring_reader reader;
	struct region_live live; // as last read
	uint64_t threads_ended;  // counted so far

	// Mappings, newest first. Installed by the resolve job only, so that it may read the newest without the lock.
	struct mapping_set *mapping_sets[SESSION_MAPPING_SETS];
	uint32_t maps_changes; // of mapping_sets
	struct worker_job resolve_job;
	uint32_t resolve_gen; // wire_header.maps_gen when it was begun
	uint32_t known_gen;   // and of the last one that ended, whatever came of it
	bool resolving;       // the job is under way
	bool resolved;        // it has ended once
	bool maps_dirty;      // the mappings changed since it began
	bool unknown_pc;      // it was begun for a PC in no mapping
	int jitdump_fd;       // jitdump.h; −1: none was seen. Atomic; set once, closed at the very end
	int64_t resolve_since_ns;
	struct worker_job service_job; // reads service, again and again
	int64_t service_due_ns, service_backoff_ns;
	bool reading_service;
	int64_t resolve_backoff_ns; // until the next one for an unknown PC
	uint32_t jobs;              // under way, of any kind
	uint32_t tables_pending;
	int64_t tables_since_ns; // sampling waits for them since; 0: it does not

	struct snapshot_source *snapshot; // made when the first is asked for

	struct event_file events;      // its event trace; header NULL: none was shown
	int events_errno;              // why it has none; 0: not known, or it has
	bool trace_sent;               // it was told to write events
	struct flight_samples *flight; // what its recorder keeps besides; NULL: nothing yet

	uint32_t rate_sent; // last SAMPLING
	uint32_t sampling_seq;
	bool wants_tables;                   // sampled or not
	struct store *store;                 // a reference; NULL: it has shown none
	struct wire_rates rates, rates_sent; // of heap and lock profiles: to be in force; as the agent knows
	bool ready_sent;
	enum session_patience patience;
	int64_t drain_ns; // when the drain under way began
	int64_t held_ns; // the time of the oldest record that it left in the ring, for want of mappings; INT64_MAX: none
	unsigned drains_left; // after sampling was stopped: what was under way still comes
	int64_t ending_since_ns;
};

struct session *session_create(struct collector *collector, int fd,
			       const struct transport_peer *peer); // NULL: no memory
struct session *session_ref(struct session *session);
void session_unref(struct session *session);
// Takes it off the collector. Its last reference may be dropped by this.
void session_close(struct session *session);

// Sends one message of wire.h; a peer that is lost ends the session.
void session_send(struct session *session, const void *data, size_t size, int passed_fd);
// Takes what its agent sent.
void session_receive(struct session *session);
// Takes the next step towards what the open windows want of this target.
void session_advance(struct session *session);
// Hands what its rings hold to the windows. Returns how full the fullest shard was, in percent.
unsigned session_drain(struct session *session, enum ring_reader_mode mode);
// The same for a window that is about to be stopped.
void session_drain_with(struct session *session, enum session_patience patience);
// What is due at a tick: drain, retries, the end. Returns the fill.
unsigned session_tick(struct session *session);
bool session_needs_tick(const struct session *session);
// Looks whether the process is gone, and ends the session if it is (final drain included) as far as possible now.
void session_check_end(struct session *session);
// True when what it holds now can be drained for good: no mappings are being read.
bool session_is_settled(const struct session *session);

// session_trace.c
bool session_take_events(struct session *session, const void *data, size_t size,
			 int fd);                 // a message. false: it is none
void session_send_trace(struct session *session); // whether events are wanted, if that is news
void session_drain_events(struct session *session, enum ring_reader_mode mode);
unsigned session_events_fill(const struct session *session); // percent
// The rate of the samples that its own flight recorder is to keep; 0: it has none, or keeps none.
uint32_t session_flight_rate(const struct session *session);
// One sample, for whatever flight recorders there are.
void session_flight_keep(struct session *session, const struct wire_sample *sample,
			 const struct aggregate_frame *frames, size_t nframes);

// session_maps.c
void session_resolve(struct session *session); // begins to read the mappings; nothing while that is under way
void session_build_tables(struct session *session);
// May a record wait for mappings that are not known yet? Begins to read them where that helps.
bool session_waits_for_maps(struct session *session, uint32_t maps_gen, bool unknown_pc);
void session_inherit(struct session *session);      // takes the mappings that its parent has, until it has its own
void session_release_maps(struct session *session); // once no job is under way
// The mapping of address in the set that fits maps_gen best. NULL: none.
struct mapping *session_find_mapping(const struct session *session, uint32_t maps_gen, uint64_t address);
// At the end of a job that session->jobs counts and that holds a reference, with the lock held; lets go of both.
void session_end_job(struct session *session);

// session_service.c
void session_look_for_service(struct session *session); // when it is due
bool session_process_is_dead(const struct session *session);
// The thread's name into ret_name: from /proc, else its slot, else "".
void session_thread_name(const struct session *session, uint32_t tid, uint32_t slot, char ret_name[16]);

#endif
