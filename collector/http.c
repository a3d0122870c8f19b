// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// http.c: the server's life, its limits, and the border between libmicrohttpd and the endpoints. Threads: libmicrohttpd's listening
// thread (connection start and end), one for each connection (requests), and the janitor.
//
// Limits. libmicrohttpd stops accepting at its own limit and lets clients wait, so it is given HTTP_SPARE more than we serve: who
// comes in over max_connections is answered 503 at once. The janitor ends connections whose request has not come in whole within
// request_seconds, however slowly their bytes drip; libmicrohttpd's timeout ends those that do not take their answer.

#include "collector/http.h"
#include "collector/clock.h"
#include "collector/endpoints.h"
#include "collector/http_address.h"
#include "collector/http_response.h"
#include "collector/http_site.h"
#include <assert.h>
#include <errno.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HTTP_MAX_CONNECTIONS 64
#define HTTP_MAX_PROFILES 8
#define HTTP_MAX_SECONDS 3600
#define HTTP_DEFAULT_RATE_HZ 100
#define HTTP_SPARE 32
#define HTTP_HEADER_BYTES (32u << 10)
#define HTTP_BODY_BYTES (1u << 20)
#define HTTP_DISCARD_BYTES (4u << 20) // read of a body that is too long, to answer so; more is cut off
#define HTTP_REQUEST_S 10
#define HTTP_IDLE_S 30
#define HTTP_DRAIN_S 30
#define NS_PER_S 1000000000LL

// Made and freed on the listening thread; in server->connections in between, guarded by server->lock.
struct http_connection {
	struct http_connection *previous, *next;
	int fd;
	int64_t reading_since_ns; // monotonic; 0: a request is being answered
	bool excess;              // over max_connections
};

struct http_server {
	struct MHD_Daemon *daemon;
	struct endpoints endpoints;
	struct http_address address;
	char *allowed_hosts;
	int listen_fd, stop_fd;
	uint32_t max_connections, request_seconds;
	uint16_t port;

	pthread_mutex_t lock;
	pthread_cond_t changed; // connections, answering or stopping did
	struct http_connection *connections;
	uint32_t nconnections;
	uint32_t answering; // requests between their last byte in and their last byte out
	bool stopping, has_janitor;
	pthread_t janitor;
};

// One request, from its first line to the end of its answer.
struct http_exchange {
	char *uri; // raw
	bool started, answering;
	char *body;
	size_t body_size, body_seen;
};

// ---- Connections ---------------------------------------------------------------------------------------------------

static struct http_connection *http_connection_start(struct http_server *server, int fd)
{
	struct http_connection *connection = calloc(1, sizeof(*connection));

	if (connection == NULL)
		return NULL; // its requests are refused
	connection->fd = fd;
	connection->reading_since_ns = clock_now_ns();
	pthread_mutex_lock(&server->lock);
	connection->excess = server->nconnections >= server->max_connections;
	connection->next = server->connections;
	if (connection->next != NULL)
		connection->next->previous = connection;
	server->connections = connection;
	server->nconnections++;
	pthread_cond_broadcast(&server->changed);
	pthread_mutex_unlock(&server->lock);
	return connection;
}

static void http_connection_end(struct http_server *server, struct http_connection *connection)
{
	if (connection == NULL)
		return;
	pthread_mutex_lock(&server->lock);
	if (connection->previous != NULL)
		connection->previous->next = connection->next;
	else
		server->connections = connection->next;
	if (connection->next != NULL)
		connection->next->previous = connection->previous;
	server->nconnections--;
	pthread_mutex_unlock(&server->lock);
	free(connection);
}

static void http_on_connection(void *context, struct MHD_Connection *mhd, void **socket_context,
			       enum MHD_ConnectionNotificationCode code)
{
	struct http_server *server = context;

	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
		*socket_context = http_connection_start(server, info != NULL ? info->connect_fd : -1);
	} else {
		http_connection_end(server, *socket_context); // the socket is closed after this
	}
}

static struct http_connection *http_connection_of(struct MHD_Connection *mhd)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	return info != NULL ? info->socket_context : NULL;
}

// Cuts off who has been sending one request for too long. Its thread sees the end of the stream and cleans up.
static void http_cut_slow(struct http_server *server)
{
	int64_t limit_ns = clock_now_ns() - server->request_seconds * NS_PER_S;

	for (struct http_connection *c = server->connections; c != NULL; c = c->next) {
		if (c->reading_since_ns != 0 && c->reading_since_ns < limit_ns)
			shutdown(c->fd, SHUT_RDWR);
	}
}

