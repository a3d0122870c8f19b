// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// zombies.c: see zombies.h.

#include "collector/zombies.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/wake_history.h"
#include "formats/thread_dump.h"
#include "formats/writer.h"

#define USUAL_TIMES 3 // as long as the longest wait before: then it is late, and not only slow

static double seconds(uint64_t ns)
{
	return (double)ns / 1e9;
}

// States of wait_state.c that only other threads of the process end.
static bool is_inside(const char *state)
{
	static const char *const inside[] = {"mutex",    "rwlock",       "lock", "cond wait",
					     "sem wait", "barrier wait", "join", "futex"};

	for (size_t i = 0; i < sizeof(inside) / sizeof(inside[0]); i++)
		if (strncmp(state, inside[i], strlen(inside[i])) == 0)
			return true;
	return false;
}

// A thread without events has waited since before the trace began.
static enum zombies_doubt doubt_of(const struct thread_dump_thread *thread, const struct wake_history *history,
				   const struct zombies_window *window)
{
	struct wake_life life = {0};
	uint64_t last_ns;

	if (!is_inside(thread->state))
		return ZOMBIES_OUTSIDE;
	if (window->lost > 0)
		return ZOMBIES_LOST;
	if (!wake_history_find(history, thread->tid, &life))
		return ZOMBIES_DOUBTS;
	if (life.last_ns >= window->begin_ns || life.object_woken_ns >= window->begin_ns)
		return ZOMBIES_WOKEN;
	last_ns = life.object_woken_ns > life.last_woken_ns ? life.object_woken_ns : life.last_woken_ns;
	if (last_ns > 0 && window->end_ns - last_ns < USUAL_TIMES * life.longest_ns)
		return ZOMBIES_SLOW;
	return ZOMBIES_DOUBTS;
}

// ---- The evidence ---------------------------------------------------------------------------------------------------

static void name_thread(const struct thread_dump *dump, uint32_t tid, char *buf, size_t size)
{
	for (uint32_t i = 0; i < dump->nthreads; i++) {
		if (dump->threads[i].tid == tid) {
			snprintf(buf, size, "thread %" PRIu32 " \"%s\"", tid, dump->threads[i].name);
			return;
		}
	}
	snprintf(buf, size, "thread %" PRIu32 " that is gone", tid);
}

// Of a group: what is true of all, and of the one that was woken last.
struct evidence {
	uint64_t alive_ns; // at the least
	bool alive_is_known;
	uint64_t woken, longest_ns, last_woken_ns;
	uint32_t waker_tid;
};

static struct evidence gather(const struct thread_dump *dump, const struct thread_dump_verdict *verdict,
			      const struct wake_history *history, const struct zombies_window *window)
{
	struct evidence evidence = {.alive_ns = UINT64_MAX, .alive_is_known = true};
	uint64_t begin_ns = wake_history_begin_ns(history);

	if (begin_ns == 0 || begin_ns > window->begin_ns)
		begin_ns = window->begin_ns;
	for (uint32_t i = 0; i < verdict->nthreads; i++) {
		struct wake_life life = {0};
		uint64_t since_ns = begin_ns;

		(void)wake_history_find(history, dump->threads[verdict->threads[i]].tid, &life);
		if (life.started_ns)
			since_ns = life.started_ns;
		evidence.alive_is_known &= life.started_ns != 0;
		if (window->end_ns - since_ns < evidence.alive_ns)
			evidence.alive_ns = window->end_ns - since_ns;
		evidence.woken += life.woken;
		if (life.longest_ns > evidence.longest_ns)
			evidence.longest_ns = life.longest_ns;
		if (life.last_woken_ns > evidence.last_woken_ns) {
			evidence.last_woken_ns = life.last_woken_ns;
			evidence.waker_tid = life.waker_tid;
		}
	}
	return evidence;
}

