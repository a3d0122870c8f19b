// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// speedscope.c: speedscope's own JSON, https://www.speedscope.app/file-format-schema.json. (Its importer of pprof files
// drops inlined frames, labels and threads.) One `sampled` profile for each thread, the heaviest first, so that it is the
// one shown; a profile without thread labels is one "all".
//
// Weights must not be negative: samples whose value is 0 or less (a difference of profiles) are left out.
// Runs wherever a format is written; no state of its own.

#include "formats/frames.h"
#include "formats/profile.h"
#include "formats/saturate.h"
#include "formats/thread_label.h"
#include "formats/writer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define SPEEDSCOPE_TITLE_MAX 256

struct speedscope_thread {
	struct thread_label label;
	uint32_t first, count; // in speedscope.samples
	int64_t weight;
};

struct speedscope {
	const struct profile *profile;
	struct writer *writer;
	uint32_t value_index;
	struct frames frames;
	struct thread_label *labels; // of each sample of the profile
	uint32_t *samples;           // indices of those with a weight, sorted by thread
	uint32_t nsamples;
	struct speedscope_thread *threads; // heaviest first
	uint32_t nthreads;
};

static int64_t weight_of(const struct speedscope *speedscope, uint32_t sample)
{
	return speedscope->profile->samples[sample].values[speedscope->value_index];
}

// ---- Threads -------------------------------------------------------------------------------------------------------

// By thread, in the profile's order within one.
static int compare_samples(const void *left, const void *right, void *context)
{
	const struct thread_label *labels = ((const struct speedscope *)context)->labels;
	uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
	int order = thread_label_compare(&labels[a], &labels[b]);
	return order ? order : (a > b) - (a < b);
}

static int sort_samples(struct speedscope *speedscope)
{
	uint32_t total = speedscope->profile->nsamples;
	speedscope->samples = calloc((size_t)total + 1, sizeof(*speedscope->samples));
	speedscope->labels = calloc((size_t)total + 1, sizeof(*speedscope->labels));
	if (!speedscope->samples || !speedscope->labels)
		return -ENOMEM;
	for (uint32_t i = 0; i < total; i++) {
		speedscope->labels[i] = thread_label_of(&speedscope->profile->samples[i]);
		if (weight_of(speedscope, i) > 0)
			speedscope->samples[speedscope->nsamples++] = i;
	}
	qsort_r(speedscope->samples, speedscope->nsamples, sizeof(*speedscope->samples), compare_samples, speedscope);
	return 0;
}

static void add_to_thread(struct speedscope *speedscope, uint32_t position)
{
	uint32_t sample = speedscope->samples[position];
	const struct thread_label *label = &speedscope->labels[sample];
	struct speedscope_thread *last = speedscope->nthreads ? &speedscope->threads[speedscope->nthreads - 1] : NULL;
	if (!last || thread_label_compare(&last->label, label) != 0) {
		last = &speedscope->threads[speedscope->nthreads++];
		*last = (struct speedscope_thread){.label = *label, .first = position};
	}
	last->count++;
	last->weight = saturate_add(last->weight, weight_of(speedscope, sample));
}

static int compare_threads(const void *left, const void *right)
{
	const struct speedscope_thread *a = left, *b = right;
	int order = (a->weight < b->weight) - (a->weight > b->weight);
	return order ? order : thread_label_compare(&a->label, &b->label);
}

static int find_threads(struct speedscope *speedscope)
{
	speedscope->threads = calloc((size_t)speedscope->nsamples + 1, sizeof(*speedscope->threads));
	if (!speedscope->threads)
		return -ENOMEM;
	for (uint32_t i = 0; i < speedscope->nsamples; i++)
		add_to_thread(speedscope, i);
	qsort(speedscope->threads, speedscope->nthreads, sizeof(*speedscope->threads), compare_threads);
	return 0;
}

// ---- JSON ----------------------------------------------------------------------------------------------------------

static void put_member(struct writer *writer, const char *before, const char *text)
{
	writer_puts(writer, before);
	writer_puts(writer, "\"");
	writer_json(writer, text);
	writer_puts(writer, "\"");
}

// The number i of a list. Most of a file is numbers.
static void put_number(struct writer *writer, uint32_t i, uint64_t number)
{
	char text[24], *at = text + sizeof(text);
	do
		*--at = (char)('0' + number % 10);
	while (number /= 10);
	if (i)
		*--at = ',';
	writer_put(writer, at, (size_t)(text + sizeof(text) - at));
}

