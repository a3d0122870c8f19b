// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// states.h: what target_states.c and states_locks.c share: ways in which a thread waits for ever.

#ifndef PROFD_TESTS_E2E_STATES_H
#define PROFD_TESTS_E2E_STATES_H

#include <time.h>

#define FAR_S 1000000

struct state_way {
	const char *name; // of its thread; NULL: the end of them
	void (*wait)(void);
	const void *address; // of the object that it waits for; or NULL
	const int *fd;       // or another number that the object has; or NULL
};

extern const struct state_way state_lock_ways[];

void state_locks_make(void); // and the thread "holder"
void state_locks_started(const struct state_way *way);

static inline struct timespec far_from(clockid_t clock)
{
	struct timespec at;

	clock_gettime(clock, &at);
	at.tv_sec += FAR_S;
	return at;
}

#endif
