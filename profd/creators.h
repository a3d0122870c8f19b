// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// creators.h: how many threads a context (contexts.h) made, and which of them ended joinable and have not been joined. Any thread of the
// target, in its calls of pthread_create, pthread_join and the like; not the handler. Lock-free.

#ifndef PROFD_CREATORS_H
#define PROFD_CREATORS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "profd/caller.h"

// The region is new. Not while other threads run.
void profd_creators_init(void);
// Finds or records the context of threads that the caller makes now. 0: there is no room (counted), or this thread is in no slot. The
// first call of a process that is not sampled asks for the unwind tables, and waits for them: TABLES_WAIT_MS at most.
uint32_t profd_creators_note(struct profd_caller caller);
// A thread was made with it.
void profd_creators_count(uint32_t context);
// The calling thread was made so.
void profd_creators_thread_begins_detached(void);
// The thread is about to be detached: it has not been joined, so it is there still, ended or not.
void profd_creators_thread_is_detached(pthread_t thread);
// The calling thread, made with that context, ends: its last destructors have run.
void profd_creators_thread_ends(uint32_t context);
// The thread was joined, or detached.
void profd_creators_thread_released(pthread_t thread);

#endif
