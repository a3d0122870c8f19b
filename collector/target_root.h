// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_root.h: the root directory of a process that has another one than we (a container, a chroot), kept open: debug files that lie there
// are found after the process has ended, too. Immutable; any thread.

#ifndef PROFD_COLLECTOR_TARGET_ROOT_H
#define PROFD_COLLECTOR_TARGET_ROOT_H

#include <sys/types.h>

struct target_root;

// A reference to pid's root directory; to `last` (NULL: none) if it is that one. NULL: it is ours, or cannot be opened.
struct target_root *target_root_open(pid_t pid, struct target_root *last);
struct target_root *target_root_ref(struct target_root *root);
void target_root_unref(struct target_root *root); // accepts NULL

// For elf_file_open_at; −1 for NULL.
int target_root_fd(const struct target_root *root);
// What a path of /proc/PID/maps is below that root: a chroot is in our own tree, and maps has its paths as we see them. Part of path.
const char *target_root_inside(const struct target_root *root, const char *path);

#endif
