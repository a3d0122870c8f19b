// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_http.c: the HTTP server against a collector that is made up here, so that every answer, limit and failure can be asked
// for. The client is a plain socket: it sees, and sends, each byte.

#include "collector/collector.h"
#include "collector/http.h"
#include "collector/http_address.h"
#include "collector/window.h"
#include "formats/profile.h"
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

// ---- The collector, made up ----------------------------------------------------------------------------------------

struct window {
	int fd;
	struct window_options options;
	bool stopped;
};

static struct {
	pthread_mutex_t lock;
	struct collector_target targets[300];
	size_t count;
	int open_error;     // what window_open answers
	bool ended;         // windows end at once
	int opened, live;   // windows
	uint32_t last_rate; // asked of the last window
	pid_t last_pid;
	bool no_memory; // window_profile fails
} fake = {.lock = PTHREAD_MUTEX_INITIALIZER};

size_t collector_targets(struct collector *collector, struct collector_target *targets, size_t max)
{
	for (size_t i = 0; i < max && i < fake.count; i++)
		targets[i] = fake.targets[i];
	return fake.count;
}

void collector_counters(struct collector *collector, struct collector_counters *ret_counters)
{
	*ret_counters = (struct collector_counters){
		.generated = 1000,
		.delivered = 990,
		.dropped = {7, 2, 1},
		.targets_now = (uint32_t)fake.count,
		.targets_total = 12,
	};
}

bool collector_symbol(struct collector *collector, pid_t pid, uint64_t address, char *buf, size_t size)
{
	if (address != 0x1234 && address != 0xabcd)
		return false;
	snprintf(buf, size, address == 0x1234 ? "main" : "ns::f(int)");
	return true;
}

int window_open(struct collector *collector, const struct window_options *options, struct window **ret_window)
{
	if (fake.open_error != 0)
		return fake.open_error;
	struct window *window = calloc(1, sizeof(*window));
	assert_non_null(window);
	window->options = *options;
	window->fd = eventfd(fake.ended ? 1 : 0, EFD_CLOEXEC);
	pthread_mutex_lock(&fake.lock);
	fake.opened++;
	fake.live++;
	fake.last_rate = options->rate_hz;
	fake.last_pid = options->pid;
	pthread_mutex_unlock(&fake.lock);
	*ret_window = window;
	return 0;
}

int window_fd(struct window *window)
{
	return window->fd;
}

void window_stop(struct window *window)
{
	window->stopped = true;
}

struct profile *window_profile(struct window *window)
{
	assert_true(window->stopped);
	if (fake.no_memory)
		return NULL;
	struct profile *profile = profile_create();
	profile_add_sample_type(profile, "samples", "count");
	uint32_t function = profile_add_function(profile, &(struct profile_function){"work", "work", "w.c", 1});
	struct profile_line line = {function, 3};
	uint32_t location = profile_add_location(profile, &(struct profile_location){0, 0x1234, 1, &line});
	int64_t value = 42;
	profile_add_sample(profile, &location, 1, NULL, 0, &value);
	return profile;
}

void window_destroy(struct window *window)
{
	if (window == NULL)
		return;
	close(window->fd);
	free(window);
	pthread_mutex_lock(&fake.lock);
	fake.live--;
	pthread_mutex_unlock(&fake.lock);
}

static int live_windows(void)
{
	pthread_mutex_lock(&fake.lock);
	int live = fake.live;
	pthread_mutex_unlock(&fake.lock);
	return live;
}

// ---- The client ----------------------------------------------------------------------------------------------------

struct answer {
	int status;
	char head[4096];
	char *body; // terminated
	size_t size;
};

static double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int client_connect(const struct http_server *server)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(http_server_port(server))};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void client_send(int fd, const char *text)
{
	size_t length = strlen(text);

	while (length > 0) {
		ssize_t sent = send(fd, text, length, MSG_NOSIGNAL);
		if (sent <= 0)
			return; // the server may refuse early
		text += sent;
		length -= (size_t)sent;
	}
}

