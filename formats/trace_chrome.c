// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// trace_chrome.c: the JSON of Chrome's trace viewer, in its object form ("Trace Event Format"), which Perfetto's UI and others read, too.
// Events are written as they come; the stacks, a tree of frames that samples point into, at the end. Times are microseconds there, so
// nanoseconds are decimals.
//
// Slices that are still open at the end are closed: for that, how many are open is kept for each track.

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "formats/grow.h"
#include "formats/trace.h"
#include "formats/trace_names.h"
#include "formats/writer.h"

struct track {
	uint32_t pid, tid;
	uint32_t open; // slices
};

// A frame of the tree.
struct node_key {
	uint32_t parent; // 0: it is outermost
	uint32_t name;   // of names
	uint32_t late;   // trace_frame.late
};

struct chrome {
	struct trace_output output;
	bool any; // event was written
	struct trace_names names, nodes;
	uint32_t *leaves; // of stack i + 1: its node
	uint32_t nleaves, leaves_capacity;
	uint32_t *late_names; // of the frames with the number i + 1: what they are called after all; 0: it was not told
	uint32_t nlate_names, late_names_capacity;
	struct track *tracks; // of track i + 1
	uint32_t ntracks, tracks_capacity;
};

static void put_text(struct writer *writer, const char *before, const char *text)
{
	writer_puts(writer, before);
	writer_puts(writer, "\"");
	writer_json(writer, text);
	writer_puts(writer, "\"");
}

static void begin(struct trace_output *output, const struct trace_meta *meta)
{
	struct writer *writer = output->writer;

	writer_puts(writer, "{\"displayTimeUnit\":\"ns\",\n\"otherData\":{\"exporter\":\"profd@" PROFD_VERSION "\"");
	put_text(writer, ",\"title\":", meta->title);
	writer_printf(writer,
		      ",\"clock\":\"CLOCK_MONOTONIC\",\"start_ns\":\"%" PRIu64 "\",\"realtime_ns\":\"%" PRIu64 "\"},\n",
		      meta->start_ns, meta->realtime_ns);
	writer_puts(writer, "\"traceEvents\":[");
}

static void begin_event(struct chrome *chrome, char phase, uint32_t pid, uint32_t tid)
{
	writer_printf(chrome->output.writer, "%s{\"ph\":\"%c\",\"pid\":%" PRIu32 ",\"tid\":%" PRIu32,
		      chrome->any ? ",\n" : "\n", phase, pid, tid);
	chrome->any = true;
}

static void put_metadata(struct chrome *chrome, uint32_t pid, uint32_t tid, const char *kind, const char *name)
{
	begin_event(chrome, 'M', pid, tid);
	writer_printf(chrome->output.writer, ",\"name\":\"%s\"", kind);
	put_text(chrome->output.writer, ",\"args\":{\"name\":", name);
	writer_puts(chrome->output.writer, "}}");
}

static void process(struct trace_output *output, uint32_t pid, const char *name)
{
	put_metadata((struct chrome *)output, pid, pid, "process_name", name);
}

static void thread(struct trace_output *output, const struct trace_thread *thread)
{
	struct chrome *chrome = (struct chrome *)output;
	struct track *tracks = grow_array(chrome->tracks, &chrome->tracks_capacity, thread->track, sizeof(*tracks));

	if (!tracks) {
		output->error = -ENOMEM;
		return;
	}
	chrome->tracks = tracks;
	while (chrome->ntracks < thread->track)
		tracks[chrome->ntracks++] = (struct track){.pid = 0};
	tracks[thread->track - 1].pid = thread->pid;
	tracks[thread->track - 1].tid = thread->tid;
	put_metadata(chrome, thread->pid, thread->tid, "thread_name", thread->name);
}

// ---- Stacks --------------------------------------------------------------------------------------------------------

static void stack(struct trace_output *output, uint32_t id, const struct trace_frame *frames, uint32_t nframes)
{
	struct chrome *chrome = (struct chrome *)output;
	uint32_t *leaves = grow_array(chrome->leaves, &chrome->leaves_capacity, id, sizeof(*leaves));
	struct node_key key = {0};
	bool new;

	if (leaves)
		chrome->leaves = leaves;
	for (uint32_t i = nframes; leaves && i-- > 0;) {
		key.name = trace_names_add(&chrome->names, frames[i].name, (uint32_t)strlen(frames[i].name) + 1, &new);
		key.late = frames[i].late;
		key.parent = key.name ? trace_names_add(&chrome->nodes, &key, sizeof(key), &new) : 0;
		if (key.parent == 0)
			leaves = NULL;
	}
	if (!leaves) {
		output->error = -ENOMEM;
		return;
	}
	while (chrome->nleaves < id)
		leaves[chrome->nleaves++] = 0;
	leaves[id - 1] = key.parent;
}

static void late_name(struct trace_output *output, const struct trace_frame *frame)
{
	struct chrome *chrome = (struct chrome *)output;
	uint32_t *names =
		grow_array(chrome->late_names, &chrome->late_names_capacity, frame->late, sizeof(*chrome->late_names));
	bool new;

	if (names) {
		chrome->late_names = names;
		while (chrome->nlate_names < frame->late)
			names[chrome->nlate_names++] = 0;
		names[frame->late - 1] =
			trace_names_add(&chrome->names, frame->name, (uint32_t)strlen(frame->name) + 1, &new);
	}
	if (!names || names[frame->late - 1] == 0)
		output->error = -ENOMEM;
}

