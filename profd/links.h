// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// links.h: what a thread works for, set for a while and put back: profd_enter and profd_leave. Any thread of the target, signal handlers of
// the program's too; not ours.

#ifndef PROFD_LINKS_H
#define PROFD_LINKS_H

#include <stdbool.h>
#include <stdint.h>

#include "profd/caller.h"

struct profd_link;

void profd_links_capture(struct profd_caller caller, struct profd_link *ret_link);
void profd_links_enter(const struct profd_link *link); // NULL: no change, but leave takes back what changes
void profd_links_leave(void);
bool profd_links_entered(void); // and not left
// A fork's child: what was entered in its parent is left by its parent's numbers, which mean nothing here. work: what it was born with, instead.
void profd_links_forget(uint64_t work);

#endif
