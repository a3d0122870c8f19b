// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// trace.c: what the formats of traces have in common; see trace.h.

#include "formats/trace.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/writer.h"

static const struct trace_format *const formats[] = {&trace_format_perfetto, &trace_format_chrome,
						     &trace_format_speedscope};
#define NFORMATS (sizeof(formats) / sizeof(formats[0]))

const struct trace_format *trace_format_by_name(const char *name)
{
	for (size_t i = 0; i < NFORMATS; i++)
		if (strcmp(formats[i]->name, name) == 0)
			return formats[i];
	return NULL;
}

static bool ends_in(const char *path, const char *extension)
{
	size_t length = strlen(path), extension_length = strlen(extension);

	return length > extension_length && strcmp(path + length - extension_length, extension) == 0;
}

const struct trace_format *trace_format_by_path(const char *path)
{
	for (size_t i = 0; i < NFORMATS; i++)
		if (ends_in(path, formats[i]->extension))
			return formats[i];
	return ends_in(path, ".pftrace") ? &trace_format_perfetto : NULL;
}

const char *trace_format_names(void)
{
	return "perfetto, chrome, speedscope";
}

struct trace_output *trace_create_output(const struct trace_format *format, struct writer *writer,
					 const struct trace_meta *meta)
{
	struct trace_output *output = calloc(1, format->state_size);

	if (!output)
		return NULL;
	output->format = format;
	output->writer = writer;
	output->start_ns = output->end_ns = meta->start_ns;
	format->begin(output, meta);
	return output;
}

void trace_destroy_output(struct trace_output *output)
{
	if (!output)
		return;
	output->format->finish(output);
	free(output->notes);
	free(output);
}

static bool goes_on(const struct trace_output *output)
{
	return !output->error && !output->writer->error;
}

void trace_process(struct trace_output *output, uint32_t pid, const char *name)
{
	if (goes_on(output))
		output->format->process(output, pid, name);
}

void trace_thread(struct trace_output *output, const struct trace_thread *thread)
{
	if (goes_on(output))
		output->format->thread(output, thread);
}

void trace_stack(struct trace_output *output, uint32_t id, const struct trace_frame *frames, uint32_t nframes)
{
	if (goes_on(output))
		output->format->stack(output, id, frames, nframes);
}

void trace_event(struct trace_output *output, const struct trace_event *event)
{
	if (event->time_ns > output->end_ns)
		output->end_ns = event->time_ns;
	if (goes_on(output))
		output->format->event(output, event);
}

void trace_late_name(struct trace_output *output, const struct trace_frame *frame)
{
	if (goes_on(output))
		output->format->late_name(output, frame);
}

void trace_note(struct trace_output *output, const char *fmt, ...)
{
	char line[512];
	size_t used = output->notes ? strlen(output->notes) : 0;
	char *notes;
	va_list args;

	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	notes = realloc(output->notes, used + strlen(line) + 2);
	if (!notes) {
		output->error = -ENOMEM;
		return;
	}
	output->notes = notes;
	sprintf(notes + used, "%s%s", used ? "\n" : "", line);
}

int trace_end(struct trace_output *output, uint64_t time_ns)
{
	if (time_ns > output->end_ns)
		output->end_ns = time_ns;
	if (goes_on(output))
		output->format->end(output, output->end_ns);
	return output->error ? output->error : output->writer->error;
}
