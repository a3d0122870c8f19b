// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// process.h: what /proc says of a process as a whole. Any thread.

#ifndef PROFD_COLLECTOR_PROCESS_H
#define PROFD_COLLECTOR_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#define PROCESS_COMMAND_MAX 4096
#define PROCESS_PIECES 16u

// A thread that has the process's memory and descriptors: pid itself, but when the main thread has ended (pthread_exit) and others go on.
// Then /proc/PID/maps is empty and process_vm_readv(2) fails, while both take any thread's id. When there is none: pid.
// except: not this one, unless it is pid; the agent's helper has descriptors of its own. 0: any.
pid_t process_living_task(pid_t pid, uint32_t except);
// Did all of its threads end, though nobody has waited for it yet?
bool process_has_ended(pid_t pid);
// Reads its memory by *living, process_living_task of it; another one takes its place when it has ended meanwhile. How many bytes; 0: none.
size_t process_read_memory(pid_t pid, pid_t *living, uint64_t address, void *data, size_t size);
// The same for n ≤ PROCESS_PIECES places, one behind the other in data: how many bytes until the first that could not be read.
size_t process_read_pieces(pid_t pid, pid_t *living, const struct iovec *pieces, unsigned n, void *data);
// Its arguments with a blank between, for people; cut, and without control characters. The caller frees it. NULL: not to be had.
char *process_command(pid_t pid);

#endif
