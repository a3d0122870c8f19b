// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// thread_verdicts.c: what a thread dump shows to be wrong, with the evidence (thread_dump.h).
//
// Who waits for whom is a graph with at most one edge from each thread, to the holder of the lock it waits for or to the thread that it
// joins. A cycle in it is a deadlock, if none of its threads moved while the dump was taken: the caller knows that.

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "formats/grow.h"
#include "formats/thread_dump.h"
#include "formats/writer.h"

#define NONE UINT32_MAX
#define CONVOY_LEAST 4 // threads that wait for one lock
#define SHOWN 64       // threads of one verdict, in text

static const char *const kind_names[THREAD_VERDICT_COUNT] = {
	[THREAD_VERDICT_DEADLOCK] = "deadlock", [THREAD_VERDICT_CONVOY] = "convoy",
	[THREAD_VERDICT_UNJOINED] = "unjoined", [THREAD_VERDICT_GROWS] = "grows",
	[THREAD_VERDICT_ZOMBIES] = "zombies",
};

static bool waits_for_lock(const struct thread_dump_thread *thread)
{
	return strncmp(thread->state, "mutex", 5) == 0 || strncmp(thread->state, "rwlock", 6) == 0;
}

// Index of the thread it waits for; NONE: for nobody that is known.
static uint32_t next_of(const struct thread_dump *dump, uint32_t index)
{
	const struct thread_dump_thread *thread = &dump->threads[index];
	uint32_t low = 0, high = dump->nthreads;

	if (!thread->owner_tid || (!waits_for_lock(thread) && strcmp(thread->state, "join") != 0))
		return NONE;
	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (dump->threads[middle].tid < thread->owner_tid)
			low = middle + 1;
		else
			high = middle;
	}
	return low < dump->nthreads && dump->threads[low].tid == thread->owner_tid ? low : NONE;
}

int thread_dump_add_verdict(struct thread_dump *dump, const struct thread_dump_verdict *verdict)
{
	struct thread_dump_verdict *verdicts =
		grow_array(dump->verdicts, &dump->verdicts_capacity, (size_t)dump->nverdicts + 1, sizeof(*verdicts));
	uint32_t *threads = malloc((verdict->nthreads ? verdict->nthreads : 1) * sizeof(*threads));

	if (verdicts)
		dump->verdicts = verdicts;
	if (!verdicts || !threads) {
		free(threads);
		return -ENOMEM;
	}
	if (verdict->nthreads)
		memcpy(threads, verdict->threads, verdict->nthreads * sizeof(*threads));
	verdicts[dump->nverdicts] = *verdict;
	verdicts[dump->nverdicts++].threads = threads;
	return 0;
}

// ---- Deadlocks -----------------------------------------------------------------------------------------------------

static int add_cycle(struct thread_dump *dump, uint32_t start, uint32_t *members, thread_dump_is_unmoved *is_unmoved,
		     void *context)
{
	struct thread_dump_verdict verdict = {.kind = THREAD_VERDICT_DEADLOCK, .threads = members};
	uint32_t at = start;

	do {
		members[verdict.nthreads++] = at;
		at = next_of(dump, at);
	} while (at != start);
	for (uint32_t i = 0; i < verdict.nthreads; i++)
		if (!is_unmoved(context, dump->threads[members[i]].tid))
			return 0;
	verdict.count = verdict.nthreads;
	return thread_dump_add_verdict(dump, &verdict);
}

// seen[i]: the walk, counted from 1, that came by thread i first. Who meets its own walk has closed a cycle.
static int find_deadlocks(struct thread_dump *dump, uint32_t *seen, uint32_t *members,
			  thread_dump_is_unmoved *is_unmoved, void *context)
{
	int r = 0;

	memset(seen, 0, dump->nthreads * sizeof(*seen));
	for (uint32_t i = 0; i < dump->nthreads && r == 0; i++) {
		uint32_t at = i;

		while (at != NONE && seen[at] == 0) {
			seen[at] = i + 1;
			at = next_of(dump, at);
		}
		if (at != NONE && seen[at] == i + 1)
			r = add_cycle(dump, at, members, is_unmoved, context);
	}
	return r;
}

// ---- Convoys -------------------------------------------------------------------------------------------------------

static int compare_locks(const void *a, const void *b, void *context)
{
	const struct thread_dump *dump = context;
	uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
	int order = strcmp(dump->threads[left].object, dump->threads[right].object);

	return order ? order : (left > right) - (left < right);
}

