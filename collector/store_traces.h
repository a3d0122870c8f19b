// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// store_traces.h: which of a store's samples had which trace, and how a bucket's values are shared out among them. Any thread.
//
// Traces are no part of a bucket (wire_store.h): entries say which of its samples had one. A share is to a bucket's value as what was sampled for it
// is to what was sampled in all; what is left is that of the samples without a trace. So the sum of them is the bucket's value, to the last digit,
// whatever a target says.

#ifndef PROFD_COLLECTOR_STORE_TRACES_H
#define PROFD_COLLECTOR_STORE_TRACES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct profile;
struct store_part;
struct store_reading;
struct store_traced;

// Into the part's traced: `begin` before its buckets are read, `end` after, which keeps those of its buckets, by bucket and trace. 0, −ENOMEM.
int store_traces_begin(struct store_part *part);
void store_traces_end(struct store_part *part);

// Those of a bucket: *ret_first, and how many.
size_t store_traces_find(const struct store_part *part, uint32_t bucket, const struct store_traced **ret_first);
// Are the two of one bucket and of one trace?
bool store_traced_are_alike(const struct store_traced *a, const struct store_traced *b);

// One value of a bucket.
struct store_share {
	int64_t value;        // to be shared out: all of it, or what came since an earlier reading
	int64_t value_now;    // all of it, ≥ 0
	int64_t sampled;      // what `value` was made of, as it was counted
	uint64_t sampled_now; // likewise
	uint64_t traced;      // what all entries that count have
	uint64_t taken;       // by shares so far, as counted; what they were given
	int64_t given;
};
// The share of entries that have `count` of what was sampled. They must not have more than `traced`, all together.
int64_t store_share_take(struct store_share *share, uint64_t count);
// What is left, after all.
int64_t store_share_rest(const struct store_share *share);

// a + b, or as much as there can be.
uint64_t store_traces_add(uint64_t a, uint64_t b);

// How many samples' traces are not there any more, if any that the profile would have shown. before: NULL, or since when.
void store_traces_comment(struct profile *profile, const struct store_reading *reading,
			  const struct store_reading *before);

#endif
