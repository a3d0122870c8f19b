// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// thread_dump.c: see thread_dump.h.

#include "formats/thread_dump.h"
#include "formats/name_gaps.h"

#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/arena.h"
#include "formats/grow.h"
#include "formats/label_text.h"
#include "formats/lookup.h"
#include "formats/utf8.h"

struct thread_dump_index {
	struct lookup stacks;
	struct arena arena;
	uint32_t stacks_capacity, threads_capacity, causes_capacity;
};

struct thread_dump *thread_dump_create(void)
{
	struct thread_dump *dump = calloc(1, sizeof(*dump));

	if (!dump)
		return NULL;
	dump->command = "";
	dump->profile = profile_create();
	dump->index = calloc(1, sizeof(*dump->index));
	if (!dump->profile || !dump->index) {
		thread_dump_destroy(dump);
		return NULL;
	}
	lookup_init(&dump->index->stacks);
	return dump;
}

void thread_dump_destroy(struct thread_dump *dump)
{
	if (!dump)
		return;
	if (dump->index) {
		lookup_finish(&dump->index->stacks);
		arena_finish(&dump->index->arena);
	}
	free(dump->index);
	for (uint32_t i = 0; i < dump->nverdicts; i++)
		free(dump->verdicts[i].threads);
	free(dump->verdicts);
	free(dump->stacks);
	free(dump->causes);
	free(dump->threads);
	profile_destroy(dump->profile);
	free(dump);
}

// ---- Stacks --------------------------------------------------------------------------------------------------------

static bool stack_equal(const void *context, uint32_t id, const void *key)
{
	const struct thread_dump_stack *a = &((const struct thread_dump *)context)->stacks[id - 1], *b = key;

	return a->nlocations == b->nlocations && a->partial == b->partial &&
	       memcmp(a->location_ids, b->location_ids, a->nlocations * sizeof(*a->location_ids)) == 0;
}

static uint32_t append_stack(struct thread_dump *dump, const struct thread_dump_stack *key, uint32_t hash)
{
	struct thread_dump_index *index = dump->index;
	struct thread_dump_stack *stacks =
		grow_array(dump->stacks, &index->stacks_capacity, (size_t)dump->nstacks + 1, sizeof(*stacks));
	const uint32_t *ids;

	if (!stacks)
		return 0;
	dump->stacks = stacks;
	if (lookup_reserve(&index->stacks) < 0)
		return 0;
	ids = arena_copy(&index->arena, key->location_ids, key->nlocations * sizeof(*ids), _Alignof(uint32_t));
	if (!ids)
		return 0;
	stacks[dump->nstacks] = *key;
	stacks[dump->nstacks++].location_ids = ids;
	lookup_insert(&index->stacks, hash, dump->nstacks);
	return dump->nstacks;
}

uint32_t thread_dump_add_stack(struct thread_dump *dump, const uint32_t *location_ids, uint32_t nlocations,
			       const char *partial)
{
	static const uint32_t none[1];
	struct thread_dump_stack key = {.nlocations = nlocations, .location_ids = nlocations ? location_ids : none};
	uint32_t hash, id;

	for (uint32_t i = 0; i < nlocations; i++)
		if (location_ids[i] == 0 || location_ids[i] > dump->profile->nlocations)
			return 0;
	key.partial = profile_string(dump->profile, partial);
	hash = lookup_hash(&dump->index->stacks, key.location_ids, nlocations * sizeof(*location_ids));
	id = lookup_find(&dump->index->stacks, hash, stack_equal, dump, &key);
	return id ? id : append_stack(dump, &key, hash);
}

uint32_t thread_dump_add_cause(struct thread_dump *dump, const struct thread_dump_cause *cause)
{
	struct thread_dump_cause *causes;

	if (cause->stack == 0 || cause->stack > dump->nstacks || cause->parent > dump->ncauses)
		return 0;
	causes = grow_array(dump->causes, &dump->index->causes_capacity, (size_t)dump->ncauses + 1, sizeof(*causes));
	if (!causes)
		return 0;
	dump->causes = causes;
	causes[dump->ncauses] = *cause;
	causes[dump->ncauses].kind = profile_string(dump->profile, cause->kind);
	return ++dump->ncauses;
}

