// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// trace_speedscope.c: speedscope's JSON (https://www.speedscope.app/file-format-schema.json), one `evented` profile a thread: its slices, and
// within them the stacks of its samples, each drawn for the CPU time that it stands for, up to the moment when it was taken. Speedscope has no
// arrows and no instants; so a wait whose end has a stack is drawn with that in it, under a seam: time by who ended it.
//
// A profile must be in one piece, so events are kept until the end: MAX_MARKS of them; what comes after that is counted in a note.
//
//   track ─► its marks: frame opened, and what ended it │ frame closed │ stack, for so long      chains through one array, oldest first

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/grow.h"
#include "formats/trace.h"
#include "formats/trace_names.h"
#include "formats/writer.h"

#define MAX_MARKS (8u << 20) // of 24 bytes
#define MAX_OBJECTS 4096u    // frames that name an object; others go without
#define MAX_DEPTH 64u
#define MAX_ENDED 8u // of a track's open slices, those that may be told of who ended them
#define SEAM "↳ woken by"

enum mark_kind { MARK_OPEN, MARK_CLOSE, MARK_STACK };

struct mark {
	uint64_t time_ns;
	uint32_t next; // of the same track; index + 1, 0: the last
	uint32_t what; // frame, or stack; id in the low 30 bits, enum mark_kind above
	union {
		uint64_t weight_ns; // of a stack
		uint32_t ender;     // of a frame: the stack that ended it; 0: none
	};
};

struct track {
	char name[64];
	uint32_t first, last;     // index + 1
	uint32_t open[MAX_ENDED]; // marks, index + 1; 0: left out
	uint32_t depth;           // slices open
};

struct frame_key {
	uint32_t name, file; // of names
	int64_t line;
	uint32_t late, unused; // late: trace_frame.late
};

struct speedscope {
	struct trace_output output;
	char *title;
	struct trace_names names, frames, stacks; // stacks: arrays of frames, leaf first
	uint32_t *stack_ids;                      // of stack i + 1
	uint32_t nstacks, stack_ids_capacity;
	uint32_t *late_frames; // of the frames with the number i + 1: which they are after all; 0: it was not told
	uint32_t nlate_frames, late_frames_capacity;
	struct track *tracks;
	uint32_t ntracks, tracks_capacity;
	struct mark *marks;
	uint32_t nmarks, marks_capacity;
	uint32_t objects;
	uint32_t seam; // its frame; 0: there is none yet
	uint64_t dropped;
};

static void fail(struct speedscope *speedscope)
{
	speedscope->output.error = -ENOMEM;
}

static uint32_t add_name(struct speedscope *speedscope, const char *text)
{
	bool new;

	return trace_names_add(&speedscope->names, text, (uint32_t)strlen(text) + 1, &new);
}

// 0: no memory.
static uint32_t add_frame(struct speedscope *speedscope, const struct trace_frame *frame, uint32_t late)
{
	struct frame_key key = {.line = frame->line, .late = late};
	bool new;

	key.name = add_name(speedscope, frame->name);
	key.file = add_name(speedscope, frame->file);
	return key.name && key.file ? trace_names_add(&speedscope->frames, &key, sizeof(key), &new) : 0;
}

// One that is no function of the program's.
static uint32_t add_word(struct speedscope *speedscope, const char *name)
{
	return add_frame(speedscope, &(struct trace_frame){.name = name, .file = ""}, 0);
}

static void begin(struct trace_output *output, const struct trace_meta *meta)
{
	struct speedscope *speedscope = (struct speedscope *)output;

	speedscope->title = malloc(strlen(meta->title) + 1);
	if (speedscope->title)
		memcpy(speedscope->title, meta->title, strlen(meta->title) + 1);
	else
		fail(speedscope);
}

static void process(struct trace_output *output, uint32_t pid, const char *name)
{
	(void)output;
	(void)pid;
	(void)name;
}

static void thread(struct trace_output *output, const struct trace_thread *thread)
{
	struct speedscope *speedscope = (struct speedscope *)output;
	struct track *tracks =
		grow_array(speedscope->tracks, &speedscope->tracks_capacity, thread->track, sizeof(*tracks));

	if (!tracks) {
		fail(speedscope);
		return;
	}
	speedscope->tracks = tracks;
	while (speedscope->ntracks < thread->track)
		tracks[speedscope->ntracks++] = (struct track){.first = 0};
	snprintf(tracks[thread->track - 1].name, sizeof(tracks->name), "%.40s (%" PRIu32 ")", thread->name,
		 thread->tid);
}

