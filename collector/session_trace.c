// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// session_trace.c: a target's event trace: asked for while some window wants it, and read into the windows that do. Collector's lock held.

#include <errno.h>
#include <string.h>

#include "collector/session.h"
#include "collector/trace.h"
#include "collector/window_impl.h"

bool session_take_events(struct session *session, const void *data, size_t size, int fd)
{
	struct wire_events_msg message;
	struct event_file file;
	struct window *window;

	if (size != sizeof(message))
		return false;
	memcpy(&message, data, sizeof(message));
	if (fd < 0) {
		session->events_errno = message.msg.arg > 0 && message.msg.arg < 4096 ? (int)message.msg.arg : ENOMEM;
		pthread_cond_broadcast(&session->collector->changed);
		return true;
	}
	if (event_file_map(fd, message.size, session->pid, &file) < 0)
		return false;
	// What the last one still held is read before it goes.
	session_drain_events(session, RING_READER_DEAD);
	event_file_unmap(&session->events);
	session->events = file;
	session->events_errno = 0;
	TAILQ_FOREACH(window, &session->collector->windows, link)
	{
		if (window->options.trace && window_covers(window, session))
			window_trace_begin(window, session, true);
	}
	// A fork's child goes on as its parent did; whether that is wanted of it is for us to say.
	session->trace_sent = true;
	session_send_trace(session);
	pthread_cond_broadcast(&session->collector->changed);
	return true;
}

void session_send_trace(struct session *session)
{
	struct wire_trace_msg message = {.msg.type = WIRE_MSG_TRACE};
	bool wanted = window_wants_events(session, &message.mib);

	if (session->trace_sent == wanted)
		return;
	message.msg.arg = wanted;
	session->trace_sent = wanted;
	session->drains_left = 1;
	session_send(session, &message, sizeof(message), -1);
}

void session_drain_events(struct session *session, enum ring_reader_mode mode)
{
	struct window *window;

	TAILQ_FOREACH(window, &session->collector->windows, link)
	{
		if (window->options.trace && window_covers(window, session))
			window_trace_drain(window, session,
					   mode == RING_READER_DEAD ? EVENT_READER_LAST : EVENT_READER_LIVE,
					   session->drain_ns);
	}
}

unsigned session_events_fill(const struct session *session)
{
	struct window *window;
	unsigned most = 0;

	if (!session->events.header)
		return 0;
	TAILQ_FOREACH(window, &session->collector->windows, link)
	{
		unsigned fill = window->options.trace && window_covers(window, session)
					? window_trace_fill(window, session)
					: 0;

		if (fill > most)
			most = fill;
	}
	return most;
}
