// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// output.c: see output.h. The main thread's.

#include "collector/output.h"
#include "formats/profile.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define OUTPUT_MAX_LINKS 40 // as the kernel

// The fd that a path stands for: what a shell's redirection made must be written into, not renamed over. −1: none.
static int output_fd_named(const char *path)
{
	static const char *const prefixes[] = {"/dev/fd/", "/proc/self/fd/"};

	if (strcmp(path, "-") == 0 || strcmp(path, "/dev/stdout") == 0)
		return STDOUT_FILENO;
	if (strcmp(path, "/dev/stderr") == 0)
		return STDERR_FILENO;
	for (size_t i = 0; i < 2; i++) {
		const char *digits = path + strlen(prefixes[i]);
		if (strncmp(path, prefixes[i], strlen(prefixes[i])) == 0 && *digits != '\0' && strlen(digits) <= 6 &&
		    strspn(digits, "0123456789") == strlen(digits))
			return (int)strtol(digits, NULL, 10);
	}
	return -1;
}

static int output_open_fd(struct output *output, int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -errno;
	if ((flags & O_ACCMODE) == O_RDONLY)
		return -EBADF;
	output->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return output->fd < 0 ? -errno : 0;
}

static void output_pick_name(struct output *output)
{
	unsigned long long random = 0;

	if (getrandom(&random, sizeof(random), 0) < 0)
		random = (unsigned long long)(uintptr_t)output;
	snprintf(output->temporary, sizeof(output->temporary), ".profd-%d-%016llx.tmp", (int)getpid(), random);
}

