// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// name_sandbox.h: takes all rights from the calling process but to compute, to read and write what is open, and to talk over an open
// socket: no files, no network, no programs, no other processes; limits of memory, CPU time and output. In a child after fork.

#ifndef PROFD_COLLECTOR_NAME_SANDBOX_H
#define PROFD_COLLECTOR_NAME_SANDBOX_H

// keep: the descriptors that stay open; all others are closed. landlock is used where the kernel has it; without seccomp it is an
// error. 0 or −errno.
int name_sandbox_enter(const int *keep, int count);

#endif
