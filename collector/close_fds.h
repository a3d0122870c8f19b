// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// close_fds.h: closes a range of descriptors, on any kernel. Also in a child after fork.

#ifndef PROFD_COLLECTOR_CLOSE_FDS_H
#define PROFD_COLLECTOR_CLOSE_FDS_H

#include <sys/syscall.h>
#include <unistd.h>

#define CLOSE_FDS_MOST 65536u // where each has to be tried

// From from to to, both included; nothing if from > to.
static inline void close_fds(unsigned from, unsigned to)
{
	if (from > to || syscall(SYS_close_range, from, to, 0) == 0)
		return;
	for (unsigned fd = from; fd <= to && fd < CLOSE_FDS_MOST;
	     fd++) // before Linux 5.9, or a filter that does not know it
		close((int)fd);
}

#endif
