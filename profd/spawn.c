// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// spawn.c: starts a private collector, out of the target's sight: cloned twice without an exit signal (no SIGCHLD; the first
// child is reaped here with __WCLONE, which the program's own wait never asks for), in a session of its own. At the
// constructor; in the children raw system calls only.

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include "profd/agent.h"
#include "profd/rates.h"
#include "profd/raw.h"

#define READY_TIMEOUT_MS 10000

extern char **environ;

static bool try_path(char path[PATH_MAX], const char *dir, size_t dir_length, const char *rest)
{
	int length = snprintf(path, PATH_MAX, "%.*s%s", (int)dir_length, dir, rest);

	return length > 0 && length < PATH_MAX && access(path, X_OK) == 0;
}

// $PROFD_COLLECTOR; the build tree's; beside the agent; ../bin of its directory; where it was installed to.
static bool find_collector(char path[PATH_MAX])
{
	const char *given = getenv("PROFD_COLLECTOR");
	Dl_info info;
	const char *slash;
	size_t dir;

	if (given && *given)
		return try_path(path, given, strlen(given), "");
	if (dladdr((void *)(uintptr_t)profd_spawn_collector, &info) && info.dli_fname &&
	    (slash = strrchr(info.dli_fname, '/'))) {
		dir = (size_t)(slash - info.dli_fname);
		if (try_path(path, info.dli_fname, dir, "/../collector/profd") ||
		    try_path(path, info.dli_fname, dir, "/profd") ||
		    try_path(path, info.dli_fname, dir, "/../bin/profd") ||
		    try_path(path, info.dli_fname, dir, "/../../bin/profd"))
			return true;
	}
	return try_path(path, PROFD_BINDIR, strlen(PROFD_BINDIR), "/profd");
}

// Every file of a:b:c made absolute, for the collector works in "/". NULL when out of memory; the caller frees.
static char *absolute_paths(const char *list)
{
	char cwd[PATH_MAX];
	size_t items = 1;
	char *result, *out;

	if (!getcwd(cwd, sizeof(cwd)))
		cwd[0] = 0;
	for (const char *c = list; *c; c++)
		items += *c == ':';
	result = out = malloc(strlen(list) + items * (strlen(cwd) + 2) + 1);
	if (!result)
		return NULL;
	while (*list) {
		size_t length = strcspn(list, ":");

		if (*list != '/' && length)
			out += sprintf(out, "%s/", cwd);
		memcpy(out, list, length);
		out += length;
		list += length;
		if (*list)
			*out++ = *list++;
	}
	*out = 0;
	return result;
}

// The collector must not be a target itself, nor take our settings for its own.
static char **collector_environment(void)
{
	size_t count = 0, kept = 0;
	char **result;

	while (environ[count])
		count++;
	result = calloc(count + 1, sizeof(*result));
	for (size_t i = 0; result && i < count; i++) {
		if (strncmp(environ[i], "LD_PRELOAD=", 11) != 0 && strncmp(environ[i], "LD_AUDIT=", 9) != 0)
			result[kept++] = environ[i];
	}
	return result;
}

