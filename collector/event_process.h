// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// event_process.h: the event trace of a process that is not ours to serve, out of its memory, as origins_read_process. Main thread.

#ifndef PROFD_COLLECTOR_EVENT_PROCESS_H
#define PROFD_COLLECTOR_EVENT_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

#include "collector/event_reader.h"

// A copy of the file, for an event_reader; events that were written while it was copied count as lost, but for the last ones, and calls that may wait for nothing,
// which are left to the next copy. −ENODATA: the process has none; −EPERM, −ENOMEM.
int event_process_copy(pid_t pid, struct event_file *ret_file);
void event_process_free(struct event_file *copy); // accepts a zeroed one

#endif
