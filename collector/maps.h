// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// maps.h: the executable mappings of a process, from /proc/PID/maps. A plain value: parse, look up, free.

#ifndef PROFD_COLLECTOR_MAPS_H
#define PROFD_COLLECTOR_MAPS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct maps_entry {
	uint64_t start, end;  // addresses in the target
	uint64_t file_offset; // bytes
	uint64_t inode;
	uint32_t dev_major, dev_minor;
	char perms[5]; // "r-xp"
	char *path;    // "" for anonymous memory; "[vdso]"; a trailing " (deleted)" is taken off and `deleted` set
	int deleted;
	struct module *module; // filled in by whoever resolves it (session.c); NULL: none. Not owned by maps.
};

struct maps {
	size_t count;
	struct maps_entry *entries; // sorted by start; executable mappings only
};

// 0 or −errno (−ESRCH, −EACCES…). On success the caller frees with maps_finish.
int maps_read(pid_t pid, struct maps *ret_maps);
// Parses text in the format of /proc/PID/maps. Lines that make no sense are skipped. 0 or −ENOMEM.
int maps_parse(const char *text, struct maps *ret_maps);
// The path as the kernel says it, n bytes, without the " (deleted)" of a file that is; the caller frees it. NULL: no memory.
char *maps_take_path(const char *start, size_t n, int *ret_deleted);
void maps_finish(struct maps *maps);
// The entry that covers address, or NULL. O(log n).
const struct maps_entry *maps_find(const struct maps *maps, uint64_t address);

#endif