// Reads to the end of the stream: every request here says Connection: close.
static void client_read(int fd, struct answer *answer)
{
	size_t capacity = 1 << 20;
	char *text = calloc(1, capacity);
	size_t used = 0;
	ssize_t got;

	while (used < capacity - 1 && (got = recv(fd, text + used, capacity - 1 - used, 0)) > 0)
		used += (size_t)got;
	close(fd);
	*answer = (struct answer){0};
	char *split = strstr(text, "\r\n\r\n");
	if (split != NULL) {
		answer->status = (int)strtol(text + strlen("HTTP/1.1 "), NULL, 10);
		snprintf(answer->head, sizeof(answer->head), "%.*s", (int)(split + 2 - text), text);
		answer->size = used - (size_t)(split + 4 - text);
		answer->body = calloc(1, answer->size + 1);
		memcpy(answer->body, split + 4, answer->size);
	}
	free(text);
}

static int ask(const struct http_server *server, const char *method, const char *path, const char *headers,
	       const char *body)
{
	char text[8192];
	int fd = client_connect(server);

	snprintf(text, sizeof(text), "%s %s HTTP/1.1\r\n%sConnection: close\r\n\r\n%s", method, path, headers, body);
	client_send(fd, text);
	return fd;
}

#define HOST "Host: localhost:1\r\n"

static void fetch(const struct http_server *server, const char *path, struct answer *answer)
{
	client_read(ask(server, "GET", path, HOST, ""), answer);
}

static const char *header(const struct answer *answer, const char *name)
{
	static char value[256];
	char key[64];

	snprintf(key, sizeof(key), "\r\n%s: ", name);
	const char *at = strcasestr(answer->head, key);
	if (at == NULL)
		return NULL;
	at += strlen(key);
	snprintf(value, sizeof(value), "%.*s", (int)strcspn(at, "\r"), at);
	return value;
}

static void assert_header(const struct answer *answer, const char *name, const char *value)
{
	const char *found = header(answer, name);

	assert_non_null(found);
	assert_string_equal(found, value);
}

// What the contract says of every error.
static void assert_error(const struct answer *answer, int status, const char *text)
{
	assert_int_equal(answer->status, status);
	assert_header(answer, "Content-Type", "text/plain; charset=utf-8");
	assert_header(answer, "X-Content-Type-Options", "nosniff");
	assert_header(answer, "X-Go-Pprof", "1");
	assert_null(header(answer, "Content-Disposition"));
	assert_non_null(strstr(answer->body, text));
	assert_int_equal(answer->body[answer->size - 1], '\n');
	assert_ptr_equal(strchr(answer->body, '\n'), answer->body + answer->size - 1); // one line
}

static void fetch_error(const struct http_server *server, const char *path, int status, const char *text)
{
	struct answer answer;

	fetch(server, path, &answer);
	assert_error(&answer, status, text);
	free(answer.body);
}

static struct http_server *serve(struct http_options *options)
{
	struct http_server *server = NULL;
	char error[256] = "";

	if (options->address == NULL)
		options->address = "127.0.0.1:0";
	assert_int_equal(http_server_create(NULL, options, &server, error, sizeof(error)), 0);
	assert_int_not_equal(http_server_port(server), 0);
	return server;
}

static void add_target(pid_t pid, pid_t ppid, const char *comm)
{
	struct collector_target *target = &fake.targets[fake.count++];

	*target = (struct collector_target){.pid = pid, .ppid = ppid, .uid = 1000, .threads_live = 3};
	snprintf(target->comm, sizeof(target->comm), "%s", comm);
	snprintf(target->exe, sizeof(target->exe), "/usr/bin/%s", comm);
	target->since_ns = 1700000000000000000;
}

static int reset(void **state)
{
	fake.count = 0;
	fake.open_error = 0;
	fake.ended = fake.no_memory = false;
	fake.opened = 0;
	add_target(getpid(), 1, "self<b>\"");
	return 0;
}

// ---- The short answers ---------------------------------------------------------------------------------------------

