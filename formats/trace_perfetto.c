// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// trace_perfetto.c: Perfetto's protobuf, as ui.perfetto.dev and trace_processor read it: field numbers and meanings by
// protos/perfetto/trace/*.proto (perfetto.dev/docs/reference/trace-packet-proto). A trace is a sequence of packets, so it is written as it
// comes; names, frames and call stacks are sent once and referred to by number.
//
// All is one packet sequence, whose first packet says which clock the times are of.
//
// Frames whose names may come late are in a mapping of their own, LATE_MAPPING, at the address that is their number: what Perfetto takes
// from symbolizers that add to a finished trace (ModuleSymbols, by the mapping's path) says at the end who they are.

#include <errno.h>

#include "formats/protobuf.h"
#include "formats/trace.h"
#include "formats/trace_names.h"
#include "formats/utf8.h"
#include "formats/writer.h"

#define SEQUENCE 1
#define CLOCK_ID_REALTIME 1
#define CLOCK_ID_MONOTONIC 3
#define FLAG_STATE_CLEARED 1
#define FLAG_NEEDS_STATE 2
#define PROCESS_UUID (1ULL << 40)
#define THREAD_UUID (1ULL << 41)
#define LATE_MAPPING "generated code" // a piece of its path, which begins with a slash
#define LATE_IID 1                    // of the mapping, and of its path

enum { TRACE_PACKET = 1 };
enum {
	PACKET_CLOCK_SNAPSHOT = 6,
	PACKET_TIMESTAMP = 8,
	PACKET_SEQUENCE_ID = 10,
	PACKET_TRACK_EVENT = 11,
	PACKET_INTERNED_DATA = 12,
	PACKET_SEQUENCE_FLAGS = 13,
	PACKET_TIMESTAMP_CLOCK_ID = 58,
	PACKET_DEFAULTS = 59,
	PACKET_TRACK_DESCRIPTOR = 60,
	PACKET_MODULE_SYMBOLS = 61,
	PACKET_FIRST_ON_SEQUENCE = 87,
};
enum { SNAPSHOT_CLOCKS = 1, SNAPSHOT_PRIMARY_CLOCK = 2, CLOCK_ID = 1, CLOCK_TIMESTAMP = 2 };
enum { DESCRIPTOR_UUID = 1, DESCRIPTOR_PROCESS = 3, DESCRIPTOR_THREAD = 4, DESCRIPTOR_PARENT_UUID = 5 };
enum { PROCESS_PID = 1, PROCESS_NAME = 6 };
enum { THREAD_PID = 1, THREAD_TID = 2, THREAD_NAME = 5 };
enum {
	EVENT_CATEGORY_IIDS = 3,
	EVENT_ANNOTATIONS = 4,
	EVENT_TYPE = 9,
	EVENT_NAME_IID = 10,
	EVENT_TRACK_UUID = 11,
	EVENT_FLOW_IDS = 47,
	EVENT_TERMINATING_FLOW_IDS = 48,
	EVENT_CALLSTACK_IID = 56,
};
enum { ANNOTATION_UINT = 3, ANNOTATION_STRING = 6, ANNOTATION_POINTER = 7, ANNOTATION_NAME = 10 };
enum {
	INTERNED_CATEGORIES = 1,
	INTERNED_EVENT_NAMES = 2,
	INTERNED_FUNCTION_NAMES = 5,
	INTERNED_FRAMES = 6,
	INTERNED_CALLSTACKS = 7,
	INTERNED_MAPPING_PATHS = 17,
	INTERNED_SOURCE_PATHS = 18,
	INTERNED_MAPPINGS = 19,
};
enum { INTERNED_IID = 1, INTERNED_TEXT = 2 };
enum {
	FRAME_IID = 1,
	FRAME_FUNCTION_NAME = 2,
	FRAME_MAPPING = 3,
	FRAME_REL_PC = 4,
	FRAME_SOURCE_PATH = 5,
	FRAME_LINE = 6
};
enum { MAPPING_IID = 1, MAPPING_PATH_STRINGS = 7 };
enum { SYMBOLS_PATH = 1, SYMBOLS_ADDRESSES = 3, ADDRESS_SYMBOLS_ADDRESS = 1, ADDRESS_SYMBOLS_LINES = 2 };
enum { LINE_FUNCTION_NAME = 1, LINE_SOURCE_FILE = 2, LINE_NUMBER = 3 };
enum { CALLSTACK_IID = 1, CALLSTACK_FRAMES = 2 };

