// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// launch.h: starts the command of `profd run` as if profd were not there: with the signal mask, dispositions, process group and
// descriptors that profd itself was given.

#ifndef PROFD_COLLECTOR_LAUNCH_H
#define PROFD_COLLECTOR_LAUNCH_H

#include <signal.h>
#include <sys/types.h>

// What profd was started with; given back to the command.
struct launch_signals {
	sigset_t mask;
	struct sigaction child, pipe, file_size;
};

// Blocks the signals that profd forwards or survives, and returns a signalfd for them (or −errno). Ignores SIGPIPE and SIGXFSZ. Call
// before any thread is made, so that all of them inherit the mask.
int launch_take_signals(struct launch_signals *ret_saved);

// Our environment plus the agent and the socket it is to join; both NULL: as it is. NULL: out of memory.
char **launch_environment(const char *agent, const char *socket);
void launch_environment_destroy(char **environment); // accepts NULL

// Starts argv, which gets what the terminal has sent since launch_take_signals. 0, or −errno of what failed: execvp's error when
// *ret_exec_failed is set, else our own.
int launch_start(char *const *argv, char *const *environment, const struct launch_signals *saved, pid_t *ret_pid,
		 int *ret_exec_failed);

#endif