static const char *name_of(const struct chrome *chrome, const struct node_key *node)
{
	uint32_t late = node->late && node->late <= chrome->nlate_names ? chrome->late_names[node->late - 1] : 0;

	return trace_names_get(&chrome->names, late ? late : node->name);
}

static void put_stacks(struct chrome *chrome)
{
	struct writer *writer = chrome->output.writer;

	writer_puts(writer, "],\n\"stackFrames\":{");
	for (uint32_t i = 1; i <= chrome->nodes.count && !writer->error; i++) {
		const struct node_key *node = trace_names_get(&chrome->nodes, i);

		writer_printf(writer, "%s\"%" PRIu32 "\":{", i > 1 ? ",\n" : "\n", i);
		if (node->parent)
			writer_printf(writer, "\"parent\":\"%" PRIu32 "\",", node->parent);
		put_text(writer, "\"name\":", name_of(chrome, node));
		writer_puts(writer, "}");
	}
	writer_puts(writer, "}");
}

// ---- Events --------------------------------------------------------------------------------------------------------

static void put_time(struct chrome *chrome, uint64_t time_ns)
{
	writer_printf(chrome->output.writer, ",\"ts\":%" PRIu64 ".%03u", time_ns / 1000, (unsigned)(time_ns % 1000));
}

static void put_arguments(struct writer *writer, const struct trace_event *event)
{
	const char *comma = "";

	if (!event->object && !event->other_tid && !event->weight_ns)
		return;
	writer_puts(writer, ",\"args\":{");
	if (event->object) {
		writer_printf(writer, "\"object\":\"0x%" PRIx64 "\"", event->object);
		comma = ",";
	}
	if (event->other_tid) {
		writer_printf(writer, "%s\"thread\":%" PRIu32, comma, event->other_tid);
		comma = ",";
	}
	if (event->weight_ns)
		writer_printf(writer, "%s\"cpu_ns\":%" PRIu64, comma, event->weight_ns);
	writer_puts(writer, "}");
}

// An arrow is drawn from the slice around its begin to the slice around its end ("bp":"e"), or an instant's place.
static void put_flow(struct chrome *chrome, const struct track *track, const struct trace_event *event, char phase,
		     uint64_t id)
{
	begin_event(chrome, phase, track->pid, track->tid);
	put_time(chrome, event->time_ns);
	writer_printf(chrome->output.writer, ",\"name\":\"%s\",\"cat\":\"flow\",\"id\":\"0x%" PRIx64 "\"%s}", "flow",
		      id, phase == 'f' ? ",\"bp\":\"e\"" : "");
}

static void event(struct trace_output *output, const struct trace_event *event)
{
	static const char phases[] = {[TRACE_BEGIN] = 'B', [TRACE_END] = 'E', [TRACE_INSTANT] = 'i'};
	struct chrome *chrome = (struct chrome *)output;
	struct track *track = &chrome->tracks[event->track - 1];
	struct writer *writer = output->writer;

	if (event->phase == TRACE_END && track->open == 0)
		return;
	track->open += event->phase == TRACE_BEGIN;
	track->open -= event->phase == TRACE_END;
	if (event->flow_in && event->phase != TRACE_BEGIN)
		put_flow(chrome, track, event, 'f', event->flow_in);
	begin_event(chrome, phases[event->phase], track->pid, track->tid);
	put_time(chrome, event->time_ns);
	if (event->phase != TRACE_END) {
		put_text(writer, ",\"name\":", event->name);
		put_text(writer, ",\"cat\":", event->category);
	}
	if (event->phase == TRACE_INSTANT)
		writer_puts(writer, ",\"s\":\"t\"");
	if (event->stack && event->stack <= chrome->nleaves && chrome->leaves[event->stack - 1])
		writer_printf(writer, ",\"sf\":\"%" PRIu32 "\"", chrome->leaves[event->stack - 1]);
	put_arguments(writer, event);
	writer_puts(writer, "}");
	if (event->flow_in && event->phase == TRACE_BEGIN)
		put_flow(chrome, track, event, 'f', event->flow_in);
	if (event->flow_out)
		put_flow(chrome, track, event, 's', event->flow_out);
}

static void end(struct trace_output *output, uint64_t time_ns)
{
	struct chrome *chrome = (struct chrome *)output;
	struct writer *writer = output->writer;

	for (uint32_t i = 0; i < chrome->ntracks && !writer->error; i++) {
		for (; chrome->tracks[i].open > 0; chrome->tracks[i].open--) {
			begin_event(chrome, 'E', chrome->tracks[i].pid, chrome->tracks[i].tid);
			put_time(chrome, time_ns);
			writer_puts(writer, "}");
		}
	}
	put_stacks(chrome);
	put_text(writer, ",\n\"notes\":", output->notes ? output->notes : "");
	writer_puts(writer, "}\n");
}

static void finish(struct trace_output *output)
{
	struct chrome *chrome = (struct chrome *)output;

	trace_names_finish(&chrome->names);
	trace_names_finish(&chrome->nodes);
	free(chrome->leaves);
	free(chrome->late_names);
	free(chrome->tracks);
}

const struct trace_format trace_format_chrome = {
	.name = "chrome",
	.extension = ".trace.json",
	.content_type = "application/json",
	.disposition = "attachment; filename=\"trace.trace.json\"",
	.state_size = sizeof(struct chrome),
	.begin = begin,
	.process = process,
	.thread = thread,
	.stack = stack,
	.late_name = late_name,
	.event = event,
	.end = end,
	.finish = finish,
};
