// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_http_limits.c: many clients, slow ones, wrong ones, those that leave; and the addresses to listen on.

#include "collector/http_address.h"
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/http_fake.h"

// ---- Many profiles --------------------------------------------------------------------------------------------------

// One client's hang-up ends its own window at once, nobody else's.
static void test_hang_up(void **state)
{
	struct http_server *server = http_client_serve(&(struct http_options){0});
	int stays = http_client_ask(server, "GET", "/debug/pprof/profile?seconds=60", HOST, "");
	int leaves = http_client_ask(server, "GET", "/debug/pprof/profile?seconds=60", HOST, "");
	struct answer answer;

	assert_true(http_fake_wait_for_live(2));
	close(leaves);
	assert_true(http_fake_wait_for_live(1)); // for half of its 60 s at most
	usleep(100000);
	assert_int_equal(http_fake_live(), 1);
	http_client_fetch(server, "/metrics", &answer);
	assert_non_null(strstr(answer.body, "\nprofd_http_hangups_total 1\n"));
	assert_non_null(strstr(answer.body, "\nprofd_profiles_running 1\n"));
	free(answer.body);
	close(stays);
	assert_true(http_fake_wait_for_live(0));
	http_server_destroy(server);
}

static int ask_and_shut(const struct http_server *server, const char *version, const char *path)
{
	char text[256];
	int fd = http_client_connect(server);

	snprintf(text, sizeof(text), "GET %s HTTP/%s\r\n" HOST "Connection: close\r\n\r\n", path, version);
	http_client_send(fd, text);
	shutdown(fd, SHUT_WR);
	return fd;
}

// Who has nothing more to say still gets the answer, after a 100 that every client of HTTP/1.1 passes over.
static void test_half_closed(void **state)
{
	struct http_server *server = http_client_serve(&(struct http_options){0});
	static const char interim[] = "HTTP/1.1 100 Continue\r\n\r\n";
	static const char path[] = "/debug/pprof/profile?seconds=60&format=folded";
	char got[sizeof(interim)] = "";
	struct answer answer;
	int fd = ask_and_shut(server, "1.1", path);

	assert_int_equal(recv(fd, got, sizeof(got) - 1, MSG_WAITALL), sizeof(got) - 1);
	assert_string_equal(got, interim);
	http_client_read(ask_and_shut(server, "1.0", path), &answer);
	assert_int_equal(answer.status, 0); // knows no 100: it counts as gone
	free(answer.body);
	assert_true(http_fake_wait_for_live(1)); // the other one stays
	http_server_destroy(server);
	http_client_read(fd, &answer);
	assert_int_equal(answer.status, 200);
	assert_non_null(strstr(answer.body, "work 42\n"));
	free(answer.body);
	assert_int_equal(http_fake_live(), 0);
}

static void test_too_many_profiles(void **state)
{
	struct http_server *server = http_client_serve(&(struct http_options){.max_profiles = 2});
	int first = http_client_ask(server, "GET", "/debug/pprof/profile?seconds=60", HOST, "");
	int second = http_client_ask(server, "GET", "/debug/pprof/profile?seconds=20", HOST, "");
	struct answer answer;

	assert_true(http_fake_wait_for_live(2));
	double start = http_client_now_s();
	http_client_fetch(server, "/debug/pprof/profile?seconds=100", &answer);
	assert_true(http_client_now_s() - start < 15); // at once
	assert_error(&answer, 503, "2 profiles are running");
	long retry = strtol(http_client_header(&answer, "Retry-After"), NULL, 10);
	assert_true(retry >= 1 && retry <= 20); // when the first of them will be ready
	free(answer.body);
	close(second);
	assert_true(http_fake_wait_for_live(1));
	fake.ended = true; // a place is free again, in a moment
	http_client_fetch_until(server, "/debug/pprof/profile?seconds=1", 200, &answer);
	assert_int_equal(answer.status, 200);
	free(answer.body);
	close(first);
	http_server_destroy(server);
}

