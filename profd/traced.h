// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// traced.h: the profile store's samples whose threads have a trace (wire_traced): the last WIRE_TRACED of them. As store.h: any thread of the
// target, lock-free, bounded, signals blocked.

#ifndef PROFD_TRACED_H
#define PROFD_TRACED_H

#include <stdint.h>

#include "profd/wire.h"

// Counts a sample of the calling thread in its bucket: counts are added to the bucket's first. If the thread has a trace, the sample gets an
// entry, whose number is returned; else 0. object: of a heap sample, which is in use from now on; NULL: none.
uint32_t profd_traced_count(struct wire_bucket *bucket, const uint64_t counts[WIRE_TRACED_COUNTS], const void *object);
// The object of that entry (number ≥ 1) is freed. The entry may be another sample's by now.
void profd_traced_freed(uint32_t number, const void *object);

#endif
