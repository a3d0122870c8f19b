// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// window_impl.h: a window from inside the core. Collector's lock held while `open`; after window_stop, what was gathered is its owner's.

#ifndef PROFD_COLLECTOR_WINDOW_IMPL_H
#define PROFD_COLLECTOR_WINDOW_IMPL_H

#include "collector/aggregate.h"
#include "collector/core.h"
#include "collector/event_reader.h"
#include "collector/otel_context.h"
#include "collector/ring_reader.h"
#include "collector/window.h"

struct jit_process;
struct mapping;

struct window_source {
	uint32_t id;                   // session.id: aggregate_thread.source
	struct session *session;       // a reference
	char service[OTEL_NAME_BYTES]; // as of window_stop; "": not known
	struct window_events *events;  // window_trace.c's; NULL: none
};

struct window {
	TAILQ_ENTRY(window) link;    // of collector.windows, while open
	struct collector *collector; // a reference
	struct session *session;     // a reference; NULL: all
	struct window_options options;
	int event_fd;
	bool open, ended;
	struct aggregate aggregate;
	uint32_t nprepared;           // of its nodes; the owner's: window_prepare
	uint32_t nsought;             // of its mappings, whose debug info is being looked for, or was
	struct intern sources;        // struct window_source; targets with a sample
	struct session *first;        // a reference: the target seen first, with or without a sample. NULL: none yet
	char *command;                // of the main target, as of window_stop; NULL: not known
	struct mapping *main_mapping; // likewise; a reference
	struct window_stats stats;
};

bool window_covers(const struct window *window, const struct session *session);
// The rate that the open windows and its own flight recorder want of this target; 0: none does.
uint32_t window_rate(const struct session *session);
// One sample of session, with its frames (leaf first) looked up. stop: enum wire_stop or WINDOW_STOP_SKIPPED.
void window_take(struct window *window, struct session *session, const struct ring_record *record,
		 const struct aggregate_frame *frames, size_t nframes, uint8_t stop);
// What grew in a target's header since the last drain.
struct window_news {
	uint64_t unsampled; // threads
	uint64_t slowed;    // times that a thread's rate was lowered
};
// What a drain of session counted; session->live is up to date.
void window_count(struct window *window, struct session *session, const struct ring_counts *counts,
		  const struct window_news *news);
// ---- window_trace.c: windows with a trace ------------------------------------------------------------------------------

struct window_source *window_add_source(struct window *window, struct session *session); // NULL: no memory
bool window_wants_events(const struct session *session, uint32_t *ret_mib); // some window does of this target
// A sample, in place of window_take's counting; a flight recorder's are kept by the session. false: no memory.
bool window_trace_sample(struct window *window, struct session *session, const struct ring_record *record,
			 const struct aggregate_frame *frames, size_t nframes);
// The session's file is there, or another one is: what it holds so far is the window's, if from_oldest.
void window_trace_begin(struct window *window, struct session *session, bool from_oldest);
// Reads what is new; until_ns: what is older has all been read by now, samples included.
void window_trace_drain(struct window *window, struct session *session, enum event_reader_mode mode, int64_t until_ns);
// The session ends, or the window: the last events, and what a flight recorder has.
void window_trace_end(struct window *window, struct session *session);
unsigned window_trace_fill(struct window *window,
			   const struct session *session); // how much is not read yet, in percent
// The frames of a stack, leaf first; at most max. Not with the collector's lock held. The mappings live as long as the window.
size_t window_trace_stack(struct window *window, uint32_t stack, struct aggregate_frame *frames, size_t max);
// What is known of a target, or of a thread, when its first event was seen. Not with the collector's lock held.
bool window_trace_process(struct window *window, uint32_t source, uint32_t *ret_pid, char ret_name[16]);
void window_trace_thread(struct window *window, uint32_t source, uint32_t tid, char ret_name[16]);
// Whose names of generated code those of source are; pid 0: there is no such target. The fd lives as long as the window.
void window_trace_maker(struct window *window, uint32_t source, struct jit_process *ret_process);

// Tells the window's owner that nothing more will come.
void window_end(struct window *window);

#endif
