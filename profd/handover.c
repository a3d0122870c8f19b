// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// handover.c: see handover.h.

#include "profd/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "profd/raw.h"

#define HIGH_FD 256 // above what a program counts on getting next

static int close_range_unshare(unsigned from, unsigned to)
{
	return (int)profd_raw3(SYS_close_range, from, to, 2 /* CLOSE_RANGE_UNSHARE */);
}

// close_range(2) copies none of the fds it would close; before Linux 5.9: copy all, then close the copies.
int profd_handover_own_table(int keep)
{
	struct rlimit limit;

	if (close_range_unshare((unsigned)(keep + 1), ~0u) == 0)
		return keep > 0 ? close_range_unshare(0, (unsigned)keep - 1) : 0;
	if (unshare(CLONE_FILES) < 0 || getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return -errno;
	for (rlim_t fd = 0; fd < limit.rlim_cur && fd < (1u << 20); fd++)
		if ((int)fd != keep)
			close((int)fd);
	return 0;
}

int profd_handover_open(struct profd_handover *handover)
{
	sa_family_t family = AF_UNIX;
	long fd = profd_raw3(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	long high, error;

	if (fd < 0)
		return (int)fd;
	high = profd_raw3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, HIGH_FD);
	if (high >= 0) {
		profd_raw1(SYS_close, fd);
		fd = high;
	}
	handover->fd = (int)fd;
	handover->length = sizeof(handover->address);
	// An autobound abstract address (unix(7)).
	error = profd_raw3(SYS_bind, fd, (long)&family, sizeof(family));
	if (!error)
		error = profd_raw3(SYS_getsockname, fd, (long)&handover->address, (long)&handover->length);
	if (error)
		profd_handover_close(handover);
	return (int)error;
}

void profd_handover_close(struct profd_handover *handover)
{
	if (handover->fd >= 0)
		profd_raw1(SYS_close, handover->fd);
	handover->fd = -1;
}

// The message's bytes say, in the order of struct profd_handover_fds, which of them come along.
#define FDS 4

static void spread(const struct profd_handover_fds *fds, int ret_list[FDS])
{
	ret_list[0] = fds->region;
	ret_list[1] = fds->connection;
	ret_list[2] = fds->store;
	ret_list[3] = fds->events;
}

int profd_handover_give(const struct profd_handover *handover, const struct profd_handover_fds *fds)
{
	int list[FDS], count = 0;
	char there[FDS];
	struct iovec iov = {there, sizeof(there)};
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(list))] = {0};
	struct msghdr message = {.msg_name = (void *)&handover->address,
				 .msg_namelen = handover->length,
				 .msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = control};
	struct cmsghdr *header = (struct cmsghdr *)(void *)control;
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int error;

	if (fd < 0)
		return -errno;
	spread(fds, list);
	for (int i = 0; i < FDS; i++) {
		there[i] = list[i] >= 0;
		if (there[i])
			list[count++] = list[i];
	}
	message.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
	memcpy(CMSG_DATA(header), list, (size_t)count * sizeof(int));
	error = sendmsg(fd, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
	close(fd);
	return error;
}

int profd_handover_take(const struct profd_handover *handover, struct profd_handover_fds *ret_fds)
{
	int list[FDS] = {-1, -1, -1, -1}, count = 0;
	char there[FDS] = {0};
	struct iovec iov = {there, sizeof(there)};
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(list))];
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	struct cmsghdr *header;
	int error = recvmsg(handover->fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) < 0 ? -errno : 0;

	close(handover->fd);
	if (error)
		return error;
	header = CMSG_FIRSTHDR(&message);
	if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
		memcpy(list, CMSG_DATA(header), header->cmsg_len - CMSG_LEN(0));
	if (!there[0] || list[0] < 0)
		return -ENOTCONN;
	ret_fds->region = list[count++];
	ret_fds->connection = there[1] ? list[count++] : -1;
	ret_fds->store = there[2] ? list[count++] : -1;
	ret_fds->events = there[3] ? list[count] : -1;
	return 0;
}
