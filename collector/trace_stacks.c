// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// trace_stacks.c: see trace_stacks.h.

#include "collector/trace_stacks.h"

#include <stdbool.h>
#include <stdlib.h>

#include "collector/intern.h"
#include "collector/jit_follow.h"
#include "collector/jit_names.h"
#include "collector/mapping.h"
#include "collector/name_wants.h"
#include "collector/profile_builder.h"
#include "collector/window_impl.h"
#include "formats/profile.h"
#include "formats/trace.h"

#define MAX_BYTES (128u << 20)
#define MAX_LINES (WIRE_MAX_FRAMES * 4) // of a stack, with inlined calls

// A process, and the names of the code that it makes.
struct maker {
	uint32_t source;
	bool ended; // follow has all
	struct jit_process process;
	struct jit_follow follow;
};

// A frame without a name; index + 1 is its number.
struct late {
	uint32_t location; // of names
	uint32_t source;
};

struct trace_stacks {
	struct window *window;
	struct intern_budget budget;
	struct intern sent; // nodes; index + 1 is the number
	struct intern makers, lates;
	struct profile *names; // the frames named so far
	struct profile_builder frames;
	struct aggregate_frame stack[WIRE_MAX_FRAMES];
	struct trace_frame lines[MAX_LINES];
};

// ---- Names of generated code ----------------------------------------------------------------------------------------

static struct maker *find_maker(struct trace_stacks *stacks, uint32_t source)
{
	bool new;
	uint32_t index = intern_add(&stacks->makers, &source, &new);
	struct maker *maker = index == INTERN_NONE ? NULL : intern_item(&stacks->makers, index);

	if (maker && new)
		window_trace_maker(stacks->window, source, &maker->process);
	return maker && maker->process.pid ? maker : NULL;
}

static const struct jit_names *jit_names(void *context, uint32_t source, uint64_t address)
{
	struct maker *maker = find_maker(context, source);

	return maker ? jit_follow_names(&maker->follow, &maker->process, address) : NULL;
}

// The number of a frame that may be named later; 0: it has its name, or never gets one.
static uint32_t late_number(struct trace_stacks *stacks, uint32_t source, const struct mapping *mapping,
			    uint32_t location_id)
{
	uint32_t index;

	if (stacks->names->locations[location_id - 1].nlines > 0 || (mapping && mapping->module))
		return 0;
	index = intern_add(&stacks->lates, &location_id, NULL);
	if (index == INTERN_NONE)
		return 0;
	((struct late *)intern_item(&stacks->lates, index))->source = source;
	return index + 1;
}

// ---- Stacks ---------------------------------------------------------------------------------------------------------

struct trace_stacks *trace_stacks_create(struct window *window)
{
	struct trace_stacks *stacks = calloc(1, sizeof(*stacks));

	if (!stacks)
		return NULL;
	stacks->window = window;
	stacks->budget.max = MAX_BYTES;
	intern_init(&stacks->sent, sizeof(uint32_t), sizeof(uint32_t), &stacks->budget);
	intern_init(&stacks->makers, sizeof(struct maker), sizeof(uint32_t), &stacks->budget);
	intern_init(&stacks->lates, sizeof(struct late), sizeof(uint32_t), &stacks->budget);
	stacks->names = profile_create();
	profile_builder_init(&stacks->frames, stacks->names);
	stacks->frames.jit_names = jit_names;
	stacks->frames.context = stacks;
	if (stacks->names)
		return stacks;
	trace_stacks_destroy(stacks);
	return NULL;
}

void trace_stacks_destroy(struct trace_stacks *stacks)
{
	if (!stacks)
		return;
	for (uint32_t i = 0; i < stacks->makers.count; i++)
		jit_follow_finish(&((struct maker *)intern_item(&stacks->makers, i))->follow);
	intern_finish(&stacks->sent);
	intern_finish(&stacks->makers);
	intern_finish(&stacks->lates);
	profile_builder_finish(&stacks->frames);
	profile_destroy(stacks->names);
	free(stacks);
}

static uint32_t add_lines(struct trace_stacks *stacks, uint32_t location_id, uint32_t late, uint32_t n)
{
	const struct profile *names = stacks->names;
	const struct profile_location *location = &names->locations[location_id - 1];
	char name[512];

	for (uint32_t i = 0; i < location->nlines && n < MAX_LINES; i++) {
		const struct profile_function *function = &names->functions[location->lines[i].function_id - 1];

		stacks->lines[n++] = (struct trace_frame){
			.name = function->name, .file = function->file, .line = location->lines[i].line};
	}
	if (location->nlines == 0 && n < MAX_LINES) {
		profile_frame_name(names, location, 0, name, sizeof(name));
		stacks->lines[n++] =
			(struct trace_frame){.name = profile_string(stacks->names, name), .file = "", .late = late};
	}
	return n;
}

static uint32_t name_stack(struct trace_stacks *stacks, uint32_t source, size_t nframes)
{
	struct name_wants wants = {0};
	uint32_t n = 0;

	for (size_t i = 0; i < nframes; i++)
		name_wants_add(&wants, stacks->stack[i].mapping, stacks->stack[i].pc);
	name_wants_prepare(&wants);
	for (size_t i = 0; i < nframes && n < MAX_LINES; i++) {
		const struct mapping *mapping = stacks->stack[i].mapping;
		uint32_t id = profile_builder_location(&stacks->frames, source, mapping, stacks->stack[i].pc);

		if (id)
			n = add_lines(stacks, id, late_number(stacks, source, mapping, id), n);
	}
	return n;
}

uint32_t trace_stacks_send(struct trace_stacks *stacks, struct trace_output *output, uint32_t source, uint32_t stack)
{
	bool new;
	uint32_t index = stack ? intern_add(&stacks->sent, &stack, &new) : INTERN_NONE;
	size_t nframes;

	if (index == INTERN_NONE)
		return 0;
	if (new) {
		nframes = window_trace_stack(stacks->window, stack, stacks->stack, WIRE_MAX_FRAMES);
		trace_stack(output, index + 1, stacks->lines, name_stack(stacks, source, nframes));
	}
	return index + 1;
}

// ---- The end --------------------------------------------------------------------------------------------------------

// Read once more, when nothing will be written any more that this trace could have.
static const struct jit_names *last_names(struct maker *maker)
{
	if (maker->ended)
		return maker->follow.names;
	maker->ended = true;
	return jit_follow_all(&maker->follow, &maker->process);
}

void trace_stacks_end(struct trace_stacks *stacks, struct trace_output *output)
{
	for (uint32_t i = 0; i < stacks->lates.count; i++) {
		const struct late *late = intern_item(&stacks->lates, i);
		struct maker *maker = find_maker(stacks, late->source);
		const struct jit_names *names = maker ? last_names(maker) : NULL;
		struct jit_found found;

		if (names && jit_names_find(names, stacks->names->locations[late->location - 1].address, &found))
			trace_late_name(output, &(struct trace_frame){.name = found.name,
								      .file = found.file,
								      .line = found.line,
								      .late = i + 1});
	}
	for (uint32_t i = 0; i < stacks->makers.count; i++) {
		const struct maker *maker = intern_item(&stacks->makers, i);

		if (jit_follow_is_full(&maker->follow))
			trace_note(output, "process %d: not all names of generated code are known: too many",
				   (int)maker->process.pid);
	}
}