static void make_socket_name(char name[PROFD_SOCKET_MAX])
{
	uint64_t random[2] = {0, 0};

	if (getrandom(random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
		random[0] = (uint64_t)getpid() << 32 ^ (uintptr_t)&random;
	snprintf(name, PROFD_SOCKET_MAX, "@profd-%d-%016llx%016llx", getpid(), (unsigned long long)random[0],
		 (unsigned long long)random[1]);
}

// fork without an exit signal and without anybody's fork handlers.
static long quiet_fork(void)
{
	return profd_raw6(SYS_clone, 0, 0, 0, 0, 0, 0);
}

static void run_grandchild(const char *path, char *const argv[], char *const envp[], int ready_fd)
{
	profd_raw0(SYS_setsid);
	profd_raw3(SYS_fcntl, ready_fd, F_SETFD, 0);
	profd_raw3(SYS_execve, (long)path, (long)argv, (long)envp);
	profd_raw3(SYS_write, ready_fd, (long)"error: it cannot be executed\n", 29);
	profd_raw1(SYS_exit_group, 127);
}

static int start(const char *path, char *const argv[], char *const envp[], int ready_fd)
{
	long child = quiet_fork();
	int status;

	if (child == 0) {
		if (quiet_fork() == 0)
			run_grandchild(path, argv, envp, ready_fd);
		profd_raw1(SYS_exit_group, 0);
	}
	if (child < 0)
		return (int)child;
	while (profd_raw4(SYS_wait4, child, (long)&status, __WCLONE, 0) == -EINTR)
		;
	return 0;
}

// Reads the line that the collector says once it listens. 0, or −1 with the reason in line.
static int await_ready(int fd, char *line, size_t size)
{
	size_t used = 0;

	snprintf(line, size, "error: no answer");
	while (used + 1 < size) {
		struct pollfd wait = {.fd = fd, .events = POLLIN};
		ssize_t n;

		if (poll(&wait, 1, READY_TIMEOUT_MS) <= 0)
			return -1;
		n = read(fd, line + used, size - 1 - used);
		if (n <= 0)
			break;
		used += (size_t)n;
		line[used] = 0;
		if (strchr(line, '\n'))
			break;
	}
	line[strcspn(line, "\n")] = 0;
	return strncmp(line, "ok", 2) == 0 ? 0 : -1;
}

static int add_option(const char **argv, int count, const char *option, const char *value)
{
	if (value) {
		argv[count++] = option;
		argv[count++] = value;
	}
	return count;
}

// What files it is to write, as absolute paths; NULL: none.
struct outputs {
	char *profile, *trace;
};

static int add_rate(const char **argv, int count, char text[40], const char *option, uint64_t rate)
{
	if (rate) {
		snprintf(text, 40, "%s=%llu", option, (unsigned long long)rate);
		argv[count++] = text;
	}
	return count;
}

static int launch(struct profd_config *config, const char *path, const struct outputs *outputs, int pipe_fds[2])
{
	char **environment = collector_environment();
	char target[16], ready[16], flight[16], trace_rate[16], heap[40], mutex[40], block[40];
	const char *argv[32] = {path, "private", "--socket", config->socket, "--target", target, "--ready-fd", ready};
	int n = 8;
	int error;

	if (!environment)
		return -ENOMEM;
	snprintf(target, sizeof(target), "%d", getpid());
	snprintf(ready, sizeof(ready), "%d", pipe_fds[1]);
	if (config->http || (!outputs->profile && !outputs->trace)) {
		argv[n++] = "--http";
		argv[n++] = config->http ? config->http : "127.0.0.1:6060";
	}
	snprintf(flight, sizeof(flight), "%u", config->flight_s);
	snprintf(trace_rate, sizeof(trace_rate), "%u", config->trace_rate_hz);
	n = add_option(argv, n, "--output", outputs->profile);
	n = add_option(argv, n, "--trace", outputs->trace);
	n = add_option(argv, n, "--trace-rate", outputs->trace ? trace_rate : NULL);
	n = add_option(argv, n, "--flight", config->flight_s ? flight : NULL);
	n = add_option(argv, n, "--rate", config->rate);
	n = add_option(argv, n, "--clock", config->clock);
	n = add_option(argv, n, "--max-overhead", config->max_overhead);
	n = add_rate(argv, n, heap, "--heap", profd_rates.heap_bytes);
	n = add_rate(argv, n, mutex, "--mutex", profd_rates.mutex);
	n = add_rate(argv, n, block, "--block", profd_rates.block);
	argv[n] = NULL;
	error = start(path, (char *const *)argv, environment, pipe_fds[1]);
	free(environment);
	return error;
}

// Not on 0, 1 and 2, which a program may be started without: the collector gives these a meaning.
static int make_pipe(int fds[2])
{
	int low[2];
	int error;

	if (pipe2(low, O_CLOEXEC) < 0)
		return -1;
	fds[0] = fcntl(low[0], F_DUPFD_CLOEXEC, 3);
	fds[1] = fcntl(low[1], F_DUPFD_CLOEXEC, 3);
	error = errno;
	close(low[0]);
	close(low[1]);
	if (fds[0] >= 0 && fds[1] >= 0)
		return 0;
	if (fds[0] >= 0)
		close(fds[0]);
	if (fds[1] >= 0)
		close(fds[1]);
	errno = error;
	return -1;
}

int profd_spawn_collector(struct profd_config *config)
{
	char path[PATH_MAX], line[300];
	struct outputs outputs = {NULL, NULL};
	int pipe_fds[2];
	int error;

	if (!find_collector(path)) {
		profd_message(
			"running unprofiled: the collector 'profd' was not found; set PROFD_COLLECTOR to its path");
		return -ENOENT;
	}
	if ((config->output && !(outputs.profile = absolute_paths(config->output))) ||
	    (config->trace_output && !(outputs.trace = absolute_paths(config->trace_output)))) {
		error = -ENOMEM;
		goto out;
	}
	make_socket_name(config->socket);
	if (make_pipe(pipe_fds) < 0) {
		error = -errno;
		profd_message("running unprofiled: cannot make a pipe: %s", strerror(errno));
		goto out;
	}
	error = launch(config, path, &outputs, pipe_fds);
	close(pipe_fds[1]);
	if (error) {
		profd_message("running unprofiled: cannot start %s: %s", path, strerror(-error));
	} else if (await_ready(pipe_fds[0], line, sizeof(line)) < 0) {
		profd_message("running unprofiled: %s: %s", path, strncmp(line, "error: ", 7) ? line : line + 7);
		error = -EIO;
	}
	close(pipe_fds[0]);
out:
	free(outputs.profile);
	free(outputs.trace);
	return error;
}