// The server's end: what runs answers with what it has.
static void test_destroy_answers(void **state)
{
	struct http_server *server = http_client_serve(&(struct http_options){0});
	int fd = http_client_ask(server, "GET", "/debug/pprof/profile?seconds=60&format=folded", HOST, "");
	int idle = http_client_connect(server);
	struct answer answer;

	assert_true(http_fake_wait_for_live(1));
	double start = http_client_now_s();
	http_server_destroy(server);
	assert_true(http_client_now_s() - start < 30);
	http_client_read(fd, &answer);
	assert_int_equal(answer.status, 200);
	assert_non_null(strstr(answer.body, "work 42\n"));
	free(answer.body);
	close(idle);
	assert_int_equal(http_fake_live(), 0);
}

// ---- Hosts and limits ----------------------------------------------------------------------------------------------

static int status_for_host(const struct http_server *server, const char *headers)
{
	struct answer answer;

	http_client_read(http_client_ask(server, "GET", "/debug/pprof/cmdline", headers, ""), &answer);
	int status = answer.status;
	if (status != 200)
		assert_error(&answer, 403, "Host header");
	free(answer.body);
	return status;
}

static void test_host(void **state)
{
	struct http_server *server = http_client_serve(
		&(struct http_options){.address = "127.0.0.1:0", .allowed_hosts = "box.example, other"});
	static const char *const ours[] = {"localhost", "LOCALHOST:80",      "localhost.:6060", "127.0.0.1:1",
					   "127.9.8.7", "[::1]:6060",        "[::1]",           "box.example:6060",
					   "Other:1",   "[::ffff:127.0.0.1]"};
	static const char *const others[] = {"evil.example",
					     "localhost.evil.example",
					     "127.0.0.1.evil.example",
					     "",
					     "10.0.0.1",
					     "[::2]:6060",
					     "localhost:x",
					     "localhost:1:2",
					     "127.0.0.1@evil.example",
					     "box.example.org",
					     "box",
					     "[::1",
					     "localhost:666666",
					     "0x7f.1"};
	char line[128];

	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
		snprintf(line, sizeof(line), "Host: %s\r\n", ours[i]);
		assert_int_equal(status_for_host(server, line), 200);
	}
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		snprintf(line, sizeof(line), "Host: %s\r\n", others[i]);
		assert_int_equal(status_for_host(server, line), 403);
	}
	assert_int_equal(status_for_host(server, ""), 403);
	assert_int_equal(status_for_host(server, "Host: localhost\r\nHost: evil.example\r\n"), 403);
	http_server_destroy(server);
}

static int status_for_site(const struct http_server *server, const char *method, const char *path, const char *site,
			   const char *mode, const char *destination)
{
	struct answer answer;
	char headers[256];

	snprintf(headers, sizeof(headers), HOST "Sec-Fetch-Site: %s\r\nSec-Fetch-Mode: %s\r\nSec-Fetch-Dest: %s\r\n",
		 site, mode, destination);
	http_client_read(http_client_ask(server, method, path, headers, ""), &answer);
	int status = answer.status;
	if (status == 403)
		assert_error(&answer, 403, "another site");
	free(answer.body);
	return status;
}

// What a page of another site can make a browser ask: only a person's window goes to an index, nothing else gets through.
static void test_other_sites(void **state)
{
	struct http_server *server = http_client_serve(&(struct http_options){.has_index = 1});
	static const char *const indexes[] = {"/", "/debug/pprof/", "/debug/pprof", "/1", "/1/debug/pprof"};
	static const char *const more[] = {"/metrics",
					   "/debug/pprof/cmdline",
					   "/debug/pprof/goroutine?debug=2",
					   "/debug/pprof/profile?seconds=60",
					   "/1/debug/pprof/profile",
					   "/x",
					   "/1x/"};

	fake.ended = true;
	for (size_t i = 0; i < sizeof(more) / sizeof(more[0]); i++) {
		assert_int_equal(status_for_site(server, "GET", more[i], "cross-site", "no-cors", "image"), 403);
		assert_int_equal(status_for_site(server, "GET", more[i], "same-site", "cors", "empty"), 403);
		assert_int_equal(status_for_site(server, "GET", more[i], "cross-site", "navigate", "document"), 403);
		assert_int_not_equal(status_for_site(server, "GET", more[i], "same-origin", "cors", "empty"), 403);
		assert_int_not_equal(status_for_site(server, "GET", more[i], "none", "navigate", "document"), 403);
	}
	for (size_t i = 0; i < sizeof(indexes) / sizeof(indexes[0]); i++) {
		assert_int_not_equal(status_for_site(server, "GET", indexes[i], "cross-site", "navigate", "document"),
				     403);
		assert_int_not_equal(status_for_site(server, "GET", indexes[i], "same-site", "navigate", "document"),
				     403);
		assert_int_equal(status_for_site(server, "GET", indexes[i], "cross-site", "navigate", "iframe"), 403);
		assert_int_equal(status_for_site(server, "GET", indexes[i], "cross-site", "no-cors", "script"), 403);
		assert_int_equal(status_for_site(server, "POST", indexes[i], "cross-site", "navigate", "document"),
				 403);
	}
	assert_int_equal(status_for_site(server, "POST", "/debug/pprof/symbol", "cross-site", "no-cors", "empty"), 403);
	http_server_destroy(server);
}

