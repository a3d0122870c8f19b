// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// maps.c: see maps.h. Format: proc_pid_maps(5). Any thread.

#include "collector/maps.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "collector/maps_query.h"

#define MAX_TEXT (256u << 20) // a process with more mappings than this describes is not a program

static int read_all(int fd, char **ret_text)
{
	size_t capacity = 64u << 10, used = 0;
	char *text = malloc(capacity);

	while (text) {
		ssize_t n = read(fd, text + used, capacity - used - 1);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int error = errno;

			free(text);
			return -error;
		}
		if (n == 0) {
			text[used] = 0;
			*ret_text = text;
			return 0;
		}
		used += (size_t)n;
		if (capacity - used < 4096) {
			char *grown = capacity < MAX_TEXT ? realloc(text, capacity * 2) : NULL;

			if (!grown)
				break;
			text = grown;
			capacity *= 2;
		}
	}
	free(text);
	return -ENOMEM;
}

int maps_read(pid_t pid, struct maps *ret_maps)
{
	char path[32];
	char *text = NULL;
	int fd, error;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	// Whatever keeps it from answering, the text has the last word.
	error = maps_query(fd, ret_maps);
	if (error < 0)
		error = read_all(fd, &text);
	close(fd);
	if (!text)
		return error;
	error = maps_parse(text, ret_maps);
	free(text);
	return error;
}

// The kernel writes a newline in a path as \012; nothing else is escaped.
static void unescape(char *path)
{
	char *out = path;

	for (const char *in = path; *in; in++) {
		if (strncmp(in, "\\012", 4) == 0) {
			*out++ = '\n';
			in += 3;
		} else {
			*out++ = *in;
		}
	}
	*out = 0;
}

char *maps_take_path(const char *start, size_t n, int *ret_deleted)
{
	static const char deleted[] = " (deleted)";
	size_t suffix = sizeof(deleted) - 1;
	char *path;

	*ret_deleted = n > suffix && strncmp(start + n - suffix, deleted, suffix) == 0;
	if (*ret_deleted)
		n -= suffix;
	// strndup may look for the end of the whole text (it does under ASan's strict_string_checks).
	path = malloc(n + 1);
	if (!path)
		return NULL;
	memcpy(path, start, n);
	path[n] = '\0';
	return path;
}

// 1: an entry; 0: not one that we keep; −ENOMEM.
static int parse_line(const char *line, size_t length, struct maps_entry *entry)
{
	char head[128] = ""; // the numbers: sscanf would look for the end of the whole text
	const char *perms = memchr(line, ' ', length);
	int offset = 0;

	// Of 20,000 lines, few are of code: only those are worth sscanf().
	if (!perms || line + length - perms < 5 || perms[3] != 'x')
		return 0;
	memset(entry, 0, sizeof(*entry));
	memcpy(head, line, length < sizeof(head) ? length : sizeof(head) - 1);
	// NOLINTNEXTLINE(cert-err34-c): the kernel wrote them; what does not fit is not its own
	if (sscanf(head, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %" SCNx32 ":%" SCNx32 " %" SCNu64 "%n", &entry->start,
		   &entry->end, entry->perms, &entry->file_offset, &entry->dev_major, &entry->dev_minor, &entry->inode,
		   &offset) != 7 ||
	    (size_t)offset > length || entry->start >= entry->end || entry->perms[2] != 'x')
		return 0;
	while ((size_t)offset < length && line[offset] == ' ')
		offset++;
	entry->path = maps_take_path(line + offset, length - (size_t)offset, &entry->deleted);
	if (!entry->path)
		return -ENOMEM;
	unescape(entry->path);
	return 1;
}

static int append(struct maps *maps, size_t *capacity, const struct maps_entry *entry)
{
	if (maps->count == *capacity) {
		size_t wanted = *capacity ? *capacity * 2 : 32;
		struct maps_entry *grown = realloc(maps->entries, wanted * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		maps->entries = grown;
		*capacity = wanted;
	}
	maps->entries[maps->count++] = *entry;
	return 0;
}

static int by_start(const void *a, const void *b)
{
	uint64_t x = ((const struct maps_entry *)a)->start;
	uint64_t y = ((const struct maps_entry *)b)->start;

	return (x > y) - (x < y);
}

int maps_parse(const char *text, struct maps *ret_maps)
{
	struct maps maps = {0};
	size_t capacity = 0;
	const char *end = text + strlen(text);

	while (text < end) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		size_t length = (size_t)((newline ? newline : end) - text);
		struct maps_entry entry;
		int kept = parse_line(text, length, &entry);

		if (kept > 0 && append(&maps, &capacity, &entry) < 0) {
			free(entry.path);
			kept = -ENOMEM;
		}
		if (kept < 0) {
			maps_finish(&maps);
			return kept;
		}
		text += length + (newline != NULL);
	}
	if (maps.count)
		qsort(maps.entries, maps.count, sizeof(*maps.entries), by_start);
	*ret_maps = maps;
	return 0;
}

void maps_finish(struct maps *maps)
{
	for (size_t i = 0; i < maps->count; i++)
		free(maps->entries[i].path);
	free(maps->entries);
	maps->entries = NULL;
	maps->count = 0;
}

const struct maps_entry *maps_find(const struct maps *maps, uint64_t address)
{
	size_t low = 0, high = maps->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (address < maps->entries[middle].start)
			high = middle;
		else if (address >= maps->entries[middle].end)
			low = middle + 1;
		else
			return &maps->entries[middle];
	}
	return NULL;
}
