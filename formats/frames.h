// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// frames.h: a profile's stacks as the text formats want them: root first, an inlined call a frame of its own, frames
// numbered 0…. A frame is (name, file, first line of the function), so a function is one frame wherever in it samples
// were taken; code without a symbol is named after its module and offset.

#ifndef PROFD_FORMATS_FRAMES_H
#define PROFD_FORMATS_FRAMES_H

#include "formats/arena.h"
#include "formats/lookup.h"

#include <stddef.h>
#include <stdint.h>

struct profile;
struct profile_sample;

struct frame {
	const char *name; // never empty
	const char *file; // "" when not known
	int64_t line;     // of the function's begin; 0: not known
};

// Strings are the profile's or the table's own: valid until the first of the two goes.
struct frames {
	const struct profile *profile;
	struct frame *items;
	uint32_t count, capacity;
	// Location i's frames are of_location[first[i]] … of_location[first[i + 1] - 1], the outermost call first.
	size_t *first;
	uint32_t *of_location;
	uint32_t *stack; // of the last frames_expand
	uint32_t stack_capacity;
	struct lookup lookup;
	struct arena names;
};

// 0 or −ENOMEM. frames_finish is to be called in either case.
int frames_init(struct frames *frames, const struct profile *profile);
void frames_finish(struct frames *frames);

// The sample's frames, root first, with `reserve` free places before them (for a root of the caller's); *ret_count
// counts these as well. Valid until the next call. NULL when out of memory.
uint32_t *frames_expand(struct frames *frames, const struct profile_sample *sample, uint32_t reserve,
			uint32_t *ret_count);

#endif