static void test_long_headers(void **state)
{
	struct http_server *server = http_client_serve(&(struct http_options){0});
	char *text = malloc(100000);
	int fd = http_client_connect(server);
	struct answer answer;

	memset(text, 'a', 99999);
	text[99999] = '\0';
	http_client_send(fd, "GET /debug/pprof/cmdline HTTP/1.1\r\nHost: localhost\r\nX: ");
	http_client_send(fd, text);
	http_client_send(fd, "\r\n\r\n");
	http_client_read(fd, &answer);
	assert_true(answer.status == 0 || (answer.status >= 400 && answer.status < 500));
	free(answer.body);
	free(text);
	http_client_fetch(server, "/debug/pprof/cmdline", &answer);
	assert_int_equal(answer.status, 200);
	free(answer.body);
	http_server_destroy(server);
}

static void test_long_body(void **state)
{
	struct http_server *server = http_client_serve(&(struct http_options){0});
	struct answer answer;

	http_client_read(http_client_ask(server, "POST", "/debug/pprof/symbol", HOST "Content-Length: 1048577\r\n", ""),
			 &answer);
	assert_error(&answer, 413, "limit of 1048576 bytes");
	free(answer.body);
	http_client_read(http_client_ask(server, "POST", "/debug/pprof/symbol",
					 HOST "Content-Length: 99999999999999999\r\n", ""),
			 &answer);
	assert_error(&answer, 413, "limit of 1048576 bytes");
	free(answer.body);
	// Without a length: 1.5 MiB in chunks.
	int fd = http_client_connect(server);
	char *chunk = malloc(65537);
	memset(chunk, '+', 65536);
	chunk[65536] = '\0';
	http_client_send(fd, "POST /debug/pprof/symbol HTTP/1.1\r\n" HOST
			     "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n");
	for (int i = 0; i < 24; i++) {
		http_client_send(fd, "10000\r\n");
		http_client_send(fd, chunk);
		http_client_send(fd, "\r\n");
	}
	http_client_send(fd, "0\r\n\r\n");
	http_client_read(fd, &answer);
	assert_error(&answer, 413, "limit of 1048576 bytes");
	free(answer.body);
	free(chunk);
	http_server_destroy(server);
}

static void test_too_many_connections(void **state)
{
	struct http_server *server = http_client_serve(&(struct http_options){.max_connections = 3});
	int idle[3];
	struct answer answer;

	for (int i = 0; i < 3; i++)
		idle[i] = http_client_connect(server);
	http_client_fetch_until(server, "/debug/pprof/cmdline", 503, &answer); // they are taken one after the other
	assert_error(&answer, 503, "3 connections are open");
	assert_header(&answer, "Retry-After", "1");
	free(answer.body);
	close(idle[0]);
	close(idle[1]);
	http_client_fetch_until(server, "/debug/pprof/cmdline", 200, &answer);
	assert_int_equal(answer.status, 200);
	free(answer.body);
	close(idle[2]);
	http_server_destroy(server);
}

