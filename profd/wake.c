// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// wake.c: see wake.h.

#include "profd/wake.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "profd/raw.h"

static struct sockaddr_un address;
static socklen_t length;

int profd_wake_open(void)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un family = {.sun_family = AF_UNIX};

	if (fd < 0)
		return -errno;
	length = sizeof(address);
	if (bind(fd, (struct sockaddr *)&family, sizeof(family.sun_family)) < 0 ||
	    getsockname(fd, (struct sockaddr *)&address, &length) < 0) {
		int error = errno;

		close(fd);
		return -error;
	}
	return fd;
}

void profd_wake_drain(int fd)
{
	char drop[8];

	while (recv(fd, drop, sizeof(drop), MSG_DONTWAIT) > 0)
		;
}

void profd_wake_send(void)
{
	long fd = profd_raw3(SYS_socket, AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return;
	profd_raw6(SYS_sendto, fd, (long)"w", 1, MSG_NOSIGNAL, (long)&address, length);
	profd_raw1(SYS_close, fd);
}
