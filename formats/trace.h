// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// trace.h: what threads did, on a time axis: tracks with slices, instants, flow arrows and stacks in, bytes out as they come. Nothing is kept
// but what later events refer to; speedscope's format, which wants a thread's events in one piece, keeps them, up to a limit.
//
// One thread at a time. Calls, in this order:
//
//   trace_create_output ( trace_process | trace_thread | trace_stack | trace_event | trace_note )* trace_late_name* trace_end
//   trace_destroy_output
//
// A process comes before its threads, a thread before its events, a stack before the events that have it. Of one track, events are in order
// of time, and slices nest; trace_end closes those that are open. All strings are copied or written at once.

#ifndef PROFD_FORMATS_TRACE_H
#define PROFD_FORMATS_TRACE_H

#include <stdbool.h>
#include <stdint.h>

struct trace_output;
struct writer;

struct trace_meta {
	const char *title;
	uint64_t start_ns;    // when the trace begins, on the events' clock (CLOCK_MONOTONIC)
	uint64_t realtime_ns; // what the wall clock said then
};

struct trace_thread {
	uint32_t track; // ≥1, each once; or one known before, whose name changed
	uint32_t pid, tid;
	const char *name;
};

struct trace_frame {
	const char *name, *file; // file: "" when not known
	int64_t line;            // 0: not known
	uint32_t
		late; // ≥1: who it is may be told later (trace_late_name), by this number; name is what it is called until then. 0: it is named
};

enum trace_phase { TRACE_BEGIN, TRACE_END, TRACE_INSTANT };

struct trace_event {
	enum trace_phase phase;
	uint32_t track;
	uint64_t time_ns;
	const char *name;     // of TRACE_BEGIN and TRACE_INSTANT. Few different ones
	const char *category; // likewise
	uint64_t object;      // address or number of what it is about; 0: none
	uint32_t other_tid;   // another thread that has to do with it; 0: none
	uint64_t flow_out;    // an arrow begins here; 0: none
	uint64_t flow_in;     // and ends here. Each flow has one beginning, before its ends
	uint32_t stack;       // id; 0: none. Of TRACE_END: the stack that ended it
	uint64_t weight_ns;   // CPU time up to here that the stack stands for; 0: none
};

struct trace_format {
	const char *name;         // as in format=NAME: "perfetto", "chrome", "speedscope"
	const char *extension;    // ".perfetto-trace", …
	const char *content_type; // for HTTP
	const char *disposition;
	uint32_t state_size; // of what begins with a struct trace_output
	void (*begin)(struct trace_output *output, const struct trace_meta *meta);
	void (*process)(struct trace_output *output, uint32_t pid, const char *name);
	void (*thread)(struct trace_output *output, const struct trace_thread *thread);
	void (*stack)(struct trace_output *output, uint32_t id, const struct trace_frame *frames, uint32_t nframes);
	void (*late_name)(struct trace_output *output, const struct trace_frame *frame);
	void (*event)(struct trace_output *output, const struct trace_event *event);
	void (*end)(struct trace_output *output, uint64_t time_ns);
	void (*finish)(struct trace_output *output); // frees what it has
};

extern const struct trace_format trace_format_perfetto, trace_format_chrome, trace_format_speedscope;
// NULL: there is none. By path: also ".pftrace".
const struct trace_format *trace_format_by_name(const char *name);
const struct trace_format *trace_format_by_path(const char *path);
const char *trace_format_names(void);

// What all formats' states begin with.
struct trace_output {
	const struct trace_format *format;
	struct writer *writer; // where it goes now; may be another one from call to call
	int error;             // the first −errno that is not the writer's
	char *notes;           // one a line; owned
	uint64_t start_ns, end_ns;
};

struct trace_output *trace_create_output(const struct trace_format *format, struct writer *writer,
					 const struct trace_meta *meta); // NULL: no memory
void trace_destroy_output(struct trace_output *output);                  // accepts NULL

void trace_process(struct trace_output *output, uint32_t pid, const char *name);
void trace_thread(struct trace_output *output, const struct trace_thread *thread);
// frames: leaf first.
void trace_stack(struct trace_output *output, uint32_t id, const struct trace_frame *frames, uint32_t nframes);
void trace_event(struct trace_output *output, const struct trace_event *event);
// What all frames with the number frame->late are called. After the last stack, once for each.
void trace_late_name(struct trace_output *output, const struct trace_frame *frame);
// Something that a reader of the trace has to know, such as what was lost.
void trace_note(struct trace_output *output, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// 0 or the first −errno, the writer's included. Does not flush.
int trace_end(struct trace_output *output, uint64_t time_ns);

#endif