static void test_index(void **state)
{
	struct http_server *server = serve(&(struct http_options){0});
	struct answer answer;

	fetch(server, "/debug/pprof/", &answer);
	assert_int_equal(answer.status, 200);
	assert_header(&answer, "Content-Type", "text/html; charset=utf-8");
	assert_header(&answer, "X-Content-Type-Options", "nosniff");
	assert_null(header(&answer, "X-Go-Pprof"));
	const char *cmdline = strstr(answer.body, "<a href=\"cmdline\">");
	const char *profile = strstr(answer.body, "<a href=\"profile\">");
	const char *symbol = strstr(answer.body, "<a href=\"symbol\">");
	assert_true(cmdline != NULL && cmdline < profile && profile < symbol);
	assert_null(strstr(answer.body, "self<b>"));
	assert_non_null(strstr(answer.body, "self&lt;b&gt;"));
	assert_null(strstr(answer.body, "http://")); // works offline
	free(answer.body);
	http_server_destroy(server);
}

static void test_redirects(void **state)
{
	struct http_server *server = serve(&(struct http_options){0});
	static const char *const moves[][3] = {{"/", "302", "/debug/pprof/"},
					       {"/debug/pprof", "301", "/debug/pprof/"},
					       {"/77", "301", "/77/debug/pprof/"},
					       {"/77/", "301", "/77/debug/pprof/"},
					       {"/77/debug/pprof", "301", "/77/debug/pprof/"}};

	for (size_t i = 0; i < sizeof(moves) / sizeof(moves[0]); i++) {
		struct answer answer;
		fetch(server, moves[i][0], &answer);
		assert_int_equal(answer.status, strtol(moves[i][1], NULL, 10));
		assert_header(&answer, "Location", moves[i][2]);
		free(answer.body);
	}
	http_server_destroy(server);
}

static void test_unknown(void **state)
{
	struct http_server *server = serve(&(struct http_options){0});
	static const char *const names[] = {"goroutine?debug=2", "heap",  "allocs",  "block", "mutex",
					    "threadcreate",      "trace", "nonsense"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char path[64];
		struct answer answer;
		snprintf(path, sizeof(path), "/debug/pprof/%s", names[i]);
		fetch(server, path, &answer);
		assert_error(&answer, 404, "Unknown profile");
		assert_string_equal(answer.body, "Unknown profile\n");
		free(answer.body);
	}
	fetch_error(server, "/favicon.ico", 404, "404 page not found");
	fetch_error(server, "/77x/debug/pprof/profile", 404, "404 page not found");
	fetch_error(server, "/99999999999999999999/debug/pprof/", 404, "404 page not found");
	fetch_error(server, "/debug/pprofx/", 404, "404 page not found");
	fetch_error(server, "/debug/pprof/../../etc/passwd", 404, "Unknown profile");
	http_server_destroy(server);
}

static void test_cmdline(void **state)
{
	struct http_server *server = serve(&(struct http_options){0});
	struct answer answer;
	char own[8192];
	FILE *file = fopen("/proc/self/cmdline", "re");
	size_t size = fread(own, 1, sizeof(own), file);

	fclose(file);
	fetch(server, "/debug/pprof/cmdline", &answer);
	assert_int_equal(answer.status, 200);
	assert_header(&answer, "Content-Type", "text/plain; charset=utf-8");
	assert_int_equal(answer.size, size - 1); // joined by NUL, none at the end
	assert_memory_equal(answer.body, own, size - 1);
	free(answer.body);
	http_server_destroy(server);
}

static void test_symbol(void **state)
{
	struct http_server *server = serve(&(struct http_options){0});
	struct answer answer;

	fetch(server, "/debug/pprof/symbol", &answer);
	assert_int_equal(answer.status, 200);
	assert_string_equal(answer.body, "num_symbols: 1\n");
	free(answer.body);
	fetch(server, "/debug/pprof/symbol?0x1234+0x99+junk++0xabcd+4660+0x1234zz+-1", &answer);
	assert_header(&answer, "Content-Type", "text/plain; charset=utf-8");
	assert_string_equal(answer.body, "num_symbols: 1\n0x1234 main\n0xabcd ns::f(int)\n0x1234 main\n");
	free(answer.body);
	client_read(ask(server, "POST", "/debug/pprof/symbol", HOST "Content-Length: 14\r\n", "0xabcd+0x1234\n"),
		    &answer);
	assert_string_equal(answer.body, "num_symbols: 1\n0xabcd ns::f(int)\n0x1234 main\n");
	free(answer.body);
	http_server_destroy(server);
}

