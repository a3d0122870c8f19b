// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// shared_file.h: memory that the collector maps, too: a memfd that neither side can cut short under the other. The region, the profile store and
// the event trace each are one. Not in the handler.

#ifndef PROFD_SHARED_FILE_H
#define PROFD_SHARED_FILE_H

#include <stdint.h>

#include "profd/wire.h"

// name: what /proc/PID/maps shows behind "/memfd:". A descriptor, closed at exec, that is the caller's; or −errno: −EFBIG past RLIMIT_FSIZE.
int profd_shared_file_create(const char *name, uint64_t size);

// Each part of such a file begins at a page.
static inline uint64_t profd_shared_page_up(uint64_t bytes)
{
	return (bytes + WIRE_PAGE - 1) & ~(uint64_t)(WIRE_PAGE - 1);
}

#endif