static void stack(struct trace_output *output, uint32_t id, const struct trace_frame *frames, uint32_t nframes)
{
	struct speedscope *speedscope = (struct speedscope *)output;
	uint32_t *ids = grow_array(speedscope->stack_ids, &speedscope->stack_ids_capacity, id, sizeof(*ids));
	uint32_t *list = calloc((size_t)nframes + 1, sizeof(*list)); // its length, and the frames
	bool new, fine = ids &&list;

	if (ids)
		speedscope->stack_ids = ids;
	for (uint32_t i = 0; i < nframes && fine; i++) {
		list[i + 1] = add_frame(speedscope, &frames[i], frames[i].late);
		fine = list[i + 1] != 0;
	}
	if (fine) {
		list[0] = nframes;
		while (speedscope->nstacks < id)
			ids[speedscope->nstacks++] = 0;
		ids[id - 1] = trace_names_add(&speedscope->stacks, list, (nframes + 1) * sizeof(*list), &new);
	}
	if (!fine || ids[id - 1] == 0)
		fail(speedscope);
	free(list);
}

static void late_name(struct trace_output *output, const struct trace_frame *frame)
{
	struct speedscope *speedscope = (struct speedscope *)output;
	uint32_t *frames = grow_array(speedscope->late_frames, &speedscope->late_frames_capacity, frame->late,
				      sizeof(*speedscope->late_frames));

	if (frames) {
		speedscope->late_frames = frames;
		while (speedscope->nlate_frames < frame->late)
			frames[speedscope->nlate_frames++] = 0;
		frames[frame->late - 1] = add_frame(speedscope, frame, 0);
	}
	if (!frames || frames[frame->late - 1] == 0)
		fail(speedscope);
}

// The frame that a stack has, by the name that it was given after all.
static uint32_t late_frame(const struct speedscope *speedscope, uint32_t id)
{
	const struct frame_key *frame = trace_names_get(&speedscope->frames, id);
	uint32_t late =
		frame->late && frame->late <= speedscope->nlate_frames ? speedscope->late_frames[frame->late - 1] : 0;

	return late ? late : id;
}

// ---- Events --------------------------------------------------------------------------------------------------------

// Index + 1; 0: there is no room.
static uint32_t add_mark(struct speedscope *speedscope, struct track *track, struct mark mark)
{
	struct mark *marks;

	if (speedscope->nmarks >= MAX_MARKS) {
		speedscope->dropped++;
		return 0;
	}
	marks = grow_array(speedscope->marks, &speedscope->marks_capacity, (size_t)speedscope->nmarks + 1,
			   sizeof(*marks));
	if (!marks) {
		fail(speedscope);
		return 0;
	}
	speedscope->marks = marks;
	marks[speedscope->nmarks++] = mark;
	if (track->last)
		marks[track->last - 1].next = speedscope->nmarks;
	else
		track->first = speedscope->nmarks;
	track->last = speedscope->nmarks;
	return track->last;
}

static uint32_t stack_of(const struct speedscope *speedscope, const struct trace_event *event)
{
	return event->stack && event->stack <= speedscope->nstacks ? speedscope->stack_ids[event->stack - 1] : 0;
}

// The slice that ends was opened when nobody knew who would end it.
static void note_ender(struct speedscope *speedscope, struct track *track, const struct trace_event *event)
{
	uint32_t mark, ender = stack_of(speedscope, event);

	if (track->depth == 0 || --track->depth >= MAX_ENDED)
		return;
	mark = track->open[track->depth];
	if (!mark || !ender)
		return;
	if (!speedscope->seam)
		speedscope->seam = add_word(speedscope, SEAM);
	if (!speedscope->seam)
		fail(speedscope);
	speedscope->marks[mark - 1].ender = ender;
}

static uint32_t slice_frame(struct speedscope *speedscope, const struct trace_event *event)
{
	char name[256];

	if (!event->object || speedscope->objects >= MAX_OBJECTS)
		return add_word(speedscope, event->name);
	speedscope->objects++;
	snprintf(name, sizeof(name), "%.200s 0x%" PRIx64, event->name, event->object);
	return add_word(speedscope, name);
}