static void test_metrics(void **state)
{
	struct http_server *server = serve(&(struct http_options){0});
	struct answer answer;
	static const char *const lines[] = {
		"\nprofd_samples_generated_total 1000\n",
		"\nprofd_samples_delivered_total 990\n",
		"\nprofd_samples_dropped_total{reason=\"ring_full\"} 7\n",
		"\nprofd_samples_dropped_total{reason=\"contention\"} 2\n",
		"\nprofd_samples_dropped_total{reason=\"no_scratch\"} 1\n",
		"\nprofd_targets 1\n",
		"\nprofd_http_requests_total{path=\"/debug/pprof/\",status=\"200\"} 2\n",
		"\nprofd_http_requests_total{path=\"other\",status=\"404\"} 1\n",
		"\nprofd_profiles_running 0\n",
		"\nprocess_cpu_seconds_total ",
		"\nprocess_resident_memory_bytes ",
		"\nprofd_build_info{version=\"",
	};

	for (int i = 0; i < 2; i++) {
		fetch(server, "/debug/pprof/", &answer);
		free(answer.body);
	}
	fetch_error(server, "/x", 404, "404");
	fetch(server, "/metrics", &answer);
	assert_int_equal(answer.status, 200);
	assert_header(&answer, "Content-Type", "text/plain; version=0.0.4; charset=utf-8");
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		assert_non_null(strstr(answer.body, lines[i]));
	const char *rss = strstr(answer.body, "\nprocess_resident_memory_bytes ");
	assert_true(strtoull(rss + strlen("\nprocess_resident_memory_bytes "), NULL, 10) > 100000);
	free(answer.body);
	http_server_destroy(server);
}

static void test_targets(void **state)
{
	struct http_server *server = serve(&(struct http_options){.has_index = 1});
	struct answer answer;

	fake.count = 0;
	add_target(10, 1, "a\n\"b");
	add_target(20, 1, "<script>");
	fetch(server, "/", &answer);
	assert_int_equal(answer.status, 200);
	assert_header(&answer, "Content-Type", "text/html; charset=utf-8");
	assert_non_null(strstr(answer.body, "href=\"/20/debug/pprof/\""));
	assert_null(strstr(answer.body, "<script>"));
	free(answer.body);
	fetch(server, "/?format=json", &answer);
	assert_header(&answer, "Content-Type", "application/json");
	assert_non_null(strstr(answer.body, "{\"pid\":10,\"ppid\":1,\"uid\":1000,\"comm\":\"a\\n\\\"b\""));
	assert_non_null(strstr(answer.body, "\"since\":\"2023-11-14T22:13:20Z\""));
	free(answer.body);
	fetch(server, "/?format=text", &answer);
	assert_non_null(strstr(answer.body, "10\t1\t1000\ta_\"b\t3\t0\t2023-11-14T22:13:20Z\n"));
	free(answer.body);
	http_server_destroy(server);
}

