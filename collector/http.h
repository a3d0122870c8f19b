// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// http.h: the HTTP server (libmicrohttpd, a thread per connection) in front of the endpoints (endpoints.c).

#ifndef PROFD_COLLECTOR_HTTP_H
#define PROFD_COLLECTOR_HTTP_H

#include <stddef.h>
#include <stdint.h>

struct collector;
struct http_server;

struct http_options {
	const char *address;      // "127.0.0.1:6060", ":6060" (127.0.0.1), "[::1]:6060", "0.0.0.0:6060", "localhost:0"
	uint32_t max_connections; // 0: 64
	uint32_t max_profiles;    // running at once; 0: 8
	uint32_t max_seconds;     // of one profile; 0: 3600
	uint32_t request_seconds; // a request must have come in whole within; 0: 10
	uint32_t default_rate_hz; // 0: 100
	const char *
		allowed_hosts; // comma-separated Host names accepted besides loopback names and the bound address; NULL
	int has_index;         // 1: '/' lists targets (serve); 0: '/' redirects to /debug/pprof/
};

// 0 or −errno; on failure ret_error holds one line for people ("cannot listen on 127.0.0.1:6060: Address already in use").
int http_server_create(struct collector *collector, const struct http_options *options, struct http_server **ret_server,
		       char *ret_error, size_t error_size);
uint16_t http_server_port(const struct http_server *server); // the port really bound (for port 0)
// Ends running requests (their windows are stopped, they answer what they have) and joins all threads. Accepts NULL.
void http_server_destroy(struct http_server *server);

#endif
