// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// frames.c: see frames.h. Runs wherever a format is written; no state but the table's.

#include "formats/frames.h"

#include "formats/grow.h"
#include "formats/profile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FRAMES_NONE UINT32_MAX
#define FRAMES_NAME_MAX 512 // of a name made of module and offset

static bool frame_equal(const void *context, uint32_t id, const void *key)
{
	const struct frame *a = &((const struct frames *)context)->items[id - 1], *b = key;
	return a->line == b->line && strcmp(a->name, b->name) == 0 && strcmp(a->file, b->file) == 0;
}

static uint32_t frame_hash(const struct frames *frames, const struct frame *frame)
{
	uint32_t name = lookup_hash(&frames->lookup, frame->name, strlen(frame->name));
	uint32_t file = lookup_hash(&frames->lookup, frame->file, strlen(frame->file));
	return (name * 31 + file) * 31 + (uint32_t)frame->line;
}

static int intern_frame(struct frames *frames, const struct frame *frame, uint32_t *ret_frame)
{
	uint32_t hash = frame_hash(frames, frame);
	uint32_t id = lookup_find(&frames->lookup, hash, frame_equal, frames, frame);
	if (!id) {
		struct frame *items =
			grow_array(frames->items, &frames->capacity, (size_t)frames->count + 1, sizeof(*items));
		if (items)
			frames->items = items;
		if (!items || lookup_reserve(&frames->lookup))
			return -ENOMEM;
		items[frames->count++] = *frame;
		id = frames->count;
		lookup_insert(&frames->lookup, hash, id);
	}
	*ret_frame = id - 1;
	return 0;
}

// Code without a symbol is shown as in the file of its module.
static int frame_without_symbol(struct frames *frames, const struct profile_location *location, uint32_t *ret_frame)
{
	const struct profile *profile = frames->profile;
	const struct profile_location bare = {.mapping_id = location->mapping_id, .address = location->address};
	char buf[FRAMES_NAME_MAX];
	profile_frame_name(profile, &bare, 0, buf, sizeof(buf));
	const struct frame frame = {
		.name = arena_copy(&frames->names, buf, strlen(buf) + 1, 1),
		.file = bare.mapping_id ? profile->mappings[bare.mapping_id - 1].file : "",
	};
	return frame.name ? intern_frame(frames, &frame, ret_frame) : -ENOMEM;
}

static int frame_of_line(struct frames *frames, const struct profile_location *location, uint32_t line,
			 uint32_t *of_function, uint32_t *ret_frame)
{
	uint32_t id = line < location->nlines ? location->lines[line].function_id : 0;
	const struct profile_function *function = id ? &frames->profile->functions[id - 1] : NULL;
	if (!function || !function->name[0])
		return frame_without_symbol(frames, location, ret_frame);
	if (of_function[id - 1] == FRAMES_NONE) {
		const struct frame frame = {function->name, function->file, function->start_line};
		int error = intern_frame(frames, &frame, &of_function[id - 1]);
		if (error)
			return error;
	}
	*ret_frame = of_function[id - 1];
	return 0;
}

static uint32_t location_count(const struct profile_location *location)
{
	return location->nlines ? location->nlines : 1;
}

static int count_frames(struct frames *frames)
{
	const struct profile *profile = frames->profile;
	size_t total = 0;
	frames->first = calloc((size_t)profile->nlocations + 1, sizeof(*frames->first));
	if (!frames->first)
		return -ENOMEM;
	for (uint32_t i = 0; i < profile->nlocations; i++) {
		frames->first[i] = total;
		total += location_count(&profile->locations[i]);
	}
	frames->first[profile->nlocations] = total;
	frames->of_location = calloc(total + 1, sizeof(*frames->of_location));
	return frames->of_location ? 0 : -ENOMEM;
}

static int fill_frames(struct frames *frames, uint32_t *of_function)
{
	const struct profile *profile = frames->profile;
	for (uint32_t i = 0; i < profile->nlocations; i++) {
		const struct profile_location *location = &profile->locations[i];
		uint32_t count = location_count(location);
		uint32_t *outermost = &frames->of_location[frames->first[i]];
		for (uint32_t line = 0; line < count; line++) {
			int error = frame_of_line(frames, location, line, of_function, &outermost[count - 1 - line]);
			if (error)
				return error;
		}
	}
	return 0;
}

int frames_init(struct frames *frames, const struct profile *profile)
{
	*frames = (struct frames){.profile = profile};
	lookup_init(&frames->lookup);
	uint32_t *of_function = malloc(((size_t)profile->nfunctions + 1) * sizeof(*of_function));
	if (!of_function)
		return -ENOMEM;
	memset(of_function, 0xff, ((size_t)profile->nfunctions + 1) * sizeof(*of_function)); // FRAMES_NONE
	int error = count_frames(frames);
	if (!error)
		error = fill_frames(frames, of_function);
	free(of_function);
	return error;
}

void frames_finish(struct frames *frames)
{
	lookup_finish(&frames->lookup);
	arena_finish(&frames->names);
	free(frames->items);
	free(frames->first);
	free(frames->of_location);
	free(frames->stack);
	*frames = (struct frames){0};
}

uint32_t *frames_expand(struct frames *frames, const struct profile_sample *sample, uint32_t reserve,
			uint32_t *ret_count)
{
	size_t total = reserve;
	for (uint32_t i = 0; i < sample->nlocations; i++) {
		uint32_t id = sample->location_ids[i];
		total += frames->first[id] - frames->first[id - 1];
	}
	uint32_t *stack = grow_array(frames->stack, &frames->stack_capacity, total, sizeof(*stack));
	if (!stack)
		return NULL;
	frames->stack = stack;
	size_t at = reserve;
	for (uint32_t i = sample->nlocations; i-- > 0;) {
		uint32_t id = sample->location_ids[i];
		size_t count = frames->first[id] - frames->first[id - 1];
		memcpy(stack + at, frames->of_location + frames->first[id - 1], count * sizeof(*stack));
		at += count;
	}
	*ret_count = (uint32_t)total;
	return stack;
}
