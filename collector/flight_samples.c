// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// flight_samples.c: see flight_samples.h.

#include "collector/flight_samples.h"

#include <stdlib.h>
#include <string.h>

#include "formats/grow.h"

struct kept {
	uint64_t time_ns, cpu_ns;
	uint32_t thread, stack; // of the generation's aggregate
};

struct generation {
	struct aggregate aggregate; // of stacks and threads
	struct kept *samples;
	uint32_t count, capacity;
	uint64_t last_ns; // the youngest one's time
};

struct flight_samples {
	struct generation generations[2];
	uint32_t young;   // its index; the other one is old
	uint64_t lost_ns; // until then there were samples that went for want of memory; 0: none did
};

static void begin(struct generation *generation)
{
	memset(generation, 0, sizeof(*generation));
	aggregate_init(&generation->aggregate, FLIGHT_SAMPLES_STACK_BYTES);
}

static void finish(struct generation *generation)
{
	aggregate_finish(&generation->aggregate);
	free(generation->samples);
}

struct flight_samples *flight_samples_create(void)
{
	struct flight_samples *samples = calloc(1, sizeof(*samples));

	for (int i = 0; samples && i < 2; i++)
		begin(&samples->generations[i]);
	return samples;
}

void flight_samples_destroy(struct flight_samples *samples)
{
	for (int i = 0; samples && i < 2; i++)
		finish(&samples->generations[i]);
	free(samples);
}

// ---- In -------------------------------------------------------------------------------------------------------------

// Samples come in order but for those of other shards: some are older than the first one.
static bool is_older(uint64_t time_ns, uint64_t than_ns, uint64_t by_ns)
{
	return (int64_t)(than_ns - time_ns) > (int64_t)by_ns;
}

static void grow_old(struct flight_samples *samples, uint64_t now_ns, uint64_t keep_ns)
{
	struct generation *old = &samples->generations[!samples->young];

	if (old->count > 0 && !is_older(old->last_ns, now_ns, keep_ns))
		samples->lost_ns = old->last_ns;
	finish(old);
	begin(old);
	samples->young = !samples->young;
}

// false: there is no room.
static bool add(struct generation *young, const struct wire_sample *sample, const struct aggregate_frame *frames,
		size_t nframes, char **ret_name)
{
	struct kept kept = {.time_ns = sample->time_ns, .cpu_ns = sample->cpu_ns};
	struct kept *list = young->count < FLIGHT_SAMPLES_MAX
				    ? grow_array(young->samples, &young->capacity, young->count + 1, sizeof(*list))
				    : NULL;
	struct aggregate_thread *thread;
	bool new;

	if (!list)
		return false;
	young->samples = list;
	kept.stack = aggregate_stack(&young->aggregate, frames, nframes);
	if (!kept.stack || aggregate_thread(&young->aggregate, 0, sample->tid, &kept.thread, &new) < 0)
		return false;
	thread = intern_item(&young->aggregate.threads, kept.thread);
	*ret_name = new ? thread->name : NULL;
	list[young->count++] = kept;
	if (sample->time_ns > young->last_ns)
		young->last_ns = sample->time_ns;
	return true;
}

char *flight_samples_add(struct flight_samples *samples, uint64_t keep_ns, const struct wire_sample *sample,
			 const struct aggregate_frame *frames, size_t nframes)
{
	struct generation *young = &samples->generations[samples->young];
	char *name = NULL;

	if (young->count > 0 && is_older(young->samples[0].time_ns, sample->time_ns, keep_ns))
		grow_old(samples, sample->time_ns, keep_ns);
	if (add(&samples->generations[samples->young], sample, frames, nframes, &name))
		return name;
	grow_old(samples, sample->time_ns, keep_ns);
	if (!add(&samples->generations[samples->young], sample, frames, nframes, &name))
		samples->lost_ns = sample->time_ns;
	return name;
}

// ---- Out ------------------------------------------------------------------------------------------------------------

// One generation's samples on their way to another aggregate.
struct copying {
	const struct aggregate *from;
	struct aggregate *to;
	uint32_t *stacks; // of from's: to's; 0: not copied yet
	struct aggregate_frame frames[WIRE_MAX_FRAMES];
};

static uint32_t copy_stack(struct copying *copying, uint32_t stack)
{
	size_t n = 0;

	if (copying->stacks[stack])
		return copying->stacks[stack];
	for (uint32_t at = stack; at != AGGREGATE_ROOT && n < WIRE_MAX_FRAMES;) {
		const struct aggregate_node *node = aggregate_node(copying->from, at);

		copying->frames[n++] =
			(struct aggregate_frame){aggregate_mapping(copying->from, node->mapping), node->pc};
		at = node->parent;
	}
	copying->stacks[stack] = aggregate_stack(copying->to, copying->frames, n);
	return copying->stacks[stack];
}

// The number of those that found no room.
static uint64_t copy(const struct generation *generation, uint64_t last_ns, uint64_t keep_ns, struct aggregate *to,
		     flight_samples_sink *sink, void *context)
{
	struct copying *copying = calloc(1, sizeof(*copying));
	uint64_t dropped = 0;

	if (copying) {
		copying->from = &generation->aggregate;
		copying->to = to;
		copying->stacks = calloc((size_t)generation->aggregate.nodes.count + 1, sizeof(*copying->stacks));
	}
	for (uint32_t i = 0; i < generation->count; i++) {
		const struct kept *kept = &generation->samples[i];
		const struct aggregate_thread *thread = intern_item(&generation->aggregate.threads, kept->thread);
		struct flight_sample sample = {
			.time_ns = kept->time_ns, .cpu_ns = kept->cpu_ns, .tid = thread->tid, .name = thread->name};

		if (is_older(kept->time_ns, last_ns, keep_ns))
			continue;
		if (copying && copying->stacks)
			sample.stack = copy_stack(copying, kept->stack);
		if (sample.stack)
			sink(context, &sample);
		else
			dropped++;
	}
	if (copying)
		free(copying->stacks);
	free(copying);
	return dropped;
}

bool flight_samples_copy(const struct flight_samples *samples, uint64_t keep_ns, struct aggregate *to,
			 flight_samples_sink *sink, void *context, uint64_t *dropped)
{
	const struct generation *young = &samples->generations[samples->young];
	const struct generation *old = &samples->generations[!samples->young];
	uint64_t last_ns = young->last_ns > old->last_ns ? young->last_ns : old->last_ns;

	*dropped += copy(old, last_ns, keep_ns, to, sink, context);
	*dropped += copy(young, last_ns, keep_ns, to, sink, context);
	return samples->lost_ns && !is_older(samples->lost_ns, last_ns, keep_ns);
}