struct perfetto {
	struct trace_output output;
	struct trace_names names, categories, functions, paths, frames;
	bool has_late;                                        // LATE_MAPPING was sent
	struct protobuf packet, body, interned, item, nested; // scratch
};

// What makes a frame one of its own.
struct frame_key {
	uint32_t function, path;
	int64_t line;
	uint32_t late, unused;
};

static void put_text(struct protobuf *message, uint32_t field, const char *text)
{
	char *repaired;

	if (utf8_is_valid(text)) {
		protobuf_string(message, field, text);
		return;
	}
	repaired = malloc(utf8_repaired_size(text) + 1);
	if (!repaired) {
		message->failed = 1;
		return;
	}
	utf8_repair(repaired, text);
	protobuf_string(message, field, repaired);
	free(repaired);
}

// ---- Packets -------------------------------------------------------------------------------------------------------

static void begin_packet(struct perfetto *perfetto)
{
	protobuf_clear(&perfetto->packet);
	protobuf_clear(&perfetto->body);
	protobuf_clear(&perfetto->interned);
}

static void put_packet(struct perfetto *perfetto, uint64_t flags)
{
	struct protobuf *packet = &perfetto->packet;

	protobuf_varint(packet, PACKET_SEQUENCE_ID, SEQUENCE);
	protobuf_varint(packet, PACKET_SEQUENCE_FLAGS, flags);
	if (perfetto->interned.size > 0)
		protobuf_message(packet, PACKET_INTERNED_DATA, &perfetto->interned);
	protobuf_clear(&perfetto->item);
	protobuf_message(&perfetto->item, TRACE_PACKET, packet);
	if (perfetto->item.failed || perfetto->body.failed || perfetto->interned.failed || perfetto->nested.failed)
		perfetto->output.error = -ENOMEM;
	else
		writer_put(perfetto->output.writer, perfetto->item.data, perfetto->item.size);
}

static void put_clock(struct perfetto *perfetto, uint64_t id, uint64_t time_ns)
{
	protobuf_clear(&perfetto->item);
	protobuf_varint(&perfetto->item, CLOCK_ID, id);
	protobuf_varint(&perfetto->item, CLOCK_TIMESTAMP, time_ns);
	protobuf_message(&perfetto->body, SNAPSHOT_CLOCKS, &perfetto->item);
}

static void begin(struct trace_output *output, const struct trace_meta *meta)
{
	struct perfetto *perfetto = (struct perfetto *)output;

	begin_packet(perfetto);
	put_clock(perfetto, CLOCK_ID_MONOTONIC, meta->start_ns);
	put_clock(perfetto, CLOCK_ID_REALTIME, meta->realtime_ns);
	protobuf_varint(&perfetto->body, SNAPSHOT_PRIMARY_CLOCK, CLOCK_ID_MONOTONIC);
	protobuf_varint(&perfetto->packet, PACKET_TIMESTAMP, meta->start_ns);
	protobuf_varint(&perfetto->packet, PACKET_TIMESTAMP_CLOCK_ID, CLOCK_ID_MONOTONIC);
	protobuf_message(&perfetto->packet, PACKET_CLOCK_SNAPSHOT, &perfetto->body);
	protobuf_clear(&perfetto->item);
	protobuf_varint(&perfetto->item, PACKET_TIMESTAMP_CLOCK_ID, CLOCK_ID_MONOTONIC);
	protobuf_message(&perfetto->packet, PACKET_DEFAULTS, &perfetto->item);
	protobuf_varint(&perfetto->packet, PACKET_FIRST_ON_SEQUENCE, 1);
	put_packet(perfetto, FLAG_STATE_CLEARED);
}