static const char *describe(const struct thread_dump *dump, const struct thread_dump_verdict *verdict,
			    const struct wake_history *history, const struct zombies_window *window)
{
	struct evidence evidence = gather(dump, verdict, history, window);
	char text[512], waker[96] = "nobody that was seen";
	uint64_t begin_ns = wake_history_begin_ns(history);
	int used = snprintf(text, sizeof(text), "alive for %.1f s%s; ", seconds(evidence.alive_ns),
			    evidence.alive_is_known ? "" : " and more");

	if (begin_ns == 0 || begin_ns > window->begin_ns)
		begin_ns = window->begin_ns;
	if (evidence.waker_tid)
		name_thread(dump, evidence.waker_tid, waker, sizeof(waker));
	if (evidence.woken == 0)
		snprintf(text + used, sizeof(text) - (size_t)used, "never woken in the %.1f s that were traced",
			 seconds(window->end_ns - begin_ns));
	else if (evidence.longest_ns == 0)
		snprintf(text + used, sizeof(text) - (size_t)used, "woken %" PRIu64 " times; last %.1f s ago by %s",
			 evidence.woken, seconds(window->end_ns - evidence.last_woken_ns), waker);
	else
		snprintf(text + used, sizeof(text) - (size_t)used,
			 "woken %" PRIu64 " times; after %.3f s at the longest; last %.1f s ago by %s", evidence.woken,
			 seconds(evidence.longest_ns), seconds(window->end_ns - evidence.last_woken_ns), waker);
	return profile_string(dump->profile, text);
}

// ---- Judging --------------------------------------------------------------------------------------------------------

int zombies_judge(struct thread_dump *dump, const struct wake_history *history, const struct zombies_window *window,
		  struct zombies_counts *ret_counts)
{
	uint32_t kept = 0;

	*ret_counts = (struct zombies_counts){0};
	for (uint32_t i = 0; i < dump->nverdicts; i++) {
		struct thread_dump_verdict verdict = dump->verdicts[i];
		enum zombies_doubt doubt = ZOMBIES_DOUBTS;

		for (uint32_t k = 0; verdict.kind == THREAD_VERDICT_ZOMBIES && k < verdict.nthreads; k++) {
			doubt = doubt_of(&dump->threads[verdict.threads[k]], history, window);
			if (doubt != ZOMBIES_DOUBTS)
				break;
		}
		if (verdict.kind != THREAD_VERDICT_ZOMBIES || doubt != ZOMBIES_DOUBTS) {
			if (verdict.kind == THREAD_VERDICT_ZOMBIES)
				ret_counts->doubted[doubt]++;
			free(verdict.threads);
			continue;
		}
		verdict.evidence = describe(dump, &verdict, history, window);
		ret_counts->groups++;
		ret_counts->threads += verdict.nthreads;
		dump->verdicts[kept++] = verdict;
	}
	dump->nverdicts = kept;
	return profile_failed(dump->profile) ? -ENOMEM : 0;
}

int zombies_write(const struct thread_dump *dump, const struct zombies_window *window,
		  const struct zombies_counts *counts, struct writer *writer)
{
	static const char *const doubts[ZOMBIES_DOUBTS] = {
		[ZOMBIES_OUTSIDE] = "wait for files, sockets, signals or time",
		[ZOMBIES_WOKEN] = "are let go on by somebody, or did something just before the window",
		[ZOMBIES_SLOW] = "were woken before after waits as long as this",
		[ZOMBIES_LOST] = "may have been woken by events that the trace lost",
	};

	thread_dump_put_verdicts(dump, writer);
	writer_printf(writer, "%" PRIu32 " zombies in %" PRIu32 " groups; looked at %" PRIu32 " threads for %.1f s\n",
		      counts->threads, counts->groups, dump->nthreads, seconds(window->end_ns - window->begin_ns));
	for (int i = 0; i < ZOMBIES_DOUBTS; i++)
		if (counts->doubted[i])
			writer_printf(writer, "%" PRIu32 " groups did not run, and %s\n", counts->doubted[i],
				      doubts[i]);
	return writer_flush(writer);
}
