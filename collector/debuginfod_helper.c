// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// debuginfod_helper.c: see debuginfod_helper.h. For each build ID it writes one line to its standard output: a letter for the result, and why.

#include "collector/debuginfod_helper.h"

#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "collector/clock.h"
#include "collector/debug_file.h"

#define SILENT_SECONDS 20
#define MAX_SECONDS 300
#define MAX_BYTES (1ull << 30)
#define MORE_BYTES (1u << 20) // what is too large is noticed by what has come, first
#define END_MS 5000
#define GRACE_SECONDS 2 // libdebuginfod keeps its limits itself, mostly
#define MAX_VARIABLES 4096

static const char letters[] = {
	[DEBUGINFOD_RESULT_HERE] = 'h',
	[DEBUGINFOD_RESULT_NONE] = 'n',
	[DEBUGINFOD_RESULT_UNFIT] = 'u',
	[DEBUGINFOD_RESULT_NO_ANSWER] = 'a',
};

static unsigned long long limit_of(const char *variable, unsigned long long usual)
{
	const char *text = getenv(variable);
	unsigned long long value = text && isdigit((unsigned char)*text) ? strtoull(text, NULL, 10) : 0;

	return value > 0 && value < INT64_MAX ? value : usual;
}

// ---- Starting it ---------------------------------------------------------------------------------------------------

struct environment {
	char urls[4096], cache[PATH_MAX + 32], timeout[64], max_time[64], max_size[64];
	char *variables[MAX_VARIABLES];
};

// It is not to be profiled itself, nor to print its progress.
static bool is_replaced(const char *variable)
{
	static const char *const names[] = {"LD_PRELOAD=",         "PROFD_",
					    "DEBUGINFOD_URLS=",    "DEBUGINFOD_CACHE_PATH=",
					    "DEBUGINFOD_TIMEOUT=", "DEBUGINFOD_MAXTIME=",
					    "DEBUGINFOD_MAXSIZE=", "DEBUGINFOD_PROGRESS=",
					    "DEBUGINFOD_VERBOSE="};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strncmp(variable, names[i], strlen(names[i])) == 0)
			return true;
	return false;
}

static int make_environment(const char *urls, struct environment *environment)
{
	char directory[PATH_MAX];
	size_t count = 0;

	if (!debuginfod_directory(directory, sizeof(directory)))
		return -ENOENT;
	if (snprintf(environment->urls, sizeof(environment->urls), "DEBUGINFOD_URLS=%s", urls) >=
	    (int)sizeof(environment->urls))
		return -E2BIG;
	snprintf(environment->cache, sizeof(environment->cache), "DEBUGINFOD_CACHE_PATH=%s", directory);
	snprintf(environment->timeout, sizeof(environment->timeout), "DEBUGINFOD_TIMEOUT=%llu",
		 limit_of("DEBUGINFOD_TIMEOUT", SILENT_SECONDS));
	snprintf(environment->max_time, sizeof(environment->max_time), "DEBUGINFOD_MAXTIME=%llu",
		 limit_of("DEBUGINFOD_MAXTIME", MAX_SECONDS));
	snprintf(environment->max_size, sizeof(environment->max_size), "DEBUGINFOD_MAXSIZE=%llu",
		 limit_of("DEBUGINFOD_MAXSIZE", MAX_BYTES));
	environment->variables[count++] = environment->urls;
	environment->variables[count++] = environment->cache;
	environment->variables[count++] = environment->timeout;
	environment->variables[count++] = environment->max_time;
	environment->variables[count++] = environment->max_size;
	for (char **variable = environ; *variable && count + 1 < MAX_VARIABLES; variable++)
		if (!is_replaced(*variable))
			environment->variables[count++] = *variable;
	return 0;
}

// In a session of its own: a terminal's signals are not for it.
static int spawn(const char *program, char *const *arguments, char *const *environment, int output, pid_t *ret_pid)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none, all;
	int error;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &all);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
	posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	error = posix_spawn(ret_pid, program, &actions, &attributes, arguments, environment);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attributes);
	return -error;
}

int debuginfod_helper_start(const char *program, const char *urls, const char *const *build_ids, size_t count,
			    struct debuginfod_helper *ret_helper)
{
	struct environment *environment = calloc(1, sizeof(*environment));
	char **arguments = calloc(count + 3, sizeof(*arguments));
	int pipe_fds[2], error = environment && arguments ? make_environment(urls, environment) : -ENOMEM;
	pid_t pid;

