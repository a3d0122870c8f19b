// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cli_heap.c: see cli_heap.h.

#include "collector/cli_heap.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/cli.h"
#include "collector/heap_comments.h"
#include "collector/heap_profile.h"
#include "collector/store_profile.h"
#include "formats/flame_units.h"
#include "formats/profile.h"
#include "formats/saturate.h"

#define TAIL 0.1      // of the run: what is allocated so late need not be a leak
#define MAX_STACKS 20 // in the report
#define MAX_FRAMES 16

static const struct profile_value_type bytes_type = {"space", "bytes"}, objects_type = {"objects", "count"};

// "1.50 MiB in 1,234 objects"
static const char *amount(char *buf, size_t size, int64_t bytes, int64_t objects)
{
	char space[64], count[64];

	snprintf(buf, size, "%s in %s", flame_units_format(space, sizeof(space), bytes, &bytes_type),
		 flame_units_format(count, sizeof(count), objects, &objects_type));
	return buf;
}

void cli_say_not_kept(struct collector *collector, const char *name)
{
	struct collector_counters counters = {0};

	collector_counters(collector, &counters);
	if (counters.stores_not_kept > 0)
		cli_say("%s: %" PRIu64 " processes more are not in it: too many ended in one run", name,
			counters.stores_not_kept);
}

static void say_summary(struct collector *collector, const struct heap_totals *totals, const char *written)
{
	const char *unseen = heap_comments_unseen(totals);
	char allocated[160], in_use[160], lost[64] = "";

	if (totals->lost > 0)
		snprintf(lost, sizeof(lost), ", %" PRIu64 " dropped (no room in the store)", totals->lost);
	cli_say("heap: allocated %s; in use at the end %s; %" PRIu64 " samples, one for %" PRIu64
		" bytes, %u process%s%s%s%s",
		amount(allocated, sizeof(allocated), totals->values[HEAP_ALLOC_SPACE],
		       totals->values[HEAP_ALLOC_OBJECTS]),
		amount(in_use, sizeof(in_use), totals->values[HEAP_INUSE_SPACE], totals->values[HEAP_INUSE_OBJECTS]),
		totals->sampled, totals->rate, totals->processes, totals->processes == 1 ? "" : "es", lost,
		written[0] != '\0' ? "; wrote " : "; wrote nothing", written);
	cli_say_not_kept(collector, "heap");
	if (unseen != NULL)
		cli_say("heap: %s", unseen);
}

// ---- The report of leaks -------------------------------------------------------------------------------------------

// Of one stack, whatever the sizes and the processes.
struct leak {
	const struct profile_sample *sample; // one that has it
	int64_t bytes, objects;
};

static int by_stack(const void *a, const void *b)
{
	const struct profile_sample *left = ((const struct leak *)a)->sample;
	const struct profile_sample *right = ((const struct leak *)b)->sample;

	if (left->nlocations != right->nlocations)
		return left->nlocations < right->nlocations ? -1 : 1;
	return memcmp(left->location_ids, right->location_ids, left->nlocations * sizeof(*left->location_ids));
}

static int by_space(const void *a, const void *b)
{
	const struct leak *left = a, *right = b;

	if (left->bytes != right->bytes)
		return left->bytes > right->bytes ? -1 : 1;
	return by_stack(a, b);
}

// The profile's samples, those of one stack in one, the most bytes first. Returns how many there are.
static uint32_t sum_leaks(const struct profile *profile, struct leak *leaks)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < profile->nsamples; i++)
		leaks[i] = (struct leak){&profile->samples[i], profile->samples[i].values[HEAP_INUSE_SPACE],
					 profile->samples[i].values[HEAP_INUSE_OBJECTS]};
	qsort(leaks, profile->nsamples, sizeof(*leaks), by_stack);
	for (uint32_t i = 0; i < profile->nsamples; i++) {
		if (n > 0 && by_stack(&leaks[n - 1], &leaks[i]) == 0) {
			leaks[n - 1].bytes = saturate_add(leaks[n - 1].bytes, leaks[i].bytes);
			leaks[n - 1].objects = saturate_add(leaks[n - 1].objects, leaks[i].objects);
		} else {
			leaks[n++] = leaks[i];
		}
	}
	qsort(leaks, n, sizeof(*leaks), by_space);
	return n;
}

