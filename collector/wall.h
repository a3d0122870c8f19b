// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// wall.h: a wall-clock profile, made of looks at all threads (snapshot.h) at a steady pace: nobody is woken or interrupted for it, and
// nothing is armed in a target. One thread at a time.

#ifndef PROFD_COLLECTOR_WALL_H
#define PROFD_COLLECTOR_WALL_H

#include <stdint.h>
#include <sys/types.h>

#define WALL_DEFAULT_RATE_HZ 20
#define WALL_MAX_RATE_HZ 100

struct collector;
struct profile;
struct profile_view;
struct wall;

struct wall_stats {
	uint32_t looks;       // that were taken
	uint32_t missed;      // that were not: the one before took too long
	uint32_t failed;      // of a target that could not be read
	int last_error;       // −errno of the last that failed
	uint64_t thread_ns;   // all threads' time that the looks stand for
	int64_t elapsed_ns;   // since the first look
	uint32_t nprocesses;  // seen
	uint64_t max_threads; // seen at once
};

// pid: the one target to look at; 0: all of them, those to come too. view: how its samples are shown; copied. NULL: no memory.
struct wall *wall_create(struct collector *collector, pid_t pid, uint32_t rate_hz, const struct profile_view *view);
void wall_destroy(struct wall *wall); // accepts NULL
// Looks once. 0, −ENOMEM, or, of one target, why it cannot be read (−ESRCH: it is gone).
int wall_look(struct wall *wall);
// When the next look is due, on CLOCK_MONOTONIC. 0: now.
int64_t wall_next_ns(const struct wall *wall);
// Ends it: each look stands for the time that there was for it, so that threads × time is what the samples add up to. The profile is the
// wall's; NULL: nothing was seen, or no memory. command: for a comment, or NULL.
struct profile *wall_profile(struct wall *wall, const char *command);
void wall_stats(const struct wall *wall, struct wall_stats *ret_stats);

#endif
