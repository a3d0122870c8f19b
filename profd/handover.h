// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// handover.h: how the helper's descriptors outlive it. The helper must end where the program changes its credentials, and another
// one, born with the new ones, goes on with the same region and connection: a new connection might be refused to it.
//
// The two never live at once. Meanwhile the descriptors are in a message that waits in a datagram socket. That socket is for this
// short time the one descriptor of ours in the program's own table.

#ifndef PROFD_HANDOVER_H
#define PROFD_HANDOVER_H

#include <sys/socket.h>
#include <sys/un.h>

struct profd_handover {
	int fd; // in the program's table; −1: none
	struct sockaddr_un address;
	socklen_t length;
};

// By the thread that changes its credentials: makes the socket, and closes it. Raw system calls: errno stays. 0 or −errno.
int profd_handover_open(struct profd_handover *handover);
void profd_handover_close(struct profd_handover *handover);
// −1: there is none.
struct profd_handover_fds {
	int region, connection, store, events;
};
// By the helper that ends. 0 or −errno.
int profd_handover_give(const struct profd_handover *handover, const struct profd_handover_fds *fds);
// By its successor, in whose table handover->fd is the only descriptor; it is closed. 0 or −errno: there is a region at the least.
int profd_handover_take(const struct profd_handover *handover, struct profd_handover_fds *ret_fds);

// The calling thread gets a table of its own, with keep in it alone (−1: with nothing). 0 or −errno.
int profd_handover_own_table(int keep);

#endif