	if (!error && pipe2(pipe_fds, O_CLOEXEC) < 0)
		error = -errno;
	if (!error) {
		arguments[0] = (char *)(uintptr_t) "profd";
		arguments[1] = (char *)(uintptr_t) "fetch-debug";
		for (size_t i = 0; i < count; i++)
			arguments[2 + i] = (char *)(uintptr_t)build_ids[i];
		error = spawn(program, arguments, environment->variables, pipe_fds[1], &pid);
		close(pipe_fds[1]);
		if (error)
			close(pipe_fds[0]);
	}
	free(arguments);
	free(environment);
	if (!error)
		*ret_helper = (struct debuginfod_helper){.pid = pid, .fd = pipe_fds[0]};
	return error;
}

// ---- Waiting for it ------------------------------------------------------------------------------------------------

static void take_line(const char *line, struct debuginfod_result *ret_result)
{
	size_t used = 0;

	ret_result->kind = DEBUGINFOD_RESULT_NO_ANSWER;
	for (size_t i = 0; i < sizeof(letters); i++)
		if (line[0] == letters[i])
			ret_result->kind = (enum debuginfod_result_kind)i;
	for (const char *at = line[0] ? line + 1 : "ended without a word"; *at && *at != '\n'; at++)
		if (used + 1 < sizeof(ret_result->reason))
			ret_result->reason[used++] = (unsigned char)*at < ' ' || *at == 0x7f ? '?' : *at;
	ret_result->reason[used] = '\0';
}

bool debuginfod_helper_wait(struct debuginfod_helper *helper, int stop_fd, struct debuginfod_result *ret_result)
{
	struct pollfd fds[] = {{.fd = helper->fd, .events = POLLIN}, {.fd = stop_fd, .events = POLLIN}};
	unsigned long long seconds = limit_of("DEBUGINFOD_MAXTIME", MAX_SECONDS);
	int64_t deadline = clock_now_ms() + (int64_t)(seconds < 86400 ? seconds + GRACE_SECONDS : 86400) * 1000;
	char line[DEBUGINFOD_REASON + 2] = "";
	size_t used = 0;

	for (;;) {
		int64_t left = deadline - clock_now_ms();
		int n = left > 0 ? poll(fds, 2, (int)left) : 0;
		ssize_t got;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			take_line("athe server took too long", ret_result);
			return true;
		}
		if (fds[1].revents)
			return false;
		got = read(helper->fd, line + used, sizeof(line) - 1 - used);
		if (got > 0)
			used += (size_t)got;
		line[used] = '\0';
		if (got <= 0 || strchr(line, '\n') || used == sizeof(line) - 1) {
			helper->has_spoken = true;
			take_line(line, ret_result);
			return true;
		}
	}
}

// One that has said what it had to say is about to end; killed only if it does not.
void debuginfod_helper_end(struct debuginfod_helper *helper, bool end)
{
	struct pollfd ended = {.events = POLLIN};

	close(helper->fd);
	if (!end)
		return;
	ended.fd = helper->has_spoken ? (int)syscall(SYS_pidfd_open, helper->pid, 0) : -1;
	if (ended.fd < 0 || poll(&ended, 1, END_MS) <= 0)
		(void)kill(helper->pid, SIGKILL);
	if (ended.fd >= 0)
		close(ended.fd);
	while (waitpid(helper->pid, NULL, 0) < 0 && errno == EINTR)
		;
}

// ---- The process itself --------------------------------------------------------------------------------------------

// What we use of libdebuginfod, as elfutils/debuginfod.h declares it: it is not needed to build.
struct library {
	void *(*begin)(void);
	int (*find_debuginfo)(void *client, const unsigned char *build_id, int length, char **ret_path);
	void (*set_progressfn)(void *client, int (*progress)(void *client, long a, long b));
	void (*end)(void *client);
};

static unsigned long long max_bytes;
static bool too_large;

