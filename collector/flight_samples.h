// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// flight_samples.h: the CPU samples that a target's flight recorder keeps, beside the events in the target's own file (wire_events.h): those of
// the last so many nanoseconds, in bounded memory, to be asked for again and again. Collector's lock held.
//
//   sample ─► young ──full of time, or of memory──► old ──► gone
//
// Each of the two is filled until its first sample is as old as what is to be kept, so that both together always have all of it; and until its
// memory is used up: then there is less, and flight_samples_copy says so.

#ifndef PROFD_COLLECTOR_FLIGHT_SAMPLES_H
#define PROFD_COLLECTOR_FLIGHT_SAMPLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "collector/aggregate.h"

#define FLIGHT_SAMPLES_STACK_BYTES ((size_t)12 << 20) // of young, and of old
#define FLIGHT_SAMPLES_MAX 131072u                    // of 24 bytes, likewise

struct flight_samples;

struct flight_samples *flight_samples_create(void);          // NULL: no memory
void flight_samples_destroy(struct flight_samples *samples); // accepts NULL
// Keeps one; frames: leaf first. Where the thread is a new one, returns where 16 bytes of its name are to be put; else NULL.
char *flight_samples_add(struct flight_samples *samples, uint64_t keep_ns, const struct wire_sample *sample,
			 const struct aggregate_frame *frames, size_t nframes);

struct flight_sample {
	uint64_t time_ns, cpu_ns;
	uint32_t tid;
	uint32_t stack; // a node of the aggregate that they are copied to
	const char *name;
};
typedef void flight_samples_sink(void *context, const struct flight_sample *sample);
// Hands out those that are at the most keep_ns older than the last one, their stacks put into `to`; adds those to *dropped for which that
// has no room. true: there were more, for which there was no memory here.
bool flight_samples_copy(const struct flight_samples *samples, uint64_t keep_ns, struct aggregate *to,
			 flight_samples_sink *sink, void *context, uint64_t *dropped);

#endif