// ---- Threads -------------------------------------------------------------------------------------------------------

int thread_dump_add_thread(struct thread_dump *dump, const struct thread_dump_thread *thread)
{
	struct thread_dump_thread *threads;

	if (thread->stack > dump->nstacks || thread->creator_stack > dump->nstacks || thread->cause > dump->ncauses ||
	    !thread->state || !thread->state[0])
		return -EINVAL;
	threads =
		grow_array(dump->threads, &dump->index->threads_capacity, (size_t)dump->nthreads + 1, sizeof(*threads));
	if (!threads)
		return -ENOMEM;
	dump->threads = threads;
	threads[dump->nthreads] = *thread;
	threads[dump->nthreads].name = profile_string(dump->profile, thread->name);
	threads[dump->nthreads].state = profile_string(dump->profile, thread->state);
	threads[dump->nthreads].object = profile_string(dump->profile, thread->object);
	threads[dump->nthreads].labels = profile_string(dump->profile, thread->labels);
	if (profile_failed(dump->profile))
		return -ENOMEM;
	dump->nthreads++;
	return 0;
}

static int compare_tids(const void *a, const void *b)
{
	const struct thread_dump_thread *left = a, *right = b;

	return (left->tid > right->tid) - (left->tid < right->tid);
}

void thread_dump_finish(struct thread_dump *dump)
{
	if (dump->nthreads > 0)
		qsort(dump->threads, dump->nthreads, sizeof(*dump->threads), compare_tids);
}

static const struct thread_dump_thread *find_thread(const struct thread_dump *dump, uint32_t tid)
{
	const struct thread_dump_thread key = {.tid = tid};

	return dump->nthreads ? bsearch(&key, dump->threads, dump->nthreads, sizeof(key), compare_tids) : NULL;
}

// What a reader of the header takes for its end, and what breaks a line, is replaced; so is what is not UTF-8. As much as there is room for.
static void copy_clean(char *to, size_t size, const char *from)
{
	size_t used = 0;

	while (*from) {
		int step = utf8_step(from);
		const char *text = step > 0 ? from : UTF8_REPLACEMENT;
		size_t length = step > 0 ? (size_t)step : strlen(UTF8_REPLACEMENT);

		if (step == 1 && ((unsigned char)*from < ' ' || strchr("\x7f,[]", *from)))
			text = "_";
		if (length >= size - used)
			break;
		memcpy(to + used, text, length);
		used += length;
		from += step > 0 ? step : -step;
	}
	to[used] = '\0';
}

const char *thread_dump_state(const struct thread_dump *dump, const struct thread_dump_thread *thread, char *buf,
			      size_t size)
{
	const struct thread_dump_thread *owner = thread->owner_tid ? find_thread(dump, thread->owner_tid) : NULL;
	const char *verb = strcmp(thread->state, "join") == 0 ? "" : " held by";
	char owned[96] = "", state[512];

	if (size == 0)
		return buf;
	if (owner && owner->name[0])
		snprintf(owned, sizeof(owned), "%s thread %" PRIu32 " \"%.40s\"", verb, owner->tid, owner->name);
	else if (thread->owner_tid)
		snprintf(owned, sizeof(owned), "%s thread %" PRIu32, verb, thread->owner_tid);
	snprintf(state, sizeof(state), "%s%s%s%s", thread->state, thread->object[0] ? " " : "", thread->object, owned);
	copy_clean(buf, size, state);
	return buf;
}

static int compare_states(const void *a, const void *b)
{
	return strcmp(((const struct thread_dump_state_count *)a)->state,
		      ((const struct thread_dump_state_count *)b)->state);
}

struct thread_dump_state_count *thread_dump_count_states(const struct thread_dump *dump, uint32_t *ret_count)
{
	struct thread_dump_state_count *states = calloc((size_t)dump->nthreads + 1, sizeof(*states));
	uint32_t n = 0;

