// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// wake.h: makes the helper look at what is asked of it, by a datagram to a socket that it polls.

#ifndef PROFD_WAKE_H
#define PROFD_WAKE_H

// The helper: makes the socket. The fd or −errno.
int profd_wake_open(void);
// Any thread; raw system calls; errno stays.
void profd_wake(void);

#endif