// Byte by byte is activity to the library's timeout; the janitor still ends it.
static void test_dripping_client(void **state)
{
	struct http_server *server = http_client_serve(&(struct http_options){.request_seconds = 1});
	int fd = http_client_connect(server);
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN | POLLRDHUP};
	double start = http_client_now_s();

	http_client_send(fd, "GET / HTTP/1.1\r\n");
	while (http_client_now_s() - start < 40 && poll(&poll_fd, 1, 100) == 0)
		http_client_send(fd, "X");
	assert_true(http_client_now_s() - start > 0.9 && http_client_now_s() - start < 30);
	close(fd);
	http_server_destroy(server);
}

// ---- Addresses -----------------------------------------------------------------------------------------------------

static void test_addresses(void **state)
{
	static const char *const good[][3] = {
		{"127.0.0.1:6060", "127.0.0.1", "6060"}, {":6060", "127.0.0.1", "6060"},
		{"6060", "127.0.0.1", "6060"},           {"[::1]:0", "::1", "0"},
		{"0.0.0.0:80", "0.0.0.0", "80"},         {"localhost:65535", "localhost", "65535"}};
	static const char *const bad[] = {"",     "localhost", "1.2.3.4", "[::1]", "[::1]6060", "::1:6060", ":65536",
					  ":abc", "host:",     ":-1",     "[]:80", "[::1:80",   "a:1:2",    ": 80"};
	struct http_address address;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(http_address_parse(good[i][0], &address), 0);
		assert_string_equal(address.host, good[i][1]);
		assert_string_equal(address.port, good[i][2]);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(http_address_parse(bad[i], &address), -EINVAL);
}

static void test_port_in_use(void **state)
{
	struct http_server *server = http_client_serve(&(struct http_options){0});
	struct http_server *other = NULL;
	char address[64];
	char expected[128];
	char error[256] = "";

	snprintf(address, sizeof(address), "127.0.0.1:%u", http_server_port(server));
	struct http_options options = {.address = address};
	assert_int_equal(http_server_create(NULL, &options, &other, error, sizeof(error)), -EADDRINUSE);
	snprintf(expected, sizeof(expected), "cannot listen on %s: Address already in use", address);
	assert_string_equal(error, expected);
	assert_null(other);
	http_server_destroy(server);
	options.address = "nonsense";
	assert_int_equal(http_server_create(NULL, &options, &other, error, sizeof(error)), -EINVAL);
	assert_non_null(strstr(error, "'nonsense'"));
	options.address = "203.0.113.1:1"; // not an address of ours
	assert_int_equal(http_server_create(NULL, &options, &other, error, sizeof(error)), -EADDRNOTAVAIL);
	http_server_destroy(NULL);
}

static void test_ipv6(void **state)
{
	struct http_server *server = NULL;
	struct http_options options = {.address = "[::1]:0"};
	char error[256] = "";
	struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct answer answer;

	if (http_server_create(NULL, &options, &server, error, sizeof(error)) != 0)
		skip(); // this machine has no IPv6
	address.sin6_port = htons(http_server_port(server));
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	http_client_send(fd, "GET /debug/pprof/cmdline HTTP/1.1\r\nHost: [::1]:80\r\nConnection: close\r\n\r\n");
	http_client_read(fd, &answer);
	assert_int_equal(answer.status, 200);
	free(answer.body);
	http_server_destroy(server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_hang_up, http_fake_reset),
		cmocka_unit_test_setup(test_half_closed, http_fake_reset),
		cmocka_unit_test_setup(test_too_many_profiles, http_fake_reset),
		cmocka_unit_test_setup(test_destroy_answers, http_fake_reset),
		cmocka_unit_test_setup(test_host, http_fake_reset),
		cmocka_unit_test_setup(test_other_sites, http_fake_reset),
		cmocka_unit_test_setup(test_long_headers, http_fake_reset),
		cmocka_unit_test_setup(test_long_body, http_fake_reset),
		cmocka_unit_test_setup(test_too_many_connections, http_fake_reset),
		cmocka_unit_test_setup(test_dripping_client, http_fake_reset),
		cmocka_unit_test_setup(test_addresses, http_fake_reset),
		cmocka_unit_test_setup(test_port_in_use, http_fake_reset),
		cmocka_unit_test_setup(test_ipv6, http_fake_reset),
	};

	return cmocka_run_group_tests_name("http_limits", tests, NULL, NULL);
}