// Sleeps for as long as there are no connections.
static void *http_janitor(void *context)
{
	struct http_server *server = context;

	pthread_mutex_lock(&server->lock);
	while (!server->stopping) {
		if (server->connections == NULL) {
			pthread_cond_wait(&server->changed, &server->lock);
			continue;
		}
		struct timespec until;
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec++;
		pthread_cond_timedwait(&server->changed, &server->lock, &until);
		http_cut_slow(server);
	}
	pthread_mutex_unlock(&server->lock);
	return NULL;
}

// ---- Requests ------------------------------------------------------------------------------------------------------

static void *http_on_uri(void *context, const char *uri, struct MHD_Connection *mhd)
{
	struct http_exchange *exchange = calloc(1, sizeof(*exchange));

	if (exchange == NULL)
		return NULL;
	exchange->uri = strdup(uri);
	if (exchange->uri == NULL) {
		free(exchange);
		return NULL;
	}
	return exchange;
}

// Moves the connection between being read and being answered.
static void http_set_answering(struct http_server *server, struct MHD_Connection *mhd, bool answering)
{
	struct http_connection *connection = http_connection_of(mhd);

	pthread_mutex_lock(&server->lock);
	server->answering += answering ? 1 : -1U;
	if (connection != NULL)
		connection->reading_since_ns = answering ? 0 : clock_now_ns();
	pthread_cond_broadcast(&server->changed);
	pthread_mutex_unlock(&server->lock);
}

static void http_on_completed(void *context, struct MHD_Connection *mhd, void **request_context,
			      enum MHD_RequestTerminationCode why)
{
	struct http_exchange *exchange = *request_context;

	if (exchange == NULL)
		return;
	if (exchange->answering)
		http_set_answering(context, mhd, false);
	free(exchange->uri);
	free(exchange->body);
	free(exchange);
	*request_context = NULL;
}

static enum MHD_Result http_answer(struct http_server *server, struct MHD_Connection *mhd, struct http_reply *reply)
{
	enum MHD_Result result = MHD_NO; // closes the connection

	metrics_count(&server->endpoints.metrics, reply);
	if (!reply->hung_up) {
		struct MHD_Response *response = http_response_create(reply);
		if (response != NULL) {
			result = MHD_queue_response(mhd, reply->status, response);
			MHD_destroy_response(response);
		}
	}
	http_reply_finish(reply);
	return result;
}

static enum MHD_Result http_count_host(void *context, enum MHD_ValueKind kind, const char *name, const char *value)
{
	if (strcasecmp(name, "Host") == 0)
		(*(uint32_t *)context)++;
	return MHD_YES;
}

static bool http_host_is_ours(struct http_server *server, struct MHD_Connection *mhd, int fd)
{
	uint32_t hosts = 0;

	MHD_get_connection_values(mhd, MHD_HEADER_KIND, http_count_host, &hosts);
	return hosts == 1 && http_address_host_is_ours(MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, "Host"),
						       &server->address, server->allowed_hosts, fd);
}

static const char *http_request_header(struct MHD_Connection *mhd, const char *name)
{
	return MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, name);
}

// Checks that need only the headers. false: reply says why the request goes no further.
static bool http_check(struct http_server *server, struct MHD_Connection *mhd, const char *path, const char *method,
		       struct http_reply *reply)
{
	struct http_connection *connection = http_connection_of(mhd);
	const char *length = http_request_header(mhd, "Content-Length");
	const struct http_site from = {.site = http_request_header(mhd, "Sec-Fetch-Site"),
				       .mode = http_request_header(mhd, "Sec-Fetch-Mode"),
				       .destination = http_request_header(mhd, "Sec-Fetch-Dest")};

	if (connection == NULL || connection->excess) {
		http_reply_error(reply, 503, "%u connections are open, which is the limit", server->max_connections);
		reply->retry_after_s = 1;
	} else if (!http_host_is_ours(server, mhd, connection->fd)) {
		http_reply_error(reply, 403,
				 "the Host header names none of this server's addresses; --allow-host adds one");
	} else if (!http_site_may_ask(&from, http_method_by_name(method), path)) {
		http_reply_error(reply, 403,
				 "a page of another site sent you here; type the address, or go by /debug/pprof/");
	} else if (http_method_by_name(method) == HTTP_OTHER) {
		http_reply_error(reply, 405, "method not allowed");
		reply->allow = "GET, HEAD";
	} else if (length != NULL && (strlen(length) > 9 || strtoul(length, NULL, 10) > HTTP_BODY_BYTES)) {
		http_reply_error(reply, 413, "the body is over the limit of %u bytes", HTTP_BODY_BYTES);
	}
	return reply->status == 0;
}

