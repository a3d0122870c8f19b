// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// wait_text.c: see wait_text.h.
//
//   --- mutex:                              --- contention:
//   cycles/second=1000000000                cycles/second=1000000000
//   sampling period=1
//   DELAY COUNT @ 0xPC 0xPC…
//   # labels: {"lock":"0x…", …}
//   #\t0xPC\tFUNCTION+0xOFFSET\tFILE:LINE
//
// A cycle is a nanosecond, and what was sampled is scaled already: hence the period of 1. The greatest delay comes first.

#include "formats/wait_text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "formats/text_frames.h"

enum { CONTENTIONS, DELAY, VALUES };

static int by_delay(const void *a, const void *b)
{
	const struct profile_sample *left = *(const struct profile_sample *const *)a;
	const struct profile_sample *right = *(const struct profile_sample *const *)b;

	if (left->values[DELAY] != right->values[DELAY])
		return left->values[DELAY] > right->values[DELAY] ? -1 : 1;
	return (left > right) - (left < right);
}

static void put_labels(struct writer *writer, const struct profile_sample *sample)
{
	if (sample->nlabels == 0)
		return;
	writer_puts(writer, "# labels: {");
	for (uint32_t i = 0; i < sample->nlabels; i++) {
		const struct profile_label *label = &sample->labels[i];

		writer_puts(writer, i > 0 ? ", \"" : "\"");
		writer_json(writer, label->key);
		writer_puts(writer, "\":\"");
		if (label->str)
			writer_json(writer, label->str);
		else
			writer_printf(writer, "%" PRId64, label->num);
		writer_puts(writer, "\"");
	}
	writer_puts(writer, "}\n");
}

static void put_sample(struct writer *writer, const struct profile *profile, const struct profile_sample *sample)
{
	writer_printf(writer, "%" PRId64 " %" PRId64 " @", sample->values[DELAY], sample->values[CONTENTIONS]);
	// A return address is shown as the last byte of its call; who reads this takes one off again.
	for (uint32_t i = 0; i < sample->nlocations; i++)
		writer_printf(writer, " 0x%" PRIx64, profile->locations[sample->location_ids[i] - 1].address + 1);
	writer_puts(writer, "\n");
	put_labels(writer, sample);
	for (uint32_t i = 0; i < sample->nlocations; i++)
		text_put_location(writer, profile, &profile->locations[sample->location_ids[i] - 1]);
	writer_puts(writer, "\n");
}

int wait_text_write(const struct profile *profile, bool is_mutex, struct writer *writer)
{
	const struct profile_sample **sorted;

	if (profile->nsample_types != VALUES)
		return -EINVAL;
	sorted = calloc((size_t)profile->nsamples + 1, sizeof(*sorted));
	if (!sorted)
		return -ENOMEM;
	for (uint32_t i = 0; i < profile->nsamples; i++)
		sorted[i] = &profile->samples[i];
	qsort(sorted, profile->nsamples, sizeof(*sorted), by_delay);
	writer_puts(writer, is_mutex ? "--- mutex:\ncycles/second=1000000000\nsampling period=1\n"
				     : "--- contention:\ncycles/second=1000000000\n");
	for (uint32_t i = 0; i < profile->nsamples && !writer->error; i++)
		put_sample(writer, profile, sorted[i]);
	text_put_comments(writer, profile);
	free(sorted);
	return writer_flush(writer);
}
