// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// store_profile.h: what heap, mutex and block profiles share: the buckets of one kind in the stores of one or more targets at one moment, and a
// profile made of them, or of what came between two such readings. Any thread, without the collector's lock; naming may take long.

#ifndef PROFD_COLLECTOR_STORE_PROFILE_H
#define PROFD_COLLECTOR_STORE_PROFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "collector/profile_builder.h"
#include "collector/store.h"
#include "collector/store_source.h"
#include "collector/store_traces.h"
#include "formats/causal.h"
#include "formats/profile.h"
#include "formats/profile_view.h"

struct collector;
struct jit_names;

struct store_part {
	const struct store_source *source;
	struct store_bucket *buckets; // by number
	size_t count;
	struct store_traced *traced; // of these buckets' samples, by bucket and trace
	size_t ntraced;
	uint64_t traced_next; // the buckets count nothing of this sequence number and later ones
	struct store_live live;
};

struct store_reading {
	struct store_sources sources;
	struct store_part *parts; // of sources
	int64_t time_ns, now_ns;  // CLOCK_REALTIME, CLOCK_MONOTONIC
	struct profile_view view; // how its samples are shown: set by whoever took it
};

// Reads what the part's source has of that kind. Its lists are there to be freed even if it fails: −ENOMEM.
int store_part_read(struct store_part *part, enum wire_bucket_kind kind);
// Of target pid, or of all (0), those that have ended included if the collector keeps them. 0, −ESRCH, −ENOMEM.
int store_reading_take(struct collector *collector, pid_t pid, enum wire_bucket_kind kind,
		       struct store_reading **ret_reading);
void store_reading_destroy(struct store_reading *reading); // accepts NULL
// When the part's process ended; where it lives, when it was read.
int64_t store_reading_end_of(const struct store_reading *reading, const struct store_part *part);
// Seconds from the first store's making to the reading, or to the end of the last process.
double store_reading_seconds(const struct store_reading *reading);
// NULL: there is none of that number.
const struct store_bucket *store_part_bucket(const struct store_part *part, uint32_t number);
// The part of a reading (NULL: none) that is of the same store. NULL: there is none.
const struct store_part *store_reading_part(const struct store_reading *reading, const struct store_part *part);

// A stack as it is shown, with what is above it: the last one, for what has the same often comes one after the other.
struct store_stack {
	const struct store_part *part; // NULL: there is none yet
	uint32_t bucket, n;
	uint8_t stop;
	uint32_t ids[WIRE_STORE_FRAMES + CAUSAL_MAX_ADDED + 2]; // and room for one more above, and `leaf` below
};

// While a profile is made: begin, prepare_names, add…, end.
struct store_profile {
	const struct store_reading *reading;
	struct profile *profile;
	struct profile_builder frames;
	struct jit_names **jit_names; // of each part
	bool *jit_loaded;
	struct store_stack stack;
	uint64_t nstacks, ntruncated; // by `weight`, those whose stack is whole or not
	const char *leaf; // what the bucket's stack that is added now called (PSEUDO_MAPPED); NULL: it is not told
};
// false: no memory; end it all the same.
bool store_profile_begin(struct store_profile *making, const struct store_reading *reading);
// All names that will be wanted, at once.
void store_profile_prepare_names(const struct store_reading *reading);
// The first mapping of the profile is the program's own.
void store_profile_add_main_mappings(struct store_profile *making);

// What a bucket counted for one trace, or for none.
struct store_sample {
	const struct store_bucket *bucket;
	const struct wire_trace *trace; // NULL: none
	const int64_t *values;
	uint64_t weight; // how much was sampled
};
// Adds it with these labels (nlabels: at most STORE_PROFILE_LABELS; those of the program, and which process where there are several, are added). 0,
// −ENOMEM.
#define STORE_PROFILE_LABELS 7
int store_profile_add(struct store_profile *making, const struct store_part *part, const struct store_sample *sample,
		      const struct profile_label *labels, uint32_t nlabels);

// What a bucket's counts come to; what it and one of its samples have of each value, as counted; and how a sample is added. `add` is called where the
// values since `before` are not all nothing.
struct store_profile_kind {
	void (*values)(const struct store_part *part, const struct store_bucket *bucket, int64_t *ret_values);
	void (*counts)(const struct store_part *part, const struct store_bucket *bucket, uint64_t *ret_counts);
	void (*traced_counts)(const struct store_part *part, const struct store_traced *traced, uint64_t *ret_counts);
	int (*add)(struct store_profile *making, const struct store_part *part, const struct store_sample *sample);
};
// The traces of one part that count.
struct store_choice {
	uint64_t since;   // from this sequence number on
	const bool *only; // of numbers for which this is true; NULL: all
};
// A bucket's values: samples of each trace, and one of all the rest. 0, −ENOMEM.
int store_profile_add_bucket(struct store_profile *making, const struct store_part *part,
			     const struct store_bucket *bucket, const struct store_profile_kind *kind,
			     const struct store_choice *choice, struct store_share shares[PROFILE_MAX_VALUES]);
// All buckets of the reading, less what they had in `before` (NULL: nothing). 0, −ENOMEM.
int store_profile_add_all(struct store_profile *making, const struct store_reading *before,
			  const struct store_profile_kind *kind);
// r: what the adding returned. The caller destroys the profile. NULL: no memory.
struct profile *store_profile_end(struct store_profile *making, int r);

#endif
