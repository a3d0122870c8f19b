// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// heap_comments.h: what a heap profile says of itself: its rate, what it lacks, and how it is switched on. Pure functions.

#ifndef PROFD_COLLECTOR_HEAP_COMMENTS_H
#define PROFD_COLLECTOR_HEAP_COMMENTS_H

#include <stdint.h>

struct heap_totals;
struct profile;

#define HEAP_DEFAULT_RATE 524288u // as Go's

extern const char heap_how_to_switch_on[];

void heap_comments_add(struct profile *profile, const struct heap_totals *totals, const char *command);
void heap_comments_add_truncated(struct profile *profile, uint64_t truncated, uint64_t all);
// What of the heap is not seen, in words, as far as that is known (WIRE_UNSEEN_…); NULL: all is seen.
const char *heap_comments_unseen(const struct heap_totals *totals);

#endif