static void say_location(const struct profile *profile, const struct profile_location *location)
{
	char name[512];

	for (uint32_t i = 0; i < (location->nlines ? location->nlines : 1); i++) {
		uint32_t id = i < location->nlines ? location->lines[i].function_id : 0;
		const char *file = id ? profile->functions[id - 1].file : "";

		profile_frame_name(profile, location, i, name, sizeof(name));
		if (file[0] != '\0')
			cli_say("leaks:     %s  %s:%" PRId64, name, file, location->lines[i].line);
		else
			cli_say("leaks:     %s", name);
	}
}

static void say_leak(const struct profile *profile, const struct leak *leak, int64_t all)
{
	const struct profile_sample *sample = leak->sample;
	char text[160], percent[16];

	cli_say("leaks:   %s, %s, from", amount(text, sizeof(text), leak->bytes, leak->objects),
		flame_units_percent(percent, sizeof(percent), leak->bytes, all));
	for (uint32_t i = 0; i < sample->nlocations && i < MAX_FRAMES; i++)
		say_location(profile, &profile->locations[sample->location_ids[i] - 1]);
	if (sample->nlocations > MAX_FRAMES)
		cli_say("leaks:     … %u frames more", sample->nlocations - MAX_FRAMES);
}

static void say_leaks(const struct profile *profile, double window_s, double run_s)
{
	struct leak *leaks = calloc((size_t)profile->nsamples + 1, sizeof(*leaks));
	int64_t bytes = 0, objects = 0;
	char text[160];
	uint32_t n;

	if (leaks == NULL) {
		cli_say("leaks: out of memory");
		return;
	}
	n = sum_leaks(profile, leaks);
	for (uint32_t i = 0; i < n; i++) {
		bytes = saturate_add(bytes, leaks[i].bytes);
		objects = saturate_add(objects, leaks[i].objects);
	}
	cli_say("leaks: %s were in use at the end and allocated more than %.1f s before it; what is younger is left "
		"out (the "
		"run took %.1f s; --leaks=SECONDS)",
		amount(text, sizeof(text), bytes, objects), window_s, run_s);
	for (uint32_t i = 0; i < n && i < MAX_STACKS; i++)
		say_leak(profile, &leaks[i], bytes);
	if (n > MAX_STACKS)
		cli_say("leaks:   … %u stacks more", n - MAX_STACKS);
	free(leaks);
}

// ---- The end -------------------------------------------------------------------------------------------------------

static struct profile *make_profile(const struct store_reading *reading, const struct cli_heap_options *options,
				    double window_s)
{
	const struct heap_profile_options plain = {.shown = HEAP_INUSE_SPACE, .command = options->command};

	return options->leaks ? heap_profile_make_leaks(reading, window_s, options->command)
			      : heap_profile_make(reading, &plain);
}

bool cli_heap_end(struct collector *collector, struct cli_outputs *outputs, const struct cli_heap_options *options)
{
	struct store_reading *reading = NULL;
	struct heap_totals totals;
	struct profile *profile;
	char written[2048] = "";
	double run_s, window_s;
	bool all = true;

	if (store_reading_take(collector, 0, WIRE_BUCKET_HEAP, &reading) < 0) {
		cli_say("heap: out of memory");
		return false;
	}
	reading->view = options->view;
	heap_reading_totals(reading, &totals);
	run_s = store_reading_seconds(reading);
	window_s = options->window_s < 0 ? run_s * TAIL : options->window_s;
	profile = totals.processes > 0 ? make_profile(reading, options, window_s) : NULL;
	if (profile != NULL && outputs->count > 0)
		all = cli_outputs_write(outputs, profile, options->command, written, sizeof(written));
	if (totals.processes == 0)
		cli_say("heap: no process with the agent in it was seen; wrote nothing");
	else if (!options->quiet)
		say_summary(collector, &totals, written);
	if (profile != NULL && options->leaks)
		say_leaks(profile, window_s, run_s);
	all = all && (profile != NULL || totals.processes == 0);
	profile_destroy(profile);
	store_reading_destroy(reading);
	return all;
}
