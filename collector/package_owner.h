// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// package_owner.h: which package installed a file: dpkg's lists are read (/var/lib/dpkg/info/NAME.list, a path a line), no program is run.
// Any thread that may wait for files: some tens of milliseconds for all lists of a host, for one file as for many.

#ifndef PROFD_COLLECTOR_PACKAGE_OWNER_H
#define PROFD_COLLECTOR_PACKAGE_OWNER_H

#include <stddef.h>

#define PACKAGE_NAME_MAX 128

struct package_query {
	const char *path;            // absolute, below the root
	void *of;                    // the caller's
	char name[PACKAGE_NAME_MAX]; // "" not found
};

// Fills the names in. root: an O_PATH descriptor of another system's root directory, which links lead no further than; −1: ours.
void package_owner_find(int root, struct package_query *queries, size_t count);

// The package that has the debug info of this one's files, as Debian calls it: "libfoo1-dbgsym".
void package_owner_debug_name(const char *package, char *buf, size_t size);

#endif
