// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// stillness.c: see stillness.h.

#include "collector/stillness.h"

#include <string.h>
#include <time.h>

#define ATTEMPTS 4

// The kernel's clockid for a process's CPU time: kernel/time/posix-cpu-timers.c, CPUCLOCK_SCHED.
static clockid_t process_cpu_clock(pid_t pid)
{
	return (clockid_t)((~(unsigned)pid << 3) | 2);
}

bool stillness_add_mover(struct stillness *stillness, uint32_t tid)
{
	size_t at = stillness->nmovers;

	if (stillness_has_mover(stillness, tid))
		return true;
	if (stillness->nmovers == STILLNESS_MOVERS)
		return false;
	for (; at > 0 && stillness->movers[at - 1] > tid; at--)
		stillness->movers[at] = stillness->movers[at - 1];
	stillness->movers[at] = tid;
	stillness->nmovers++;
	stillness->known = false;
	return true;
}

bool stillness_has_mover(const struct stillness *stillness, uint32_t tid)
{
	size_t low = 0, high = stillness->nmovers;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (stillness->movers[middle] < tid)
			low = middle + 1;
		else
			high = middle;
	}
	return low < stillness->nmovers && stillness->movers[low] == tid;
}

static bool movers_time(const struct stillness *stillness, const struct task_reader *reader, uint64_t *ret_ns)
{
	struct task_times times;

	*ret_ns = 0;
	for (size_t i = 0; i < stillness->nmovers; i++) {
		if (task_reader_times(reader, stillness->movers[i], NULL, &times) < 0)
			return false;
		*ret_ns += times.run_ns;
	}
	return true;
}

void stillness_read(struct stillness *stillness, pid_t pid, const struct task_reader *reader)
{
	uint64_t before_ns, after_ns;
	struct timespec all;

	stillness->known = false;
	if (!movers_time(stillness, reader, &before_ns))
		return;
	// The two belong together when none of the movers ran while they were read.
	for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
		if (clock_gettime(process_cpu_clock(pid), &all) < 0 || !movers_time(stillness, reader, &after_ns))
			return;
		if (before_ns == after_ns) {
			stillness->rest_ns = (uint64_t)all.tv_sec * 1000000000u + (uint64_t)all.tv_nsec - before_ns;
			stillness->known = true;
			return;
		}
		before_ns = after_ns;
	}
}

bool stillness_is_same(const struct stillness *before, const struct stillness *after)
{
	return before->known && after->known && before->rest_ns == after->rest_ns &&
	       before->nmovers == after->nmovers &&
	       memcmp(before->movers, after->movers, before->nmovers * sizeof(before->movers[0])) == 0;
}
