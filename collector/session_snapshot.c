// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// session_snapshot.c: snapshots of a target's threads, for any thread that asks. The session keeps what the last one found.

#include <errno.h>

#include "collector/origin_spans.h"
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

static struct origins *read_origins(void *context, const struct origins_past *past)
{
	struct session *session = context;
	struct origins *origins;

	pthread_mutex_lock(&session->collector->lock);
	origins = session->state == SESSION_LIVE ? origins_read(&session->region) : NULL;
	pthread_mutex_unlock(&session->collector->lock);
	if (!origin_spans_find(origins, session->pid, past))
		return origins;
	pthread_mutex_lock(&session->collector->lock);
	origins_confirm_spans(origins, session->state == SESSION_LIVE ? &session->region : NULL);
	pthread_mutex_unlock(&session->collector->lock);
	return origins;
}

// A target's snapshots, while nobody may take them away: end it in any case. 0 or −errno.
static int begin(struct collector *collector, pid_t pid, struct session **ret_session)
{
	struct session *session;
	int r = -ESRCH;

	pthread_mutex_lock(&collector->lock);
	session = find_session(collector, pid);
	if (session) {
		if (!session->snapshot)
			session->snapshot = snapshot_source_create(pid, collector->modules, collector->tables,
								   read_origins, session);
		r = session->snapshot ? 0 : -ENOMEM;
		session_ref(session);
	}
	pthread_mutex_unlock(&collector->lock);
	*ret_session = session;
	return r;
}

static void end(struct collector *collector, struct session *session)
{
	if (!session)
		return;
	pthread_mutex_lock(&collector->lock);
	session_unref(session);
	pthread_mutex_unlock(&collector->lock);
}

static int take(struct collector *collector, pid_t pid, snapshot_taker *taker, struct thread_dump **ret_dump)
{
	struct session *session;
	int r = begin(collector, pid, &session);

	if (r == 0)
		r = taker(session->snapshot, ret_dump);
	end(collector, session);
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

int collector_watch_threads(struct collector *collector, pid_t pid, struct thread_watch **ret_watch)
{
	struct session *session;
	int r = begin(collector, pid, &session);

	if (r == 0)
		r = snapshot_watch(session->snapshot, ret_watch);
	end(collector, session);
	return r;
}

int collector_snapshot_watched(struct collector *collector, pid_t pid, const struct thread_watch *watch,
			       struct thread_dump **ret_dump)
{
	struct session *session;
	int r = begin(collector, pid, &session);

	if (r == 0)
		r = snapshot_take_watched(session->snapshot, watch, ret_dump);
	end(collector, session);
	return r;
}
