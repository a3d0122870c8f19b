// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// agent_path.c: see agent_path.h. The main thread's.

#include "collector/agent_path.h"
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AGENT_NAME "libprofd.so"

static void agent_path_executable_directory(char *buf, size_t size)
{
	ssize_t length = readlink("/proc/self/exe", buf, size - 1);

	buf[length > 0 ? length : 0] = '\0';
	char *slash = strrchr(buf, '/');
	if (slash != NULL)
		*slash = '\0';
}

// Absolute and without "..", since the target may change its directory before it starts others.
static int agent_path_take(const char *candidate, char *buf, size_t size)
{
	char real[PATH_MAX];

	if (realpath(candidate, real) == NULL || access(real, R_OK) != 0)
		return -errno;
	if (strlen(real) >= size)
		return -ENAMETOOLONG;
	memcpy(buf, real, strlen(real) + 1);
	return 0;
}

static int agent_path_search(char *buf, size_t size)
{
	static const char *const beside[] = {"../profd/" AGENT_NAME, AGENT_NAME};
	char directory[PATH_MAX];
	char candidate[2 * PATH_MAX];

	agent_path_executable_directory(directory, sizeof(directory));
	for (size_t i = 0; i < 2 && directory[0] == '/'; i++) {
		snprintf(candidate, sizeof(candidate), "%s/%s", directory, beside[i]);
		if (agent_path_take(candidate, buf, size) == 0)
			return 0;
	}
	return agent_path_take(PROFD_LIBDIR "/" AGENT_NAME, buf, size);
}

int agent_path_find(char *buf, size_t size, char *error, size_t error_size)
{
	const char *named = getenv("PROFD_AGENT");
	int result;

	if (named != NULL && *named != '\0') {
		result = agent_path_take(named, buf, size);
		if (result != 0)
			snprintf(error, error_size, "PROFD_AGENT=%s: %s", named, strerror(-result));
	} else {
		result = agent_path_search(buf, size);
		if (result != 0)
			snprintf(error, error_size,
				 "cannot find " AGENT_NAME " beside profd or in " PROFD_LIBDIR
				 "; set PROFD_AGENT to its path");
	}
	if (result == 0 && strpbrk(buf, " :") != NULL) {
		snprintf(error, error_size,
			 "%s: LD_PRELOAD cannot carry a path with a space or a colon; set PROFD_AGENT to a copy "
			 "elsewhere",
			 buf);
		result = -EINVAL;
	}
	return result;
}
