// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// endpoints.c: finds the endpoint and the target that a path names, and the short answers: cmdline, symbol, metrics.
// The contract is Go's net/http/pprof; where a comment says "as Go", clients rely on it. Any connection thread.

#include "collector/endpoints.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "collector/process.h"

#define ENDPOINTS_MAX_TARGETS 65536 // listed at once
#define ENDPOINTS_MAX_PIDS_SHOWN 64 // in an error line
#define ENDPOINTS_MAX_PAGE (16u << 20)
#define ENDPOINTS_MAX_CMDLINE (4u << 20)
#define ENDPOINTS_PREFIX "/debug/pprof"

struct endpoints_targets {
	struct collector_target *list;
	size_t count;
};

// The list may grow between asking how many and copying; one that does is cut, not read past.
static bool endpoints_targets_init(struct endpoints_targets *targets, struct collector *collector)
{
	size_t room = collector_targets(collector, NULL, 0) + 16;

	if (room > ENDPOINTS_MAX_TARGETS)
		room = ENDPOINTS_MAX_TARGETS;
	targets->list = calloc(room, sizeof(*targets->list));
	targets->count = 0;
	if (targets->list == NULL)
		return false;
	targets->count = collector_targets(collector, targets->list, room);
	if (targets->count > room)
		targets->count = room;
	return true;
}

static const struct collector_target *endpoints_by_pid(const struct endpoints_targets *targets, pid_t pid)
{
	for (size_t i = 0; i < targets->count; i++) {
		if (targets->list[i].pid == pid)
			return &targets->list[i];
	}
	return NULL;
}

static int endpoints_compare_pids(const void *a, const void *b)
{
	pid_t left = *(const pid_t *)a;
	pid_t right = *(const pid_t *)b;

	return (left > right) - (left < right);
}

// The root of the one tree that all targets form: the only one whose parent is not a target. NULL: several, or none.
static const struct collector_target *endpoints_root(const struct endpoints_targets *targets)
{
	const struct collector_target *root = NULL;
	pid_t *pids = calloc(targets->count + 1, sizeof(*pids));

	if (pids == NULL)
		return NULL;
	for (size_t i = 0; i < targets->count; i++)
		pids[i] = targets->list[i].pid;
	qsort(pids, targets->count, sizeof(*pids), endpoints_compare_pids);
	for (size_t i = 0; i < targets->count; i++) {
		const struct collector_target *target = &targets->list[i];
		if (bsearch(&target->ppid, pids, targets->count, sizeof(*pids), endpoints_compare_pids) != NULL)
			continue;
		if (root != NULL && root->pid != target->pid) {
			root = NULL;
			break;
		}
		root = target;
	}
	free(pids);
	return root;
}

static void endpoints_no_target(const struct endpoints_targets *targets, pid_t pid, struct http_reply *reply)
{
	char pids[ENDPOINTS_MAX_PIDS_SHOWN * 12] = "";
	size_t used = 0;

	for (size_t i = 0; i < targets->count && i < ENDPOINTS_MAX_PIDS_SHOWN; i++)
		used += (size_t)snprintf(pids + used, sizeof(pids) - used, " %d", (int)targets->list[i].pid);
	const char *more = targets->count > ENDPOINTS_MAX_PIDS_SHOWN ? " …" : "";
	if (targets->count == 0)
		http_reply_error(reply, 404, "no target is registered now");
	else if (pid != 0)
		http_reply_error(reply, 404, "no target has PID %d; the targets are:%s%s", (int)pid, pids, more);
	else
		http_reply_error(reply, 404, "several targets; ask for /PID" ENDPOINTS_PREFIX "/ with one of:%s%s",
				 pids, more);
}

// pid 0: the only target, or the root of the only tree. false: reply says why not.
static bool endpoints_find(struct endpoints *endpoints, pid_t pid, struct collector_target *ret_target,
			   struct http_reply *reply)
{
	struct endpoints_targets targets;

	if (!endpoints_targets_init(&targets, endpoints->collector)) {
		http_reply_error(reply, 500, "out of memory");
		return false;
	}
	const struct collector_target *target = pid != 0 ? endpoints_by_pid(&targets, pid) : endpoints_root(&targets);
	if (target == NULL && pid == 0 && !endpoints->has_index && targets.count > 0)
		target = &targets.list[0]; // children that outlived their parent
	if (target != NULL)
		*ret_target = *target;
	else
		endpoints_no_target(&targets, pid, reply);
	free(targets.list);
	return target != NULL;
}

static void endpoints_list(struct endpoints *endpoints, const struct http_request *request, struct http_reply *reply)
{
	struct endpoints_targets targets;
	char format[16] = "html";

	if (!endpoints->has_index) {
		http_reply_redirect(reply, 302, ENDPOINTS_PREFIX "/");
		return;
	}
	http_request_param(request, "format", format, sizeof(format));
	if (!endpoints_targets_init(&targets, endpoints->collector)) {
		http_reply_error(reply, 500, "out of memory");
		return;
	}
	index_page_targets(targets.list, targets.count, format, reply);
	free(targets.list);
}