	if (!states)
		return NULL;
	for (uint32_t i = 0; i < dump->nthreads; i++)
		states[i] = (struct thread_dump_state_count){dump->threads[i].state, 1};
	qsort(states, dump->nthreads, sizeof(*states), compare_states);
	for (uint32_t i = 0; i < dump->nthreads; i++) {
		if (n > 0 && strcmp(states[n - 1].state, states[i].state) == 0)
			states[n - 1].count++;
		else
			states[n++] = states[i];
	}
	*ret_count = n;
	return states;
}

// ---- Samples -------------------------------------------------------------------------------------------------------

#define MAX_PROGRAM_LABELS 12
#define MAX_LABELS (MAX_PROGRAM_LABELS + 3)

// The program's first: none of them replaces one of ours. Room for one more is left.
static uint32_t own_labels(struct profile *profile, const struct thread_dump_thread *thread, bool names,
			   struct profile_label labels[MAX_LABELS])
{
	uint32_t n = label_text_labels(thread->labels, profile, labels, MAX_PROGRAM_LABELS);

	labels[n++] = (struct profile_label){.key = "state", .str = thread->state, .num_unit = ""};
	if (names && thread->name[0])
		labels[n++] = (struct profile_label){.key = "thread_name", .str = thread->name, .num_unit = ""};
	return n;
}

int thread_dump_to_profile(struct thread_dump *dump, const char *name, bool names)
{
	struct profile *profile = dump->profile;

	profile_add_sample_type(profile, name, "count");
	profile_set_period(profile, name, "count", 1);
	profile->time_ns = dump->time_ns;
	profile->duration_ns = dump->duration_ns;
	for (uint32_t i = 0; i < dump->nthreads; i++) {
		const struct thread_dump_thread *thread = &dump->threads[i];
		const struct thread_dump_stack *stack = thread->stack ? &dump->stacks[thread->stack - 1] : NULL;
		const int64_t values[PROFILE_MAX_VALUES] = {thread_dump_count(thread)};
		struct profile_label labels[MAX_LABELS];
		uint32_t nlabels = own_labels(profile, thread, names, labels);
		int r;

		if (thread->hidden)
			continue;
		r = profile_add_sample(profile, stack ? stack->location_ids : NULL, stack ? stack->nlocations : 0,
				       labels, nlabels, values);
		if (r < 0)
			return r;
	}
	return name_gaps_comment(profile);
}

void thread_dump_show_only(struct thread_dump *dump, const char *pattern)
{
	for (uint32_t i = 0; i < dump->nthreads; i++) {
		char number[16];

		snprintf(number, sizeof(number), "%" PRIu32, dump->threads[i].tid);
		dump->threads[i].hidden |=
			fnmatch(pattern, dump->threads[i].name, 0) != 0 && fnmatch(pattern, number, 0) != 0;
	}
}

int thread_dump_to_wall(struct thread_dump *dump, int64_t period_ns)
{
	struct profile *profile = dump->profile;

	profile_add_sample_type(profile, "samples", "count");
	profile_add_sample_type(profile, "wall", "nanoseconds");
	profile_set_period(profile, "wall", "nanoseconds", period_ns);
	profile->time_ns = dump->time_ns;
	profile->duration_ns = dump->duration_ns;
	for (uint32_t i = 0; i < dump->nthreads; i++) {
		const struct thread_dump_thread *thread = &dump->threads[i];
		const struct thread_dump_stack *stack = thread->stack ? &dump->stacks[thread->stack - 1] : NULL;
		struct profile_label labels[MAX_LABELS];
		uint32_t nlabels = own_labels(profile, thread, true, labels);
		const int64_t count = thread_dump_count(thread);
		const int64_t values[PROFILE_MAX_VALUES] = {count, count * period_ns};
		int r;

		if (thread->hidden)
			continue;
		labels[nlabels++] = (struct profile_label){
			.key = "cpu", .str = strcmp(thread->state, "running") == 0 ? "on" : "off", .num_unit = ""};
		r = profile_add_sample(profile, stack ? stack->location_ids : NULL, stack ? stack->nlocations : 0,
				       labels, nlabels, values);
		if (r < 0)
			return r;
	}
	return name_gaps_comment(profile);
}
