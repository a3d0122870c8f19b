// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// object_name.h: what a descriptor of this process is, in words that last longer than the descriptor. Any thread, in a signal handler, too: system
// calls and nothing else.
//
//   /path · /path (deleted) · pipe (fd 3) · tcp 127.0.0.1:6379 (server) · tcp to 10.0.0.5:5432 · udp 0.0.0.0:53 · unix /path · unix (fd 4)
//
// Ports that the kernel chose, and with them the clients of a server, are left out: one name for all connections of a kind.

#ifndef PROFD_OBJECT_NAME_H
#define PROFD_OBJECT_NAME_H

#include <stdint.h>

#define PROFD_OBJECT_NAME_WORDS 16 // of 8 bytes

// Fills the words with the name, cut if need be, and NULs. Returns how many are used, at least 1.
uint32_t profd_object_name(int fd, uint64_t words[PROFD_OBJECT_NAME_WORDS]);

#endif
