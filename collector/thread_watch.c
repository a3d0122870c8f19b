// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// thread_watch.c: see thread_watch.h. A place is a stack; it is alive when one of those that were there has left it, were it only to come
// back.

#include "collector/thread_watch.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "collector/thread_scan.h"
#include "formats/thread_dump.h"

struct watched {
	uint32_t tid;
	bool waited; // had a stack, and did not run
	uint64_t run_ns, pc, sp;
	XXH128_hash_t place; // of its stack
};

struct thread_watch {
	int64_t time_ns; // CLOCK_MONOTONIC: when the scan ended
	bool strict;     // thread_watch_be_strict
	size_t count;
	struct watched *threads; // by tid
};

static XXH128_hash_t place_of(const struct thread_scan_record *record)
{
	return XXH3_128bits_withSeed(record->pcs, record->npcs * sizeof(*record->pcs), record->stop);
}

struct thread_watch *thread_watch_create(const struct thread_scan *scan)
{
	struct thread_watch *watch = calloc(1, sizeof(*watch));

	if (!watch)
		return NULL;
	watch->time_ns = scan->end_ns;
	watch->threads = calloc(scan->count + 1, sizeof(*watch->threads));
	if (!watch->threads) {
		free(watch);
		return NULL;
	}
	for (size_t i = 0; i < scan->count; i++) {
		const struct thread_scan_record *record = &scan->records[i];
		struct watched *thread = &watch->threads[watch->count++];

		thread->tid = record->tid;
		thread->waited = !record->place.running && record->npcs > 0;
		thread->run_ns = record->times.run_ns;
		thread->pc = record->place.pc;
		thread->sp = record->place.sp;
		if (thread->waited)
			thread->place = place_of(record);
	}
	return watch;
}

void thread_watch_destroy(struct thread_watch *watch)
{
	if (!watch)
		return;
	free(watch->threads);
	free(watch);
}

void thread_watch_be_strict(struct thread_watch *watch)
{
	watch->strict = true;
}

// futex(2), nanosleep(2): what waits has a time in its fourth argument, or is all about time.
static bool ends_by_itself(const struct thread_scan_record *record)
{
	if (!record->place.in_syscall)
		return false;
	return (record->place.nr == SYS_futex && record->place.args[3] != 0) || record->place.nr == SYS_nanosleep ||
	       record->place.nr == SYS_clock_nanosleep;
}

static bool is_unmoved(const struct watched *thread, const struct thread_scan_record *record)
{
	return thread->waited && !record->place.running && record->times.run_ns == thread->run_ns &&
	       record->place.pc == thread->pc && record->place.sp == thread->sp;
}

static int compare_places(const void *a, const void *b)
{
	return XXH128_cmp(a, b);
}

// ---- Who did not move ----------------------------------------------------------------------------------------------

struct judgement {
	XXH128_hash_t *alive; // places, sorted
	size_t nalive;
	uint32_t *unmoved; // indices of dump->threads
	uint32_t nunmoved;
	const struct thread_dump *dump;
};

// Both are sorted by tid. A thread that is not in scan has ended.
static void find_alive(const struct thread_watch *watch, const struct thread_scan *scan, struct judgement *judgement)
{
	size_t k = 0;

	for (size_t i = 0; i < watch->count; i++) {
		const struct watched *thread = &watch->threads[i];

		while (k < scan->count && scan->records[k].tid < thread->tid)
			k++;
		if (thread->waited &&
		    !(k < scan->count && scan->records[k].tid == thread->tid && is_unmoved(thread, &scan->records[k])))
			judgement->alive[judgement->nalive++] = thread->place;
	}
	if (judgement->nalive > 0)
		qsort(judgement->alive, judgement->nalive, sizeof(*judgement->alive), compare_places);
}

static bool is_alive(const struct judgement *judgement, const struct watched *thread)
{
	return judgement->nalive > 0 &&
	       bsearch(&thread->place, judgement->alive, judgement->nalive, sizeof(*judgement->alive), compare_places);
}

