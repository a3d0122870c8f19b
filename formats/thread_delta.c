// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// thread_delta.c: dumps of one process put together: what changed from one to a later one, or all of them as one; threads of equal stack,
// state and name, counted (thread_dump.h).

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "formats/thread_dump.h"

// The id in dump of a mapping of another dump of the same process.
static uint32_t copy_mapping(struct thread_dump *dump, const struct profile_mapping *mapping)
{
	for (uint32_t i = 0; i < dump->profile->nmappings; i++) {
		const struct profile_mapping *own = &dump->profile->mappings[i];

		if (own->start != mapping->start || own->file_offset != mapping->file_offset ||
		    strcmp(own->file, mapping->file) != 0)
			continue;
		if (!own->advice[0])
			profile_explain_mapping(dump->profile, i + 1, mapping->names_from, mapping->advice);
		return i + 1;
	}
	return profile_add_mapping(dump->profile, mapping);
}

static uint32_t copy_location(struct thread_dump *dump, const struct profile *from, uint32_t id)
{
	struct profile_location location = from->locations[id - 1];
	struct profile_line *lines = calloc(location.nlines ? location.nlines : 1, sizeof(*lines));
	uint32_t copy;

	if (!lines)
		return 0;
	if (location.mapping_id)
		location.mapping_id = copy_mapping(dump, &from->mappings[location.mapping_id - 1]);
	for (uint32_t i = 0; i < location.nlines; i++) {
		const struct profile_function *function = &from->functions[location.lines[i].function_id - 1];

		lines[i].function_id = profile_add_function(dump->profile, function);
		lines[i].line = location.lines[i].line;
	}
	location.lines = lines;
	copy = profile_add_location(dump->profile, &location);
	free(lines);
	return copy;
}

static uint32_t copy_stack(struct thread_dump *dump, const struct thread_dump *from, uint32_t id)
{
	const struct thread_dump_stack *stack = &from->stacks[id - 1];
	uint32_t *ids = calloc(stack->nlocations ? stack->nlocations : 1, sizeof(*ids));
	uint32_t copy = 0, i = 0;

	if (!ids)
		return 0;
	for (; i < stack->nlocations; i++) {
		ids[i] = copy_location(dump, from->profile, stack->location_ids[i]);
		if (!ids[i])
			break;
	}
	if (i == stack->nlocations)
		copy = thread_dump_add_stack(dump, ids, stack->nlocations, stack->partial);
	free(ids);
	return copy;
}

// Adds the threads of another dump, each sign times.
static int add_threads(struct thread_dump *dump, const struct thread_dump *other, int sign)
{
	uint32_t *stacks = calloc((size_t)other->nstacks + 1, sizeof(*stacks));
	int r = stacks ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < other->nthreads && r == 0; i++) {
		struct thread_dump_thread thread = other->threads[i];

		if (thread.hidden)
			continue;
		if (thread.stack && !stacks[thread.stack]) {
			stacks[thread.stack] = copy_stack(dump, other, thread.stack);
			if (!stacks[thread.stack])
				r = -ENOMEM;
		}
		thread.stack = stacks[thread.stack];
		thread.creator_stack = 0;
		thread.cause = 0;
		thread.count = sign * thread_dump_count(&thread);
		if (r == 0)
			r = thread_dump_add_thread(dump, &thread);
	}
	free(stacks);
	return r;
}

static int compare_groups(const void *a, const void *b)
{
	const struct thread_dump_thread *left = a, *right = b;
	int order;

	if (left->stack != right->stack)
		return left->stack < right->stack ? -1 : 1;
	order = strcmp(left->state, right->state);
	if (order == 0)
		order = strcmp(left->name, right->name);
	return order ? order : strcmp(left->labels, right->labels);
}

// One thread for those of a group; without those whose sum is 0.
static void merge_groups(struct thread_dump *dump)
{
	uint32_t kept = 0, end;

	if (dump->nthreads > 0)
		qsort(dump->threads, dump->nthreads, sizeof(*dump->threads), compare_groups);
	for (uint32_t i = 0; i < dump->nthreads; i = end) {
		struct thread_dump_thread group = dump->threads[i];

		group.count = 0;
		for (end = i; end < dump->nthreads && compare_groups(&group, &dump->threads[end]) == 0; end++)
			if (!dump->threads[end].hidden)
				group.count += thread_dump_count(&dump->threads[end]);
		group.hidden = false;
		if (group.count != 0)
			dump->threads[kept++] = group;
	}
	dump->nthreads = kept;
}

int thread_dump_delta(struct thread_dump *dump, const struct thread_dump *before)
{
	int r = add_threads(dump, before, -1);

	dump->duration_ns = dump->time_ns - before->time_ns;
	if (r == 0)
		merge_groups(dump);
	return r;
}

// What follows a semicolon may be another thing each time: in how many seconds something is tried again.
static bool is_said(const struct profile *profile, const char *comment)
{
	size_t length = strcspn(comment, ";");

	for (uint32_t i = 0; i < profile->ncomments; i++)
		if (strncmp(profile->comments[i], comment, length) == 0 && strcspn(profile->comments[i], ";") == length)
			return true;
	return false;
}

int thread_dump_accumulate(struct thread_dump *dump, const struct thread_dump *other)
{
	int r = add_threads(dump, other, 1);

	for (uint32_t i = 0; i < other->profile->ncomments; i++)
		if (!is_said(dump->profile, other->profile->comments[i]))
			profile_add_comment(dump->profile, "%s", other->profile->comments[i]);
	if (r == 0)
		merge_groups(dump);
	return r;
}
