// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// package_owner.c: see package_owner.h. The lists may be those of a container, so of anybody: sizes are bounded, and what is found is a
// name of ordinary characters.

#include "collector/package_owner.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "collector/elf_file.h"

#define DIRECTORY "/var/lib/dpkg/info"
#define SUFFIX ".list"
#define MAX_LISTS 65536u
#define MAX_LIST_BYTES ((off_t)16 << 20)
#define MAX_BYTES ((uint64_t)256 << 20)
#define NAME_CHARACTERS "abcdefghijklmnopqrstuvwxyz0123456789+-."

// The package's name without ":amd64"; false: that is no list, or no name that a package may have.
static bool take_name(const char *file, char name[PACKAGE_NAME_MAX])
{
	size_t length = strlen(file), own = strspn(file, NAME_CHARACTERS);

	if (length <= strlen(SUFFIX) || strcmp(file + length - strlen(SUFFIX), SUFFIX) != 0)
		return false;
	if (own > length - strlen(SUFFIX))
		own = length - strlen(SUFFIX);
	if (own == 0 || own >= PACKAGE_NAME_MAX || (file[own] != ':' && own != length - strlen(SUFFIX)))
		return false;
	memcpy(name, file, own);
	name[own] = '\0';
	return true;
}

// Packages from before /lib was merged into /usr/lib say /lib.
static bool is_path(const char *line, size_t length, const char *path)
{
	size_t whole = strlen(path);

	if (length == whole)
		return memcmp(line, path, length) == 0;
	return strncmp(path, "/usr/", 5) == 0 && length == whole - 4 && memcmp(line, path + 4, length) == 0;
}

static void search(const char *text, size_t size, const char *name, struct package_query *queries, size_t count)
{
	const char *end = text + size, *next;

	for (const char *line = text; line < end; line = next + 1) {
		next = memchr(line, '\n', (size_t)(end - line));
		if (!next)
			next = end;
		for (size_t i = 0; i < count; i++)
			if (!queries[i].name[0] && is_path(line, (size_t)(next - line), queries[i].path))
				snprintf(queries[i].name, sizeof(queries[i].name), "%s", name);
	}
}

// The bytes read, for the sum of them.
static uint64_t search_list(int directory, const char *file, struct package_query *queries, size_t count)
{
	char name[PACKAGE_NAME_MAX], *text = NULL;
	struct stat status;
	ssize_t size = 0;
	int fd = -1;

	if (take_name(file, name))
		fd = elf_file_open_at(directory, file);
	if (fd < 0)
		return 0;
	if (fstat(fd, &status) == 0 && status.st_size > 0 && status.st_size <= MAX_LIST_BYTES)
		text = malloc((size_t)status.st_size);
	if (text)
		size = read(fd, text, (size_t)status.st_size);
	if (size > 0)
		search(text, (size_t)size, name, queries, count);
	free(text);
	close(fd);
	return size > 0 ? (uint64_t)size : 0;
}

void package_owner_find(int root, struct package_query *queries, size_t count)
{
	int directory = count ? elf_file_open_directory_at(root, DIRECTORY) : -1;
	DIR *lists = directory < 0 ? NULL : fdopendir(directory);
	const struct dirent *entry;
	uint64_t bytes = 0;

	for (size_t i = 0; i < count; i++)
		queries[i].name[0] = '\0';
	for (size_t n = 0; lists && n < MAX_LISTS && bytes < MAX_BYTES && (entry = readdir(lists)); n++)
		bytes += search_list(directory, entry->d_name, queries, count);
	if (lists)
		closedir(lists);
	else if (directory >= 0)
		close(directory);
}

void package_owner_debug_name(const char *package, char *buf, size_t size)
{
	// glibc's is a package of its own.
	snprintf(buf, size, "%s%s", package, strcmp(package, "libc6") == 0 ? "-dbg" : "-dbgsym");
}
