// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// origin_spans.c: see origin_spans.h. On the thread that takes a snapshot.
//
// A record is made to be read by its own thread, interrupted: that one never sees half of a change, and `valid` says when it is in the middle of
// one. Read from another CPU, one half may be older than the other, and both be valid. So each record is read more than once, all threads' before
// the first one's again, and the variable that points to it before and after: what was not the same every time is left out. A thread
// that waits is the same every time; one that goes from span to span meanwhile has none. (Of a thread that does nothing else, one reading in
// 20,000 to 80,000 was half of each, which two that are equal then hardly ever are; one in 500 where two pages have it, which the kernel reads one
// after the other, far apart: those are read more often. 2 CPUs, KVM.)

#include "collector/origin_spans.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "collector/origins.h"
#include "collector/process.h"
#include "collector/thread_scan.h"

#define READINGS 2
#define READINGS_APART 4 // of a record in two pages
#define PAGE 4096u

// A thread that may have a span, and what was read of it so far.
struct candidate {
	struct origin *thread;
	uint64_t record_at;
	struct wire_otel_record record;
};

struct search {
	pid_t pid, living;
	struct candidate *candidates;
	size_t count;
	struct wire_otel_record *data; // room for one of each
};

// What cannot be read is zeroes. Nor is anything else once the process cannot be read at all: it has ended, or is not ours to look at.
static void read_places(struct search *search, const uint64_t *(*place)(const struct candidate *), size_t size)
{
	struct iovec pieces[PROCESS_PIECES];
	char *data = (char *)search->data;
	size_t i = 0;

	memset(data, 0, search->count * size);
	while (i < search->count) {
		unsigned n = 0;
		size_t got;

		for (; n < PROCESS_PIECES && i + n < search->count; n++)
			// NOLINTNEXTLINE(performance-no-int-to-ptr)
			pieces[n] = (struct iovec){(void *)(uintptr_t)*place(&search->candidates[i + n]), size};
		errno = 0;
		got = process_read_pieces(search->pid, &search->living, pieces, n, data + i * size);
		i += got / size;
		if (got == n * size)
			continue;
		if (got == 0 && errno != EFAULT)
			return;
		memset(data + i * size, 0, size); // the beginning of what could not be read may have been
		i++;
	}
}

static const uint64_t *variable_of(const struct candidate *candidate)
{
	return &candidate->thread->otel_at;
}

static const uint64_t *record_of(const struct candidate *candidate)
{
	return &candidate->record_at;
}

// What a reading says of a candidate: whether it stays one.
typedef bool judge(struct candidate *candidate, const void *data);

static void look(struct search *search, const uint64_t *(*place)(const struct candidate *), size_t size, judge *stays)
{
	size_t kept = 0;

	read_places(search, place, size);
	for (size_t i = 0; i < search->count; i++)
		if (stays(&search->candidates[i], (const char *)search->data + i * size))
			search->candidates[kept++] = search->candidates[i];
	search->count = kept;
}

static bool points_to_record(struct candidate *candidate, const void *data)
{
	memcpy(&candidate->record_at, data, sizeof(candidate->record_at));
	return candidate->record_at != 0;
}

static bool points_there_still(struct candidate *candidate, const void *data)
{
	return memcmp(&candidate->record_at, data, sizeof(candidate->record_at)) == 0;
}

static bool has_span(struct candidate *candidate, const void *data)
{
	static const uint8_t none[sizeof(candidate->record.trace_id)];

	memcpy(&candidate->record, data, sizeof(candidate->record));
	return candidate->record.valid == WIRE_OTEL_VALID &&
	       memcmp(candidate->record.trace_id, none, sizeof(none)) != 0;
}

static bool has_it_still(struct candidate *candidate, const void *data)
{
	return memcmp(&candidate->record, data, sizeof(candidate->record)) == 0;
}

static bool is_apart(const struct candidate *candidate)
{
	return candidate->record_at % PAGE > PAGE - sizeof(candidate->record);
}

