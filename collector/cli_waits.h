// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cli_waits.h: the mutex or block profile of a whole run. Main thread, when the command has ended.

#ifndef PROFD_COLLECTOR_CLI_WAITS_H
#define PROFD_COLLECTOR_CLI_WAITS_H

#include <stdbool.h>

#include "formats/profile_view.h"
#include "profd/wire.h"

struct cli_outputs;
struct collector;

// Writes the outputs; says the totals unless quiet. command: for titles. false: something that was to be written was not.
bool cli_waits_end(struct collector *collector, struct cli_outputs *outputs, enum wire_bucket_kind kind,
		   const struct profile_view *view, const char *command, bool quiet);

#endif
