// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// perf_map.c: see perf_map.h.

#include "collector/perf_map.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "collector/jit_names.h"
#include "collector/process.h"

#define MAX_BYTES (256ul << 20) // that are read, whatever is kept of them

static bool parse_line(char *line, struct jit_code *ret_code, const char **ret_name)
{
	uint64_t start, size;
	char *end;

	start = strtoull(line, &end, 16);
	if (end == line || *end != ' ')
		return false;
	line = end + 1;
	size = strtoull(line, &end, 16);
	if (end == line || *end != ' ' || end[1] == '\0' || size > UINT64_MAX - start)
		return false;
	*ret_code = (struct jit_code){.start = start, .end = start + size};
	*ret_name = end + 1;
	return true;
}

// The rest of a line that is longer than what is kept of it.
static size_t skip_line(FILE *file)
{
	size_t skipped = 0;
	int c;

	do {
		c = getc_unlocked(file);
		skipped++;
	} while (c != EOF && c != '\n' && skipped < MAX_BYTES);
	return skipped;
}

void perf_map_read(int fd, struct jit_names *names)
{
	char line[JIT_NAMES_MAX_STRING + 64];
	FILE *file = fdopen(fd, "r");
	size_t bytes = 0;

	if (!file) {
		close(fd);
		return;
	}
	while (!jit_names_full(names) && fgets(line, sizeof(line), file)) {
		size_t length = strcspn(line, "\n");
		struct jit_code code;
		const char *name;

		// One with a NUL in it is longer than it looks: a file may have a hole.
		bytes += line[length] == '\n' ? length + 1 : sizeof(line) - 1;
		if (length == sizeof(line) - 1)
			bytes += skip_line(file);
		line[length] = '\0';
		if (parse_line(line, &code, &name) && code.start < code.end) {
			code.name = jit_names_string(names, name, strlen(name));
			if (code.name != JIT_NAMES_NONE)
				jit_names_add(names, &code);
		}
		if (bytes > MAX_BYTES)
			jit_names_set_full(names);
	}
	(void)fclose(file);
}

void perf_map_load(pid_t pid, uid_t uid, struct jit_names *names)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/root/tmp/perf-%d.map", (int)process_living_task(pid, 0), (int)pid);
	fd = jit_names_open(path, uid);
	if (fd < 0) {
		snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)pid);
		fd = jit_names_open(path, uid);
	}
	if (fd >= 0)
		perf_map_read(fd, names);
}
