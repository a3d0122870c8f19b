// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// event_control.c: what the collector asks of the event trace, and what it is told. The helper.

#include <stddef.h>

#include "profd/connection.h"
#include "profd/events.h"

static bool told; // this connection's collector has the file
static int error; // why there is no file

// fd: the socket.
static void tell(int fd)
{
	uint64_t size;
	int file = profd_events_fd(&size);

	told = profd_connection_events(fd, file < 0 ? 0 : size, error, file) == 0 && file >= 0;
}

void profd_events_request(const struct wire_trace_msg *request, int fd)
{
	if (request->msg.arg == 0) {
		profd_events_end();
		return;
	}
	error = profd_events_begin(request->mib);
	if (!told)
		tell(fd);
}

void profd_events_connected(int fd)
{
	told = false;
	error = 0;
	if (profd_events_are_on() && profd_events_fd(NULL) >= 0)
		tell(fd);
}

void profd_events_disconnected(void)
{
	told = false;
	profd_events_end();
}
