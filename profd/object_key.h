// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// object_key.h: the bucket of the profile store that has a descriptor's name (object_name.h). Any thread of the target, in signal handlers, too, with
// signals blocked, while there is a store (caller.h): system calls and nothing else, no lock.

#ifndef PROFD_OBJECT_KEY_H
#define PROFD_OBJECT_KEY_H

#include <stdint.h>

#include "profd/wire.h"

// The bucket's number + 1; 0: there is no room for one.
uint32_t profd_object_key(enum wire_wait kind, int fd);
// The program closes it. Any context.
void profd_object_key_closed(int fd);
// The store is gone, and with it all buckets.
void profd_object_keys_forget(void);

#endif
