// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// window_work.h: what the threads of a window's samples worked for: looked up in their target's pool as the samples come, while it and
// the target's mappings are there. Collector's lock held.

#ifndef PROFD_COLLECTOR_WINDOW_WORK_H
#define PROFD_COLLECTOR_WINDOW_WORK_H

#include <stdbool.h>
#include <stdint.h>

struct ring_record;
struct session;
struct window;

// The index in aggregate.works + 1; 0: nothing is known. −ENOMEM: past the budget.
int window_work_find(struct window *window, const struct session *session, const struct ring_record *record,
		     uint32_t *ret_work);
// The stack of context number, as a node of the aggregate; 0: not known, or past the budget.
uint32_t window_work_stack(struct window *window, const struct session *session, uint32_t number);
// Is a sample of that work one that the window was asked for?
bool window_work_is_wanted(const struct window *window, uint32_t work);
// The labels of a work, with its trace (label_text.h). Returns text.
#define WINDOW_WORK_TEXT_BYTES 1024
const char *window_work_text(const struct window *window, uint32_t work, char text[WINDOW_WORK_TEXT_BYTES]);

#endif
