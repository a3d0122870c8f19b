// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// caller_bucket.h: where in the store (store.h) a caller's stack counts. Any thread of the target, between profd_caller_begin and _end.

#ifndef PROFD_CALLER_BUCKET_H
#define PROFD_CALLER_BUCKET_H

#include "profd/caller.h"
#include "profd/store.h"

// As profd_store_bucket, of the stack that the caller has. It is walked, unless it is known (known_stacks.h).
struct wire_bucket *profd_caller_bucket(enum wire_bucket_kind kind, struct profd_caller caller, uint64_t work,
					uint64_t key, uint64_t rate);

#endif
