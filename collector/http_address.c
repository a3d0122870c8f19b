// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// http_address.c: see http_address.h. Any thread.

#include "collector/http_address.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define HTTP_ADDRESS_BACKLOG 64

// An IP address in one form: IPv4 as ::ffff:a.b.c.d.
struct http_address_ip {
	unsigned char bytes[16];
};

static bool http_address_copy(char *to, size_t size, const char *from, size_t length)
{
	if (length >= size)
		return false;
	memcpy(to, from, length);
	to[length] = '\0';
	return true;
}

static bool http_address_port_is_valid(const char *port)
{
	size_t length = strlen(port);

	return length >= 1 && length <= 5 && strspn(port, "0123456789") == length && strtoul(port, NULL, 10) <= 65535;
}

// Splits "host", "host:port" and "[host]:port". A host with several colons and no brackets has no port.
static bool http_address_split(const char *text, struct http_address *ret)
{
	const char *host = text;
	const char *port = "";
	size_t host_length;

	if (text[0] == '[') {
		const char *close = strchr(text, ']');
		if (close == NULL || (close[1] != '\0' && close[1] != ':'))
			return false;
		host = text + 1;
		host_length = (size_t)(close - host);
		if (close[1] == ':')
			port = close + 2;
	} else {
		const char *colon = strchr(text, ':');
		if (colon != NULL && strchr(colon + 1, ':') != NULL)
			colon = NULL;
		host_length = colon != NULL ? (size_t)(colon - text) : strlen(text);
		if (colon != NULL)
			port = colon + 1;
	}
	return http_address_copy(ret->host, sizeof(ret->host), host, host_length) &&
	       http_address_copy(ret->port, sizeof(ret->port), port, strlen(port));
}

int http_address_parse(const char *text, struct http_address *ret_address)
{
	struct http_address address;

	if (http_address_port_is_valid(text)) {
		snprintf(address.host, sizeof(address.host), "127.0.0.1");
		snprintf(address.port, sizeof(address.port), "%s", text);
	} else if (!http_address_split(text, &address) || !http_address_port_is_valid(address.port)) {
		return -EINVAL;
	}
	if (address.host[0] == '\0') {
		if (text[0] == '[')
			return -EINVAL;
		snprintf(address.host, sizeof(address.host), "127.0.0.1");
	}
	*ret_address = address;
	return 0;
}

static int http_address_bind(const struct addrinfo *info)
{
	int on = 1;
	int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, info->ai_protocol);

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, info->ai_addr, info->ai_addrlen) == 0 && listen(fd, HTTP_ADDRESS_BACKLOG) == 0)
		return fd;
	int error = -errno;
	close(fd);
	return error;
}

int http_address_listen(const struct http_address *address, char *error, size_t error_size)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
	struct addrinfo *list = NULL;
	const char *open = strchr(address->host, ':') != NULL ? "[" : "";
	const char *close_bracket = *open != '\0' ? "]" : "";
	int fd = -EADDRNOTAVAIL;
	int failed = getaddrinfo(address->host, address->port, &hints, &list);

	if (failed != 0) {
		snprintf(error, error_size, "cannot listen on %s%s%s:%s: %s", open, address->host, close_bracket,
			 address->port, failed == EAI_SYSTEM ? strerror(errno) : gai_strerror(failed));
		return -EADDRNOTAVAIL;
	}
	for (const struct addrinfo *info = list; info != NULL && fd < 0; info = info->ai_next)
		fd = http_address_bind(info);
	freeaddrinfo(list);
	if (fd < 0)
		snprintf(error, error_size, "cannot listen on %s%s%s:%s: %s", open, address->host, close_bracket,
			 address->port, strerror(-fd));
	return fd;
}

static bool http_address_local(int fd, struct sockaddr_storage *ret)
{
	socklen_t size = sizeof(*ret);

	return getsockname(fd, (struct sockaddr *)ret, &size) == 0;
}

uint16_t http_address_port(int fd)
{
	struct sockaddr_storage local = {0};

	if (!http_address_local(fd, &local))
		return 0;
	if (local.ss_family == AF_INET6)
		return ntohs(((struct sockaddr_in6 *)&local)->sin6_port);
	return local.ss_family == AF_INET ? ntohs(((struct sockaddr_in *)&local)->sin_port) : 0;
}

static struct http_address_ip http_address_mapped(const struct in_addr *address)
{
	struct http_address_ip ip = {.bytes = {[10] = 0xff, [11] = 0xff}};

	memcpy(ip.bytes + 12, address, 4);
	return ip;
}

static bool http_address_literal(const char *host, struct http_address_ip *ret)
{
	struct in_addr v4;

	if (inet_pton(AF_INET, host, &v4) == 1) {
		*ret = http_address_mapped(&v4);
		return true;
	}
	return inet_pton(AF_INET6, host, ret->bytes) == 1;
}

static bool http_address_is_loopback(const struct http_address_ip *ip)
{
	static const unsigned char v6[16] = {[15] = 1};
	static const unsigned char v4_prefix[13] = {[10] = 0xff, [11] = 0xff, [12] = 127};

	return memcmp(ip->bytes, v6, sizeof(v6)) == 0 || memcmp(ip->bytes, v4_prefix, sizeof(v4_prefix)) == 0;
}

static bool http_address_of(const struct sockaddr_storage *address, struct http_address_ip *ret_ip)
{
	if (address->ss_family == AF_INET)
		*ret_ip = http_address_mapped(&((const struct sockaddr_in *)address)->sin_addr);
	else if (address->ss_family == AF_INET6)
		memcpy(ret_ip->bytes, &((const struct sockaddr_in6 *)address)->sin6_addr, sizeof(ret_ip->bytes));
	else
		return false;
	return true;
}

bool http_address_peer_is_loopback(int connection_fd)
{
	struct sockaddr_storage peer = {0};
	socklen_t size = sizeof(peer);
	struct http_address_ip ip;

	return getpeername(connection_fd, (struct sockaddr *)&peer, &size) == 0 && http_address_of(&peer, &ip) &&
	       http_address_is_loopback(&ip);
}

// Whether the connection came in on this very address.
static bool http_address_is_local(const struct http_address_ip *ip, int fd)
{
	struct sockaddr_storage local = {0};
	struct http_address_ip own;

	return http_address_local(fd, &local) && http_address_of(&local, &own) &&
	       memcmp(own.bytes, ip->bytes, sizeof(own.bytes)) == 0;
}

static bool http_address_is_listed(const char *host, const char *list)
{
	size_t length = strlen(host);

	while (list != NULL && *list != '\0') {
		list += strspn(list, ", ");
		size_t item = strcspn(list, ", ");
		if (item == length && strncasecmp(list, host, length) == 0)
			return length != 0;
		list += item;
	}
	return false;
}

bool http_address_host_is_ours(const char *host_header, const struct http_address *address, const char *allowed,
			       int connection_fd)
{
	struct http_address given;
	struct http_address_ip ip;

	if (host_header == NULL || !http_address_split(host_header, &given) || given.host[0] == '\0')
		return false;
	if (given.port[0] != '\0' && !http_address_port_is_valid(given.port))
		return false;
	size_t length = strlen(given.host);
	if (length > 1 && given.host[length - 1] == '.')
		given.host[length - 1] = '\0'; // "localhost." is the same name
	if (http_address_literal(given.host, &ip) &&
	    (http_address_is_loopback(&ip) || http_address_is_local(&ip, connection_fd)))
		return true;
	return strcasecmp(given.host, "localhost") == 0 || strcasecmp(given.host, address->host) == 0 ||
	       http_address_is_listed(given.host, allowed);
}
