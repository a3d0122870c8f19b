// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// wait_names.h: which of libc's functions a thread waits in, by the names on its stack.

#ifndef PROFD_COLLECTOR_WAIT_NAMES_H
#define PROFD_COLLECTOR_WAIT_NAMES_H

#include "collector/wait_state.h"

enum wait_kind {
	WAIT_UNKNOWN,
	WAIT_LOCK, // one of libc's own
	WAIT_MUTEX,
	WAIT_READ_LOCK,
	WAIT_WRITE_LOCK,
	WAIT_CONDITION,
	WAIT_SEMAPHORE,
	WAIT_BARRIER,
	WAIT_ONCE,
	WAIT_JOIN,
	WAIT_SLEEP, // from here on: not in the call futex
	WAIT_POLL,
	WAIT_KINDS
};

// By the function nearest to the leaf that is known.
enum wait_kind wait_names_find(const struct wait_state_input *input);
// "mutex lock"…; NULL of WAIT_UNKNOWN.
const char *wait_names_state(enum wait_kind kind);

#endif
