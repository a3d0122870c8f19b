// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// caller_bucket.c: see caller_bucket.h.

#include "profd/caller_bucket.h"

#include "profd/known_stacks.h"

struct wire_bucket *profd_caller_bucket(enum wire_bucket_kind kind, struct profd_caller caller, uint64_t work,
					uint64_t key, uint64_t rate)
{
	uint64_t pcs[WIRE_STORE_FRAMES], tag = profd_known_tag(PROFD_KNOWN_STORED);
	struct profd_store_stack stack = {.pcs = pcs, .work = work, .known = profd_known_stack(caller, tag)};
	struct profd_walk_words words;
	struct wire_bucket *bucket;

	if (stack.known)
		return profd_store_bucket(kind, &stack, key, rate);
	stack.npcs = profd_caller_walk_words(caller, &words, pcs, WIRE_STORE_FRAMES, &stack.stop);
	bucket = profd_store_bucket(kind, &stack, key, rate);
	if (bucket)
		profd_known_stack_keep(caller, tag, &words, bucket->stack + 1);
	return bucket;
}
