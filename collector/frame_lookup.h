// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// frame_lookup.h: from a record's PCs to frames in mappings. Collector's lock held; one object, used by the loop's drains.
//
// Records that follow one another have most of their outer frames in common: what was found for the last one is used again, as long as
// it is the same target with the same mappings (session.maps_changes).

#ifndef PROFD_COLLECTOR_FRAME_LOOKUP_H
#define PROFD_COLLECTOR_FRAME_LOOKUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "collector/aggregate.h"
#include "profd/wire.h"

struct ring_record;
struct session;

struct frame_lookup {
	struct aggregate_frame frames[WIRE_MAX_FRAMES]; // leaf first: what frame_lookup found
	// The last record's, outermost first: the PC as recorded, and where it is.
	struct {
		uint64_t pc;
		struct mapping *mapping; // not a reference: valid as long as the mappings did not change
	} last[WIRE_MAX_FRAMES];
	uint32_t nlast, session_id, maps_gen, maps_changes;
};

// Fills lookup->frames and returns how many. The agent's own frames are left out, unless there is nothing else. *ret_unknown: one is in
// no mapping.
size_t frame_lookup(struct frame_lookup *lookup, const struct session *session, const struct ring_record *record,
		    bool *ret_unknown);

#endif
