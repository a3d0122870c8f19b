// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// launch.c: see launch.h. The main thread's; the child, forked from a process with threads, makes system calls only.

#include "collector/launch.h"
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LAUNCH_OWN_STRINGS 3 // last in the environment that we make

extern char **environ;

static const int launch_taken[] = {SIGINT,  SIGQUIT, SIGTERM,  SIGHUP,  SIGUSR1, SIGUSR2,
				   SIGCONT, SIGTSTP, SIGWINCH, SIGTTIN, SIGTTOU, SIGCHLD};

int launch_take_signals(struct launch_signals *ret_saved)
{
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	struct sigaction standard = {.sa_handler = SIG_DFL};
	sigset_t taken;

	sigemptyset(&taken);
	for (size_t i = 0; i < sizeof(launch_taken) / sizeof(launch_taken[0]); i++)
		sigaddset(&taken, launch_taken[i]);
	int fd = signalfd(-1, &taken, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	sigaction(SIGCHLD, &standard, &ret_saved->child); // ignored, children could not be waited for
	sigaction(SIGPIPE, &ignore, &ret_saved->pipe);
	sigaction(SIGXFSZ, &ignore, &ret_saved->file_size);
	sigprocmask(SIG_BLOCK, &taken, &ret_saved->mask);
	return fd;
}

static int launch_is_ours(const char *entry)
{
	static const char *const names[] = {
		"LD_PRELOAD=", "PROFD_SOCKET=", "PROFD_HTTP=", "PROFD_OUTPUT=", "ASAN_OPTIONS="};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strncmp(entry, names[i], strlen(names[i])) == 0)
			return 1;
	}
	return 0;
}

// "NAME=ours", and what the user has, before or after it.
static char *launch_join(const char *name, const char *ours, bool first)
{
	const char *others = getenv(name);
	char *entry = NULL;

	if (others == NULL || *others == '\0')
		return asprintf(&entry, "%s=%s", name, ours) < 0 ? NULL : entry;
	if (asprintf(&entry, "%s=%s:%s", name, first ? ours : others, first ? others : ours) < 0)
		return NULL;
	return entry;
}

char **launch_environment(const char *agent, const char *socket)
{
	size_t count = 0;
	size_t used = 0;

	if (agent == NULL)
		return environ;
	while (environ[count] != NULL)
		count++;
	char **environment = calloc(count + LAUNCH_OWN_STRINGS + 1, sizeof(*environment));
	if (environment == NULL)
		return NULL;
	for (size_t i = 0; i < count; i++) {
		if (!launch_is_ours(environ[i]))
			environment[used++] = environ[i];
	}
	char *own[LAUNCH_OWN_STRINGS] = {
		launch_join("LD_PRELOAD", agent, true),
		// AddressSanitizer's library ends a program that has loaded another one before it. It need not: ours calls what comes next.
		launch_join("ASAN_OPTIONS", "verify_asan_link_order=0", false),
		NULL,
	};
	if (asprintf(&own[2], "PROFD_SOCKET=%s", socket) < 0)
		own[2] = NULL;
	for (size_t i = 0; i < LAUNCH_OWN_STRINGS; i++)
		environment[used + i] = own[i];
	if (own[0] != NULL && own[1] != NULL && own[2] != NULL)
		return environment;
	for (size_t i = 0; i < LAUNCH_OWN_STRINGS; i++)
		free(own[i]);
	free(environment);
	return NULL;
}

void launch_environment_destroy(char **environment)
{
	size_t count = 0;

	if (environment == NULL || environment == environ)
		return;
	while (environment[count] != NULL)
		count++;
	for (size_t i = 0; i < LAUNCH_OWN_STRINGS; i++)
		free(environment[count - 1 - i]);
	free(environment);
}

static void __attribute__((noreturn))
launch_child(char *const *argv, char *const *environment, const struct launch_signals *saved, int report_fd)
{
	sigaction(SIGCHLD, &saved->child, NULL);
	sigaction(SIGPIPE, &saved->pipe, NULL);
	sigaction(SIGXFSZ, &saved->file_size, NULL);
	sigprocmask(SIG_SETMASK, &saved->mask, NULL);
	execvpe(argv[0], argv, environment);
	int error = errno;
	ssize_t written = write(report_fd, &error, sizeof(error));
	_exit(written == sizeof(error) ? 127 : 126);
}

// What the terminal said while there was no child yet was for the child. It goes to one that has not got as far as exec, or just has: where the
// signal was sent to both of us, it finds what a second one finds.
static void launch_pass_on(pid_t pid)
{
	const struct timespec now = {0};
	sigset_t from_terminal;
	int number;

	sigemptyset(&from_terminal);
	sigaddset(&from_terminal, SIGINT);
	sigaddset(&from_terminal, SIGQUIT);
	sigaddset(&from_terminal, SIGHUP);
	sigaddset(&from_terminal, SIGTSTP);
	while ((number = sigtimedwait(&from_terminal, NULL, &now)) > 0)
		kill(pid, number);
}

// What the child has to say: nothing when exec closed its end.
static int launch_read_report(int fd)
{
	int error = 0;
	ssize_t got;

	do
		got = read(fd, &error, sizeof(error));
	while (got < 0 && errno == EINTR);
	return got == sizeof(error) ? -error : 0;
}

int launch_start(char *const *argv, char *const *environment, const struct launch_signals *saved, pid_t *ret_pid,
		 int *ret_exec_failed)
{
	int report[2];

	*ret_exec_failed = 0;
	if (pipe2(report, O_CLOEXEC) != 0)
		return -errno;
	pid_t pid = fork();
	if (pid == 0)
		launch_child(argv, environment, saved, report[1]);
	int error = pid < 0 ? -errno : 0;
	close(report[1]);
	if (error == 0) {
		launch_pass_on(pid);
		error = launch_read_report(report[0]);
		*ret_exec_failed = error != 0;
	}
	close(report[0]);
	if (*ret_exec_failed)
		waitpid(pid, NULL, 0);
	if (error == 0)
		*ret_pid = pid;
	return error;
}