// All three are sorted by tid.
static void find_unmoved(const struct thread_watch *watch, const struct thread_scan *scan, struct judgement *judgement)
{
	const struct thread_dump *dump = judgement->dump;
	size_t w = 0, s = 0;

	for (uint32_t i = 0; i < dump->nthreads; i++) {
		uint32_t tid = dump->threads[i].tid;

		while (w < watch->count && watch->threads[w].tid < tid)
			w++;
		while (s < scan->count && scan->records[s].tid < tid)
			s++;
		if (w < watch->count && s < scan->count && watch->threads[w].tid == tid &&
		    scan->records[s].tid == tid && is_unmoved(&watch->threads[w], &scan->records[s]) &&
		    !(watch->strict && ends_by_itself(&scan->records[s])) && !is_alive(judgement, &watch->threads[w]))
			judgement->unmoved[judgement->nunmoved++] = i;
	}
}

// ---- Their groups --------------------------------------------------------------------------------------------------

static int compare_groups(const struct thread_dump *dump, uint32_t a, uint32_t b)
{
	const struct thread_dump_thread *left = &dump->threads[a], *right = &dump->threads[b];

	if (left->stack != right->stack)
		return left->stack < right->stack ? -1 : 1;
	if (left->creator_stack != right->creator_stack)
		return left->creator_stack < right->creator_stack ? -1 : 1;
	return strcmp(left->state, right->state);
}

static int compare_unmoved(const void *a, const void *b, void *context)
{
	uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
	int order = compare_groups(context, left, right);

	return order ? order : (left > right) - (left < right);
}

static int add_groups(const struct judgement *judgement, uint32_t least, int64_t window_ns, struct thread_dump *dump)
{
	int r = 0;

	for (uint32_t i = 0, end; i < judgement->nunmoved && r == 0; i = end) {
		const struct thread_dump_thread *first = &dump->threads[judgement->unmoved[i]];
		struct thread_dump_verdict verdict = {.kind = THREAD_VERDICT_ZOMBIES,
						      .threads = judgement->unmoved + i,
						      .stack = first->stack,
						      .creator_stack = first->creator_stack,
						      .state = first->state,
						      .window_ns = window_ns,
						      .waiting_ns = first->waiting_ns};

		for (end = i; end < judgement->nunmoved &&
			      compare_groups(dump, judgement->unmoved[i], judgement->unmoved[end]) == 0;
		     end++)
			if (dump->threads[judgement->unmoved[end]].waiting_ns < verdict.waiting_ns)
				verdict.waiting_ns = dump->threads[judgement->unmoved[end]].waiting_ns;
		verdict.nthreads = end - i;
		verdict.count = verdict.nthreads;
		if (verdict.nthreads >= least)
			r = thread_dump_add_verdict(dump, &verdict);
	}
	return r;
}

int thread_watch_judge(const struct thread_watch *watch, const struct thread_scan *scan, struct thread_dump *dump)
{
	struct judgement judgement = {
		.alive = calloc(watch->count + 1, sizeof(*judgement.alive)),
		.unmoved = calloc((size_t)dump->nthreads + 1, sizeof(*judgement.unmoved)),
		.dump = dump,
	};
	int r = judgement.alive && judgement.unmoved ? 0 : -ENOMEM;

	if (r == 0) {
		find_alive(watch, scan, &judgement);
		find_unmoved(watch, scan, &judgement);
		if (judgement.nunmoved > 0)
			qsort_r(judgement.unmoved, judgement.nunmoved, sizeof(*judgement.unmoved), compare_unmoved,
				dump);
		r = add_groups(&judgement, watch->strict ? 1 : THREAD_WATCH_LEAST, scan->start_ns - watch->time_ns,
			       dump);
	}
	free(judgement.alive);
	free(judgement.unmoved);
	return r;
}
