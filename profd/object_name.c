// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// object_name.c: see object_name.h.

#include "profd/object_name.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "profd/raw.h"

#define FIRST_CHOSEN_PORT 32768u // net.ipv4.ip_local_port_range as it comes

struct text {
	char *at;
	uint32_t length, room;
};

static void put(struct text *text, const char *bytes)
{
	while (*bytes && text->length < text->room)
		text->at[text->length++] = *bytes++;
}

static void put_number(struct text *text, uint32_t number, uint32_t base)
{
	char digits[12];
	int n = sizeof(digits) - 1;

	digits[n] = 0;
	do {
		digits[--n] = "0123456789abcdef"[number % base];
		number /= base;
	} while (number && n > 0);
	put(text, digits + n);
}

static void put_fd(struct text *text, int fd)
{
	put(text, " (fd ");
	put_number(text, (uint32_t)fd, 10);
	put(text, ")");
}

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_un un;
};

static uint32_t swap16(uint16_t network)
{
	return (uint32_t)(network >> 8 | (network & 0xff) << 8);
}

static uint32_t port_of(const union address *address)
{
	return swap16(address->any.sa_family == AF_INET6 ? address->in6.sin6_port : address->in.sin_port);
}

static void put_address(struct text *text, const union address *address)
{
	const uint8_t *bytes = (const uint8_t *)&address->in.sin_addr;

	if (address->any.sa_family == AF_INET6) {
		put(text, "[");
		for (int i = 0; i < 8; i++) {
			put(text, i > 0 ? ":" : "");
			put_number(text, swap16(address->in6.sin6_addr.s6_addr16[i]), 16);
		}
		put(text, "]");
	} else {
		for (int i = 0; i < 4; i++) {
			put(text, i > 0 ? "." : "");
			put_number(text, bytes[i], 10);
		}
	}
	put(text, ":");
	put_number(text, port_of(address), 10);
}

static bool get_address(long call, int fd, union address *ret_address)
{
	socklen_t size = sizeof(*ret_address) - 1;
	char *bytes = (char *)ret_address;

	for (size_t i = 0; i < sizeof(*ret_address); i++)
		bytes[i] = 0;
	return profd_raw3(call, fd, (long)ret_address, (long)&size) == 0 && size > 0;
}

static void put_inet(struct text *text, const union address *own, const union address *peer)
{
	bool own_chosen = port_of(own) >= FIRST_CHOSEN_PORT;

	if (!peer) {
		put_address(text, own);
	} else if (own_chosen) {
		put(text, "to ");
		put_address(text, peer);
	} else {
		put_address(text, own);
		put(text, " (server)");
	}
}

// An abstract name begins with NUL, shown as '@'.
static void put_unix(struct text *text, int fd, const union address *own, const union address *peer)
{
	const union address *named = own->un.sun_path[0] || own->un.sun_path[1] ? own : peer;

	if (!named || (!named->un.sun_path[0] && !named->un.sun_path[1])) {
		text->length--; // the blank
		put_fd(text, fd);
		return;
	}
	put(text, named->un.sun_path[0] ? "" : "@");
	put(text, named->un.sun_path + (named->un.sun_path[0] ? 0 : 1));
}

static bool put_socket(struct text *text, int fd)
{
	union address own, peer;
	bool has_peer;
	int type = 0;
	socklen_t size = sizeof(type);

	if (!get_address(SYS_getsockname, fd, &own))
		return false;
	has_peer = get_address(SYS_getpeername, fd, &peer);
	profd_raw6(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, (long)&type, (long)&size, 0);
	if (own.any.sa_family == AF_INET || own.any.sa_family == AF_INET6) {
		put(text, type == SOCK_STREAM ? "tcp " : type == SOCK_DGRAM ? "udp " : "socket ");
		put_inet(text, &own, has_peer ? &peer : NULL);
	} else if (own.any.sa_family == AF_UNIX) {
		put(text, "unix ");
		put_unix(text, fd, &own, has_peer ? &peer : NULL);
	} else {
		put(text, "socket");
		put_fd(text, fd);
	}
	return true;
}

// "pipe:[123]": the number is of no use to anybody, and another one each time.
static void cut_inode(struct text *text, int fd)
{
	for (uint32_t i = 0; i + 1 < text->length; i++) {
		if (text->at[i] != ':' || text->at[i + 1] != '[')
			continue;
		if (text->at[i + 2] >= '0' && text->at[i + 2] <= '9')
			text->length = i;
		put_fd(text, fd);
		return;
	}
}

uint32_t profd_object_name(int fd, uint64_t words[PROFD_OBJECT_NAME_WORDS])
{
	struct text text = {(char *)words, 0, PROFD_OBJECT_NAME_WORDS * 8 - 1};
	struct text path;
	char buf[40];
	long length;

	for (int i = 0; i < PROFD_OBJECT_NAME_WORDS; i++)
		words[i] = 0;
	if (!put_socket(&text, fd)) {
		path = (struct text){buf, 0, sizeof(buf) - 1};
		put(&path, "/proc/self/fd/");
		put_number(&path, (uint32_t)fd, 10);
		buf[path.length] = 0;
		length = profd_raw4(SYS_readlinkat, AT_FDCWD, (long)buf, (long)text.at, text.room);
		if (length > 0)
			text.length = (uint32_t)length;
		else
			put(&text, "fd"), put_fd(&text, fd);
		if (text.at[0] != '/' && length > 0)
			cut_inode(&text, fd);
	}
	// What was cut off must be gone.
	for (uint32_t i = text.length; i < PROFD_OBJECT_NAME_WORDS * 8; i++)
		text.at[i] = 0;
	return text.length / 8 + 1;
}
