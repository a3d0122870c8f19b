// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// http_fake.h: a collector that is made up, so that every answer of the HTTP server can be asked for, and a client that is a plain
// socket, so that it sees and sends each byte. Included once by each test of the server, after cmocka.h.

#ifndef PROFD_TESTS_HTTP_FAKE_H
#define PROFD_TESTS_HTTP_FAKE_H

#include "collector/collector.h"
#include "collector/http.h"
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct http_fake {
	struct collector_target targets[300];
	size_t count;
	int open_error;     // what window_open answers
	bool ended;         // windows end at once
	bool no_memory;     // window_profile fails
	int opened;         // windows, ever
	bool no_recorder;   // no target has a flight recorder
	uint32_t last_rate; // asked of the last window
	pid_t last_pid;
	struct wire_rates rates;
};
extern struct http_fake fake;
int http_fake_live(void);                // windows
bool http_fake_wait_for_live(int count); // false: not within 3 s
int http_fake_reset(void **state);       // one target: this process
void http_fake_add_target(pid_t pid, pid_t ppid, const char *comm);

struct answer {
	int status;
	char head[4096];
	char *body; // terminated; the test frees it
	size_t size;
};

#define HOST "Host: localhost:1\r\n"
double http_client_now_s(void);
struct http_server *http_client_serve(struct http_options *options); // on any port, when no address is given
int http_client_connect(const struct http_server *server);
void http_client_send(int fd, const char *text);
// Sends a request that says Connection: close; returns the socket.
int http_client_ask(const struct http_server *server, const char *method, const char *path, const char *headers,
		    const char *body);
void http_client_read(int fd, struct answer *answer); // to the end; closes fd
void http_client_fetch(const struct http_server *server, const char *path, struct answer *answer);
// Again and again, until that is the status, or too long.
void http_client_fetch_until(const struct http_server *server, const char *path, int status, struct answer *ret_answer);

const char *http_client_header(const struct answer *answer, const char *name); // NULL: none; valid until the next call
void assert_header(const struct answer *answer, const char *name, const char *value);
void assert_error(const struct answer *answer, int status, const char *text); // what the contract says of every error
void assert_fetch_error(const struct http_server *server, const char *path, int status, const char *text);

#endif
