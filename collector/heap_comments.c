// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// heap_comments.c: see heap_comments.h.

#include "collector/heap_comments.h"

#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#include "collector/heap_profile.h"
#include "formats/profile.h"
#include "profd/wire.h"

const char heap_how_to_switch_on[] =
	"switch it on with PROFD_HEAP_RATE=524288 in the program's environment, `profd run --heap`, or "
	"POST /debug/pprof/config?heap_rate=524288";

const char *heap_comments_unseen(const struct heap_totals *totals)
{
	if (totals->unseen & WIRE_UNSEEN_ALL && totals->sampled > 0) // a wrapper; or another process's
		return "a malloc of the program's own, linked into it or preloaded before libprofd.so, comes first: of "
		       "what goes through it, only what it asks of the next one is seen";
	if (totals->unseen & WIRE_UNSEEN_ALL)
		return "allocations are not seen: the program has a malloc of its own, linked into it or preloaded "
		       "before "
		       "libprofd.so";
	if (totals->unseen & WIRE_UNSEEN_EXECUTABLE)
		return "the executable itself imports no malloc: if it has an allocator linked into it, what it "
		       "allocates "
		       "is not seen; its libraries' allocations are";
	if (totals->unseen & WIRE_UNSEEN_MAPPINGS)
		return "what the program maps itself is not seen: there was no memory to note it in";
	return NULL;
}

void heap_comments_add(struct profile *profile, const struct heap_totals *totals, const char *command)
{
	const char *unseen = heap_comments_unseen(totals);

	profile_add_comment(profile, "profd %s", PROFD_VERSION);
	if (command)
		profile_add_comment(profile, "command: %s", command);
	if (totals->rate)
		profile_add_comment(profile, "heap: a sample for %" PRIu64 " bytes allocated, on average%s",
				    totals->rate,
				    totals->mapped ? "; and all that the program maps itself (label mapped)" : "");
	else
		profile_add_comment(profile, "heap profiling is off; %s", heap_how_to_switch_on);
	if (totals->processes)
		profile_add_comment(profile,
				    "samples: %" PRIu64 " objects, %" PRIu64
				    " of them in use; %u process%s; dropped: %" PRIu64 " (no room in the store)",
				    totals->sampled, totals->in_use, totals->processes,
				    totals->processes == 1 ? "" : "es", totals->lost);
	if (totals->error)
		profile_add_comment(profile, "a process could not make the shared memory for its heap profile: %s",
				    strerrordesc_np(totals->error) ? strerrordesc_np(totals->error) : "");
	if (unseen)
		profile_add_comment(profile, "%s", unseen);
}

void heap_comments_add_truncated(struct profile *profile, uint64_t truncated, uint64_t all)
{
	if (all)
		profile_add_comment(profile, "truncated stacks: %.2f%%", 100.0 * (double)truncated / (double)all);
}