static void endpoints_metrics(struct endpoints *endpoints, const struct http_request *request, struct http_reply *reply)
{
	char text[8];
	struct http_page page;

	http_page_init(&page, ENDPOINTS_MAX_PAGE);
	metrics_write(&endpoints->metrics, endpoints->collector, endpoints_running(endpoints),
		      http_request_param(request, "threads", text, sizeof(text)) && strcmp(text, "1") == 0,
		      &page.writer);
	http_page_end(&page, reply, "text/plain; version=0.0.4; charset=utf-8");
}

// The arguments joined by NUL, as Go: /proc ends each with one, the last is cut.
static void endpoints_cmdline(const struct collector_target *target, struct http_reply *reply)
{
	struct http_page page;
	char path[64];
	char chunk[4096];
	ssize_t got;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)process_living_task(target->pid, 0));
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		http_reply_error(reply, 404, "cannot read the command line of %d: %s", (int)target->pid,
				 strerror(errno));
		return;
	}
	http_page_init(&page, ENDPOINTS_MAX_CMDLINE);
	while ((got = read(fd, chunk, sizeof(chunk))) > 0)
		writer_put(&page.writer, chunk, (size_t)got);
	close(fd);
	http_page_end(&page, reply, "text/plain; charset=utf-8");
	if (reply->status == 200 && reply->size > 0 && reply->body[reply->size - 1] == '\0')
		reply->size--;
}

// A number as Go's ParseUint with base 0 reads it, between s and end; 0 when it is none.
static uint64_t endpoints_address(const char *s, const char *end)
{
	char text[32];
	char *stop = NULL;

	while (end > s && (end[-1] == '\n' || end[-1] == '\r' || end[-1] == ' '))
		end--;
	if (end == s || (size_t)(end - s) >= sizeof(text) || *s < '0' || *s > '9')
		return 0;
	memcpy(text, s, (size_t)(end - s));
	text[end - s] = '\0';
	errno = 0;
	uint64_t value = strtoull(text, &stop, 0);
	return *stop == '\0' && errno == 0 ? value : 0;
}

// As Go: words joined by '+', from the body of a POST, else the query. An address without a name gives no line.
static void endpoints_symbol(struct endpoints *endpoints, const struct http_request *request,
			     const struct collector_target *target, struct http_reply *reply)
{
	const char *at = request->method == HTTP_POST ? request->body : request->query;
	const char *end = at + (request->method == HTTP_POST ? request->body_size : strlen(request->query));
	struct http_page page;
	char name[4096];

	http_page_init(&page, ENDPOINTS_MAX_PAGE);
	writer_puts(&page.writer, "num_symbols: 1\n");
	while (at < end) {
		const char *plus = memchr(at, '+', (size_t)(end - at));
		const char *stop = plus != NULL ? plus : end;
		uint64_t address = endpoints_address(at, stop);
		if (address != 0 && collector_symbol(endpoints->collector, target->pid, address, name, sizeof(name)))
			writer_printf(&page.writer, "%#" PRIx64 " %s\n", address, name);
		at = plus != NULL ? plus + 1 : end;
	}
	http_page_end(&page, reply, "text/plain; charset=utf-8");
}

static enum http_endpoint endpoints_by_name(const char *name)
{
	static const struct {
		const char *name;
		enum http_endpoint endpoint;
	} names[] = {
		{"", HTTP_ENDPOINT_INDEX},
		{"profile", HTTP_ENDPOINT_PROFILE},
		{"cmdline", HTTP_ENDPOINT_CMDLINE},
		{"symbol", HTTP_ENDPOINT_SYMBOL},
		{"goroutine", HTTP_ENDPOINT_THREADS},
		{"threads", HTTP_ENDPOINT_THREADS},
		{"threadcreate", HTTP_ENDPOINT_THREADCREATE},
		{"wall", HTTP_ENDPOINT_WALL},
		{"heap", HTTP_ENDPOINT_HEAP},
		{"allocs", HTTP_ENDPOINT_ALLOCS},
		{"mutex", HTTP_ENDPOINT_MUTEX},
		{"block", HTTP_ENDPOINT_BLOCK},
		{"config", HTTP_ENDPOINT_CONFIG},
		{"trace", HTTP_ENDPOINT_TRACE},
		{"zombies", HTTP_ENDPOINT_ZOMBIES},
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(names[i].name, name) == 0)
			return names[i].endpoint;
	}
	return HTTP_ENDPOINT_OTHER;
}

