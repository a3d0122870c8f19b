// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// jvm_options.c: see jvm_options.h.

#include "collector/jvm_options.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "collector/mapping.h"
#include "collector/process.h"

#define MAX_TEXT (256u << 10) // of arguments, or of the environment

bool jvm_is_in(const struct mapping_set *mappings)
{
	static const char name[] = "/libjvm.so";

	for (size_t i = 0; i < mappings->count; i++) {
		const char *path = mappings->entries[i].mapping->path;
		size_t length = strlen(path);

		if (length >= sizeof(name) - 1 && strcmp(path + length - (sizeof(name) - 1), name) == 0)
			return true;
	}
	return false;
}

// The last word on it in a list of NUL-terminated strings: 1 yes, 0 no, −1 none.
static int find_option(int fd)
{
	static const char option[] = "PreserveFramePointer";
	char *text = malloc(MAX_TEXT);
	size_t size = 0, length = sizeof(option) - 1;
	int found = -1;
	ssize_t n;

	while (text && size < MAX_TEXT && (n = read(fd, text + size, MAX_TEXT - size)) > 0)
		size += (size_t)n;
	for (size_t i = 1; i + length <= size; i++)
		if (memcmp(text + i, option, length) == 0 && (text[i - 1] == '+' || text[i - 1] == '-'))
			found = text[i - 1] == '+';
	free(text);
	return found;
}

static int read_options(pid_t pid, const char *name)
{
	char path[64];
	int fd, found;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)process_living_task(pid, 0), name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	found = find_option(fd);
	close(fd);
	return found;
}

// The environment's JAVA_TOOL_OPTIONS and JDK_JAVA_OPTIONS come before the arguments, which have the last word.
bool jvm_keeps_frame_pointers(pid_t pid)
{
	int found = read_options(pid, "cmdline");

	return (found >= 0 ? found : read_options(pid, "environ")) == 1;
}
