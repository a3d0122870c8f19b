// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// wall.c: see wall.h.

#include "collector/wall.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "collector/clock.h"
#include "collector/collector.h"
#include "formats/profile.h"
#include "formats/thread_dump.h"

#define NS_PER_S 1000000000LL
#define MAX_PROCESSES 65536u

struct wall {
	struct collector *collector;
	pid_t pid;
	uint32_t rate_hz;
	struct profile_view view;
	int64_t start_ns, next_ns, end_ns; // CLOCK_MONOTONIC; 0: not yet
	struct thread_dump *sum;
	uint64_t thread_looks;
	struct wall_stats stats;
	pid_t *pids; // of all processes seen
};

struct wall *wall_create(struct collector *collector, pid_t pid, uint32_t rate_hz, const struct profile_view *view)
{
	struct wall *wall = calloc(1, sizeof(*wall));

	if (!wall)
		return NULL;
	wall->collector = collector;
	wall->pid = pid;
	wall->rate_hz = rate_hz;
	wall->view = *view;
	return wall;
}

void wall_destroy(struct wall *wall)
{
	if (!wall)
		return;
	thread_dump_destroy(wall->sum);
	free(wall->pids);
	free(wall);
}

static int remember(struct wall *wall, pid_t pid)
{
	uint32_t n = wall->stats.nprocesses;
	pid_t *more;

	for (uint32_t i = 0; i < n; i++)
		if (wall->pids[i] == pid)
			return 0;
	if (n == MAX_PROCESSES)
		return 0;
	more = realloc(wall->pids, (n + 1) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	wall->pids = more;
	wall->pids[n] = pid;
	wall->stats.nprocesses++;
	return 0;
}

// Takes the dump over.
static int add(struct wall *wall, struct thread_dump *dump)
{
	int r;

	if (!wall->sum) {
		wall->sum = dump;
		return 0;
	}
	r = thread_dump_accumulate(wall->sum, dump);
	thread_dump_destroy(dump);
	return r;
}

static int look_at(struct wall *wall, pid_t pid, uint64_t *threads)
{
	struct thread_dump *dump = NULL;
	int r = collector_sample_threads(wall->collector, pid, &dump);

	if (r == 0)
		r = thread_dump_apply_view(dump, &wall->view);
	if (r == 0)
		r = remember(wall, pid);
	if (r < 0) {
		thread_dump_destroy(dump);
		return r;
	}
	for (uint32_t i = 0; i < dump->nthreads; i++)
		*threads += !dump->threads[i].hidden;
	return add(wall, dump);
}

// Of all targets: who ends meanwhile is none any more (its memory goes first), and who cannot be read is counted.
static int look_at_all(struct wall *wall, uint64_t *threads)
{
	struct collector_target *targets = NULL;
	size_t room = 0, count = collector_targets(wall->collector, NULL, 0);
	int r = 0;

	while (count > room) {
		room = count + 8;
		free(targets);
		targets = calloc(room, sizeof(*targets));
		if (!targets)
			return -ENOMEM;
		count = collector_targets(wall->collector, targets, room);
	}
	for (size_t i = 0; i < count && r != -ENOMEM; i++) {
		r = look_at(wall, targets[i].pid, threads);
		if (r < 0 && r != -ESRCH && r != -ENOEXEC) {
			wall->stats.failed++;
			wall->stats.last_error = r;
		}
	}
	free(targets);
	return r == -ENOMEM ? r : 0;
}

// A look that takes longer than the period makes the next one late; those that should have been in between are missed.
static void schedule(struct wall *wall, int64_t due_ns)
{
	int64_t period_ns = NS_PER_S / wall->rate_hz, now = clock_now_ns();

	wall->next_ns = due_ns + period_ns;
	if (wall->next_ns < now) {
		wall->stats.missed += (uint32_t)((now - wall->next_ns) / period_ns + 1);
		wall->next_ns = now;
	}
	wall->end_ns = now;
}

int wall_look(struct wall *wall)
{
	int64_t due_ns = wall->next_ns ? wall->next_ns : clock_now_ns();
	uint64_t threads = 0;
	int r;

	if (!wall->start_ns)
		wall->start_ns = due_ns;
	r = wall->pid ? look_at(wall, wall->pid, &threads) : look_at_all(wall, &threads);
	schedule(wall, due_ns);
	if (r < 0)
		return r;
	wall->stats.looks++;
	wall->thread_looks += threads;
	if (threads > wall->stats.max_threads)
		wall->stats.max_threads = threads;
	return 0;
}

int64_t wall_next_ns(const struct wall *wall)
{
	return wall->next_ns;
}

static int64_t period_reached_ns(const struct wall *wall)
{
	return wall->stats.looks ? (wall->end_ns - wall->start_ns) / wall->stats.looks : 0;
}

static void add_comments(const struct wall *wall, const char *command)
{
	struct profile *profile = wall->sum->profile;
	struct wall_stats stats;

	wall_stats(wall, &stats);
	profile_add_comment(profile, "profd %s", PROFD_VERSION);
	if (command)
		profile_add_comment(profile, "command: %s", command);
	profile_add_comment(profile, "clock: wall, by looks at all threads; nobody is interrupted for it");
	profile_add_comment(profile, "rate: %u looks a second asked, %.1f reached", wall->rate_hz,
			    stats.elapsed_ns > 0 ? stats.looks * 1e9 / (double)stats.elapsed_ns : 0.0);
	profile_add_comment(profile,
			    "looks: %u taken, %u missed, %u failed%s%s; %u processes, at most %llu threads at once",
			    stats.looks, stats.missed, stats.failed, stats.last_error ? ": " : "",
			    stats.last_error ? strerror(-stats.last_error) : "", stats.nprocesses,
			    (unsigned long long)stats.max_threads);
}

struct profile *wall_profile(struct wall *wall, const char *command)
{
	wall->end_ns = clock_now_ns();
	if (!wall->sum)
		return NULL;
	wall->sum->duration_ns = wall->end_ns - wall->start_ns;
	if (thread_dump_to_wall(wall->sum, period_reached_ns(wall)) < 0)
		return NULL;
	add_comments(wall, command);
	return wall->sum->profile;
}

void wall_stats(const struct wall *wall, struct wall_stats *ret_stats)
{
	*ret_stats = wall->stats;
	ret_stats->elapsed_ns = wall->end_ns - wall->start_ns;
	ret_stats->thread_ns = wall->thread_looks * (uint64_t)period_reached_ns(wall);
}