// A file in the directory that has no name yet, where the file system can do that; else one with a name of its own.
static int output_open_temporary(struct output *output)
{
	output->fd = openat(output->directory_fd, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
	if (output->fd >= 0)
		return 0;
	if (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT && errno != EINVAL)
		return -errno;
	output_pick_name(output);
	output->fd = openat(output->directory_fd, output->temporary, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
	if (output->fd >= 0)
		return 0;
	output->temporary[0] = '\0';
	return -errno;
}

// A shell's '>' leaves mode and owner of a file as they are; so do we, who put a new one in its place. What we may not keep (another's
// file) must not let more people in: without the old group, the group may do what everybody may.
static void output_adopt_old(struct output *output)
{
	struct stat old, own;

	if (fstatat(output->directory_fd, output->name, &old, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(old.st_mode) ||
	    fstat(output->fd, &own) != 0)
		return;
	mode_t mode = old.st_mode & 0777;
	bool same = own.st_uid == old.st_uid && own.st_gid == old.st_gid;
	if (!same && fchown(output->fd, old.st_uid, old.st_gid) != 0 && fchown(output->fd, (uid_t)-1, old.st_gid) != 0)
		mode &= ~(mode_t)0070 | (mode & 0007) << 3;
	(void)!fchmod(output->fd, mode); // the file is ours, unless it could be given away
}

// path: where the file really is to be, symbolic links followed.
static int output_open_beside(struct output *output, const char *path)
{
	const char *slash = strrchr(path, '/');
	char *directory = slash == NULL ? strdup(".") : strndup(path, slash == path ? 1 : (size_t)(slash - path));
	int error = -ENOMEM;

	output->name = strdup(slash == NULL ? path : slash + 1);
	if (directory == NULL || output->name == NULL)
		goto out;
	error = -EISDIR;
	if (output->name[0] == '\0')
		goto out;
	output->directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	error = output->directory_fd < 0 ? -errno : output_open_temporary(output);
	if (error == 0)
		output_adopt_old(output); // before there is anything in it to be read
out:
	free(directory);
	return error;
}

// There is nothing at path yet; or a symbolic link is, to where there is nothing: the link stays, and its target is made.
static int output_open_new(struct output *output, const char *path)
{
	char at[PATH_MAX], target[PATH_MAX], joined[PATH_MAX];

	if ((size_t)snprintf(at, sizeof(at), "%s", path) >= sizeof(at))
		return -ENAMETOOLONG;
	for (int i = 0; i < OUTPUT_MAX_LINKS; i++) {
		ssize_t length = readlink(at, target, sizeof(target) - 1);
		if (length < 0)
			return output_open_beside(output, at);
		target[length] = '\0';
		const char *slash = strrchr(at, '/');
		int directory_length = target[0] == '/' || slash == NULL ? 0 : (int)(slash - at) + 1;
		length = snprintf(joined, sizeof(joined), "%.*s%s", directory_length, at, target);
		if (length >= (ssize_t)sizeof(joined))
			return -ENAMETOOLONG;
		memcpy(at, joined, (size_t)length + 1);
	}
	return -ELOOP;
}

static int output_open_path(struct output *output, const char *path)
{
	char real[PATH_MAX];
	struct stat st;

	if (stat(path, &st) != 0)
		return errno == ENOENT ? output_open_new(output, path) : -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (S_ISREG(st.st_mode))
		return realpath(path, real) != NULL ? output_open_beside(output, real) : -errno;
	output->fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	return output->fd < 0 ? -errno : 0;
}

int output_open(struct output *output, const char *path, const struct format *format, char *error, size_t error_size)
{
	int named = output_fd_named(path);
	int result;

	*output = (struct output){.format = format, .fd = -1, .directory_fd = -1, .path = strdup(path)};
	if (output->path == NULL)
		result = -ENOMEM;
	else if (named >= 0)
		result = output_open_fd(output, named);
	else
		result = output_open_path(output, path);
	const char *shown = strcmp(path, "-") == 0 ? "standard output" : path;
	if (result != 0) {
		snprintf(error, error_size, "cannot write %s: %s", shown, strerror(-result));
	} else if (format == &format_pprof && isatty(output->fd)) {
		snprintf(error, error_size,
			 "%s is a terminal, and pprof's format is binary; choose another with --format", shown);
		result = -EINVAL;
	}
	if (result != 0)
		output_abandon(output);
	return result;
}

// A full disk may show only when the data is really written; pipes and terminals have nothing to sync.
static int output_sync(int fd)
{
	return fsync(fd) == 0 || errno == EINVAL || errno == EROFS ? 0 : -errno;
}

static int output_put_in_place(struct output *output)
{
	char self[64];

	if (output->name == NULL)
		return 0;
	output_adopt_old(output); // it may be another one by now
	if (output->temporary[0] == '\0') {
		output_pick_name(output);
		snprintf(self, sizeof(self), "/proc/self/fd/%d", output->fd);
		if (linkat(AT_FDCWD, self, output->directory_fd, output->temporary, AT_SYMLINK_FOLLOW) != 0) {
			int error = -errno;
			output->temporary[0] = '\0';
			return error;
		}
	}
	if (renameat(output->directory_fd, output->temporary, output->directory_fd, output->name) != 0)
		return -errno;
	output->temporary[0] = '\0';
	return 0;
}

int output_write(struct output *output, const struct profile *profile, const char *title, char *error,
		 size_t error_size)
{
	struct format_options options = {
		.title = title, .value_index = profile_default_value(profile), .full_names = output->full_names};
	struct writer writer;

	writer_init(&writer, writer_fd_sink, &output->fd);
	int result = output->format->write(profile, &options, &writer);
	int flushed = writer_flush(&writer);
	return output_end(output, result == 0 ? flushed : result, error, error_size);
}

int output_end(struct output *output, int result, char *error, size_t error_size)
{
	if (result == 0)
		result = output_sync(output->fd);
	if (result == 0)
		result = output_put_in_place(output);
	if (result != 0)
		snprintf(error, error_size, "cannot write %s: %s",
			 strcmp(output->path, "-") == 0 ? "standard output" : output->path, strerror(-result));
	output_abandon(output);
	return result;
}

void output_abandon(struct output *output)
{
	if (output->temporary[0] != '\0')
		unlinkat(output->directory_fd, output->temporary, 0);
	output->temporary[0] = '\0';
	if (output->fd >= 0)
		close(output->fd);
	if (output->directory_fd >= 0)
		close(output->directory_fd);
	output->fd = output->directory_fd = -1;
	free(output->name);
	free(output->path);
	output->name = output->path = NULL;
}
