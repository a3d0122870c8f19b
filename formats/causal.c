// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// causal.c: see causal.h.

#include "formats/causal.h"

#include <errno.h>
#include <string.h>

#include "formats/profile.h"
#include "formats/pseudo_frame.h"

uint32_t causal_append(struct profile *profile, causal_find *find, void *context, uint32_t cause, uint32_t *ids,
		       uint32_t n)
{
	for (uint32_t i = 0; cause && i < CAUSAL_MAX_CAUSES; i++) {
		struct causal_link link = {.nids = 0};
		int r = find(context, cause, &link);

		if (r == -ENOMEM)
			return 0;
		if (r < 0 || link.nids == 0 || link.nids > CAUSAL_MAX_IDS)
			break;
		ids[n] = pseudo_frame_seam(profile, link.kind);
		if (!ids[n++])
			return 0;
		memcpy(ids + n, link.ids, link.nids * sizeof(*ids));
		n += link.nids;
		cause = link.next;
	}
	return n;
}
