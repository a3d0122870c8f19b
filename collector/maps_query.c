// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// maps_query.c: see maps_query.h. The ioctl: linux/fs.h of Linux 6.11 and later.

#include "collector/maps_query.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define MAX_ENTRIES (1u << 20)

struct query {
	uint64_t size, flags, address; // ours
	uint64_t start, end, permissions, page_size, file_offset, inode;
	uint32_t dev_major, dev_minor;
	uint32_t name_size, build_id_size; // room; used: with the NUL
	uint64_t name, build_id;           // addresses of ours
};

_Static_assert(sizeof(struct query) == 104, "the kernel's");

#define PROCMAP_QUERY _IOWR('f', 17, struct query)
#define EXECUTABLE 0x04u // only those; of permissions: it is
#define OR_NEXT 0x10u    // the one at address, or else the next
#define READABLE 0x01u
#define WRITABLE 0x02u
#define SHARED 0x08u

static int append(struct maps *maps, size_t *capacity, const struct query *query, const char *name)
{
	struct maps_entry *entry;

	if (maps->count == *capacity) {
		size_t wanted = *capacity ? *capacity * 2 : 32;
		struct maps_entry *grown =
			wanted <= MAX_ENTRIES ? reallocarray(maps->entries, wanted, sizeof(*grown)) : NULL;

		if (!grown)
			return -ENOMEM;
		maps->entries = grown;
		*capacity = wanted;
	}
	entry = &maps->entries[maps->count];
	*entry = (struct maps_entry){.start = query->start,
				     .end = query->end,
				     .file_offset = query->file_offset,
				     .inode = query->inode,
				     .dev_major = query->dev_major,
				     .dev_minor = query->dev_minor};
	entry->perms[0] = query->permissions & READABLE ? 'r' : '-';
	entry->perms[1] = query->permissions & WRITABLE ? 'w' : '-';
	entry->perms[2] = 'x';
	entry->perms[3] = query->permissions & SHARED ? 's' : 'p';
	entry->path = maps_take_path(name, strlen(name), &entry->deleted);
	if (!entry->path)
		return -ENOMEM;
	maps->count++;
	return 0;
}

int maps_query(int maps_fd, struct maps *ret_maps)
{
	struct maps maps = {0};
	size_t capacity = 0;
	uint64_t address = 0;
	char name[PATH_MAX];
	int r = 0;

	while (r == 0) {
		struct query query = {.size = sizeof(query),
				      .flags = EXECUTABLE | OR_NEXT,
				      .address = address,
				      .name = (uintptr_t)name,
				      .name_size = sizeof(name)};

		if (ioctl(maps_fd, PROCMAP_QUERY, &query) < 0) {
			r = -errno;
			break;
		}
		if (query.name_size == 0)
			name[0] = '\0';
		// What does not go on would never end.
		r = query.end > address ? append(&maps, &capacity, &query, name) : -EIO;
		address = query.end;
	}
	if (r == -ENOENT && maps.count > 0) { // no more
		*ret_maps = maps;
		return 0;
	}
	maps_finish(&maps);
	return r;
}
