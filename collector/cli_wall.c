// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cli_wall.c: `--clock wall`: a wall-clock profile of a whole run, on a thread of its own (wall.h).

#include "collector/cli.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "collector/wall.h"

struct cli_wall {
	struct wall *wall;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed; // on CLOCK_MONOTONIC
	bool stopping;          // under lock
	bool started;
	int error; // of the thread, which ended by it
};

static void wait_for_next(struct cli_wall *recorder)
{
	int64_t next_ns = wall_next_ns(recorder->wall);
	struct timespec until = {.tv_sec = next_ns / 1000000000, .tv_nsec = next_ns % 1000000000};

	while (!recorder->stopping && pthread_cond_timedwait(&recorder->changed, &recorder->lock, &until) != ETIMEDOUT)
		;
}

static void *record(void *argument)
{
	struct cli_wall *recorder = argument;

	pthread_mutex_lock(&recorder->lock);
	while (!recorder->stopping && recorder->error == 0) {
		pthread_mutex_unlock(&recorder->lock);
		recorder->error = wall_look(recorder->wall);
		pthread_mutex_lock(&recorder->lock);
		wait_for_next(recorder);
	}
	pthread_mutex_unlock(&recorder->lock);
	return NULL;
}

int cli_wall_start(struct collector *collector, uint32_t rate_hz, const struct profile_view *view,
		   struct cli_wall **ret_recorder)
{
	struct cli_wall *recorder = calloc(1, sizeof(*recorder));
	pthread_condattr_t attributes;
	int error;

	if (!recorder)
		return -ENOMEM;
	pthread_mutex_init(&recorder->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&recorder->changed, &attributes);
	pthread_condattr_destroy(&attributes);
	recorder->wall = wall_create(collector, 0, rate_hz, view);
	error = recorder->wall ? pthread_create(&recorder->thread, NULL, record, recorder) : ENOMEM;
	recorder->started = error == 0;
	if (error) {
		cli_wall_destroy(recorder);
		return -error;
	}
	*ret_recorder = recorder;
	return 0;
}

struct profile *cli_wall_stop(struct cli_wall *recorder, const char *command)
{
	pthread_mutex_lock(&recorder->lock);
	recorder->stopping = true;
	pthread_cond_signal(&recorder->changed);
	pthread_mutex_unlock(&recorder->lock);
	if (recorder->started)
		pthread_join(recorder->thread, NULL);
	recorder->started = false;
	return wall_profile(recorder->wall, command);
}

void cli_wall_summary(const struct cli_wall *recorder, char *buf, size_t size)
{
	struct wall_stats stats;
	int used;

	wall_stats(recorder->wall, &stats);
	used = snprintf(buf, size, "%" PRIu32 " looks in %.2f s, %.2f s of threads' time, %" PRIu64 " threads at most",
			stats.looks, (double)stats.elapsed_ns / 1e9, (double)stats.thread_ns / 1e9, stats.max_threads);
	if (used > 0 && (size_t)used < size && (stats.missed > 0 || stats.failed > 0))
		used += snprintf(buf + used, size - (size_t)used, ", %" PRIu32 " looks missed, %" PRIu32 " failed",
				 stats.missed, stats.failed);
	if (recorder->error && used > 0 && (size_t)used < size)
		snprintf(buf + used, size - (size_t)used, "; ended early: %s", strerror(-recorder->error));
}

void cli_wall_destroy(struct cli_wall *recorder)
{
	if (!recorder)
		return;
	if (recorder->started)
		cli_wall_stop(recorder, NULL);
	wall_destroy(recorder->wall);
	pthread_cond_destroy(&recorder->changed);
	pthread_mutex_destroy(&recorder->lock);
	free(recorder);
}