static bool endpoints_method_is_allowed(const struct http_request *request, struct http_reply *reply)
{
	bool post_is_fine = reply->endpoint == HTTP_ENDPOINT_SYMBOL || reply->endpoint == HTTP_ENDPOINT_CONFIG;

	if (request->method == HTTP_GET || request->method == HTTP_HEAD ||
	    (request->method == HTTP_POST && post_is_fine))
		return true;
	http_reply_error(reply, 405, "method not allowed");
	reply->allow = post_is_fine ? "GET, HEAD, POST" : "GET, HEAD";
	return false;
}

// name: what follows /debug/pprof/.
static void endpoints_pprof(struct endpoints *endpoints, const struct http_request *request, pid_t pid,
			    const char *name, struct http_reply *reply)
{
	struct collector_target target;

	reply->endpoint = endpoints_by_name(name);
	if (!endpoints_method_is_allowed(request, reply))
		return;
	if (reply->endpoint == HTTP_ENDPOINT_OTHER) {
		http_reply_error(reply, 404, "Unknown profile"); // as Go
		return;
	}
	if (!endpoints_find(endpoints, pid, &target, reply))
		return;
	// A private collector's targets are one program and its children: without a PID, all of them are meant.
	bool whole = pid == 0 && !endpoints->has_index;
	switch (reply->endpoint) {
	case HTTP_ENDPOINT_PROFILE:
		endpoint_profile(endpoints, request, &target, whole, reply);
		break;
	case HTTP_ENDPOINT_HEAP:
	case HTTP_ENDPOINT_ALLOCS:
	case HTTP_ENDPOINT_MUTEX:
	case HTTP_ENDPOINT_BLOCK:
		endpoint_store(endpoints, request, &target, whole, reply);
		break;
	case HTTP_ENDPOINT_TRACE:
		endpoint_trace(endpoints, request, &target, whole, reply);
		break;
	case HTTP_ENDPOINT_ZOMBIES:
		endpoint_zombies(endpoints, request, &target, reply);
		break;
	case HTTP_ENDPOINT_CONFIG:
		endpoint_config(endpoints, request, &target, whole, reply);
		break;
	case HTTP_ENDPOINT_CMDLINE:
		endpoints_cmdline(&target, reply);
		break;
	case HTTP_ENDPOINT_SYMBOL:
		endpoints_symbol(endpoints, request, &target, reply);
		break;
	case HTTP_ENDPOINT_THREADS:
		endpoint_threads(endpoints, request, &target, reply);
		break;
	case HTTP_ENDPOINT_THREADCREATE:
		endpoint_threadcreate(endpoints, request, &target, reply);
		break;
	case HTTP_ENDPOINT_WALL:
		endpoint_wall(endpoints, request, &target, reply);
		break;
	default:
		index_page_target(endpoints, &target, reply);
		break;
	}
}

// "/123/rest" or "/123": the number, and *path moves to "/rest" or "". 0: no PID there.
static pid_t endpoints_take_pid(const char **path)
{
	const char *s = *path + 1;
	size_t digits = strspn(s, "0123456789");

	if (digits == 0 || digits > 9 || (s[digits] != '/' && s[digits] != '\0'))
		return 0;
	*path = s + digits;
	return (pid_t)strtol(s, NULL, 10);
}

void endpoints_serve(struct endpoints *endpoints, const struct http_request *request, struct http_reply *reply)
{
	const char *path = request->path;
	pid_t pid = endpoints_take_pid(&path);
	size_t prefix = strlen(ENDPOINTS_PREFIX);

	if (strncmp(path, ENDPOINTS_PREFIX "/", prefix + 1) == 0) {
		endpoints_pprof(endpoints, request, pid, path + prefix + 1, reply);
		return;
	}
	if (pid == 0 && strcmp(path, "/") == 0)
		reply->endpoint = HTTP_ENDPOINT_TARGETS;
	else if (pid == 0 && strcmp(path, "/metrics") == 0)
		reply->endpoint = HTTP_ENDPOINT_METRICS;
	if (!endpoints_method_is_allowed(request, reply))
		return;
	if (reply->endpoint == HTTP_ENDPOINT_TARGETS) {
		endpoints_list(endpoints, request, reply);
	} else if (reply->endpoint == HTTP_ENDPOINT_METRICS) {
		endpoints_metrics(endpoints, request, reply);
	} else if (strcmp(path, ENDPOINTS_PREFIX) == 0 || (pid != 0 && strcmp(path, "/") == 0) || path[0] == '\0') {
		char location[48] = ENDPOINTS_PREFIX "/";
		if (pid != 0)
			snprintf(location, sizeof(location), "/%d" ENDPOINTS_PREFIX "/", (int)pid);
		http_reply_redirect(reply, 301, location);
	} else {
		http_reply_error(reply, 404, "404 page not found");
	}
}