// Those in two pages first. How many there are.
static size_t part(struct search *search)
{
	size_t apart = 0;

	for (size_t i = 0; i < search->count; i++) {
		struct candidate candidate = search->candidates[i];

		if (!is_apart(&candidate))
			continue;
		search->candidates[i] = search->candidates[apart];
		search->candidates[apart++] = candidate;
	}
	return apart;
}

static void look_again_at_those_apart(struct search *search)
{
	struct search apart = *search;
	size_t count = part(search);

	apart.count = count;
	for (int i = READINGS; i < READINGS_APART; i++)
		look(&apart, record_of, sizeof(struct wire_otel_record), has_it_still);
	memmove(&search->candidates[apart.count], &search->candidates[count],
		(search->count - count) * sizeof(*search->candidates));
	search->count -= count - apart.count;
	search->living = apart.living;
}

static void search_all(struct search *search)
{
	look(search, variable_of, sizeof(uint64_t), points_to_record);
	look(search, record_of, sizeof(struct wire_otel_record), has_span);
	for (int i = 1; i < READINGS; i++)
		look(search, record_of, sizeof(struct wire_otel_record), has_it_still);
	look_again_at_those_apart(search);
	look(search, variable_of, sizeof(uint64_t), points_there_still);
}

static void keep_span(const struct candidate *candidate)
{
	struct wire_trace *span = &candidate->thread->span;

	*span = (struct wire_trace){.flags = candidate->record.trace_flags & WIRE_TRACE_SAMPLED};
	memcpy(span->trace_id, candidate->record.trace_id, sizeof(span->trace_id));
	memcpy(span->span_id, candidate->record.span_id, sizeof(span->span_id));
	candidate->thread->has_span = true;
}

// ---- What is known already -----------------------------------------------------------------------------------------

// Nobody but a thread changes its variable and its record. One that has not run since the scan before had them so when they were read behind it.
static bool stood_still(const struct thread_scan *scan, uint32_t tid)
{
	const struct thread_scan_record *record = thread_scan_find(scan, tid);

	return record && !record->walked;
}

// false: it has to be read.
static bool take_known(struct origin *thread, const struct origins_past *past)
{
	const struct origin *before = origins_find(past->origins, thread->tid);
	bool is_same = before && before->state_tid == thread->state_tid && before->slot == thread->slot &&
		       before->otel_at == thread->otel_at && past->origins->spans_known;

	if (past->scan && !(is_same && stood_still(past->scan, thread->tid)))
		return false;
	thread->has_span = is_same && before->has_span;
	if (thread->has_span)
		thread->span = before->span;
	return true;
}

// Returns how many have one.
static size_t take_all_known(struct origins *origins, const struct origins_past *past, struct search *search)
{
	size_t found = 0;

	for (size_t i = 0; i < origins->count; i++) {
		struct origin *thread = &origins->threads[i];

		if (!thread->otel_at)
			continue;
		if (past && take_known(thread, past))
			found += thread->has_span;
		else
			search->candidates[search->count++].thread = thread;
	}
	return found;
}

static size_t count_places(const struct origins *origins)
{
	size_t count = 0;

	for (size_t i = 0; origins && i < origins->count; i++)
		count += origins->threads[i].otel_at != 0;
	return count;
}

bool origin_spans_find(struct origins *origins, pid_t pid, const struct origins_past *past)
{
	size_t count = count_places(origins), known = 0;
	struct search search = {.pid = pid};

	if (count == 0)
		return false;
	search.candidates = calloc(count, sizeof(*search.candidates));
	search.data = calloc(count, sizeof(*search.data));
	if (search.candidates && search.data) {
		known = take_all_known(origins, past, &search);
		origins->spans_known = !past || past->scan || (past->origins && past->origins->spans_known);
		if (search.count > 0)
			search.living = process_living_task(pid, 0);
		search_all(&search);
		for (size_t i = 0; i < search.count; i++)
			keep_span(&search.candidates[i]);
	}
	free(search.candidates);
	free(search.data);
	return known + search.count > 0;
}
