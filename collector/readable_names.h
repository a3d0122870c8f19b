// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// readable_names.h: demangled names, each made once. Not thread-safe. A plain value; zeroed is empty.

#ifndef PROFD_COLLECTOR_READABLE_NAMES_H
#define PROFD_COLLECTOR_READABLE_NAMES_H

#include <stddef.h>

struct readable_names {
	struct readable_name *places; // open addressing
	size_t count, capacity;
};

// mangled must stay until finish. What it reads as, or otherwise; valid until finish.
const char *readable_names_get(struct readable_names *names, const char *mangled, const char *otherwise);
void readable_names_finish(struct readable_names *names);

#endif
