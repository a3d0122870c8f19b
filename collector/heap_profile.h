// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// heap_profile.h: heap profiles out of targets' stores (store.h): what was allocated, and what of it is in use. Any thread, without the
// collector's lock; naming may take long.
//
// A profile is made of a reading of heap buckets (store_profile.h), or of what came between two. Counts are scaled, bucket by bucket: an
// object of S bytes was sampled with probability 1 − e^(−S/R).

#ifndef PROFD_COLLECTOR_HEAP_PROFILE_H
#define PROFD_COLLECTOR_HEAP_PROFILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct store_reading;
struct profile;

// The values of a sample, in the order of Go's heap profiles.
enum heap_value { HEAP_ALLOC_OBJECTS, HEAP_ALLOC_SPACE, HEAP_INUSE_OBJECTS, HEAP_INUSE_SPACE, HEAP_VALUES };

struct heap_totals {
	int64_t values[HEAP_VALUES]; // scaled
	uint64_t sampled;            // objects, as counted
	uint64_t in_use;             // of them, not freed
	uint64_t lost;               // samples without room
	uint32_t processes;          // that have a store
	uint64_t rate;               // bytes; the finest; 0: off
	uint32_t unseen;             // WIRE_UNSEEN_…, of any
	bool mapped;                 // in some process, what the program maps is in it as well
	int error;                   // errno: why some process has no store although it was to have one; 0: none
};
void heap_reading_totals(const struct store_reading *reading, struct heap_totals *ret_totals);

struct heap_profile_options {
	const struct store_reading *before; // only what came since; NULL: all
	enum heap_value shown;              // default_sample_type
	const char *command;                // for a comment, or NULL
};
// The caller destroys it. NULL: no memory.
struct profile *heap_profile_make(const struct store_reading *reading, const struct heap_profile_options *options);

// What is in use and was allocated at least so long before each process's end (or before now, where it lives).
struct profile *heap_profile_make_leaks(const struct store_reading *reading, double older_than_s, const char *command);

#endif
