// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// http_address.h: "host:port" as people type it, the listening socket made from it, and which Host headers are ours.

#ifndef PROFD_COLLECTOR_HTTP_ADDRESS_H
#define PROFD_COLLECTOR_HTTP_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_address {
	char host[256]; // name or address, without brackets
	char port[8];   // digits, 0…65535
};

// "127.0.0.1:6060", ":6060" and "6060" (both 127.0.0.1), "[::1]:6060", "localhost:0". 0 or −EINVAL.
int http_address_parse(const char *text, struct http_address *ret_address);

// Binds and listens. Returns an fd (non-blocking, close-on-exec), or −errno with one line in error.
int http_address_listen(const struct http_address *address, char *error, size_t error_size);
// The port a socket is bound to; 0 when it is not.
uint16_t http_address_port(int fd);

// Is the other end of a connection on this host, by a loopback address?
bool http_address_peer_is_loopback(int connection_fd);

// Whether a Host header may be answered: a page in a browser whose name was made to point at us (DNS rebinding) carries its own
// name there. Ours are: loopback names and addresses, the name that --http was given, the address that connection_fd
// really came in on, and allowed (comma-separated names, may be NULL). Ports are free: forwarding changes them.
bool http_address_host_is_ours(const char *host_header, const struct http_address *address, const char *allowed,
			       int connection_fd);

#endif
