// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// perf_map.c: see perf_map.h.

#include "collector/perf_map.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_BYTES (64u << 20)

struct entry {
	uint64_t start, end;
	const char *name; // into text
	size_t order;     // in the file: code is replaced at the same address, the last one holds
};

struct perf_map {
	char *text;
	size_t count;
	struct entry *entries; // sorted by start, then order
};

static int compare(const void *a, const void *b)
{
	const struct entry *left = a, *right = b;

	if (left->start != right->start)
		return left->start < right->start ? -1 : 1;
	return left->order < right->order ? -1 : left->order > right->order;
}

static bool parse_line(char *line, struct entry *ret_entry)
{
	char *end;
	uint64_t size;

	ret_entry->start = strtoull(line, &end, 16);
	if (end == line || *end != ' ')
		return false;
	line = end + 1;
	size = strtoull(line, &end, 16);
	if (end == line || *end != ' ' || end[1] == '\0' || size == 0 || size > UINT64_MAX - ret_entry->start)
		return false;
	ret_entry->end = ret_entry->start + size;
	ret_entry->name = end + 1;
	return true;
}

struct perf_map *perf_map_parse(char *text, size_t size)
{
	struct perf_map *map = calloc(1, sizeof(*map));
	size_t lines = 1;
	char *rest = text, *line;

	text[size] = '\0';
	for (size_t i = 0; i < size; i++)
		lines += text[i] == '\n';
	if (map)
		map->entries = calloc(lines, sizeof(*map->entries));
	if (!map || !map->entries) {
		free(map);
		free(text);
		return NULL;
	}
	map->text = text;
	while ((line = strsep(&rest, "\n"))) {
		struct entry entry = {.order = map->count};

		if (map->count < lines && parse_line(line, &entry))
			map->entries[map->count++] = entry;
	}
	qsort(map->entries, map->count, sizeof(*map->entries), compare);
	return map;
}

static struct perf_map *load(const char *path, uid_t uid)
{
	// The file is the target's: a link or a FIFO of that name must lead us nowhere.
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;
	char *text = NULL;
	ssize_t size = 0, n = 1;

	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == uid && st.st_size > 0 && st.st_size <= MAX_BYTES)
		text = malloc((size_t)st.st_size + 1);
	while (text && n > 0 && size < st.st_size) {
		n = read(fd, text + size, (size_t)(st.st_size - size));
		size += n > 0 ? n : 0;
	}
	close(fd);
	return text ? perf_map_parse(text, (size_t)size) : NULL;
}

struct perf_map *perf_map_load(pid_t pid, uid_t uid)
{
	struct perf_map *map;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/root/tmp/perf-%d.map", (int)pid, (int)pid);
	map = load(path, uid);
	if (map)
		return map;
	snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)pid);
	return load(path, uid);
}

void perf_map_destroy(struct perf_map *map)
{
	if (!map)
		return;
	free(map->text);
	free(map->entries);
	free(map);
}

const char *perf_map_find(const struct perf_map *map, uint64_t address)
{
	size_t low = 0, high = map->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (map->entries[middle].start <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low > 0 && address < map->entries[low - 1].end ? map->entries[low - 1].name : NULL;
}
