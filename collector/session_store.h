// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// session_store.h: a target's profile store, and what is switched on in it. Collector's lock held.

#ifndef PROFD_COLLECTOR_SESSION_STORE_H
#define PROFD_COLLECTOR_SESSION_STORE_H

#include <stdbool.h>
#include <stddef.h>

#include "profd/wire.h"

struct collector;
struct session;

// At its hello: what it wishes for, or what this collector is to switch on in all its targets.
void session_wish_rates(struct session *session, const struct wire_rates *wish);
// Tells the agent, if that is something new.
void session_send_rates(struct session *session);
// WIRE_MSG_STORE. false: it makes no sense.
bool session_take_store(struct session *session, const void *message, size_t size, int fd);
// It closes: counts what was lost; keeps the store for the end of the run, where that is wanted.
void session_leave_store(struct session *session);

#endif
