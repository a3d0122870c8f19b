// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// endpoint_gate.c: requests that take their seconds: how many may at once, and the wait itself. On the connections' threads.

#include "collector/clock.h"
#include "collector/endpoints.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define BUSY_RETRY_S 1
#define KEEP_ASKING_S 10
#define NS_PER_S 1000000000LL
#define NS_PER_MS 1000000LL

bool endpoints_parse_seconds(const struct endpoints *endpoints, const char *name, const char *text, long *ret_seconds,
			     struct http_reply *reply)
{
	size_t length = strlen(text);

	*ret_seconds = length > 0 && length < 10 && strspn(text, "0123456789") == length ? strtol(text, NULL, 10) : 0;
	if (*ret_seconds > 0 && *ret_seconds <= endpoints->max_seconds)
		return true;
	if (*ret_seconds == 0)
		http_reply_error(reply, 400, "invalid value for \"%s\" - must be a positive integer", name);
	else
		http_reply_error(reply, 400, "%s=%ld is over the limit of %u seconds", name, *ret_seconds,
				 endpoints->max_seconds);
	return false;
}

int endpoints_enter(struct endpoints *endpoints, int64_t deadline_ns, struct http_reply *reply)
{
	struct endpoints_gate *gate = &endpoints->gate;
	int64_t first_ns = INT64_MAX;
	int place = -1;

	pthread_mutex_lock(&gate->lock);
	for (uint32_t i = 0; i < gate->max && place < 0; i++) {
		if (gate->deadlines_ns[i] == 0)
			place = (int)i;
		else if (gate->deadlines_ns[i] < first_ns)
			first_ns = gate->deadlines_ns[i];
	}
	if (place >= 0) {
		gate->deadlines_ns[place] = deadline_ns;
		gate->running++;
	}
	pthread_mutex_unlock(&gate->lock);
	if (place < 0) {
		int64_t left_ns = first_ns - clock_now_ns();

		http_reply_error(reply, 503, "%u profiles are running, which is the limit", gate->max);
		reply->retry_after_s = left_ns > 0 ? (uint32_t)(left_ns / NS_PER_S) + 1 : BUSY_RETRY_S;
	}
	return place;
}

void endpoints_leave(struct endpoints *endpoints, int place)
{
	pthread_mutex_lock(&endpoints->gate.lock);
	endpoints->gate.deadlines_ns[place] = 0;
	endpoints->gate.running--;
	pthread_mutex_unlock(&endpoints->gate.lock);
}

uint32_t endpoints_running(struct endpoints *endpoints)
{
	pthread_mutex_lock(&endpoints->gate.lock);
	uint32_t running = endpoints->gate.running;
	pthread_mutex_unlock(&endpoints->gate.lock);
	return running;
}

// One that half closes and goes later tells nobody. Its kernel forgets the connection after a minute (tcp_fin_timeout), and then resets it
// when it is asked.
static void endpoints_keep_asking(int fd)
{
	const int on = 1, every_s = KEEP_ASKING_S;

	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &every_s, sizeof(every_s));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every_s, sizeof(every_s));
}

// A client that is gone and one that only has nothing more to say (shutdown, as `nc -N` does) look the same: a FIN. So it is sent
// something that every client of HTTP/1.1 passes over: who is gone answers with a reset. false: gone.
static bool endpoints_ask_half_closed(struct http_client *client)
{
	static const char interim[] = "HTTP/1.1 100 Continue\r\n\r\n";

	client->half_closed = true;
	endpoints_keep_asking(client->fd);
	return client->takes_interim && send(client->fd, interim, sizeof(interim) - 1, MSG_NOSIGNAL | MSG_DONTWAIT) ==
						(ssize_t)sizeof(interim) - 1;
}

static bool endpoints_client_is_there(struct http_client *client, short events)
{
	if ((events & (POLLHUP | POLLERR | POLLNVAL)) != 0)
		return false;
	return (events & POLLRDHUP) == 0 || client->half_closed || endpoints_ask_half_closed(client);
}

bool endpoints_wait(const struct endpoints *endpoints, int early_fd, struct http_client *client, int64_t deadline_ns)
{
	struct pollfd fds[] = {
		{.fd = client->fd},
		{.fd = early_fd, .events = POLLIN},
		{.fd = endpoints->stop_fd, .events = POLLIN},
	};

	for (;;) {
		int64_t left_ns = deadline_ns - clock_now_ns();
		int64_t left_ms = left_ns > 0 ? (left_ns + NS_PER_MS - 1) / NS_PER_MS : 0;
		fds[0].events = client->half_closed ? 0 : POLLRDHUP;
		int ready = poll(fds, 3, left_ms > 60000 ? 60000 : (int)left_ms);
		if (ready > 0 && !endpoints_client_is_there(client, fds[0].revents))
			return false;
		if (left_ms == 0 || (ready > 0 && (fds[1].revents != 0 || fds[2].revents != 0)))
			return true;
	}
}
