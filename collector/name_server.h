// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// name_server.h: the process that workers which read debug info (name_worker.h) are forked from. It is forked itself while profd has one
// thread and next to no memory: so a worker holds no lock that another thread had taken, nothing that profd knows of other programs, and
// costs the same however large profd has become. One that was killed is replaced by a fork of profd as it is then.

#ifndef PROFD_COLLECTOR_NAME_SERVER_H
#define PROFD_COLLECTOR_NAME_SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define NAME_SERVER_SECONDS 120 // that a worker may take

// What a worker is given: NULL files are not there.
struct name_job {
	int status;  // the writing end of a pipe, for a name_status; the worker does not see it
	int socket;  // its end, of messages
	int output;  // memfd
	int request; // memfd, see name_process.h
};

// What became of a worker.
struct name_status {
	int32_t error;       // −errno: it could not be started
	int32_t wait_status; // as of waitpid
	bool too_long;       // killed for it
};

// Forks the server, unless it is there. To be called before there are threads; when it is not, or when the server died, it is forked when
// it is needed. 0 or −errno. Any thread.
int name_server_start(void);
// Starts a worker. All descriptors stay the caller's. The server's PID, or −errno; then nobody writes to status. Any thread.
int name_server_fork(const struct name_job *job, const int *files, int nfiles);
// It did not do what it has to do.
void name_server_kill(pid_t server);

#endif
