// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// name_process.c: see name_process.h. The request is profd's and is believed; the files are not even opened by libelf before the process has
// given its rights away.

#include "collector/name_process.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "collector/elf_file.h"
#include "collector/name_compiler.h"
#include "collector/name_sandbox.h"

static int receive_fd(int socket)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	char byte;
	struct iovec iov = {&byte, 1};
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control)};
	struct cmsghdr *found;
	int fd;

	if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 1)
		return -EIO;
	found = CMSG_FIRSTHDR(&message);
	if (!found || found->cmsg_type != SCM_RIGHTS)
		return -ENOENT;
	memcpy(&fd, CMSG_DATA(found), sizeof(fd));
	return fd;
}

static int ask_for_split(void *context, const char *dir, const char *name)
{
	const int *socket = context;
	struct name_message message = {.kind = NAME_MESSAGE_SPLIT};

	if (snprintf(message.dir, sizeof(message.dir), "%s", dir ? dir : "") >= (int)sizeof(message.dir) ||
	    snprintf(message.name, sizeof(message.name), "%s", name) >= (int)sizeof(message.name) ||
	    send(*socket, &message, sizeof(message), MSG_NOSIGNAL) != sizeof(message))
		return -ENOENT;
	return receive_fd(*socket);
}

static int read_addresses(int fd, size_t count, uint64_t **ret_addresses)
{
	uint64_t *addresses = calloc(count + 1, sizeof(*addresses));
	size_t size = count * sizeof(*addresses), done = 0;

	while (addresses && done < size) {
		ssize_t n = pread(fd, (char *)addresses + done, size - done, (off_t)(sizeof(struct name_order) + done));

		if (n <= 0)
			return -EIO;
		done += (size_t)n;
	}
	*ret_addresses = addresses;
	return addresses ? 0 : -ENOMEM;
}

static int compile(const struct name_order *order, uint64_t *addresses, const int *fds, int nfds, int *socket,
		   int output)
{
	struct elf_file files[NAME_SOURCES] = {{0}};
	const struct elf_file *opened[NAME_SOURCES] = {NULL};
	struct name_request request = {
		.sources = {.open_split = ask_for_split, .context = socket},
		.addresses = addresses,
		.count = order->count,
		.each_unit = order->each_unit,
		.symbols_alone = order->symbols_alone,
		.identity = {order->identity[0], order->identity[1]},
	};

	for (int i = 0, next = 0; i < NAME_SOURCES; i++) {
		int error = 0;

		if (!(order->sources & 1u << i))
			continue;
		error = next < nfds ? elf_file_open(fds[next++], &files[i]) : -EINVAL;
		if (error)
			return error;
		opened[i] = &files[i];
	}
	request.sources.file = opened[NAME_SOURCE_FILE];
	request.sources.debug = opened[NAME_SOURCE_DEBUG];
	request.sources.alt = opened[NAME_SOURCE_ALT];
	request.sources.package = opened[NAME_SOURCE_PACKAGE];
	return request.sources.file ? name_compile(&request, output) : -EINVAL;
}

// The kernel takes the memory back.
static int work(int *socket, int output, int request, const int *files, int nfiles)
{
	struct name_order order;
	uint64_t *addresses;
	int error;

	if (pread(request, &order, sizeof(order), 0) != (ssize_t)sizeof(order))
		return -EIO;
	error = read_addresses(request, order.count, &addresses);
	close(request);
	return error ? error : compile(&order, addresses, files, nfiles, socket, output);
}

_Noreturn void name_process_run(int socket, int output, int request, const int *files, int nfiles)
{
	int keep[3 + NAME_SOURCES] = {socket, output, request}, count = 3;
	struct name_message message = {.kind = NAME_MESSAGE_RESULT};
	sigset_t limits;

	sigemptyset(&limits);
	sigaddset(&limits, SIGXCPU); // says what it died of; else the kernel kills it a second later
	pthread_sigmask(SIG_UNBLOCK, &limits, NULL);
	for (int i = 0; i < nfiles; i++)
		keep[count++] = files[i];
	message.error = name_sandbox_enter(keep, count);
	if (!message.error)
		message.error = work(&socket, output, request, files, nfiles);
	(void)send(socket, &message, sizeof(message), MSG_NOSIGNAL);
	_exit(0);
}
