// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cli_waits.c: see cli_waits.h.

#include "collector/cli_waits.h"

#include <inttypes.h>
#include <stdio.h>

#include "collector/cli.h"
#include "collector/cli_heap.h"
#include "collector/store_profile.h"
#include "collector/wait_profile.h"
#include "formats/flame_units.h"
#include "formats/profile.h"

static void say_summary(struct collector *collector, enum wire_bucket_kind kind, const struct wait_totals *totals,
			const char *written)
{
	static const struct profile_value_type delay = {"delay", "nanoseconds"};
	const char *name = kind == WIRE_BUCKET_MUTEX ? "mutex" : "block";
	char waited[64], lost[64] = "";

	if (totals->lost > 0)
		snprintf(lost, sizeof(lost), ", %" PRIu64 " dropped (no room in the store)", totals->lost);
	cli_say("%s: %" PRId64 " contentions, %s waited; %u process%s%s%s%s", name, totals->values[WAIT_CONTENTIONS],
		flame_units_format(waited, sizeof(waited), totals->values[WAIT_DELAY], &delay), totals->processes,
		totals->processes == 1 ? "" : "es", lost, written[0] != '\0' ? "; wrote " : "; wrote nothing", written);
	cli_say_not_kept(collector, name);
}

bool cli_waits_end(struct collector *collector, struct cli_outputs *outputs, enum wire_bucket_kind kind,
		   const struct profile_view *view, const char *command, bool quiet)
{
	struct store_reading *reading = NULL;
	struct wait_totals totals;
	struct profile *profile;
	char written[2048] = "";
	bool all = true;

	if (store_reading_take(collector, 0, kind, &reading) < 0) {
		cli_say("out of memory");
		return false;
	}
	reading->view = *view;
	wait_reading_totals(reading, kind, &totals);
	profile = totals.processes > 0 ? wait_profile_make(reading, NULL, kind, command) : NULL;
	if (profile != NULL && outputs->count > 0)
		all = cli_outputs_write(outputs, profile, command, written, sizeof(written));
	if (totals.processes == 0)
		cli_say("no process with the agent in it was seen; wrote nothing");
	else if (!quiet)
		say_summary(collector, kind, &totals, written);
	all = all && (profile != NULL || totals.processes == 0);
	profile_destroy(profile);
	store_reading_destroy(reading);
	return all;
}
