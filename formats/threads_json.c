// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// threads_json.c: a thread dump as JSON: threads name their stacks by number, each distinct stack is there once. docs/http.md has the fields.

#include <inttypes.h>

#include "formats/label_text.h"
#include "formats/thread_dump.h"
#include "formats/thread_stream.h"
#include "formats/writer.h"

#define NAME_MAX_BYTES 4096

static void put_text(struct writer *writer, const char *key, const char *text)
{
	writer_printf(writer, "\"%s\":\"", key);
	writer_json(writer, text);
	writer_puts(writer, "\"");
}

static void put_labels(struct writer *writer, const char *labels)
{
	char key[LABEL_TEXT_KEY_BYTES], value[LABEL_TEXT_VALUE_BYTES];
	const char *separator = ",\"labels\":{";

	while (label_text_next(&labels, key, value)) {
		writer_puts(writer, separator);
		writer_puts(writer, "\"");
		writer_json(writer, key);
		writer_puts(writer, "\":\"");
		writer_json(writer, value);
		writer_puts(writer, "\"");
		separator = ",";
	}
	if (separator[1] == '\0')
		writer_puts(writer, "}");
}

// Who made threads, woke them or queued their work; a cause's parent is what caused that.
static void put_causes(struct writer *writer, const struct thread_dump *dump)
{
	if (dump->ncauses == 0)
		return;
	writer_puts(writer, "\"causes\":[");
	for (uint32_t i = 0; i < dump->ncauses; i++) {
		const struct thread_dump_cause *cause = &dump->causes[i];

		writer_printf(writer, "%s{\"id\":%" PRIu32 ",\"kind\":\"%s\",\"stack\":%" PRIu32, i ? "," : "", i + 1,
			      cause->kind, cause->stack);
		if (cause->parent)
			writer_printf(writer, ",\"parent\":%" PRIu32, cause->parent);
		writer_puts(writer, "}");
	}
	writer_puts(writer, "],\n");
}

static void put_thread(struct writer *writer, const struct thread_dump_thread *thread)
{
	writer_printf(writer, "{\"tid\":%" PRIu32 ",", thread->tid);
	put_text(writer, "name", thread->name);
	writer_puts(writer, ",");
	put_text(writer, "state", thread->state);
	writer_puts(writer, ",");
	put_text(writer, "object", thread->object);
	if (thread->owner_tid)
		writer_printf(writer, ",\"owner_tid\":%" PRIu32, thread->owner_tid);
	if (thread->waiting_ns > 0)
		writer_printf(writer, ",\"waiting_ns\":%" PRId64, thread->waiting_ns);
	if (thread->cpu_ns >= 0)
		writer_printf(writer, ",\"cpu_ns\":%" PRId64, thread->cpu_ns);
	if (thread->stack)
		writer_printf(writer, ",\"stack\":%" PRIu32, thread->stack);
	if (thread->creator_stack)
		writer_printf(writer, ",\"created_by\":{\"tid\":%" PRIu32 ",\"stack\":%" PRIu32 "}",
			      thread->creator_tid, thread->creator_stack);
	if (thread->cause)
		writer_printf(writer, ",\"cause\":%" PRIu32, thread->cause);
	put_labels(writer, thread->labels);
	writer_puts(writer, "}");
}

static void put_frame(struct writer *writer, const struct profile *profile, const struct profile_location *location,
		      uint32_t i)
{
	const struct profile_line *line = i < location->nlines ? &location->lines[i] : NULL;
	char name[NAME_MAX_BYTES];

	writer_puts(writer, "{");
	put_text(writer, "function", profile_frame_name(profile, location, i, name, sizeof(name)));
	if (line && profile->functions[line->function_id - 1].file[0]) {
		writer_puts(writer, ",");
		put_text(writer, "file", profile->functions[line->function_id - 1].file);
		writer_printf(writer, ",\"line\":%" PRId64, line->line);
	}
	writer_printf(writer, ",\"address\":\"0x%" PRIx64 "\"", location->address);
	if (location->mapping_id) {
		writer_puts(writer, ",");
		put_text(writer, "module", profile->mappings[location->mapping_id - 1].file);
	}
	writer_puts(writer, "}");
}

static void put_stack(struct writer *writer, const struct thread_dump *dump, uint32_t id)
{
	const struct thread_dump_stack *stack = &dump->stacks[id - 1];
	bool first = true;

	writer_printf(writer, "{\"id\":%" PRIu32 ",", id);
	if (stack->partial[0]) {
		put_text(writer, "partial", stack->partial);
		writer_puts(writer, ",");
	}
	writer_puts(writer, "\"frames\":[");
	for (uint32_t i = 0; i < stack->nlocations; i++) {
		const struct profile_location *location = &dump->profile->locations[stack->location_ids[i] - 1];

		for (uint32_t k = 0; k < (location->nlines ? location->nlines : 1); k++) {
			writer_puts(writer, first ? "\n  " : ",\n  ");
			put_frame(writer, dump->profile, location, k);
			first = false;
		}
	}
	writer_puts(writer, "]}");
}

static void put_start(struct writer *writer, const struct thread_dump *dump)
{
	writer_printf(writer, "{\"version\":1,\"pid\":%" PRId64 ",", dump->pid);
	put_text(writer, "command", dump->command);
	writer_printf(writer, ",\"time_ns\":%" PRId64 ",\"duration_ns\":%" PRId64 ",\n", dump->time_ns,
		      dump->duration_ns);
	thread_dump_put_verdicts_json(dump, writer);
	put_causes(writer, dump);
	writer_puts(writer, "\"threads\":[");
}

// The start, the threads, the stacks, the end.
int thread_stream_json(struct thread_dump_stream *stream, struct writer *writer)
{
	const struct thread_dump *dump = stream->dump;
	uint64_t stack = stream->next > dump->nthreads ? stream->next - dump->nthreads : 0;

	if (stream->next == 0) {
		put_start(writer, dump);
	} else if (stack == 0 && !dump->threads[stream->next - 1].hidden) {
		writer_puts(writer, stream->any_thread ? ",\n " : "\n ");
		put_thread(writer, &dump->threads[stream->next - 1]);
		stream->any_thread = true;
	} else if (stack == 1) {
		writer_puts(writer, "],\n\"stacks\":[");
	}
	if (stack > 0 && stack <= dump->nstacks) {
		writer_puts(writer, stack > 1 ? ",\n " : "\n ");
		put_stack(writer, dump, (uint32_t)stack);
	}
	if (stack >= 1 && stack >= dump->nstacks)
		writer_puts(writer, "]}\n");
	return !(stack >= 1 && stack >= dump->nstacks);
}