static void test_which_target(void **state)
{
	struct http_server *server = serve(&(struct http_options){.max_seconds = 5});
	struct answer answer;

	fake.ended = true;
	fake.count = 0;
	fetch_error(server, "/debug/pprof/profile", 404, "no target is registered");
	add_target(10, 1, "a");
	add_target(20, 1, "b");
	fetch_error(server, "/debug/pprof/profile?seconds=1", 404, "with one of: 10 20\n");
	fetch_error(server, "/30/debug/pprof/profile?seconds=1", 404, "no target has PID 30; the targets are: 10 20\n");
	fetch(server, "/20/debug/pprof/profile?seconds=1", &answer);
	assert_int_equal(answer.status, 200);
	assert_int_equal(fake.last_pid, 20);
	free(answer.body);
	fake.targets[0].ppid = 20; // one tree: its root answers for it
	fetch(server, "/debug/pprof/profile?seconds=1", &answer);
	assert_int_equal(answer.status, 200);
	assert_int_equal(fake.last_pid, 20);
	free(answer.body);
	while (fake.count < 300)
		add_target((pid_t)(1000 + fake.count), 1, "many");
	fetch_error(server, "/debug/pprof/profile?seconds=1", 404, " …\n");
	http_server_destroy(server);
}

// ---- Profiles ------------------------------------------------------------------------------------------------------

static void test_profile_formats(void **state)
{
	struct http_server *server = serve(&(struct http_options){0});
	struct answer answer;

	fake.ended = true;
	fetch(server, "/debug/pprof/profile?seconds=2", &answer);
	assert_int_equal(answer.status, 200);
	assert_header(&answer, "Content-Type", "application/octet-stream");
	assert_header(&answer, "Content-Disposition", "attachment; filename=\"profile\"");
	assert_header(&answer, "X-Content-Type-Options", "nosniff");
	assert_null(header(&answer, "X-Go-Pprof"));
	assert_memory_equal(answer.body, "\x1f\x8b", 2);
	assert_int_equal(fake.last_rate, 100);
	free(answer.body);
	fetch(server, "/debug/pprof/profile?seconds=2&rate=997&format=folded", &answer);
	assert_int_equal(answer.status, 200);
	assert_non_null(strstr(answer.body, "work 42\n"));
	assert_null(header(&answer, "Content-Disposition"));
	assert_int_equal(fake.last_rate, 997);
	free(answer.body);
	static const char *const kinds[][2] = {{"svg", "<svg"}, {"html", "<html"}, {"speedscope", "{"}};
	for (size_t i = 0; i < 3; i++) {
		char path[96];
		snprintf(path, sizeof(path), "/debug/pprof/profile?format=%s", kinds[i][0]);
		fetch(server, path, &answer);
		assert_int_equal(answer.status, 200);
		assert_non_null(strstr(answer.body, kinds[i][1]));
		free(answer.body);
	}
	assert_int_equal(live_windows(), 0);
	http_server_destroy(server);
}

static void test_profile_parameters(void **state)
{
	struct http_server *server = serve(&(struct http_options){.max_seconds = 40, .default_rate_hz = 250});
	static const char *const thirty[] = {"",          "seconds=",    "seconds=0",   "seconds=-5",
					     "seconds=x", "seconds=5s",  "seconds=1.5", "seconds=99999999999999999999",
					     "second=41", "seconds=%20", "seconds=0x10"};

	fake.ended = true;
	for (size_t i = 0; i < sizeof(thirty) / sizeof(thirty[0]); i++) {
		char path[96];
		struct answer answer;
		snprintf(path, sizeof(path), "/debug/pprof/profile?%s", thirty[i]);
		fetch(server, path, &answer);
		assert_int_equal(answer.status, 200);
		free(answer.body);
	}
	assert_int_equal(fake.last_rate, 250);
	fetch_error(server, "/debug/pprof/profile?seconds=41", 400, "the limit of 40 seconds");
	fetch_error(server, "/debug/pprof/profile?s%65conds=4%31", 400, "the limit of 40 seconds");
	fetch_error(server, "/debug/pprof/profile?rate=0", 400, "1 to 10000");
	fetch_error(server, "/debug/pprof/profile?rate=10001", 400, "1 to 10000");
	fetch_error(server, "/debug/pprof/profile?rate=ten", 400, "1 to 10000");
	fetch_error(server, "/debug/pprof/profile?format=png", 400, "speedscope");
	assert_int_equal(fake.opened, sizeof(thirty) / sizeof(thirty[0]));
	http_server_destroy(server);
	server = serve(&(struct http_options){.max_seconds = 10}); // 30, the default, is over this limit
	fetch_error(server, "/debug/pprof/profile", 400, "the limit of 10 seconds");
	http_server_destroy(server);
}

