// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// known_stacks.h: stacks that were walked lately, to be known again without a walk. A walk takes 100 to 500 ns, and many microseconds where code made
// at run time is in it; a call that wakes a thread, or reads a socket, takes less than that. The same stacks come again and again.
//
// A stack is known by its first frame's PC and SP (and FP, where it matters) and by the words that the frames above follow from (unwind.h): as long as
// these hold what they held, and the same unwind tables are in force, it is the same stack. Whose, and what its number means, says a tag.
//
// Any thread of the target, in its signal handlers, too. Lock-free, bounded, no allocation, no libc. A loser of a race remembers nothing.

#ifndef PROFD_KNOWN_STACKS_H
#define PROFD_KNOWN_STACKS_H

#include <stdint.h>

#include "profd/caller.h"
#include "profd/unwind.h"

// Below: a context that wakes others on behalf of the context of that number (wakers.c).
#define PROFD_KNOWN_STORED (1ull << 32) // a stack of the profile store, by its place + 1 (caller_bucket.c)

// What was kept for the caller's stack and the tag; 0: it is not known.
uint32_t profd_known_stack(struct profd_caller caller, uint64_t tag);
// what: not 0. words: of the walk that found out. Does nothing if not all is known that the stack follows from.
void profd_known_stack_keep(struct profd_caller caller, uint64_t tag, const struct profd_walk_words *words,
			    uint32_t what);
// A fork's child, alone: its numbers are other ones.
void profd_known_stacks_forget(void);

#endif