static int find_convoys(struct thread_dump *dump, uint32_t *waiting)
{
	uint32_t n = 0, end;
	int r = 0;

	for (uint32_t i = 0; i < dump->nthreads; i++)
		if (waits_for_lock(&dump->threads[i]) && dump->threads[i].object[0])
			waiting[n++] = i;
	if (n > 0)
		qsort_r(waiting, n, sizeof(*waiting), compare_locks, dump);
	for (uint32_t i = 0; i < n && r == 0; i = end) {
		struct thread_dump_verdict convoy = {.kind = THREAD_VERDICT_CONVOY, .threads = waiting + i};

		for (end = i + 1;
		     end < n && strcmp(dump->threads[waiting[i]].object, dump->threads[waiting[end]].object) == 0;)
			end++;
		convoy.nthreads = end - i;
		convoy.count = end - i;
		if (convoy.nthreads >= CONVOY_LEAST)
			r = thread_dump_add_verdict(dump, &convoy);
	}
	return r;
}

int thread_dump_find_verdicts(struct thread_dump *dump, thread_dump_is_unmoved *is_unmoved, void *context)
{
	uint32_t *scratch = calloc((size_t)dump->nthreads * 2 + 1, sizeof(*scratch));
	int r;

	if (!scratch)
		return -ENOMEM;
	r = find_deadlocks(dump, scratch, scratch + dump->nthreads, is_unmoved, context);
	if (r == 0)
		r = find_convoys(dump, scratch);
	free(scratch);
	return r;
}

// ---- As text -------------------------------------------------------------------------------------------------------

static void put_waiting(struct writer *writer, const struct thread_dump *dump, uint32_t index)
{
	const struct thread_dump_thread *thread = &dump->threads[index];
	struct thread_dump_thread named = {.state = thread->name, .object = ""};
	char name[64], state[256];

	writer_printf(writer, "#   thread %" PRIu32 " \"%s\": %s\n", thread->tid,
		      thread_dump_state(dump, &named, name, sizeof(name)),
		      thread_dump_state(dump, thread, state, sizeof(state)));
}

static void put_threads(struct writer *writer, const struct thread_dump *dump,
			const struct thread_dump_verdict *verdict)
{
	uint32_t i = 0;

	for (; i < verdict->nthreads && i < SHOWN; i++)
		put_waiting(writer, dump, verdict->threads[i]);
	if (i < verdict->nthreads)
		writer_printf(writer, "#   and %" PRIu32 " more\n", verdict->nthreads - i);
}

static void put_frames(struct writer *writer, const struct thread_dump *dump, uint32_t id, const char *title)
{
	const struct thread_dump_stack *stack = id ? &dump->stacks[id - 1] : NULL;
	char name[512], line[640];

	if (!stack || stack->nlocations == 0)
		return;
	writer_printf(writer, "#   %s\n", title);
	for (uint32_t i = 0; i < stack->nlocations; i++) {
		const struct profile_location *location = &dump->profile->locations[stack->location_ids[i] - 1];
		struct thread_dump_thread named = {.object = ""};

		profile_frame_name(dump->profile, location, 0, name, sizeof(name));
		named.state = name;
		writer_printf(writer, "#     %s\n", thread_dump_state(dump, &named, line, sizeof(line)));
	}
}

static void put_evidence(struct writer *writer, const struct thread_dump *dump,
			 const struct thread_dump_verdict *verdict)
{
	struct thread_dump_thread named = {.state = verdict->evidence, .object = ""};
	char line[640];

	if (verdict->evidence)
		writer_printf(writer, "#   %s\n", thread_dump_state(dump, &named, line, sizeof(line)));
}