static void test_profile_errors(void **state)
{
	struct http_server *server = serve(&(struct http_options){0});
	struct answer answer;

	fake.open_error = -ESRCH;
	fetch_error(server, "/debug/pprof/profile?seconds=1", 404, "is gone");
	fake.open_error = -EIO;
	fetch_error(server, "/debug/pprof/profile?seconds=1", 500,
		    "Could not enable CPU profiling: Input/output error");
	fake.open_error = -EBUSY;
	fetch(server, "/debug/pprof/profile?seconds=1", &answer);
	assert_error(&answer, 503, "too many profiles");
	assert_non_null(header(&answer, "Retry-After"));
	free(answer.body);
	fake.open_error = 0;
	fake.ended = fake.no_memory = true;
	fetch_error(server, "/debug/pprof/profile?seconds=1", 500, "out of memory");
	assert_int_equal(live_windows(), 0);
	http_server_destroy(server);
}

static void test_profile_takes_its_time(void **state)
{
	struct http_server *server = serve(&(struct http_options){0});
	struct answer answer;
	double start = now_s();

	fetch(server, "/debug/pprof/profile?seconds=1", &answer);
	double took = now_s() - start;
	assert_int_equal(answer.status, 200);
	assert_true(took >= 1.0 && took < 2.0);
	free(answer.body);
	http_server_destroy(server);
}

static bool wait_for_live(int count)
{
	for (double until = now_s() + 3; now_s() < until;) {
		if (live_windows() == count)
			return true;
		usleep(2000);
	}
	return false;
}

// One client's hang-up ends its own window at once, nobody else's.
static void test_hang_up(void **state)
{
	struct http_server *server = serve(&(struct http_options){0});
	int stays = ask(server, "GET", "/debug/pprof/profile?seconds=60", HOST, "");
	int leaves = ask(server, "GET", "/debug/pprof/profile?seconds=60", HOST, "");
	struct answer answer;

	assert_true(wait_for_live(2));
	double start = now_s();
	close(leaves);
	assert_true(wait_for_live(1));
	assert_true(now_s() - start < 1);
	usleep(100000);
	assert_int_equal(live_windows(), 1);
	fetch(server, "/metrics", &answer);
	assert_non_null(strstr(answer.body, "\nprofd_http_hangups_total 1\n"));
	assert_non_null(strstr(answer.body, "\nprofd_profiles_running 1\n"));
	free(answer.body);
	close(stays);
	assert_true(wait_for_live(0));
	http_server_destroy(server);
}

static void test_too_many_profiles(void **state)
{
	struct http_server *server = serve(&(struct http_options){.max_profiles = 2});
	int first = ask(server, "GET", "/debug/pprof/profile?seconds=60", HOST, "");
	int second = ask(server, "GET", "/debug/pprof/profile?seconds=20", HOST, "");
	struct answer answer;

	assert_true(wait_for_live(2));
	double start = now_s();
	fetch(server, "/debug/pprof/profile?seconds=1", &answer);
	assert_true(now_s() - start < 1); // at once
	assert_error(&answer, 503, "2 profiles are running");
	long retry = strtol(header(&answer, "Retry-After"), NULL, 10);
	assert_true(retry >= 15 && retry <= 20); // when the first of them will be ready
	free(answer.body);
	close(second);
	assert_true(wait_for_live(1));
	fake.ended = true; // a place is free again
	usleep(20000);
	fetch(server, "/debug/pprof/profile?seconds=1", &answer);
	assert_int_equal(answer.status, 200);
	free(answer.body);
	close(first);
	http_server_destroy(server);
}

