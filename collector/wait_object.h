// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// wait_object.h: what a process's file descriptors are, in words. Reads /proc; remembers what it found, for one snapshot.

#ifndef PROFD_COLLECTOR_WAIT_OBJECT_H
#define PROFD_COLLECTOR_WAIT_OBJECT_H

#include <stddef.h>
#include <sys/types.h>

#define WAIT_OBJECT_SIZE 128

struct wait_objects;

struct wait_objects *wait_objects_create(pid_t pid);     // NULL: no memory
void wait_objects_destroy(struct wait_objects *objects); // accepts NULL

// "pipe:[123] (fd 3)", "tcp 127.0.0.1:40000 to 127.0.0.1:5432 (fd 7)", "unix listening at /path (fd 4)",
// "unix socket:[456] (fd 8)" of one without a name, "/path (fd 4)"; "fd 9" when nothing is known. As long as objects.
const char *wait_objects_fd(struct wait_objects *objects, int fd);
// "(fd 5; 312 fds)" of an epoll descriptor.
const char *wait_objects_epoll(struct wait_objects *objects, int fd);

#endif