// Takes a piece of the body. What goes over the limit is counted, not kept.
static enum MHD_Result http_take_body(struct http_exchange *exchange, const char *data, size_t *size)
{
	exchange->body_seen += *size;
	if (exchange->body_seen > HTTP_DISCARD_BYTES)
		return MHD_NO;
	if (exchange->body_seen <= HTTP_BODY_BYTES) {
		char *body = realloc(exchange->body, exchange->body_seen);
		if (body == NULL)
			return MHD_NO;
		exchange->body = body;
		memcpy(body + exchange->body_size, data, *size);
		exchange->body_size += *size;
	}
	*size = 0;
	return MHD_YES;
}

static void http_serve(struct http_server *server, struct MHD_Connection *mhd, const char *path, const char *method,
		       const char *version, const struct http_exchange *exchange, struct http_reply *reply)
{
	const char *query = strchr(exchange->uri, '?');
	struct http_client client = {
		.fd = http_connection_of(mhd)->fd,
		.takes_interim = strcmp(version, "HTTP/1.1") == 0,
	};
	struct http_request request = {
		.method = http_method_by_name(method),
		.path = path,
		.query = query != NULL ? query + 1 : "",
		.body = exchange->body != NULL ? exchange->body : "",
		.body_size = exchange->body_size,
		.client = &client,
	};

	if (exchange->body_seen > HTTP_BODY_BYTES)
		http_reply_error(reply, 413, "the body is over the limit of %u bytes", HTTP_BODY_BYTES);
	else
		endpoints_serve(&server->endpoints, &request, reply);
}

static enum MHD_Result http_on_request(void *context, struct MHD_Connection *mhd, const char *url, const char *method,
				       const char *version, const char *data, size_t *size, void **request_context)
{
	struct http_server *server = context;
	struct http_exchange *exchange = *request_context;
	struct http_reply reply = {0};

	if (exchange == NULL)
		return MHD_NO; // out of memory
	if (!exchange->started) {
		exchange->started = true;
		if (http_check(server, mhd, url, method, &reply))
			return MHD_YES;
	} else if (*size > 0) {
		return http_take_body(exchange, data, size);
	}
	exchange->answering = true;
	http_set_answering(server, mhd, true);
	if (reply.status == 0) {
		// The endpoint may take longer than the idle timeout, which must not count while we make the client wait.
		MHD_set_connection_option(mhd, MHD_CONNECTION_OPTION_TIMEOUT, 0U);
		http_serve(server, mhd, url, method, version, exchange, &reply);
		MHD_set_connection_option(mhd, MHD_CONNECTION_OPTION_TIMEOUT, (unsigned)HTTP_IDLE_S);
	}
	return http_answer(server, mhd, &reply);
}

// ---- Life ----------------------------------------------------------------------------------------------------------

static void http_ignore_log(void *context, const char *fmt, va_list args) {}

static uint32_t http_or(uint32_t value, uint32_t fallback, uint32_t max)
{
	if (value == 0)
		return fallback;
	return value < max ? value : max;
}

