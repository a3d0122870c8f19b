// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// transport.c: see transport.h.

#include "collector/transport.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "profd/wire.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 // Linux 6.5
#endif
#define BACKLOG 1024

struct transport_message {
	struct transport_message *next;
	int fd; // our duplicate; −1: none
	size_t size;
	unsigned char data[TRANSPORT_MAX_MESSAGE];
};

static int make_address(const char *name, struct sockaddr_un *address, socklen_t *ret_size)
{
	size_t length = strlen(name);

	if (length == 0)
		return -EINVAL;
	if (length >= sizeof(address->sun_path))
		return -ENAMETOOLONG;
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(address->sun_path, name, length);
	*ret_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
	if (name[0] == '@')
		address->sun_path[0] = '\0';
	else
		++*ret_size;
	return 0;
}

// True when the file at the address is a socket that nobody listens on.
static bool is_stale(const struct sockaddr_un *address, socklen_t size)
{
	struct stat st;
	bool refused;
	int fd;

	if (address->sun_path[0] == '\0' || lstat(address->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
		return false;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return false;
	refused = connect(fd, (const struct sockaddr *)address, size) < 0 && errno == ECONNREFUSED;
	close(fd);
	return refused;
}

static int bind_address(int fd, const struct sockaddr_un *address, socklen_t size)
{
	if (bind(fd, (const struct sockaddr *)address, size) == 0)
		return 0;
	if (errno != EADDRINUSE || !is_stale(address, size))
		return -errno;
	if (unlink(address->sun_path) < 0 && errno != ENOENT)
		return -errno;
	return bind(fd, (const struct sockaddr *)address, size) == 0 ? 0 : -errno;
}

// Between bind and listen nobody can connect yet.
static int own_path(const char *path, bool any_uid, struct transport_listener *listener)
{
	struct stat st;

	if (chmod(path, any_uid ? 0666 : 0600) < 0 || lstat(path, &st) < 0)
		return -errno;
	memcpy(listener->path, path, strlen(path) + 1);
	listener->dev = st.st_dev;
	listener->inode = st.st_ino;
	return 0;
}

int transport_listen(const char *name, bool any_uid, struct transport_listener *ret_listener)
{
	struct transport_listener listener = {.fd = -1};
	struct sockaddr_un address;
	socklen_t size = 0;
	int r = make_address(name, &address, &size);

	if (r < 0)
		return r;
	listener.fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (listener.fd < 0)
		return -errno;
	r = bind_address(listener.fd, &address, size);
	if (r == 0 && name[0] != '@')
		r = own_path(name, any_uid, &listener);
	if (r == 0 && listen(listener.fd, BACKLOG) < 0)
		r = -errno;
	if (r < 0) {
		transport_unlisten(&listener);
		return r;
	}
	*ret_listener = listener;
	return 0;
}

void transport_unlisten(struct transport_listener *listener)
{
	struct stat st;

	if (listener->fd < 0)
		return;
	if (listener->path[0] && lstat(listener->path, &st) == 0 && st.st_dev == listener->dev &&
	    st.st_ino == listener->inode)
		unlink(listener->path);
	close(listener->fd);
	listener->fd = -1;
}

// The peer's pidfd; −ESRCH: it is dead. Where the kernel cannot tell it, the pid is opened, and the open connection shows that it is still
// the peer's. Before Linux 6.16 there is none of a process that has been reaped: EINVAL or ESRCH.
static int open_pidfd(int fd, pid_t pid)
{
	socklen_t size = sizeof(int);
	int pidfd;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) == 0)
		return pidfd;
	if (errno != ENOPROTOOPT)
		return errno == EINVAL ? -ESRCH : -errno;
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0)
		return -errno;
	if (transport_is_hung_up(fd)) {
		close(pidfd);
		return -ESRCH;
	}
	return pidfd;
}

int transport_accept(int listen_fd, struct transport_peer *ret_peer)
{
	struct ucred credentials;
	socklen_t size = sizeof(credentials);
	int pidfd = -EINVAL;
	int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return -errno;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) == 0 && credentials.pid > 0)
		pidfd = open_pidfd(fd, credentials.pid);
	if (pidfd < 0 && pidfd != -ESRCH) {
		close(fd);
		return pidfd;
	}
	*ret_peer = (struct transport_peer){
		.pid = credentials.pid, .uid = credentials.uid, .pidfd = pidfd < 0 ? -1 : pidfd};
	return fd;
}

