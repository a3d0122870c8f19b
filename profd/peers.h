// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// peers.h: whom a write to a descriptor wakes inside this process: the other end of a pipe or socketpair, an eventfd's reader, and who waits for
// these in an epoll. Known from the calls that made them (interpose_peers.c). A table of numbers: any thread, also in a signal handler.
//
// A descriptor that is duplicated, or closed by other means than close(2), is not followed: a link may then be missing, or lead astray.

#ifndef PROFD_PEERS_H
#define PROFD_PEERS_H

#include <stdint.h>

#define PROFD_PEERS 65536u // descriptors above are not known

extern uint32_t profd_peers[PROFD_PEERS]
	__attribute__((visibility("hidden"))); // atomic; the descriptor + 1 that a write to this one wakes
extern uint32_t profd_peer_epolls[PROFD_PEERS]
	__attribute__((visibility("hidden"))); // atomic; the epoll + 1 that has this one

// 0: nobody that is known.
static inline uint32_t profd_peer(int fd)
{
	return (unsigned)fd < PROFD_PEERS ? __atomic_load_n(&profd_peers[fd], __ATOMIC_RELAXED) : 0;
}

static inline uint32_t profd_peer_epoll(int fd)
{
	return (unsigned)fd < PROFD_PEERS ? __atomic_load_n(&profd_peer_epolls[fd], __ATOMIC_RELAXED) : 0;
}

#endif
