// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// trace_stacks.h: the stacks of a trace that is being written: each sent once, with its names, when the first event has it. Code that a program
// makes may have no name yet then: its runtime may write the names through a buffer, or at its end. Such a frame is sent with a number,
// and by that its name at the end (trace_late_name). In the consumer's thread; naming may take long.

#ifndef PROFD_COLLECTOR_TRACE_STACKS_H
#define PROFD_COLLECTOR_TRACE_STACKS_H

#include <stdint.h>

struct trace_output;
struct trace_stacks;
struct window;

struct trace_stacks *trace_stacks_create(struct window *window); // NULL: no memory
void trace_stacks_destroy(struct trace_stacks *stacks);          // accepts NULL
// By which number events have this stack, a node of the window's aggregate; of 0, none, and without memory it is 0.
uint32_t trace_stacks_send(struct trace_stacks *stacks, struct trace_output *output, uint32_t source, uint32_t stack);
// After the last event.
void trace_stacks_end(struct trace_stacks *stacks, struct trace_output *output);

#endif