static void put_verdict(struct writer *writer, const struct thread_dump *dump,
			const struct thread_dump_verdict *verdict)
{
	const struct thread_dump_thread *first = verdict->nthreads ? &dump->threads[verdict->threads[0]] : NULL;
	char text[256];

	writer_printf(writer, "# %s: %" PRId64, kind_names[verdict->kind], verdict->count);
	switch (verdict->kind) {
	case THREAD_VERDICT_DEADLOCK:
		writer_puts(writer, " threads wait for each other\n");
		put_threads(writer, dump, verdict);
		break;
	case THREAD_VERDICT_CONVOY:
		writer_printf(writer, " threads: %s\n", thread_dump_state(dump, first, text, sizeof(text)));
		break;
	case THREAD_VERDICT_UNJOINED:
		writer_puts(writer, " threads ended joinable, and nobody joined or detached them\n");
		break;
	case THREAD_VERDICT_ZOMBIES:
		writer_printf(
			writer,
			" threads did not run for %.1f s (same PC, same SP, no CPU time), and nobody was woken where "
			"they are: idle, or forgotten [%s, for %" PRId64 " s at least]\n",
			(double)verdict->window_ns / 1e9, verdict->state, verdict->waiting_ns / 1000000000);
		break;
	default:
		writer_printf(writer, " threads now, %" PRIu32 " at first, never fewer in %" PRIu32 " dumps [%s]\n",
			      verdict->base, verdict->dumps, verdict->state);
		break;
	}
	put_evidence(writer, dump, verdict);
	put_frames(writer, dump, verdict->stack, "where they are");
	put_frames(writer, dump, verdict->creator_stack, "created by");
}

// A comment of the profile: names of files may be in it.
static void put_note(struct writer *writer, const char *note)
{
	writer_puts(writer, "# ");
	for (; *note; note++)
		writer_printf(writer, "%c", (unsigned char)*note < ' ' || *note == 0x7f ? '?' : *note);
	writer_puts(writer, "\n");
}

void thread_dump_put_verdicts(const struct thread_dump *dump, struct writer *writer)
{
	for (uint32_t i = 0; i < dump->nverdicts; i++)
		put_verdict(writer, dump, &dump->verdicts[i]);
	for (uint32_t i = 0; i < dump->profile->ncomments; i++)
		put_note(writer, dump->profile->comments[i]);
	if (dump->nverdicts || dump->profile->ncomments)
		writer_puts(writer, "\n");
}

// ---- As JSON -------------------------------------------------------------------------------------------------------

static void put_notes_json(const struct thread_dump *dump, struct writer *writer)
{
	if (dump->profile->ncomments == 0)
		return;
	writer_puts(writer, "\"notes\":[");
	for (uint32_t i = 0; i < dump->profile->ncomments; i++) {
		writer_puts(writer, i ? ",\n \"" : "\n \"");
		writer_json(writer, dump->profile->comments[i]);
		writer_puts(writer, "\"");
	}
	writer_puts(writer, "],\n");
}

void thread_dump_put_verdicts_json(const struct thread_dump *dump, struct writer *writer)
{
	put_notes_json(dump, writer);
	writer_puts(writer, "\"verdicts\":[");
	for (uint32_t i = 0; i < dump->nverdicts; i++) {
		const struct thread_dump_verdict *verdict = &dump->verdicts[i];

		writer_printf(writer, "%s{\"kind\":\"%s\",\"count\":%" PRId64, i ? ",\n " : "\n ",
			      kind_names[verdict->kind], verdict->count);
		if (verdict->kind == THREAD_VERDICT_GROWS) {
			writer_printf(writer, ",\"base\":%" PRIu32 ",\"dumps\":%" PRIu32 ",\"state\":\"", verdict->base,
				      verdict->dumps);
			writer_json(writer, verdict->state);
			writer_puts(writer, "\"");
		}
		if (verdict->kind == THREAD_VERDICT_ZOMBIES) {
			writer_printf(writer, ",\"window_ns\":%" PRId64 ",\"waiting_ns\":%" PRId64 ",\"state\":\"",
				      verdict->window_ns, verdict->waiting_ns);
			writer_json(writer, verdict->state);
			writer_puts(writer, "\"");
		}
		if (verdict->evidence) {
			writer_puts(writer, ",\"evidence\":\"");
			writer_json(writer, verdict->evidence);
			writer_puts(writer, "\"");
		}
		if (verdict->stack)
			writer_printf(writer, ",\"stack\":%" PRIu32, verdict->stack);
		if (verdict->creator_stack)
			writer_printf(writer, ",\"creator_stack\":%" PRIu32, verdict->creator_stack);
		writer_puts(writer, ",\"threads\":[");
		for (uint32_t k = 0; k < verdict->nthreads; k++)
			writer_printf(writer, "%s%" PRIu32, k ? "," : "", dump->threads[verdict->threads[k]].tid);
		writer_puts(writer, "]}");
	}
	writer_puts(writer, "],\n");
}