// ---- Tracks --------------------------------------------------------------------------------------------------------

static void put_descriptor(struct perfetto *perfetto, uint64_t uuid, uint64_t parent, uint32_t field)
{
	struct protobuf *body = &perfetto->body;

	protobuf_varint(body, DESCRIPTOR_UUID, uuid);
	if (parent)
		protobuf_varint(body, DESCRIPTOR_PARENT_UUID, parent);
	protobuf_message(body, field, &perfetto->nested);
	protobuf_message(&perfetto->packet, PACKET_TRACK_DESCRIPTOR, body);
	put_packet(perfetto, FLAG_NEEDS_STATE);
}

static void process(struct trace_output *output, uint32_t pid, const char *name)
{
	struct perfetto *perfetto = (struct perfetto *)output;

	begin_packet(perfetto);
	protobuf_clear(&perfetto->nested);
	protobuf_varint(&perfetto->nested, PROCESS_PID, pid);
	put_text(&perfetto->nested, PROCESS_NAME, name);
	put_descriptor(perfetto, PROCESS_UUID + pid, 0, DESCRIPTOR_PROCESS);
}

static void thread(struct trace_output *output, const struct trace_thread *thread)
{
	struct perfetto *perfetto = (struct perfetto *)output;

	begin_packet(perfetto);
	protobuf_clear(&perfetto->nested);
	protobuf_varint(&perfetto->nested, THREAD_PID, thread->pid);
	protobuf_varint(&perfetto->nested, THREAD_TID, thread->tid);
	put_text(&perfetto->nested, THREAD_NAME, thread->name);
	put_descriptor(perfetto, THREAD_UUID + thread->track, PROCESS_UUID + thread->pid, DESCRIPTOR_THREAD);
}

// ---- Interned data -------------------------------------------------------------------------------------------------

// The text's number in its table, which is sent along when it is new.
static uint32_t intern(struct perfetto *perfetto, struct trace_names *names, uint32_t field, const char *text)
{
	bool new;
	uint32_t id = trace_names_add(names, text, (uint32_t)strlen(text) + 1, &new);

	if (id == 0)
		perfetto->output.error = -ENOMEM;
	if (id == 0 || !new)
		return id;
	protobuf_clear(&perfetto->nested);
	protobuf_varint(&perfetto->nested, INTERNED_IID, id);
	put_text(&perfetto->nested, INTERNED_TEXT, text);
	protobuf_message(&perfetto->interned, field, &perfetto->nested);
	return id;
}

static void send_late_mapping(struct perfetto *perfetto)
{
	if (perfetto->has_late)
		return;
	perfetto->has_late = true;
	protobuf_clear(&perfetto->nested);
	protobuf_varint(&perfetto->nested, INTERNED_IID, LATE_IID);
	protobuf_string(&perfetto->nested, INTERNED_TEXT, LATE_MAPPING);
	protobuf_message(&perfetto->interned, INTERNED_MAPPING_PATHS, &perfetto->nested);
	protobuf_clear(&perfetto->nested);
	protobuf_varint(&perfetto->nested, MAPPING_IID, LATE_IID);
	protobuf_varint(&perfetto->nested, MAPPING_PATH_STRINGS, LATE_IID);
	protobuf_message(&perfetto->interned, INTERNED_MAPPINGS, &perfetto->nested);
}

