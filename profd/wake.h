// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// wake.h: how other threads wake the helper's poll: a datagram to an autobound abstract socket (unix(7)), which is in the helper's own table.

#ifndef PROFD_WAKE_H
#define PROFD_WAKE_H

// Helper. The socket, or −errno.
int profd_wake_open(void);
void profd_wake_drain(int fd);
// Makes the helper look at what is asked of it. Any thread; errno stays. A wake-up may miss the helper: by its network namespace.
void profd_wake_send(void);

#endif
