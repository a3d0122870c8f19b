// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// session_trace.c: a target's event trace: asked for while some window wants it, and read into the windows that do; and the samples of its flight
// recorder. Collector's lock held.

#include <errno.h>
#include <string.h>

#include "collector/flight_samples.h"
#include "collector/session.h"
#include "collector/trace.h"
#include "collector/window_impl.h"

#define NS_PER_S 1000000000ULL
#define LATE_NS 20000000LL // from a sample's time to its being in the ring

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
	session_advance(session); // to sample for its own recorder
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

// What is older is all here, and can be put into order: but for samples that are still in the ring, or in a handler that was interrupted.
static int64_t complete_until_ns(const struct session *session)
{
	int64_t until_ns = session->drain_ns - LATE_NS;

	if (session->held_ns <= until_ns)
		until_ns = session->held_ns - 1;
	return until_ns > 0 ? until_ns : 0;
}

void session_drain_events(struct session *session, enum ring_reader_mode mode)
{
	struct window *window;

	TAILQ_FOREACH(window, &session->collector->windows, link)
	{
		if (window->options.trace && window_covers(window, session))
			window_trace_drain(window, session,
					   mode == RING_READER_DEAD ? EVENT_READER_LAST : EVENT_READER_LIVE,
					   complete_until_ns(session));
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

// ---- Samples of flight recorders -------------------------------------------------------------------------------------

uint32_t session_flight_rate(const struct session *session)
{
	return session->events.flight_s > 0 ? session->events.flight_rate_hz : 0;
}

// How far back somebody may ask for: the target's own recorder, or that of a whole run. 0: nobody will ask.
static uint64_t flight_keep_ns(const struct session *session)
{
	uint64_t keep_ns = session_flight_rate(session) > 0 ? session->events.flight_s * NS_PER_S : 0;
	const struct window *window;

	TAILQ_FOREACH(window, &session->collector->windows, link)
	{
		const struct trace_options *options =
			window->options.trace ? trace_options(window->options.trace) : NULL;

		if (options && !options->passive && window->options.rate_hz > 0 && window_covers(window, session) &&
		    options->keep_ns > keep_ns)
			keep_ns = options->keep_ns;
	}
	return keep_ns;
}

void session_flight_keep(struct session *session, const struct wire_sample *sample,
			 const struct aggregate_frame *frames, size_t nframes)
{
	uint64_t keep_ns = flight_keep_ns(session);
	char *name;

	if (keep_ns == 0)
		return;
	if (!session->flight)
		session->flight = flight_samples_create();
	name = session->flight ? flight_samples_add(session->flight, keep_ns, sample, frames, nframes) : NULL;
	if (name)
		session_thread_name(session, sample->tid, sample->slot, name);
}