static uint32_t intern_frame(struct perfetto *perfetto, const struct trace_frame *frame)
{
	struct frame_key key = {.line = frame->line, .late = frame->late};
	bool new;
	uint32_t id;

	key.function = intern(perfetto, &perfetto->functions, INTERNED_FUNCTION_NAMES, frame->name);
	if (frame->file[0])
		key.path = intern(perfetto, &perfetto->paths, INTERNED_SOURCE_PATHS, frame->file);
	id = trace_names_add(&perfetto->frames, &key, sizeof(key), &new);
	if (id == 0)
		perfetto->output.error = -ENOMEM;
	if (id == 0 || !new)
		return id;
	if (frame->late)
		send_late_mapping(perfetto);
	protobuf_clear(&perfetto->nested);
	protobuf_varint(&perfetto->nested, FRAME_IID, id);
	protobuf_varint(&perfetto->nested, FRAME_FUNCTION_NAME, key.function);
	if (frame->late) {
		protobuf_varint(&perfetto->nested, FRAME_MAPPING, LATE_IID);
		protobuf_varint(&perfetto->nested, FRAME_REL_PC, frame->late);
	}
	if (key.path)
		protobuf_varint(&perfetto->nested, FRAME_SOURCE_PATH, key.path);
	if (key.line > 0)
		protobuf_varint(&perfetto->nested, FRAME_LINE, (uint64_t)key.line);
	protobuf_message(&perfetto->interned, INTERNED_FRAMES, &perfetto->nested);
	return id;
}

// Perfetto wants the outermost frame first.
static void stack(struct trace_output *output, uint32_t id, const struct trace_frame *frames, uint32_t nframes)
{
	struct perfetto *perfetto = (struct perfetto *)output;

	begin_packet(perfetto);
	protobuf_varint(&perfetto->body, CALLSTACK_IID, id);
	for (uint32_t i = nframes; i-- > 0 && !output->error;)
		protobuf_varint(&perfetto->body, CALLSTACK_FRAMES, intern_frame(perfetto, &frames[i]));
	protobuf_message(&perfetto->interned, INTERNED_CALLSTACKS, &perfetto->body);
	if (!output->error)
		put_packet(perfetto, FLAG_NEEDS_STATE);
}

// Of a time when all frames have been seen.
static void late_name(struct trace_output *output, const struct trace_frame *frame)
{
	struct perfetto *perfetto = (struct perfetto *)output;

	begin_packet(perfetto);
	protobuf_clear(&perfetto->nested);
	put_text(&perfetto->nested, LINE_FUNCTION_NAME, frame->name);
	if (frame->file[0])
		put_text(&perfetto->nested, LINE_SOURCE_FILE, frame->file);
	if (frame->line > 0)
		protobuf_varint(&perfetto->nested, LINE_NUMBER, (uint64_t)frame->line);
	protobuf_clear(&perfetto->item);
	protobuf_varint(&perfetto->item, ADDRESS_SYMBOLS_ADDRESS, frame->late);
	protobuf_message(&perfetto->item, ADDRESS_SYMBOLS_LINES, &perfetto->nested);
	protobuf_string(&perfetto->body, SYMBOLS_PATH, "/" LATE_MAPPING);
	protobuf_message(&perfetto->body, SYMBOLS_ADDRESSES, &perfetto->item);
	protobuf_varint(&perfetto->packet, PACKET_TIMESTAMP, output->end_ns);
	protobuf_message(&perfetto->packet, PACKET_MODULE_SYMBOLS, &perfetto->body);
	put_packet(perfetto, FLAG_NEEDS_STATE);
}

// ---- Events --------------------------------------------------------------------------------------------------------

static void annotate(struct perfetto *perfetto, const char *name, uint32_t field, uint64_t value)
{
	protobuf_clear(&perfetto->nested);
	protobuf_string(&perfetto->nested, ANNOTATION_NAME, name);
	protobuf_varint(&perfetto->nested, field, value);
	protobuf_message(&perfetto->body, EVENT_ANNOTATIONS, &perfetto->nested);
}

