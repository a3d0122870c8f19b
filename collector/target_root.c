// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_root.c: see target_root.h.

#include "collector/target_root.h"

#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct target_root {
	int refs; // atomic
	int fd;
	struct statx id;
	size_t length; // of path
	char path[];   // where we see it; "": nowhere, it is in another mount namespace
};

static bool identify(int fd, const char *path, struct statx *ret_id)
{
	return statx(fd, path, fd >= 0 ? AT_EMPTY_PATH : 0, STATX_INO | STATX_MNT_ID, ret_id) == 0;
}

// One directory may be mounted in several places; what is below it may then differ.
static bool is_same(const struct statx *x, const struct statx *y)
{
	return x->stx_ino == y->stx_ino && x->stx_dev_major == y->stx_dev_major &&
	       x->stx_dev_minor == y->stx_dev_minor &&
	       (x->stx_mask & y->stx_mask & STATX_MNT_ID ? x->stx_mnt_id == y->stx_mnt_id : true);
}

static struct target_root *create(int fd, const struct statx *id, const char *path)
{
	size_t length = strcmp(path, "/") == 0 ? 0 : strlen(path);
	struct target_root *root = malloc(sizeof(*root) + length + 1);

	if (!root) {
		close(fd);
		return NULL;
	}
	root->refs = 1;
	root->fd = fd;
	root->id = *id;
	root->length = length;
	memcpy(root->path, path, length);
	root->path[length] = '\0';
	return root;
}

struct target_root *target_root_open(pid_t pid, struct target_root *last)
{
	char link[32], path[PATH_MAX] = "";
	struct statx id, ours;
	int fd;

	snprintf(link, sizeof(link), "/proc/%d/root", (int)pid);
	fd = open(link, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	if (!identify(fd, "", &id) || !identify(-1, "/", &ours) || is_same(&id, &ours)) {
		close(fd);
		return NULL;
	}
	if (last && is_same(&id, &last->id)) {
		close(fd);
		return target_root_ref(last);
	}
	if (readlink(link, path, sizeof(path) - 1) < 0)
		path[0] = '\0';
	return create(fd, &id, path);
}

struct target_root *target_root_ref(struct target_root *root)
{
	__atomic_fetch_add(&root->refs, 1, __ATOMIC_RELAXED);
	return root;
}

void target_root_unref(struct target_root *root)
{
	if (!root || __atomic_sub_fetch(&root->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	close(root->fd);
	free(root);
}

int target_root_fd(const struct target_root *root)
{
	return root ? root->fd : -1;
}

const char *target_root_inside(const struct target_root *root, const char *path)
{
	if (root && root->length > 0 && strncmp(path, root->path, root->length) == 0 && path[root->length] == '/')
		return path + root->length;
	return path;
}