static void put_frames(const struct frames *frames, struct writer *writer)
{
	writer_puts(writer, "\"shared\":{\"frames\":[");
	for (uint32_t i = 0; i < frames->count && !writer->error; i++) {
		const struct frame *frame = &frames->items[i];
		put_member(writer, i ? ",\n{\"name\":" : "\n{\"name\":", frame->name);
		if (frame->file[0])
			put_member(writer, ",\"file\":", frame->file);
		if (frame->line > 0)
			writer_printf(writer, ",\"line\":%" PRId64, frame->line);
		writer_puts(writer, "}");
	}
	writer_puts(writer, "]},\n");
}

static int put_stacks(struct speedscope *speedscope, const struct speedscope_thread *thread)
{
	struct writer *writer = speedscope->writer;
	for (uint32_t i = 0; i < thread->count && !writer->error; i++) {
		uint32_t sample = speedscope->samples[thread->first + i], count = 0;
		const uint32_t *stack =
			frames_expand(&speedscope->frames, &speedscope->profile->samples[sample], 0, &count);
		if (!stack)
			return -ENOMEM;
		writer_puts(writer, i ? ",\n[" : "\n[");
		for (uint32_t j = 0; j < count; j++)
			put_number(writer, j, stack[j]);
		writer_puts(writer, "]");
	}
	return 0;
}

static void put_weights(const struct speedscope *speedscope, const struct speedscope_thread *thread)
{
	for (uint32_t i = 0; i < thread->count && !speedscope->writer->error; i++) {
		uint32_t sample = speedscope->samples[thread->first + i];
		put_number(speedscope->writer, i, (uint64_t)weight_of(speedscope, sample)); // > 0
	}
}

// The units that speedscope knows; all others are counts to it.
static const char *unit_of(const struct speedscope *speedscope)
{
	static const char *const units[] = {"nanoseconds", "microseconds", "milliseconds", "seconds", "bytes"};
	const char *unit = speedscope->profile->sample_types[speedscope->value_index].unit;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(unit, units[i]) == 0)
			return units[i];
	}
	return "none";
}

static int put_thread(struct speedscope *speedscope, const struct speedscope_thread *thread)
{
	struct writer *writer = speedscope->writer;
	bool all = speedscope->nthreads <= 1 && thread_label_is_empty(&thread->label);
	char title[SPEEDSCOPE_TITLE_MAX];
	put_member(writer, "{\"type\":\"sampled\",\"name\":",
		   all ? "all" : thread_label_title(&thread->label, title, sizeof(title)));
	writer_printf(writer, ",\"unit\":\"%s\",\"startValue\":0,\"endValue\":%" PRId64 ",\"samples\":[",
		      unit_of(speedscope), thread->weight);
	int error = put_stacks(speedscope, thread);
	writer_puts(writer, "],\n\"weights\":[");
	put_weights(speedscope, thread);
	writer_puts(writer, "]}");
	return error;
}

static int put_file(struct speedscope *speedscope, const char *title)
{
	static const struct speedscope_thread nothing;
	struct writer *writer = speedscope->writer;
	writer_puts(writer, "{\"$schema\":\"https://www.speedscope.app/file-format-schema.json\",\n"
			    "\"exporter\":\"profd@" PROFD_VERSION "\",\n");
	put_member(writer, "\"name\":", title);
	writer_puts(writer, ",\n\"activeProfileIndex\":0,\n");
	put_frames(&speedscope->frames, writer);
	writer_puts(writer, "\"profiles\":[\n");
	int error = speedscope->nthreads ? 0 : put_thread(speedscope, &nothing);
	for (uint32_t i = 0; i < speedscope->nthreads && !error && !writer->error; i++) {
		writer_puts(writer, i ? ",\n" : "");
		error = put_thread(speedscope, &speedscope->threads[i]);
	}
	writer_puts(writer, "]}\n");
	return error ? error : writer_flush(writer);
}

static int speedscope_write(const struct profile *profile, const struct format_options *options, struct writer *writer)
{
	struct speedscope speedscope = {
		.profile = profile, .writer = writer, .value_index = options ? options->value_index : 0};
	if (speedscope.value_index >= profile->nsample_types)
		return -EINVAL;
	int error = frames_init(&speedscope.frames, profile);
	if (!error)
		error = sort_samples(&speedscope);
	if (!error)
		error = find_threads(&speedscope);
	if (!error)
		error = put_file(&speedscope, options && options->title ? options->title : "profd");
	frames_finish(&speedscope.frames);
	free(speedscope.labels);
	free(speedscope.samples);
	free(speedscope.threads);
	return error;
}

const struct format format_speedscope = {
	.name = "speedscope",
	.extension = ".speedscope.json",
	.content_type = "application/json",
	.write = speedscope_write,
};
