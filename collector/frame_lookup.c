// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// frame_lookup.c: see frame_lookup.h.

#include "collector/frame_lookup.h"

#include "collector/mapping.h"
#include "collector/session.h"

// Outermost frames that are the last record's.
static uint32_t count_common(const struct frame_lookup *lookup, const struct session *session,
			     const struct ring_record *record)
{
	uint32_t i, n = record->sample.nframes, max = n < lookup->nlast ? n : lookup->nlast;

	if (n == 0 || lookup->session_id != session->id || lookup->maps_gen != record->sample.maps_gen ||
	    lookup->maps_changes != session->maps_changes)
		return 0;
	for (i = 0; i < max && lookup->last[i].pc == record->pcs[n - 1 - i]; i++)
		;
	// The leaf's PC means another address than a caller's.
	return i == n ? i - 1 : i;
}

static struct mapping *find(const struct session *session, const struct ring_record *record, uint32_t i)
{
	bool exact = i == 0 || (record->pcs[i] & WIRE_PC_EXACT);
	uint64_t address = record->pcs[i] & ~WIRE_PC_EXACT;

	return session_find_mapping(session, record->sample.maps_gen, address - (exact || address == 0 ? 0 : 1));
}

size_t frame_lookup(struct frame_lookup *lookup, const struct session *session, const struct ring_record *record,
		    bool *ret_unknown)
{
	uint32_t nframes = record->sample.nframes, common = count_common(lookup, session, record);
	size_t n = 0;

	for (uint32_t i = common; i < nframes; i++) {
		lookup->last[i].pc = record->pcs[nframes - 1 - i];
		lookup->last[i].mapping = find(session, record, nframes - 1 - i);
	}
	// The leaf is no caller: what was found for it is of no use to the next record.
	lookup->nlast = nframes ? nframes - 1 : 0;
	lookup->session_id = session->id;
	lookup->maps_gen = record->sample.maps_gen;
	lookup->maps_changes = session->maps_changes;
	*ret_unknown = false;
	for (uint32_t i = 0; i < nframes; i++) {
		struct mapping *mapping = lookup->last[nframes - 1 - i].mapping;
		uint64_t exact = i == 0 ? WIRE_PC_EXACT : record->pcs[i] & WIRE_PC_EXACT;

		*ret_unknown |= !mapping;
		if (mapping && mapping->agent && (n > 0 || i + 1 < nframes))
			continue;
		lookup->frames[n++] = (struct aggregate_frame){mapping, (record->pcs[i] & ~WIRE_PC_EXACT) | exact};
	}
	return n;
}
