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

// Whose a stack is: of a context, by its number, that wakes others on behalf of it (wakers.c); or
#define PROFD_KNOWN_STORED (1ull << 32) // of the profile store: what is kept is its place + 1 (caller_bucket.c)

// The tag of that, from now until all is forgotten. Take it before you find out what you keep under it: a handler that forks may come in between, and
// what was found out before is its parent's.
uint64_t profd_known_tag(uint64_t whose);
// What was kept for the caller's stack and the tag; 0: it is not known.
uint32_t profd_known_stack(struct profd_caller caller, uint64_t tag);
// what: not 0. words: of the walk that found out. Does nothing if not all is known that the stack follows from.
void profd_known_stack_keep(struct profd_caller caller, uint64_t tag, const struct profd_walk_words *words,
			    uint32_t what);
// A fork's child, alone: its numbers are other ones.
void profd_known_stacks_forget(void);

#endif