static void event(struct trace_output *output, const struct trace_event *event)
{
	struct speedscope *speedscope = (struct speedscope *)output;
	struct track *track = &speedscope->tracks[event->track - 1];
	struct mark mark = {.time_ns = event->time_ns};
	uint32_t id = 0, index;

	if (event->phase == TRACE_BEGIN) {
		id = slice_frame(speedscope, event);
		mark.what = (uint32_t)MARK_OPEN << 30 | id;
	} else if (event->phase == TRACE_END) {
		id = 1;
		mark.what = (uint32_t)MARK_CLOSE << 30;
		note_ender(speedscope, track, event);
	} else if (event->stack && event->weight_ns) {
		id = stack_of(speedscope, event);
		mark.what = (uint32_t)MARK_STACK << 30 | id;
		mark.weight_ns = event->weight_ns;
	} else {
		return;
	}
	if (id == 0) {
		fail(speedscope);
		return;
	}
	index = add_mark(speedscope, track, mark);
	if (event->phase == TRACE_BEGIN && track->depth++ < MAX_ENDED)
		track->open[track->depth - 1] = index;
}

// ---- JSON ----------------------------------------------------------------------------------------------------------

static void put_text(struct writer *writer, const char *before, const char *text)
{
	writer_puts(writer, before);
	writer_puts(writer, "\"");
	writer_json(writer, text);
	writer_puts(writer, "\"");
}

static void put_frames(struct speedscope *speedscope)
{
	struct writer *writer = speedscope->output.writer;

	writer_puts(writer, "\"shared\":{\"frames\":[");
	for (uint32_t i = 1; i <= speedscope->frames.count && !writer->error; i++) {
		const struct frame_key *frame = trace_names_get(&speedscope->frames, i);
		const char *file = trace_names_get(&speedscope->names, frame->file);

		put_text(writer,
			 i > 1 ? ",\n{\"name\":" : "\n{\"name\":", trace_names_get(&speedscope->names, frame->name));
		if (file[0])
			put_text(writer, ",\"file\":", file);
		if (frame->line > 0)
			writer_printf(writer, ",\"line\":%" PRId64, frame->line);
		writer_puts(writer, "}");
	}
	writer_puts(writer, "]},\n");
}

// One track being written.
struct line {
	struct writer *writer;
	bool any;
	uint64_t start_ns, at_ns; // of the trace; of the last event
	struct {
		uint32_t frame, ender;
	} open[MAX_DEPTH];
	uint32_t depth;
};

static void put_change(struct line *line, char type, uint32_t frame, uint64_t time_ns)
{
	line->at_ns = time_ns;
	writer_printf(line->writer, "%s{\"type\":\"%c\",\"frame\":%" PRIu32 ",\"at\":%" PRIu64 "}",
		      line->any ? ",\n" : "\n", type, frame - 1, time_ns - line->start_ns);
	line->any = true;
}

static void open_stack(struct line *line, const struct speedscope *speedscope, uint32_t id, uint64_t time_ns)
{
	const uint32_t *stack = trace_names_get(&speedscope->stacks, id);

	for (uint32_t i = stack[0]; i > 0; i--)
		put_change(line, 'O', late_frame(speedscope, stack[i]), time_ns);
}

static void close_stack(struct line *line, const struct speedscope *speedscope, uint32_t id, uint64_t time_ns)
{
	const uint32_t *stack = trace_names_get(&speedscope->stacks, id);

	for (uint32_t i = 1; i <= stack[0]; i++)
		put_change(line, 'C', late_frame(speedscope, stack[i]), time_ns);
}

// Who ended the innermost slice, within it; not around what else is within it.
static void open_ender(struct line *line, const struct speedscope *speedscope, uint64_t time_ns)
{
	uint32_t ender = line->depth > 0 ? line->open[line->depth - 1].ender : 0;

	if (!ender)
		return;
	put_change(line, 'O', speedscope->seam, time_ns);
	open_stack(line, speedscope, ender, time_ns);
}

static void close_ender(struct line *line, const struct speedscope *speedscope, uint64_t time_ns)
{
	uint32_t ender = line->depth > 0 ? line->open[line->depth - 1].ender : 0;

	if (!ender)
		return;
	close_stack(line, speedscope, ender, time_ns);
	put_change(line, 'C', speedscope->seam, time_ns);
}

static void put_stack(struct line *line, const struct speedscope *speedscope, uint32_t id, const struct mark *mark)
{
	uint64_t from_ns = mark->time_ns > mark->weight_ns ? mark->time_ns - mark->weight_ns : 0;

	if (from_ns < line->at_ns)
		from_ns = line->at_ns;
	if (from_ns >= mark->time_ns)
		return;
	close_ender(line, speedscope, from_ns);
	open_stack(line, speedscope, id, from_ns);
	close_stack(line, speedscope, id, mark->time_ns);
	open_ender(line, speedscope, mark->time_ns);
}

