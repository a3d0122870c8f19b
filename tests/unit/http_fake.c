// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// http_fake.c: see http_fake.h.

#include "tests/unit/http_fake.h"
#include "collector/heap_profile.h"
#include "collector/store_profile.h"
#include "collector/store_source.h"
#include "collector/thread_watch.h"
#include "collector/trace.h"
#include "collector/trace_feed.h"
#include "collector/wait_profile.h"
#include "collector/window.h"
#include "formats/profile.h"
#include "formats/thread_dump.h"
#include "formats/trace.h"
#include "formats/writer.h"
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
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

struct http_fake fake;
static pthread_mutex_t fake_lock = PTHREAD_MUTEX_INITIALIZER; // the counters; the rest is set between requests
static int fake_live;

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

int collector_snapshot(struct collector *collector, pid_t pid, struct thread_dump **ret_dump)
{
	struct thread_dump_thread thread = {.tid = (uint32_t)pid, .name = "fake", .state = "sleep", .object = ""};

	if (fake.open_error != 0)
		return fake.open_error;
	*ret_dump = thread_dump_create();
	assert_non_null(*ret_dump);
	return thread_dump_add_thread(*ret_dump, &thread);
}

int collector_watch_threads(struct collector *collector, pid_t pid, struct thread_watch **ret_watch)
{
	*ret_watch = NULL;
	return 0;
}

int collector_snapshot_watched(struct collector *collector, pid_t pid, const struct thread_watch *watch,
			       struct thread_dump **ret_dump)
{
	return collector_snapshot(collector, pid, ret_dump);
}

void thread_watch_destroy(struct thread_watch *watch) {}

void thread_watch_be_strict(struct thread_watch *watch) {}

int collector_sample_threads(struct collector *collector, pid_t pid, struct thread_dump **ret_dump)
{
	return collector_snapshot(collector, pid, ret_dump);
}

int collector_thread_creators(struct collector *collector, pid_t pid, struct thread_dump **ret_dump)
{
	const struct thread_dump_thread thread = {.tid = 1, .name = "", .state = "created", .object = "", .count = 7};

	*ret_dump = thread_dump_create();
	assert_non_null(*ret_dump);
	return thread_dump_add_thread(*ret_dump, &thread);
}

// ---- A trace: its format, and how many seconds back it goes --------------------------------------------------------------

struct trace_feed {
	const struct trace_format *format;
	uint64_t keep_ns;
};

struct trace_feed *trace_feed_create(struct window *window, struct trace *trace, const struct trace_format *format,
				     const char *title)
{
	struct trace_feed *feed = calloc(1, sizeof(*feed));

	assert_non_null(feed);
	feed->format = format;
	feed->keep_ns = trace_options(trace)->keep_ns;
	return feed;
}

void trace_feed_destroy(struct trace_feed *feed)
{
	free(feed);
}

int trace_feed_some(struct trace_feed *feed, struct writer *writer)
{
	return 0;
}

int trace_feed_end(struct trace_feed *feed, struct writer *writer)
{
	writer_printf(writer, "%s: %u\n", feed->format->name, (unsigned)(feed->keep_ns / 1000000000));
	return 0;
}

int collector_change_rates(struct collector *collector, pid_t pid, const struct collector_rates_change *wanted)
{
	fake.rates = wanted->rates;
	fake.last_pid = pid;
	return fake.open_error;
}

int collector_rates(struct collector *collector, pid_t pid, struct wire_rates *ret_rates)
{
	*ret_rates = fake.rates;
	return 0;
}

// A heap where main has 3 objects of 1,000 bytes in use, of 8.
int store_reading_take(struct collector *collector, pid_t pid, enum wire_bucket_kind kind,
		       struct store_reading **ret_reading)
{
	static struct store_reading reading;

	fake.last_pid = pid;
	*ret_reading = fake.open_error == 0 ? &reading : NULL;
	return fake.open_error;
}

void store_reading_destroy(struct store_reading *reading) {}

struct profile *heap_profile_make(const struct store_reading *reading, const struct heap_profile_options *options)
{
	static const char *const types[][2] = {{"alloc_objects", "count"},
					       {"alloc_space", "bytes"},
					       {"inuse_objects", "count"},
					       {"inuse_space", "bytes"}};
	const struct profile_function function = {.name = "main", .system_name = "main", .file = "main.c"};
	const struct profile_label label = {.key = "bytes", .num = 1000, .num_unit = "bytes"};
	const int64_t values[] = {8, 8000, 3, 3000};
	struct profile *profile = profile_create();
	struct profile_line line;
	struct profile_location location = {.address = 0x1233, .nlines = 1, .lines = &line};
	uint32_t id;

	assert_non_null(profile);
	for (int i = 0; i < HEAP_VALUES; i++)
		profile_add_sample_type(profile, types[i][0], types[i][1]);
	profile_set_period(profile, "space", "bytes", 1);
	profile->default_sample_type = types[options->shown][0];
	line = (struct profile_line){profile_add_function(profile, &function), 7};
	id = profile_add_location(profile, &location);
	assert_int_equal(profile_add_sample(profile, &id, 1, &label, 1, values), 0);
	return profile;
}

// Or where main let others wait for 5 ms in all, twice.
struct profile *wait_profile_make(const struct store_reading *reading, const struct store_reading *before,
				  enum wire_bucket_kind kind, const char *command)
{
	const struct profile_function function = {.name = "main", .system_name = "main", .file = "main.c"};
	const struct profile_label label = {.key = "lock", .str = "0x1000", .num_unit = ""};
	const int64_t values[] = {2, 5000000};
	struct profile *profile = profile_create();
	struct profile_line line;
	struct profile_location location = {.address = 0x1233, .nlines = 1, .lines = &line};
	uint32_t id;

