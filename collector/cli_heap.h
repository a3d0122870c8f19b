// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cli_heap.h: the heap profile of a whole run (--heap), and what leaked in it (--leaks). Main thread, when the command has ended.

#ifndef PROFD_COLLECTOR_CLI_HEAP_H
#define PROFD_COLLECTOR_CLI_HEAP_H

#include <stdbool.h>

#include "formats/profile_view.h"

struct cli_outputs;
struct collector;

struct cli_heap_options {
	const char *command; // for titles
	bool leaks;
	double window_s; // of leaks: what is younger is left out; <0: a tenth of the run
	bool quiet;      // no summary
	struct profile_view view;
};

// Writes the outputs and, with leaks, the report. false: something that was to be written was not.
bool cli_heap_end(struct collector *collector, struct cli_outputs *outputs, const struct cli_heap_options *options);
// How many processes a profile lacks, whose stores were not kept; nothing if there are none.
void cli_say_not_kept(struct collector *collector, const char *name);

#endif
