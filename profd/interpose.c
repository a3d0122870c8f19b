// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// interpose.c: the way to the real functions. Any thread of the target; dlsym runs at the constructor for all of them.

#include "profd/interpose.h"

#include <dlfcn.h>
#include <stdlib.h>

#include "profd/waits.h"

void *profd_reals[PROFD_REAL_COUNT];

static const char *const names[PROFD_REAL_COUNT] = {
#define X(type, name, args) [PROFD_REAL_##name] = #name,
	PROFD_REALS(X)
#undef X
};

static const char *const versions[PROFD_REAL_COUNT] = {
#define X(name, version) [PROFD_REAL_##name] = (version),
	PROFD_WAIT_VERSIONS(X)
#undef X
};

void *profd_real_find(enum profd_real_index index)
{
	void *found = versions[index] ? dlvsym(RTLD_NEXT, names[index], versions[index]) : NULL;

	if (!found)
		found = dlsym(RTLD_NEXT, names[index]);
	// A libc without it: whoever calls it would have failed to link.
	if (found)
		__atomic_store_n(&profd_reals[index], found, __ATOMIC_RELEASE);
	return found;
}

void profd_reals_find_all(void)
{
	for (int i = 0; i < PROFD_REAL_COUNT; i++)
		if (!profd_reals[i])
			profd_real_find((enum profd_real_index)i);
	profd_waits_bound();
}
