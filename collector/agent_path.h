// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// agent_path.h: where libprofd.so is.

#ifndef PROFD_COLLECTOR_AGENT_PATH_H
#define PROFD_COLLECTOR_AGENT_PATH_H

#include <stddef.h>

// Looks at $PROFD_AGENT, in the build tree that this executable lies in, beside it, and in the install prefix. 0, or −errno with
// one line in error. A path that LD_PRELOAD cannot carry (a space or a colon in it) is −EINVAL.
int agent_path_find(char *buf, size_t size, char *error, size_t error_size);

#endif
