// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// read_all.h: a file or a pipe to its end, into memory.

#ifndef PROFD_COLLECTOR_READ_ALL_H
#define PROFD_COLLECTOR_READ_ALL_H

#include <stddef.h>

struct writer_memory;

// Its size is not asked for: a pipe has none. A little more than max is taken where there is more, so that who parses it sees that it is
// too much. memory is zeroed; what is in it is the caller's, also on failure. 0 or −errno.
int read_all(int fd, size_t max, struct writer_memory *memory);

#endif
