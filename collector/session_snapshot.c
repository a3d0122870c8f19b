// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// session_snapshot.c: snapshots of a target's threads, for any thread that asks. The session keeps what the last one found.

#include <errno.h>

#include "collector/origins.h"
#include "collector/session.h"
#include "collector/snapshot.h"

static struct session *find_session(struct collector *collector, pid_t pid)
{
	struct session *session;

	TAILQ_FOREACH(session, &collector->sessions, link)
	{
		if (session->pid == pid && session->state == SESSION_LIVE)
			return session;
	}
	return NULL;
}

static int take(struct collector *collector, pid_t pid, snapshot_taker *taker, struct thread_dump **ret_dump)
{
	struct origins *origins = NULL;
	struct session *session;
	int r = -ESRCH;

	pthread_mutex_lock(&collector->lock);
	session = find_session(collector, pid);
	if (session) {
		if (!session->snapshot)
			session->snapshot = snapshot_source_create(pid, collector->modules, collector->tables);
		origins = origins_read(&session->region);
		session_ref(session);
	}
	pthread_mutex_unlock(&collector->lock);
	if (!session)
		return r;
	r = session->snapshot && origins ? taker(session->snapshot, origins, ret_dump) : -ENOMEM;
	origins_destroy(origins);
	pthread_mutex_lock(&collector->lock);
	session_unref(session);
	pthread_mutex_unlock(&collector->lock);
	return r;
}

int collector_snapshot(struct collector *collector, pid_t pid, struct thread_dump **ret_dump)
{
	return take(collector, pid, snapshot_take, ret_dump);
}

int collector_sample_threads(struct collector *collector, pid_t pid, struct thread_dump **ret_dump)
{
	return take(collector, pid, snapshot_sample, ret_dump);
}

int collector_thread_creators(struct collector *collector, pid_t pid, struct thread_dump **ret_dump)
{
	return take(collector, pid, snapshot_creators, ret_dump);
}