ssize_t transport_receive(int fd, void *buf, size_t size, int *ret_fd)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec iov = {.iov_base = buf, .iov_len = size};
	// CMSG_LEN, not CMSG_SPACE: in the padding a second fd would fit, which nobody would close.
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = CMSG_LEN(sizeof(int)),
	};
	struct cmsghdr *header;
	ssize_t n;

	*ret_fd = -1;
	n = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return -errno;
	header = CMSG_FIRSTHDR(&message);
	if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
	    header->cmsg_len >= CMSG_LEN(sizeof(int)))
		memcpy(ret_fd, CMSG_DATA(header), sizeof(int));
	if (message.msg_flags & MSG_TRUNC) {
		if (*ret_fd >= 0)
			close(*ret_fd);
		*ret_fd = -1;
		return -EMSGSIZE;
	}
	return n;
}

bool transport_is_hung_up(int fd)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLRDHUP};

	return poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & (POLLHUP | POLLRDHUP | POLLERR));
}

void transport_init(struct transport *transport, int fd)
{
	*transport = (struct transport){.fd = fd};
	transport->last = &transport->first;
}

static void drop_first(struct transport *transport)
{
	struct transport_message *message = transport->first;

	transport->first = message->next;
	if (!transport->first)
		transport->last = &transport->first;
	transport->queued--;
	if (message->fd >= 0)
		close(message->fd);
	free(message);
}

void transport_finish(struct transport *transport)
{
	while (transport->first)
		drop_first(transport);
	if (transport->fd >= 0)
		close(transport->fd);
	transport->fd = -1;
}

static int send_now(int fd, const void *data, size_t size, int passed_fd)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
	struct iovec iov = {.iov_base = (void *)data, .iov_len = size};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

	if (passed_fd >= 0) {
		memcpy(CMSG_DATA(&control.header), &passed_fd, sizeof(int));
		message.msg_control = &control;
		message.msg_controllen = sizeof(control.space);
	}
	return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

// ETOOMANYREFS: too many fds of this user are under way in sockets, here or elsewhere.
static bool may_retry(struct transport *transport, int error)
{
	transport->wants_retry = error == -ETOOMANYREFS || error == -ENOBUFS || error == -ENOMEM;
	return transport->wants_retry || error == -EAGAIN;
}

void transport_refuse(int fd, uint32_t refusal)
{
	const struct wire_msg message = {.type = WIRE_MSG_REFUSED, .arg = refusal};

	(void)send_now(fd, &message, sizeof(message), -1); // who has gone meanwhile needs no reason
}

static int queue(struct transport *transport, const void *data, size_t size, int passed_fd)
{
	struct transport_message *message;

	if (transport->queued >= TRANSPORT_MAX_QUEUE)
		return -ENOBUFS;
	message = calloc(1, sizeof(*message));
	if (!message)
		return -ENOMEM;
	message->fd = passed_fd >= 0 ? fcntl(passed_fd, F_DUPFD_CLOEXEC, 0) : -1;
	if (passed_fd >= 0 && message->fd < 0) {
		int error = errno;

		free(message);
		return -error;
	}
	message->size = size;
	memcpy(message->data, data, size);
	*transport->last = message;
	transport->last = &message->next;
	transport->queued++;
	return 0;
}

int transport_send(struct transport *transport, const void *data, size_t size, int passed_fd)
{
	if (size > TRANSPORT_MAX_MESSAGE)
		return -EMSGSIZE;
	if (!transport->first) {
		int r = send_now(transport->fd, data, size, passed_fd);

		if (r == 0 || !may_retry(transport, r))
			return r;
	}
	return queue(transport, data, size, passed_fd);
}

int transport_flush(struct transport *transport)
{
	transport->wants_retry = false;
	while (transport->first) {
		const struct transport_message *message = transport->first;
		int r = send_now(transport->fd, message->data, message->size, message->fd);

		if (r < 0)
			return may_retry(transport, r) ? 0 : r;
		drop_first(transport);
	}
	return 0;
}