	assert_non_null(profile);
	profile_add_sample_type(profile, "contentions", "count");
	profile_add_sample_type(profile, "delay", "nanoseconds");
	profile->default_sample_type = "delay";
	line = (struct profile_line){profile_add_function(profile, &function), 7};
	id = profile_add_location(profile, &location);
	assert_int_equal(profile_add_sample(profile, &id, 1, &label, 1, values), 0);
	return profile;
}

int window_open(struct collector *collector, const struct window_options *options, struct window **ret_window)
{
	if (fake.open_error != 0)
		return fake.open_error;
	struct window *window = calloc(1, sizeof(*window));
	assert_non_null(window);
	window->options = *options;
	window->fd = eventfd(fake.ended ? 1 : 0, EFD_CLOEXEC);
	pthread_mutex_lock(&fake_lock);
	fake.opened++;
	fake_live++;
	fake.last_rate = options->rate_hz;
	fake.last_pid = options->pid;
	pthread_mutex_unlock(&fake_lock);
	*ret_window = window;
	return 0;
}

int window_fd(struct window *window)
{
	return window->fd;
}

bool window_ended(struct window *window)
{
	return false;
}

void window_prepare(struct window *window)
{
	assert_false(window->stopped);
}

void window_stop(struct window *window)
{
	window->stopped = true;
	if (window->options.trace) {
		trace_counting(window->options.trace)->recording = !fake.no_recorder;
		trace_finish(window->options.trace);
	}
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
	pthread_mutex_lock(&fake_lock);
	fake_live--;
	pthread_mutex_unlock(&fake_lock);
}

int http_fake_live(void)
{
	pthread_mutex_lock(&fake_lock);
	int live = fake_live;
	pthread_mutex_unlock(&fake_lock);
	return live;
}

// ---- The client ----------------------------------------------------------------------------------------------------

double http_client_now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int http_client_connect(const struct http_server *server)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(http_server_port(server))};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

void http_client_send(int fd, const char *text)
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
void http_client_read(int fd, struct answer *answer)
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

int http_client_ask(const struct http_server *server, const char *method, const char *path, const char *headers,
		    const char *body)
{
	char text[8192];
	int fd = http_client_connect(server);

	snprintf(text, sizeof(text), "%s %s HTTP/1.1\r\n%sConnection: close\r\n\r\n%s", method, path, headers, body);
	http_client_send(fd, text);
	return fd;
}

void http_client_fetch(const struct http_server *server, const char *path, struct answer *answer)
{
	http_client_read(http_client_ask(server, "GET", path, HOST, ""), answer);
}

const char *http_client_header(const struct answer *answer, const char *name)
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

void assert_header(const struct answer *answer, const char *name, const char *value)
{
	const char *found = http_client_header(answer, name);

	if (found == NULL)
		fail_msg("no %s header in:\n%s", name, answer->head);
	else
		assert_string_equal(found, value);
}

// What the contract says of every error.
void assert_error(const struct answer *answer, int status, const char *text)
{
	assert_int_equal(answer->status, status);
	assert_header(answer, "Content-Type", "text/plain; charset=utf-8");
	assert_header(answer, "X-Content-Type-Options", "nosniff");
	assert_header(answer, "X-Go-Pprof", "1");
	assert_null(http_client_header(answer, "Content-Disposition"));
	if (answer->body == NULL || strstr(answer->body, text) == NULL)
		fail_msg("'%s' is not in the answer", text);
	else
		assert_int_equal(strcspn(answer->body, "\n"), answer->size - 1); // one line
}

void assert_fetch_error(const struct http_server *server, const char *path, int status, const char *text)
{
	struct answer answer;

	http_client_fetch(server, path, &answer);
	assert_error(&answer, status, text);
	free(answer.body);
}

struct http_server *http_client_serve(struct http_options *options)
{
	struct http_server *server = NULL;
	char error[256] = "";

	if (options->address == NULL)
		options->address = "127.0.0.1:0";
	assert_int_equal(http_server_create(NULL, options, &server, error, sizeof(error)), 0);
	assert_int_not_equal(http_server_port(server), 0);
	return server;
}

void http_fake_add_target(pid_t pid, pid_t ppid, const char *comm)
{
	struct collector_target *target = &fake.targets[fake.count++];

	*target = (struct collector_target){.pid = pid, .ppid = ppid, .uid = 1000, .threads_live = 3};
	snprintf(target->comm, sizeof(target->comm), "%s", comm);
	snprintf(target->exe, sizeof(target->exe), "/usr/bin/%s", comm);
	target->since_ns = 1700000000000000000;
}

int http_fake_reset(void **state)
{
	fake.count = 0;
	fake.open_error = 0;
	fake.ended = fake.no_memory = false;
	fake.opened = 0;
	http_fake_add_target(getpid(), 1, "self<b>\"");
	return 0;
}

void http_client_fetch_until(const struct http_server *server, const char *path, int status, struct answer *ret_answer)
{
	for (double until = http_client_now_s() + 30;;) {
		http_client_fetch(server, path, ret_answer);
		if (ret_answer->status == status || http_client_now_s() > until)
			return;
		free(ret_answer->body);
		usleep(2000);
	}
}

bool http_fake_wait_for_live(int count)
{
	for (double until = http_client_now_s() + 30; http_client_now_s() < until;) {
		if (http_fake_live() == count)
			return true;
		usleep(2000);
	}
	return false;
}
