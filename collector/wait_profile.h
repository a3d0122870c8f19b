// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// wait_profile.h: mutex and block profiles out of targets' stores: how often and how long threads waited, by the stacks that kept them waiting
// (mutex), or that waited (block). Any thread, without the collector's lock; naming may take long.

#ifndef PROFD_COLLECTOR_WAIT_PROFILE_H
#define PROFD_COLLECTOR_WAIT_PROFILE_H

#include <stdint.h>

#include "profd/wire.h"

struct profile;
struct store_reading;

// The values of a sample, in the order of Go's.
enum wait_value { WAIT_CONTENTIONS, WAIT_DELAY, WAIT_VALUES };

#define WAIT_DEFAULT_MUTEX 1u     // of a run: every contention
#define WAIT_DEFAULT_BLOCK 10000u // ns

struct wait_totals {
	int64_t values[WAIT_VALUES];
	uint64_t lost;      // samples without room
	uint32_t processes; // that have a store
	uint64_t rate;      // the finest; 0: off
};
void wait_reading_totals(const struct store_reading *reading, enum wire_bucket_kind kind,
			 struct wait_totals *ret_totals);

// kind: that of the reading, WIRE_BUCKET_MUTEX or WIRE_BUCKET_BLOCK. before: only what came since; NULL: all. command: for a comment, or NULL.
// The caller destroys it. NULL: no memory.
struct profile *wait_profile_make(const struct store_reading *reading, const struct store_reading *before,
				  enum wire_bucket_kind kind, const char *command);

#endif
