// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// http_message.h: a request as the endpoints see it and the answer they give, free of any HTTP library. Used by the
// connection threads of http.c; each message has one owner.

#ifndef PROFD_COLLECTOR_HTTP_MESSAGE_H
#define PROFD_COLLECTOR_HTTP_MESSAGE_H

#include "formats/writer.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum http_method { HTTP_GET, HTTP_HEAD, HTTP_POST, HTTP_OTHER };

// Which counter of /metrics a request belongs to; a closed set, so that no client can grow it.
enum http_endpoint {
	HTTP_ENDPOINT_OTHER,
	HTTP_ENDPOINT_TARGETS,
	HTTP_ENDPOINT_METRICS,
	HTTP_ENDPOINT_INDEX,
	HTTP_ENDPOINT_PROFILE,
	HTTP_ENDPOINT_CMDLINE,
	HTTP_ENDPOINT_SYMBOL,
	HTTP_ENDPOINT_THREADS,
	HTTP_ENDPOINT_THREADCREATE,
	HTTP_ENDPOINT_WALL,
	HTTP_ENDPOINT_HEAP,
	HTTP_ENDPOINT_ALLOCS,
	HTTP_ENDPOINT_MUTEX,
	HTTP_ENDPOINT_BLOCK,
	HTTP_ENDPOINT_CONFIG,
	HTTP_ENDPOINT_TRACE,
	HTTP_ENDPOINT_ZOMBIES,
	HTTP_ENDPOINT_COUNT
};

// Who asks, while the answer takes its time: see endpoints_wait.
struct http_client {
	int fd;             // the connection's socket
	bool takes_interim; // HTTP/1.1: may be sent a 100 before the answer
	bool half_closed;   // says nothing more, and was sent one to see whether anybody listens
};

struct http_request {
	enum http_method method;
	const char *path;  // decoded; begins with '/'
	const char *query; // raw, without '?'; "" when there is none
	const char *body;  // of a POST; not terminated
	size_t body_size;
	struct http_client *client;
};

// A body that is made while it is sent.
struct http_stream {
	// Writes the next piece: 1: there are more; 0: that was the last; −errno. NULL: there is no stream.
	int (*next)(void *context, struct writer *writer);
	void (*destroy)(void *context);
	void *context; // owned
};

struct http_reply {
	enum http_endpoint endpoint;
	unsigned status;
	const char *content_type; // static
	const char *disposition;  // static; NULL: none
	const char *policy;       // Content-Security-Policy; static; NULL: none
	const char *allow;        // for 405; static
	char location[64];        // for redirects; "" when none
	uint32_t retry_after_s;   // for 503; 0: none
	bool error;               // shown to people by pprof's client (X-Go-Pprof)
	bool no_body;             // HEAD of something that would have to be made first: no length either
	bool hung_up;             // the client is gone: close without an answer
	char *body;               // owned
	size_t size;
	struct http_stream stream; // instead of body; owned
};

enum http_method http_method_by_name(const char *name);
// The value of a query parameter, decoded and cut to size; false when it is not there. The first one counts, as in Go.
bool http_request_param(const struct http_request *request, const char *name, char *buf, size_t size);

void http_reply_finish(struct http_reply *reply);
// Makes reply a one-line text/plain error as the contract wants it.
void http_reply_error(struct http_reply *reply, unsigned status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void http_reply_redirect(struct http_reply *reply, unsigned status, const char *location);

// A body under construction.
struct http_page {
	struct writer writer;
	struct writer_memory memory;
};
void http_page_init(struct http_page *page, size_t max);
// Moves the body into reply (status 200), or makes reply a 500. Finishes page in either case.
void http_page_end(struct http_page *page, struct http_reply *reply, const char *content_type);

#endif
