// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// event_control.c: what the collector asks of the event trace, and what it is told. The helper.

#include "profd/connection.h"
#include "profd/events.h"

static bool told;   // this connection's collector has the file
static bool wanted; // it is to be told
static int error;   // why there is no file

void profd_events_request(const struct wire_trace_msg *request)
{
	if (request->msg.arg == 0) {
		profd_events_end();
		return;
	}
	error = profd_events_begin(request->mib);
	wanted = !told;
}

void profd_events_tell(int fd)
{
	struct wire_events_msg message = {.msg = {WIRE_MSG_EVENTS, (uint32_t)-error}};
	int file;

	if (!wanted || fd < 0)
		return;
	wanted = false;
	file = profd_events_fd(&message.size);
	if (file < 0)
		message.size = 0;
	told = profd_connection_send(fd, &message, sizeof(message), file) == 0 && file >= 0;
}

void profd_events_connected(int fd)
{
	uint64_t size;

	told = false;
	error = 0;
	wanted = profd_events_are_on() && profd_events_fd(&size) >= 0;
	profd_events_tell(fd);
}

void profd_events_disconnected(void)
{
	told = wanted = false;
	profd_events_end();
}
