// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// session_snapshot.c: snapshots of a target's threads, for any thread that asks. The session keeps what the last one found.

#include <errno.h>

#include "collector/origins.h"
#include "collector/session.h"
#include "collector/snapshot.h"
#include "collector/snapshot_tasks.h"

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

// A target's snapshots, while nobody may take them away.
struct visit {
	struct session *session;
	struct origins *origins;
};

// 0 or −errno; end it in any case.
static int begin(struct collector *collector, pid_t pid, struct visit *visit)
{
	*visit = (struct visit){0};
	pthread_mutex_lock(&collector->lock);
	visit->session = find_session(collector, pid);
	if (visit->session) {
		if (!visit->session->snapshot)
			visit->session->snapshot = snapshot_source_create(pid, collector->modules, collector->tables);
		visit->origins = origins_read(&visit->session->region);
		session_ref(visit->session);
	}
	pthread_mutex_unlock(&collector->lock);
	if (!visit->session)
		return -ESRCH;
	return visit->session->snapshot && visit->origins ? 0 : -ENOMEM;
}

static void end(struct collector *collector, struct visit *visit)
{
	origins_destroy(visit->origins);
	if (!visit->session)
		return;
	pthread_mutex_lock(&collector->lock);
	session_unref(visit->session);
	pthread_mutex_unlock(&collector->lock);
}

// Of tasks it is not known before whether they stood still.
static int confirm_tasks(struct collector *collector, const struct visit *visit, struct thread_dump *dump)
{
	struct origins *after = NULL;
	int r;

	if (visit->origins->ntasks == 0)
		return 0;
	pthread_mutex_lock(&collector->lock);
	if (visit->session->region.header)
		after = origins_read(&visit->session->region);
	pthread_mutex_unlock(&collector->lock);
	r = snapshot_tasks_confirm(dump, visit->origins, after);
	origins_destroy(after);
	return r;
}

static int take(struct collector *collector, pid_t pid, snapshot_taker *taker, struct thread_dump **ret_dump)
{
	struct visit visit;
	int r = begin(collector, pid, &visit);

	if (r == 0)
		r = taker(visit.session->snapshot, visit.origins, ret_dump);
	if (r == 0)
		r = confirm_tasks(collector, &visit, *ret_dump);
	end(collector, &visit);
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
	struct visit visit;
	int r = begin(collector, pid, &visit);

	if (r == 0)
		r = snapshot_watch(visit.session->snapshot, visit.origins, ret_watch);
	end(collector, &visit);
	return r;
}

int collector_snapshot_watched(struct collector *collector, pid_t pid, const struct thread_watch *watch,
			       struct thread_dump **ret_dump)
{
	struct visit visit;
	int r = begin(collector, pid, &visit);

	if (r == 0)
		r = snapshot_take_watched(visit.session->snapshot, visit.origins, watch, ret_dump);
	if (r == 0)
		r = confirm_tasks(collector, &visit, *ret_dump);
	end(collector, &visit);
	return r;
}
