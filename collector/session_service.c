// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// session_service.c: the name of the service that a target is, where it publishes one (otel_context.h). Programs do so at any time after their
// start, and nothing tells of it: it is looked for while they are sampled, ever less often. The reading is a job; the rest runs with the
// collector's lock held.

#include <string.h>

#include "collector/clock.h"
#include "collector/session.h"

#define FIRST_NS 200000000LL
#define LONGEST_NS 60000000000LL

static void run_read(struct worker_job *job)
{
	struct session *session = (struct session *)((char *)job - offsetof(struct session, service_job));
	char name[OTEL_NAME_BYTES];
	bool found = otel_context_service_name(session->pid, name);

	pthread_mutex_lock(&session->collector->lock);
	// Of another process by now, or another image, it is nothing of this session's.
	if (found && session->state == SESSION_LIVE && !session_process_is_dead(session) &&
	    !transport_is_hung_up(session->transport.fd))
		memcpy(session->service, name, sizeof(name));
	session->reading_service = false;
	session_end_job(session);
}

void session_look_for_service(struct session *session)
{
	int64_t now_ns = clock_now_ns();

	if (session->reading_service || session->state != SESSION_LIVE || now_ns < session->service_due_ns)
		return;
	if (session->service_backoff_ns == 0)
		session->service_backoff_ns = FIRST_NS;
	else if (session->service_backoff_ns < LONGEST_NS)
		session->service_backoff_ns *= 2;
	session->service_due_ns = now_ns + session->service_backoff_ns;
	session->reading_service = true;
	session->service_job.run = run_read;
	session->jobs++;
	session_ref(session);
	worker_pool_submit(session->collector->workers, &session->service_job);
}