// The server's end: what runs answers with what it has.
static void test_destroy_answers(void **state)
{
	struct http_server *server = serve(&(struct http_options){0});
	int fd = ask(server, "GET", "/debug/pprof/profile?seconds=60&format=folded", HOST, "");
	int idle = client_connect(server);
	struct answer answer;

	assert_true(wait_for_live(1));
	double start = now_s();
	http_server_destroy(server);
	assert_true(now_s() - start < 5);
	client_read(fd, &answer);
	assert_int_equal(answer.status, 200);
	assert_non_null(strstr(answer.body, "work 42\n"));
	free(answer.body);
	close(idle);
	assert_int_equal(live_windows(), 0);
}

static void test_head(void **state)
{
	struct http_server *server = serve(&(struct http_options){0});
	struct answer answer;
	double start = now_s();

	client_read(ask(server, "HEAD", "/debug/pprof/profile", HOST, ""), &answer);
	assert_true(now_s() - start < 2); // makes no profile
	assert_int_equal(fake.opened, 0);
	assert_int_equal(answer.status, 200);
	assert_int_equal(answer.size, 0);
	assert_header(&answer, "Content-Type", "application/octet-stream");
	assert_header(&answer, "Content-Disposition", "attachment; filename=\"profile\"");
	assert_null(header(&answer, "Content-Length"));
	free(answer.body);
	client_read(ask(server, "HEAD", "/debug/pprof/", HOST, ""), &answer);
	assert_int_equal(answer.status, 200);
	assert_int_equal(answer.size, 0);
	assert_non_null(header(&answer, "Content-Length"));
	free(answer.body);
	client_read(ask(server, "HEAD", "/debug/pprof/heap", HOST, ""), &answer);
	assert_int_equal(answer.status, 404);
	free(answer.body);
	http_server_destroy(server);
}

static void test_methods(void **state)
{
	struct http_server *server = serve(&(struct http_options){0});
	static const char *const methods[] = {"PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"};
	struct answer answer;

	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		client_read(ask(server, methods[i], "/debug/pprof/profile", HOST "Content-Length: 0\r\n", ""), &answer);
		assert_error(&answer, 405, "method not allowed");
		assert_header(&answer, "Allow", "GET, HEAD");
		free(answer.body);
	}
	client_read(ask(server, "POST", "/debug/pprof/profile", HOST "Content-Length: 2\r\n", "ab"), &answer);
	assert_error(&answer, 405, "method not allowed");
	free(answer.body);
	assert_int_equal(fake.opened, 0);
	http_server_destroy(server);
}

// ---- Hosts and limits ----------------------------------------------------------------------------------------------

static int status_for_host(const struct http_server *server, const char *headers)
{
	struct answer answer;

	client_read(ask(server, "GET", "/debug/pprof/cmdline", headers, ""), &answer);
	int status = answer.status;
	if (status != 200)
		assert_error(&answer, 403, "Host header");
	free(answer.body);
	return status;
}