static int http_init(struct http_server *server, struct collector *collector, const struct http_options *options)
{
	struct endpoints *endpoints = &server->endpoints;
	pthread_condattr_t monotonic;

	endpoints->collector = collector;
	endpoints->has_index = options->has_index != 0;
	endpoints->max_seconds = http_or(options->max_seconds, HTTP_MAX_SECONDS, UINT32_MAX);
	endpoints->default_rate_hz = http_or(options->default_rate_hz, HTTP_DEFAULT_RATE_HZ, UINT32_MAX);
	endpoints->gate.max = http_or(options->max_profiles, HTTP_MAX_PROFILES, ENDPOINTS_MAX_PROFILES);
	server->max_connections = http_or(options->max_connections, HTTP_MAX_CONNECTIONS, 4096);
	server->request_seconds = http_or(options->request_seconds, HTTP_REQUEST_S, HTTP_IDLE_S);
	server->listen_fd = -1;
	pthread_mutex_init(&endpoints->gate.lock, NULL);
	pthread_mutex_init(&server->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&server->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	server->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (server->stop_fd < 0)
		return -errno;
	endpoints->stop_fd = server->stop_fd;
	if (options->allowed_hosts != NULL && (server->allowed_hosts = strdup(options->allowed_hosts)) == NULL)
		return -ENOMEM;
	return 0;
}

static int http_start(struct http_server *server)
{
	if (pthread_create(&server->janitor, NULL, http_janitor, server) != 0)
		return -EAGAIN;
	server->has_janitor = true;
	server->daemon = MHD_start_daemon(
		MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_USE_ITC |
			MHD_USE_ERROR_LOG,
		0, NULL, NULL, http_on_request, server, MHD_OPTION_EXTERNAL_LOGGER, http_ignore_log, NULL,
		MHD_OPTION_LISTEN_SOCKET, (MHD_socket)server->listen_fd, MHD_OPTION_CONNECTION_LIMIT,
		(unsigned)(server->max_connections + HTTP_SPARE), MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)HTTP_IDLE_S,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_HEADER_BYTES, MHD_OPTION_URI_LOG_CALLBACK, http_on_uri,
		server, MHD_OPTION_NOTIFY_COMPLETED, http_on_completed, server, MHD_OPTION_NOTIFY_CONNECTION,
		http_on_connection, server, MHD_OPTION_STRICT_FOR_CLIENT, 0, MHD_OPTION_END);
	return server->daemon != NULL ? 0 : -EAGAIN;
}

int http_server_create(struct collector *collector, const struct http_options *options, struct http_server **ret_server,
		       char *ret_error, size_t error_size)
{
	struct http_server *server = calloc(1, sizeof(*server));
	int error;

	if (server == NULL) {
		snprintf(ret_error, error_size, "out of memory");
		return -ENOMEM;
	}
	error = http_init(server, collector, options);
	if (error == 0)
		error = http_address_parse(options->address, &server->address);
	if (error == -EINVAL) {
		snprintf(ret_error, error_size,
			 "'%s' is no address to listen on; it reads HOST:PORT, :PORT or [IPV6]:PORT", options->address);
	} else if (error != 0) {
		snprintf(ret_error, error_size, "cannot start the HTTP server: %s", strerror(-error));
	} else {
		server->listen_fd = http_address_listen(&server->address, ret_error, error_size);
		error = server->listen_fd < 0 ? server->listen_fd : 0;
		if (error == 0) {
			server->port = http_address_port(server->listen_fd);
			error = http_start(server);
			if (error != 0)
				snprintf(ret_error, error_size, "cannot start the HTTP server's threads");
		}
	}
	if (error != 0) {
		http_server_destroy(server);
		return error;
	}
	*ret_server = server;
	return 0;
}

uint16_t http_server_port(const struct http_server *server)
{
	return server->port;
}

// No new connections; then every request that runs gets its answer out, within HTTP_DRAIN_S.
static void http_drain(struct http_server *server)
{
	uint64_t one = 1;
	struct timespec until;

	if (server->daemon != NULL)
		MHD_quiesce_daemon(server->daemon);
	if (server->listen_fd >= 0)
		shutdown(server->listen_fd, SHUT_RDWR); // the port is another's to listen on while answers go out
	ssize_t written = write(server->stop_fd, &one, sizeof(one)); // a fresh eventfd has room
	assert(written == sizeof(one));
	(void)written;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += HTTP_DRAIN_S;
	pthread_mutex_lock(&server->lock);
	while (server->answering > 0 && pthread_cond_timedwait(&server->changed, &server->lock, &until) != ETIMEDOUT)
		;
	server->stopping = true;
	pthread_cond_broadcast(&server->changed);
	pthread_mutex_unlock(&server->lock);
}

void http_server_destroy(struct http_server *server)
{
	if (server == NULL)
		return;
	if (server->stop_fd >= 0)
		http_drain(server);
	if (server->has_janitor)
		pthread_join(server->janitor, NULL);
	if (server->daemon != NULL)
		MHD_stop_daemon(server->daemon);
	if (server->listen_fd >= 0)
		close(server->listen_fd);
	if (server->stop_fd >= 0)
		close(server->stop_fd);
	pthread_cond_destroy(&server->changed);
	pthread_mutex_destroy(&server->lock);
	pthread_mutex_destroy(&server->endpoints.gate.lock);
	free(server->allowed_hosts);
	free(server);
}
