// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// transport.h: the control socket (wire.h): listening, who the peer is, messages with and without a file descriptor, and a bounded
// queue for a peer that does not read. Nothing here waits. The collector's lock guards a struct transport.

#ifndef PROFD_COLLECTOR_TRANSPORT_H
#define PROFD_COLLECTOR_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define TRANSPORT_MAX_MESSAGE 128
#define TRANSPORT_MAX_QUEUE 512 // messages; their fds count among ours

struct transport_listener {
	int fd;
	char path[108]; // to be removed at the end; "": abstract
	dev_t dev;
	ino_t inode; // of our socket file: one that another daemon made since is left alone
};

// name: "@abstract" or a path, where a socket nobody listens on any more is replaced. any_uid: others may connect as well.
// 0 or −errno: −EADDRINUSE somebody listens there, −ENAMETOOLONG.
int transport_listen(const char *name, bool any_uid, struct transport_listener *ret_listener);
void transport_unlisten(struct transport_listener *listener); // accepts one with fd −1

struct transport_peer {
	pid_t pid;
	uid_t uid;
	int pidfd; // the caller closes it; −1: the peer is dead already, what it sent can still be read
};
// The connection's fd or −errno: −EAGAIN none waits; −EMFILE… of accept4.
int transport_accept(int listen_fd, struct transport_peer *ret_peer);

// One message into buf. Its size; 0: the peer is gone; −EAGAIN: none waits; −EMSGSIZE: longer than size; other −errno.
// *ret_fd: the first fd that came along (the caller closes it), or −1.
ssize_t transport_receive(int fd, void *buf, size_t size, int *ret_fd);
bool transport_is_hung_up(int fd);

struct transport_message;

struct transport {
	int fd;
	unsigned queued;
	bool wants_retry; // the kernel refused for a reason of which no EPOLLOUT will tell the end
	struct transport_message *first, **last;
};

void transport_init(struct transport *transport, int fd);
void transport_finish(struct transport *transport); // closes the socket and what is queued
// Sends or queues. passed_fd: sent along, stays the caller's; −1: none. 0, or −errno: the peer is lost (−EPIPE, −ENOBUFS: queue full…).
int transport_send(struct transport *transport, const void *data, size_t size, int passed_fd);
// Tells a peer, before the caller hangs up, why it is not wanted (enum wire_refusal).
void transport_refuse(int fd, uint32_t refusal);
// Goes on with the queue. 0 (even if something is left) or −errno as above.
int transport_flush(struct transport *transport);

#endif