static void open_slice(struct line *line, const struct speedscope *speedscope, uint32_t frame, uint32_t ender,
		       uint64_t time_ns)
{
	close_ender(line, speedscope, time_ns);
	line->open[line->depth].frame = frame;
	line->open[line->depth++].ender = ender;
	put_change(line, 'O', frame, time_ns);
	open_ender(line, speedscope, time_ns);
}

static void close_slice(struct line *line, const struct speedscope *speedscope, uint64_t time_ns)
{
	close_ender(line, speedscope, time_ns);
	put_change(line, 'C', line->open[--line->depth].frame, time_ns);
	open_ender(line, speedscope, time_ns);
}

static void put_mark(struct line *line, const struct speedscope *speedscope, const struct mark *mark)
{
	uint32_t id = mark->what & 0x3fffffffu;
	uint64_t time_ns = mark->time_ns > line->at_ns ? mark->time_ns : line->at_ns;

	switch (mark->what >> 30) {
	case MARK_OPEN:
		if (line->depth < MAX_DEPTH)
			open_slice(line, speedscope, id, mark->ender, time_ns);
		break;
	case MARK_CLOSE:
		if (line->depth > 0)
			close_slice(line, speedscope, time_ns);
		break;
	default:
		put_stack(line, speedscope, id, mark);
		break;
	}
}

static void put_track(struct speedscope *speedscope, const struct track *track, uint64_t end_ns)
{
	struct writer *writer = speedscope->output.writer;
	struct line line = {
		.writer = writer, .start_ns = speedscope->output.start_ns, .at_ns = speedscope->output.start_ns};

	put_text(writer, "{\"type\":\"evented\",\"name\":", track->name);
	writer_printf(writer, ",\"unit\":\"nanoseconds\",\"startValue\":0,\"endValue\":%" PRIu64 ",\"events\":[",
		      end_ns - line.start_ns);
	for (uint32_t i = track->first; i && !writer->error; i = speedscope->marks[i - 1].next)
		put_mark(&line, speedscope, &speedscope->marks[i - 1]);
	while (line.depth > 0)
		close_slice(&line, speedscope, end_ns);
	writer_puts(writer, "]}");
}

static void end(struct trace_output *output, uint64_t time_ns)
{
	struct speedscope *speedscope = (struct speedscope *)output;
	static const struct track nothing = {.name = "no thread"};
	struct writer *writer = output->writer;
	bool any = false;

	if (speedscope->dropped > 0)
		trace_note(output, "%" PRIu64 " events more than this format can keep were left out",
			   speedscope->dropped);
	writer_puts(writer, "{\"$schema\":\"https://www.speedscope.app/file-format-schema.json\",\n"
			    "\"exporter\":\"profd@" PROFD_VERSION "\",\n");
	put_text(writer, "\"name\":", speedscope->title);
	if (output->notes)
		put_text(writer, ",\n\"notes\":", output->notes);
	writer_puts(writer, ",\n\"activeProfileIndex\":0,\n");
	put_frames(speedscope);
	writer_puts(writer, "\"profiles\":[\n");
	for (uint32_t i = 0; i < speedscope->ntracks && !writer->error; i++) {
		if (!speedscope->tracks[i].first)
			continue;
		writer_puts(writer, any ? ",\n" : "");
		any = true;
		put_track(speedscope, &speedscope->tracks[i], time_ns);
	}
	if (!any)
		put_track(speedscope, &nothing, time_ns);
	writer_puts(writer, "]}\n");
}

static void finish(struct trace_output *output)
{
	struct speedscope *speedscope = (struct speedscope *)output;

	free(speedscope->title);
	trace_names_finish(&speedscope->names);
	trace_names_finish(&speedscope->frames);
	trace_names_finish(&speedscope->stacks);
	free(speedscope->stack_ids);
	free(speedscope->late_frames);
	free(speedscope->tracks);
	free(speedscope->marks);
}

const struct trace_format trace_format_speedscope = {
	.name = "speedscope",
	.extension = ".speedscope.json",
	.content_type = "application/json",
	.disposition = "attachment; filename=\"trace.speedscope.json\"",
	.state_size = sizeof(struct speedscope),
	.begin = begin,
	.process = process,
	.thread = thread,
	.stack = stack,
	.late_name = late_name,
	.event = event,
	.end = end,
	.finish = finish,
};
