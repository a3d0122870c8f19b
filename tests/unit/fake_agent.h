// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// fake_agent.h: an agent as the collector sees one: it speaks wire.h over a real socket. It may live in the test's own process: the
// target is then the test program itself.

#ifndef PROFD_TESTS_FAKE_AGENT_H
#define PROFD_TESTS_FAKE_AGENT_H

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "tests/unit/fake_region.h"

#define FAKE_PATIENCE_MS 20000

struct fake_agent {
	struct fake_region fake;
	int fd;
	unsigned tables, forgets;        // received since the connection was made
	uint64_t table_start, table_end; // of the last one
	uint64_t forget_start;
	uint32_t rate_hz;
	unsigned rate_messages;  // of heap and lock profiles
	struct wire_rates rates; // of the last one
};

union fake_message {
	struct wire_msg msg;
	struct wire_table_msg table;
	struct wire_sampling sampling;
	struct wire_rates_msg rates;
};

static inline void fake_sleep_ms(long ms)
{
	const struct timespec time = {ms / 1000, ms % 1000 * 1000000};

	nanosleep(&time, NULL);
}

// name: "@abstract" or a path.
static inline int fake_agent_connect_to(const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	memcpy(address.sun_path, name, strlen(name));
	if (name[0] == '@')
		address.sun_path[0] = '\0';
	if (fd >= 0 && connect(fd, (struct sockaddr *)&address, size) == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return -errno;
}

static inline int fake_agent_send(int fd, const void *data, size_t size, int passed_fd)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
	struct cmsghdr *header = (struct cmsghdr *)control;
	struct iovec iov = {(void *)data, size};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

	*header = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
	memcpy(CMSG_DATA(header), &passed_fd, sizeof(int));
	if (passed_fd >= 0) {
		message.msg_control = control;
		message.msg_controllen = sizeof(control);
	}
	return sendmsg(fd, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static inline struct wire_hello fake_agent_hello(const struct fake_agent *agent)
{
	return (struct wire_hello){
		.msg = {WIRE_MSG_HELLO, WIRE_VERSION},
		.magic = WIRE_MAGIC,
		.region_size = agent->fake.size,
		.pid = (uint32_t)getpid(),
		.ppid = (uint32_t)getppid(),
		.forked = agent->fake.header->period_ns != 0, // sampling goes on
	};
}

// The size of the next message, 0 at the end of the connection, −EAGAIN when none comes in time. Keeps count in agent.
static inline ssize_t fake_agent_receive(struct fake_agent *agent, union fake_message *message, int timeout_ms)
{
	struct pollfd poll_fd = {.fd = agent->fd, .events = POLLIN};
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = {message, sizeof(*message)};
	struct msghdr header = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	struct cmsghdr *rights;
	int fd = -1;
	ssize_t size;

	if (poll(&poll_fd, 1, timeout_ms) <= 0)
		return -EAGAIN;
	size = recvmsg(agent->fd, &header, MSG_CMSG_CLOEXEC);
	rights = size > 0 ? CMSG_FIRSTHDR(&header) : NULL;
	if (rights)
		memcpy(&fd, CMSG_DATA(rights), sizeof(int));
	if (size == sizeof(message->table) && message->msg.type == WIRE_MSG_TABLE && fd >= 0) {
		agent->tables++;
		agent->table_start = message->table.start;
		agent->table_end = message->table.end;
	}
	if (size == sizeof(message->table) && message->msg.type == WIRE_MSG_FORGET) {
		agent->forgets++;
		agent->forget_start = message->table.start;
	}
	if (size == sizeof(message->sampling) && message->msg.type == WIRE_MSG_SAMPLING) {
		agent->rate_hz = message->sampling.rate_hz;
		__atomic_store_n(&agent->fake.header->period_ns, agent->rate_hz ? 1000000000u / agent->rate_hz : 0,
				 __ATOMIC_RELEASE);
	}
	if (size == sizeof(message->rates) && message->msg.type == WIRE_MSG_RATES) {
		agent->rate_messages++;
		agent->rates = message->rates.rates;
	}
	if (fd >= 0)
		close(fd);
	return size < 0 ? (errno == ECONNRESET ? 0 : -errno) : size;
}

// Reads on until a message of this type came. False: the connection ended, or it did not come in time.
static inline bool fake_agent_await(struct fake_agent *agent, uint32_t type)
{
	union fake_message message;

	while (fake_agent_receive(agent, &message, FAKE_PATIENCE_MS) > 0)
		if (message.msg.type == type)
			return true;
	return false;
}

static inline bool fake_agent_await_end(struct fake_agent *agent)
{
	union fake_message message;
	ssize_t size;

	do {
		size = fake_agent_receive(agent, &message, FAKE_PATIENCE_MS);
	} while (size > 0);
	return size == 0;
}

static inline void fake_agent_connect(struct fake_agent *agent, const char *name)
{
	const struct wire_hello hello = fake_agent_hello(agent);

	agent->fd = fake_agent_connect_to(name);
	assert(agent->fd >= 0);
	if (fake_agent_send(agent->fd, &hello, sizeof(hello), agent->fake.fd) < 0)
		abort();
}

// This process becomes a target.
static inline void fake_agent_start(struct fake_agent *agent, const char *name)
{
	*agent = (struct fake_agent){0};
	fake_region_make(&agent->fake, (uint32_t)getpid(), 2, WIRE_MIN_SHARD_SIZE);
	fake_agent_connect(agent, name);
}

static inline void fake_agent_stop(struct fake_agent *agent)
{
	close(agent->fd);
	fake_region_free(&agent->fake);
}

static inline void fake_agent_put(struct fake_agent *agent, uint32_t tid, const uint64_t *pcs, uint16_t nframes)
{
	const struct wire_sample sample = {
		.time_ns = 1,
		.cpu_ns = 10000000,
		.tid = tid,
		.weight = 2,
		.nframes = nframes,
		.maps_gen = __atomic_load_n(&agent->fake.header->maps_gen, __ATOMIC_RELAXED),
	};

	profd_ring_put(&agent->fake.rings[tid & 1], &sample, pcs, NULL);
}

// The mappings changed.
static inline void fake_agent_send_maps(struct fake_agent *agent)
{
	const struct wire_msg message = {WIRE_MSG_MAPS,
					 __atomic_add_fetch(&agent->fake.header->maps_gen, 1, __ATOMIC_SEQ_CST)};

	fake_agent_send(agent->fd, &message, sizeof(message), -1);
}

#endif
