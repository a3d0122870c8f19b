// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// connection.c: see connection.h.

#include "profd/connection.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "profd/agent.h"
#include "profd/events.h"
#include "profd/rates.h"
#include "profd/store.h"

// Only our own user's collector, or root's, is told anything.
static bool peer_trusted(int fd)
{
	struct ucred peer;
	socklen_t length = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && (peer.uid == geteuid() || peer.uid == 0);
}

int profd_connection_open(const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t length = strlen(name);
	int error;
	int fd;

	if (!length || length >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, name, length);
	if (name[0] == '@')
		address.sun_path[0] = 0;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC,
		    0); // blocking: a full backlog makes the helper wait, nobody else
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) ==
		    0 &&
	    peer_trusted(fd))
		return fd;
	error = errno ? errno : EPERM;
	close(fd);
	return -error;
}

int profd_connection_open_patiently(const char *name, const uint32_t *stopping)
{
	int fd;

	do
		fd = profd_connection_open(name);
	while (fd == -EINTR && !__atomic_load_n(stopping, __ATOMIC_ACQUIRE));
	return fd;
}

// passed_fd: −1: none.
static int send_with(int fd, void *data, size_t size, int passed_fd)
{
	struct iovec iov = {data, size};
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *header = (struct cmsghdr *)(void *)control;

	if (passed_fd >= 0) {
		message.msg_control = control;
		message.msg_controllen = sizeof(control);
	}
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &passed_fd, sizeof(int));
	return sendmsg(fd, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int profd_connection_hello(int fd)
{
	struct wire_hello hello = {.msg = {WIRE_MSG_HELLO, WIRE_VERSION},
				   .magic = WIRE_MAGIC,
				   .region_size = profd_agent.region.size,
				   .pid = (uint32_t)getpid(),
				   .ppid = (uint32_t)getppid(),
				   .rates = profd_rates,
				   .forked = profd_agent.forked};
	int error = send_with(fd, &hello, sizeof(hello), profd_agent.region.fd);

	if (!error && profd_store.header)
		error = profd_connection_store(fd);
	if (!error)
		profd_events_connected(fd);
	return error;
}

int profd_connection_store(int fd)
{
	struct wire_store_msg message = {.msg = {WIRE_MSG_STORE, 0}, .size = profd_store.size};

	return profd_store.header ? send_with(fd, &message, sizeof(message), profd_store.fd) : 0;
}

int profd_connection_events(int fd, uint64_t size, int error, int file)
{
	struct wire_events_msg message = {.msg = {WIRE_MSG_EVENTS, (uint32_t)-error}, .size = size};

	return send_with(fd, &message, sizeof(message), file);
}

ssize_t profd_connection_receive(int fd, union profd_message_in *message, int *ret_fd)
{
	struct iovec iov = {message, sizeof(*message)};
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	struct msghdr header = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	struct cmsghdr *rights;
	ssize_t size = recvmsg(fd, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);

	*ret_fd = -1;
	if (size < 0)
		return -errno;
	rights = CMSG_FIRSTHDR(&header);
	if (rights && rights->cmsg_level == SOL_SOCKET && rights->cmsg_type == SCM_RIGHTS)
		memcpy(ret_fd, CMSG_DATA(rights), sizeof(int));
	return size;
}

// A collector that hung up before it had read our hello leaves ECONNRESET in front of what it sent.
uint32_t profd_connection_refusal(int fd)
{
	union profd_message_in message;
	int passed_fd;

	for (int i = 0; i < 2; i++) {
		ssize_t size = profd_connection_receive(fd, &message, &passed_fd);

		if (passed_fd >= 0)
			close(passed_fd);
		if (size >= (ssize_t)sizeof(message.msg) && message.msg.type == WIRE_MSG_REFUSED)
			return message.msg.arg;
	}
	return WIRE_REFUSED_SILENTLY;
}

const char *profd_connection_refusal_text(uint32_t refusal)
{
	switch (refusal) {
	case WIRE_REFUSED_USER:
		return "the collector turned us away: this process belongs to another user";
	case WIRE_REFUSED_VERSION:
		return "the collector turned us away: it is of another version than libprofd.so";
	case WIRE_REFUSED_NAMESPACE:
		return "the collector turned us away: it is in another PID namespace";
	case WIRE_REFUSED_FULL:
		return "the collector turned us away: it has too many targets";
	default:
		return "the collector turned us away";
	}
}
