// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// interpose_peers.c: which descriptors belong together (peers.h): noted whether or not somebody wants to know, for they may be made long before
// that; a store beside a system call. Any thread of the target; close also in its signal handlers. Our own helper comes through here as well, and is not
// heard: what has these numbers in its table is something else.

#include <stdbool.h>

#include "profd/agent.h"
#include "profd/interpose.h"
#include "profd/object_key.h"
#include "profd/peers.h"
#include "profd/raw.h"
#include "profd/threads.h"

uint32_t profd_peers[PROFD_PEERS], profd_peer_epolls[PROFD_PEERS];

static void set(uint32_t *table, int fd, uint32_t value)
{
	// Most are nothing before and after: their memory is never touched.
	if ((unsigned)fd < PROFD_PEERS && !profd_thread_is_helper &&
	    __atomic_load_n(&table[fd], __ATOMIC_RELAXED) != value)
		__atomic_store_n(&table[fd], value, __ATOMIC_RELAXED);
}

// A write to `from` wakes who reads `to`.
static void wakes(int from, int to)
{
	set(profd_peers, from, (uint32_t)to + 1);
}

// A vfork's child closes its copies in its parent's memory, whose descriptors stay open.
static bool in_vfork(void)
{
	return profd_agent.pid && profd_agent.pid != (pid_t)profd_raw0(SYS_getpid);
}

static void forget(int fd)
{
	uint32_t peer = profd_peer(fd);

	if ((!peer && !profd_peer_epoll(fd)) || in_vfork())
		return;
	set(profd_peers, fd, 0);
	set(profd_peer_epolls, fd, 0);
	if (peer && profd_peer((int)peer - 1) == (uint32_t)fd + 1)
		set(profd_peers, (int)peer - 1, 0);
}

PROFD_EXPORT int pipe2(int fds[2], int flags)
{
	int result = PROFD_REAL(pipe2)(fds, flags);

	if (result == 0)
		wakes(fds[1], fds[0]);
	return result;
}

PROFD_EXPORT int pipe(int fds[2])
{
	int result = PROFD_REAL(pipe)(fds);

	if (result == 0)
		wakes(fds[1], fds[0]);
	return result;
}

PROFD_EXPORT int socketpair(int domain, int type, int protocol, int fds[2])
{
	int result = PROFD_REAL(socketpair)(domain, type, protocol, fds);

	if (result == 0) {
		wakes(fds[0], fds[1]);
		wakes(fds[1], fds[0]);
	}
	return result;
}

PROFD_EXPORT int eventfd(unsigned value, int flags)
{
	int fd = PROFD_REAL(eventfd)(value, flags);

	if (fd >= 0)
		wakes(fd, fd);
	return fd;
}

PROFD_EXPORT int close(int fd)
{
	if (!profd_thread_is_helper) { // before: afterwards the number may be another's
		forget(fd);
		profd_object_key_closed(fd);
	}
	return PROFD_REAL(close)(fd);
}

PROFD_EXPORT int epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
	int result = PROFD_REAL(epoll_ctl)(epoll, operation, fd, event);

	if (result == 0 && operation != EPOLL_CTL_MOD)
		set(profd_peer_epolls, fd, operation == EPOLL_CTL_ADD ? (uint32_t)epoll + 1 : 0);
	return result;
}
