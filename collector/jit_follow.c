// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// jit_follow.c: see jit_follow.h.

#include "collector/jit_follow.h"

#include "collector/clock.h"
#include "collector/jit_names.h"

#define LEAST_NS 200000000LL // between two readings
#define PART 20              // of the time that may be spent with reading: one in so many

static void read_names(struct jit_follow *follow, const struct jit_process *process)
{
	int64_t began_ns = clock_now_ns(), took_ns;
	struct jit_names *names = jit_names_load(process->pid, process->uid, process->jitdump_fd);

	// A map that is just being written anew may be empty.
	if (names) {
		jit_names_destroy(follow->names);
		follow->names = names;
	}
	took_ns = clock_now_ns() - began_ns;
	follow->next_ns = began_ns + took_ns + (took_ns * PART > LEAST_NS ? took_ns * PART : LEAST_NS);
}

// More of what does not fit is no use.
bool jit_follow_is_full(const struct jit_follow *follow)
{
	return follow->names && jit_names_full(follow->names);
}

const struct jit_names *jit_follow_names(struct jit_follow *follow, const struct jit_process *process, uint64_t address)
{
	struct jit_found found;

	if (follow->names && jit_names_find(follow->names, address, &found))
		return follow->names;
	if (clock_now_ns() >= follow->next_ns && !jit_follow_is_full(follow))
		read_names(follow, process);
	return follow->names;
}

const struct jit_names *jit_follow_all(struct jit_follow *follow, const struct jit_process *process)
{
	if (!jit_follow_is_full(follow))
		read_names(follow, process);
	return follow->names;
}

void jit_follow_finish(struct jit_follow *follow)
{
	jit_names_destroy(follow->names);
	*follow = (struct jit_follow){0};
}
