// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// name_worker.h: runs the compiler of name tables in a process of its own, that has no rights and limits of memory and time. What it
// reads is written by anybody; whatever that does to it, the worst is a block that does not come, or that says wrong names.
//
// It is given the open files and writes into one memfd. The one thing that it may ask for is a .dwo file by its name: opened here,
// if it is a regular file of ours or root's and is called so.

#ifndef PROFD_COLLECTOR_NAME_WORKER_H
#define PROFD_COLLECTOR_NAME_WORKER_H

#include "collector/name_compiler.h"

#define NAME_WORKER_REASON 160

// Blocks until the worker is gone. sources.open_split is not used. The block as a sealed memfd, not yet checked, in *ret_fd. 0 or −errno,
// and then why in reason. Any thread.
int name_worker_run(const struct name_request *request, int *ret_fd, char reason[NAME_WORKER_REASON]);

#endif