static void put_event(struct perfetto *perfetto, uint64_t time_ns)
{
	protobuf_varint(&perfetto->packet, PACKET_TIMESTAMP, time_ns);
	protobuf_message(&perfetto->packet, PACKET_TRACK_EVENT, &perfetto->body);
	if (!perfetto->output.error)
		put_packet(perfetto, FLAG_NEEDS_STATE);
}

static void put_names(struct perfetto *perfetto, const char *category, const char *name)
{
	protobuf_varint(&perfetto->body, EVENT_CATEGORY_IIDS,
			intern(perfetto, &perfetto->categories, INTERNED_CATEGORIES, category));
	protobuf_varint(&perfetto->body, EVENT_NAME_IID,
			intern(perfetto, &perfetto->names, INTERNED_EVENT_NAMES, name));
}

static void event(struct trace_output *output, const struct trace_event *event)
{
	static const uint8_t types[] = {[TRACE_BEGIN] = 1, [TRACE_END] = 2, [TRACE_INSTANT] = 3};
	struct perfetto *perfetto = (struct perfetto *)output;
	struct protobuf *body = &perfetto->body;

	begin_packet(perfetto);
	protobuf_varint(body, EVENT_TYPE, types[event->phase]);
	protobuf_varint(body, EVENT_TRACK_UUID, THREAD_UUID + event->track);
	if (event->phase != TRACE_END)
		put_names(perfetto, event->category, event->name);
	if (event->object)
		annotate(perfetto, "object", ANNOTATION_POINTER, event->object);
	if (event->other_tid)
		annotate(perfetto, "thread", ANNOTATION_UINT, event->other_tid);
	if (event->weight_ns)
		annotate(perfetto, "cpu_ns", ANNOTATION_UINT, event->weight_ns);
	if (event->flow_out)
		protobuf_fixed64(body, EVENT_FLOW_IDS, event->flow_out);
	if (event->flow_in)
		protobuf_fixed64(body, EVENT_TERMINATING_FLOW_IDS, event->flow_in);
	if (event->stack)
		protobuf_varint(body, EVENT_CALLSTACK_IID, event->stack);
	put_event(perfetto, event->time_ns);
}

// Slices that are open at the end of a trace are shown as such. What else is to be known is an instant of the whole trace.
static void end(struct trace_output *output, uint64_t time_ns)
{
	struct perfetto *perfetto = (struct perfetto *)output;

	if (!output->notes)
		return;
	begin_packet(perfetto);
	protobuf_varint(&perfetto->body, EVENT_TYPE, 3);
	put_names(perfetto, "profd", "profd");
	protobuf_clear(&perfetto->nested);
	protobuf_string(&perfetto->nested, ANNOTATION_NAME, "notes");
	put_text(&perfetto->nested, ANNOTATION_STRING, output->notes);
	protobuf_message(&perfetto->body, EVENT_ANNOTATIONS, &perfetto->nested);
	put_event(perfetto, time_ns);
}

static void finish(struct trace_output *output)
{
	struct perfetto *perfetto = (struct perfetto *)output;

	trace_names_finish(&perfetto->names);
	trace_names_finish(&perfetto->categories);
	trace_names_finish(&perfetto->functions);
	trace_names_finish(&perfetto->paths);
	trace_names_finish(&perfetto->frames);
	protobuf_finish(&perfetto->packet);
	protobuf_finish(&perfetto->body);
	protobuf_finish(&perfetto->interned);
	protobuf_finish(&perfetto->item);
	protobuf_finish(&perfetto->nested);
}

const struct trace_format trace_format_perfetto = {
	.name = "perfetto",
	.extension = ".perfetto-trace",
	.content_type = "application/octet-stream",
	.disposition = "attachment; filename=\"trace.perfetto-trace\"",
	.state_size = sizeof(struct perfetto),
	.begin = begin,
	.process = process,
	.thread = thread,
	.stack = stack,
	.late_name = late_name,
	.event = event,
	.end = end,
	.finish = finish,
};