static bool load(struct library *library)
{
	void *handle = dlopen("libdebuginfod.so.1", RTLD_NOW | RTLD_LOCAL);

	if (!handle)
		return false;
	*(void **)&library->begin = dlsym(handle, "debuginfod_begin");
	*(void **)&library->find_debuginfo = dlsym(handle, "debuginfod_find_debuginfo");
	*(void **)&library->set_progressfn = dlsym(handle, "debuginfod_set_progressfn");
	*(void **)&library->end = dlsym(handle, "debuginfod_end");
	return library->begin && library->find_debuginfo && library->set_progressfn && library->end;
}

// a: bytes that have come (or, before, how often we were asked); b: that will come, as far as the server says.
static int watch(void *client, long a, long b)
{
	too_large |= (a > 0 && (unsigned long long)a > max_bytes) || (b > 0 && (unsigned long long)b > max_bytes);
	return too_large;
}

static void make_directory(const char *path)
{
	char part[PATH_MAX];

	for (const char *slash = path; (slash = strchr(slash + 1, '/'));) {
		snprintf(part, sizeof(part), "%.*s", (int)(slash - path), path);
		(void)mkdir(part, 0700);
	}
	(void)mkdir(path, 0700);
}

// What a server sent instead is not kept: the next one who asks would be given it.
static enum debuginfod_result_kind check(const char *build_id, const char *directory, const char *path)
{
	struct elf_file file;

	if (debug_file_downloaded(build_id, directory, &file) == 0) {
		elf_file_close(&file);
		return DEBUGINFOD_RESULT_HERE;
	}
	(void)unlink(path);
	return DEBUGINFOD_RESULT_UNFIT;
}

static enum debuginfod_result_kind fetch(const struct library *library, const char *build_id, const char *directory,
					 char reason[DEBUGINFOD_REASON])
{
	void *client = library->begin();
	enum debuginfod_result_kind kind = DEBUGINFOD_RESULT_NO_ANSWER;
	char *path = NULL;
	int fd;

	too_large = false;
	if (!client)
		return kind;
	library->set_progressfn(client, watch);
	fd = library->find_debuginfo(client, (const unsigned char *)build_id, 0, &path);
	library->end(client);
	if (fd >= 0) {
		close(fd);
		kind = check(build_id, directory, path);
		snprintf(reason, DEBUGINFOD_REASON, "what the server sent is no debug info of this build ID");
	} else if (too_large || fd == -EFBIG) {
		kind = DEBUGINFOD_RESULT_UNFIT;
		snprintf(reason, DEBUGINFOD_REASON, "larger than %llu bytes (DEBUGINFOD_MAXSIZE)", max_bytes);
	} else if (fd == -ENOENT) { // so it calls a server's own error and, at times, a transfer that broke off, too
		kind = DEBUGINFOD_RESULT_NONE;
	} else {
		snprintf(reason, DEBUGINFOD_REASON, "the server did not answer as it should: %s", strerror(-fd));
	}
	free(path);
	return kind;
}

static void set_limits(void)
{
	const rlim_t most = max_bytes + MORE_BYTES;
	const struct rlimit none = {0, 0}, size = {most, most};

	(void)setrlimit(RLIMIT_CORE, &none);
	(void)setrlimit(RLIMIT_FSIZE, &size);
	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	(void)signal(SIGXFSZ, SIG_IGN);
	(void)signal(SIGPIPE, SIG_IGN); // who started us may be gone
}

static int fetch_all(int argc, char **argv)
{
	char directory[PATH_MAX];
	struct library library;

	max_bytes = limit_of("DEBUGINFOD_MAXSIZE", MAX_BYTES);
	if (argc < 2 || !debuginfod_directory(directory, sizeof(directory)))
		return 2;
	set_limits();
	make_directory(directory);
	if (!load(&library)) {
		puts("alibdebuginfod.so.1 cannot be loaded; install libdebuginfod1");
		return 1;
	}
	for (int i = 1; i < argc; i++) {
		char reason[DEBUGINFOD_REASON] = "";
		enum debuginfod_result_kind kind = fetch(&library, argv[i], directory, reason);

		printf("%c%s\n", letters[kind], kind == DEBUGINFOD_RESULT_HERE ? "" : reason);
		(void)fflush(stdout);
		if (kind == DEBUGINFOD_RESULT_NO_ANSWER)
			return 1;
	}
	return 0;
}

// What the libraries have to do at the end of a process is of no use here, and may take its time.
int debuginfod_helper_main(int argc, char **argv)
{
	int status = fetch_all(argc, argv);

	(void)fflush(stdout);
	_exit(status);
}