static void test_host(void **state)
{
	struct http_server *server =
		serve(&(struct http_options){.address = "127.0.0.1:0", .allowed_hosts = "box.example, other"});
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

static void test_long_headers(void **state)
{
	struct http_server *server = serve(&(struct http_options){0});
	char *text = malloc(100000);
	int fd = client_connect(server);
	struct answer answer;

	memset(text, 'a', 99999);
	text[99999] = '\0';
	client_send(fd, "GET /debug/pprof/cmdline HTTP/1.1\r\nHost: localhost\r\nX: ");
	client_send(fd, text);
	client_send(fd, "\r\n\r\n");
	client_read(fd, &answer);
	assert_true(answer.status == 0 || (answer.status >= 400 && answer.status < 500));
	free(answer.body);
	free(text);
	fetch(server, "/debug/pprof/cmdline", &answer);
	assert_int_equal(answer.status, 200);
	free(answer.body);
	http_server_destroy(server);
}

static void test_long_body(void **state)
{
	struct http_server *server = serve(&(struct http_options){0});
	struct answer answer;

	client_read(ask(server, "POST", "/debug/pprof/symbol", HOST "Content-Length: 1048577\r\n", ""), &answer);
	assert_error(&answer, 413, "limit of 1048576 bytes");
	free(answer.body);
	client_read(ask(server, "POST", "/debug/pprof/symbol", HOST "Content-Length: 99999999999999999\r\n", ""),
		    &answer);
	assert_error(&answer, 413, "limit of 1048576 bytes");
	free(answer.body);
	// Without a length: 1.5 MiB in chunks.
	int fd = client_connect(server);
	char *chunk = malloc(65537);
	memset(chunk, '+', 65536);
	chunk[65536] = '\0';
	client_send(fd, "POST /debug/pprof/symbol HTTP/1.1\r\n" HOST
			"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n");
	for (int i = 0; i < 24; i++) {
		client_send(fd, "10000\r\n");
		client_send(fd, chunk);
		client_send(fd, "\r\n");
	}
	client_send(fd, "0\r\n\r\n");
	client_read(fd, &answer);
	assert_error(&answer, 413, "limit of 1048576 bytes");
	free(answer.body);
	free(chunk);
	http_server_destroy(server);
}

static void test_too_many_connections(void **state)
{
	struct http_server *server = serve(&(struct http_options){.max_connections = 3});
	int idle[3];
	struct answer answer;

	for (int i = 0; i < 3; i++)
		idle[i] = client_connect(server);
	usleep(50000);
	fetch(server, "/debug/pprof/cmdline", &answer);
	assert_error(&answer, 503, "3 connections are open");
	assert_header(&answer, "Retry-After", "1");
	free(answer.body);
	close(idle[0]);
	close(idle[1]);
	usleep(100000);
	fetch(server, "/debug/pprof/cmdline", &answer);
	assert_int_equal(answer.status, 200);
	free(answer.body);
	close(idle[2]);
	http_server_destroy(server);
}

// Byte by byte is activity to the library's timeout; the janitor still ends it.
static void test_dripping_client(void **state)
{
	struct http_server *server = serve(&(struct http_options){.request_seconds = 1});
	int fd = client_connect(server);
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN | POLLRDHUP};
	double start = now_s();

	client_send(fd, "GET / HTTP/1.1\r\n");
	while (now_s() - start < 5 && poll(&poll_fd, 1, 100) == 0)
		client_send(fd, "X");
	assert_true(now_s() - start > 0.9 && now_s() - start < 4);
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
	struct http_server *server = serve(&(struct http_options){0});
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
	client_send(fd, "GET /debug/pprof/cmdline HTTP/1.1\r\nHost: [::1]:80\r\nConnection: close\r\n\r\n");
	client_read(fd, &answer);
	assert_int_equal(answer.status, 200);
	free(answer.body);
	http_server_destroy(server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_index, reset),
		cmocka_unit_test_setup(test_redirects, reset),
		cmocka_unit_test_setup(test_unknown, reset),
		cmocka_unit_test_setup(test_cmdline, reset),
		cmocka_unit_test_setup(test_symbol, reset),
		cmocka_unit_test_setup(test_metrics, reset),
		cmocka_unit_test_setup(test_targets, reset),
		cmocka_unit_test_setup(test_which_target, reset),
		cmocka_unit_test_setup(test_profile_formats, reset),
		cmocka_unit_test_setup(test_profile_parameters, reset),
		cmocka_unit_test_setup(test_profile_errors, reset),
		cmocka_unit_test_setup(test_profile_takes_its_time, reset),
		cmocka_unit_test_setup(test_hang_up, reset),
		cmocka_unit_test_setup(test_too_many_profiles, reset),
		cmocka_unit_test_setup(test_destroy_answers, reset),
		cmocka_unit_test_setup(test_head, reset),
		cmocka_unit_test_setup(test_methods, reset),
		cmocka_unit_test_setup(test_host, reset),
		cmocka_unit_test_setup(test_long_headers, reset),
		cmocka_unit_test_setup(test_long_body, reset),
		cmocka_unit_test_setup(test_too_many_connections, reset),
		cmocka_unit_test_setup(test_dripping_client, reset),
		cmocka_unit_test_setup(test_addresses, reset),
		cmocka_unit_test_setup(test_port_in_use, reset),
		cmocka_unit_test_setup(test_ipv6, reset),
	};

	return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}
