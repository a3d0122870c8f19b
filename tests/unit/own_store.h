// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// own_store.h: the end of a test that opened a store (profd_store_open) in its own process.

#ifndef PROFD_TESTS_UNIT_OWN_STORE_H
#define PROFD_TESTS_UNIT_OWN_STORE_H

#include <unistd.h>

#include "profd/store.h"

// A teardown. The descriptor is the helper's business, elsewhere.
static int close_store(void **state)
{
	int fd = profd_store.fd;

	(void)state;
	profd_store_close();
	close(fd);
	return 0;
}

#endif
