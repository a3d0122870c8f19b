// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// maps_query.h: the executable mappings of a process, asked for one by one (ioctl PROCMAP_QUERY, Linux 6.11). A process of 10,000 threads
// has 20,000 mappings more than its code: the kernel writes as many lines, of which none is wanted. Any thread.

#ifndef PROFD_COLLECTOR_MAPS_QUERY_H
#define PROFD_COLLECTOR_MAPS_QUERY_H

#include "collector/maps.h"

// What /proc/PID/maps (maps_fd) has, but for [vsyscall], which is the kernel's and no mapping of the process.
// 0 or −errno (−ENOTTY: this kernel does not know how). On success the caller frees with maps_finish.
int maps_query(int maps_fd, struct maps *ret_maps);

#endif
