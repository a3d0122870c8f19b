// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// thread_visit.c: what a scan does with one thread (thread_scan_impl.h). On the scan's threads, each with a worker of its own.

#include "collector/thread_scan_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "collector/clock.h"
#include "collector/thread_capture.h"
#include "collector/thread_walk.h"

#define ATTEMPTS 3
#define CAPTURES 4u // at once: what may be locked for perf events' rings is 516 KiB unless one is root
#define CAPTURE_NS 100000000LL
#define CAPTURE_BATCH_NS 20000000LL

static uint64_t *keep_pcs(struct worker *worker, const uint64_t *pcs, uint32_t npcs)
{
	struct thread_scan_chunk *chunk = worker->chunks;
	uint64_t *kept;

	if (!chunk || chunk->used + npcs > CHUNK_PCS) {
		chunk = malloc(sizeof(*chunk));
		if (!chunk)
			return NULL;
		chunk->next = worker->chunks;
		chunk->used = 0;
		worker->chunks = chunk;
	}
	kept = chunk->pcs + chunk->used;
	memcpy(kept, pcs, npcs * sizeof(*pcs));
	chunk->used += npcs;
	return kept;
}

static int64_t time_since(const struct pass *pass, const struct thread_scan_record *record)
{
	int64_t by_clock = 0, by_scans = pass->now_ns - record->since_ns;

	if (record->times.last_ran_ns > 0 && pass->sched_now_ns > record->times.last_ran_ns)
		by_clock = pass->sched_now_ns - record->times.last_ran_ns;
	return by_clock > by_scans ? by_clock : by_scans;
}

// It has not run since the last scan: so it is where it was.
static int take_over(struct worker *worker, const struct thread_scan_record *before, struct thread_scan_record *record)
{
	*record = *before;
	record->walked = false;
	record->pcs = keep_pcs(worker, before->pcs, before->npcs);
	record->waiting_ns = time_since(worker->pass, record);
	return record->pcs ? 1 : -ENOMEM;
}

static int read_place(struct worker *worker, struct thread_scan_record *record)
{
	const struct task_reader *reader = &worker->pass->reader;
	int r = task_reader_times(reader, record->tid, record->name, &record->times);

	record->switches = 0;
	return r == 0 ? task_reader_place(reader, record->tid, &record->place) : r;
}

// The same out of the table, as far as that has it.
static int find_place(struct worker *worker, struct thread_scan_record *record)
{
	const struct task_row *row = task_table_find(&worker->pass->table, record->tid);

	if (!row || !row->waits)
		return read_place(worker, record);
	memcpy(record->name, row->name, sizeof(record->name));
	record->times = row->times;
	record->switches = row->switches;
	if (!row->has_place)
		return task_reader_place(&worker->pass->reader, record->tid, &record->place);
	record->place = row->place;
	return 0;
}

bool thread_visit_has_stack(const struct thread_scan_record *record)
{
	return !record->place.running && record->place.sp != 0; // 0: the thread has ended
}

// What a thread waits for, a call's argument may point to. Of later, it may be another call's.
static void keep_operand(struct worker *worker, struct thread_scan_record *record)
{
	record->operand_at = 0;
	for (int i = 0; record->npcs > 0 && record->place.in_syscall && i < 6 && !record->operand_at; i++)
		if (thread_walker_copied(worker->walker, record->place.args[i], record->operand,
					 sizeof(record->operand)))
			record->operand_at = record->place.args[i];
}

static void read_stack(struct worker *worker, struct thread_scan_record *record)
{
	record->npcs = 0;
	if (thread_visit_has_stack(record))
		record->npcs = thread_walker_walk(worker->walker, &record->place, worker->pcs, &record->stop);
	keep_operand(worker, record);
}

// 0: it has not run since record's times were read. −EAGAIN: it has, or may have. What is of a table is held to a later one, if that has
// the thread: what has begun to wait once more is known there. All else, to its files.
static int check_unmoved(struct worker *worker, const struct thread_scan_record *record, const struct task_table *table)
{
	const struct task_row *row = table ? task_table_find(table, record->tid) : NULL;

	if (!row || !record->switches)
		return task_reader_check_unmoved(&worker->pass->reader, record->tid, &record->times, &record->place);
	if (!row->waits || row->switches != record->switches || row->times.run_ns != record->times.run_ns)
		return -EAGAIN;
	return 0;
}

static int walk_checked(struct worker *worker, struct thread_scan_record *record)
{
	int r = -EAGAIN;

	for (int attempt = 0; attempt < ATTEMPTS && r == -EAGAIN; attempt++) {
		r = read_place(worker, record);
		if (r == 0)
			read_stack(worker, record);
		if (r == 0 && !record->place.running)
			r = check_unmoved(worker, record, NULL);
	}
	return r;
}

// It may have been found running before, and waits by now: its state is told anew each time.
static char run_state_of(const struct worker *worker, const struct thread_scan_record *record)
{
	if (worker->pass->stopped)
		return 'T';
	if (record->place.running)
		return 'R';
	return record->place.in_syscall ? '\0' : task_reader_state(&worker->pass->reader, record->tid);
}

// What read_stack found, or what walk_checked did and returned as r.
static int keep(struct worker *worker, struct thread_scan_record *record, int r)
{
	const struct pass *pass = worker->pass;

	if (r < 0 && r != -EAGAIN)
		return r;
	record->walked = true;
	if (r == -EAGAIN)
		record->place = (struct task_place){.running = true, .nr = -1};
	record->run_state = run_state_of(worker, record);
	if (record->place.running) {
		record->npcs = 0;
		return 0;
	}
	record->since_ns = pass->now_ns;
	record->waiting_ns = time_since(pass, record);
	record->pcs = keep_pcs(worker, worker->pcs, record->npcs);
	return record->pcs ? 0 : -ENOMEM;
}

int thread_visit_look(struct worker *worker, struct thread_scan_record *record)
{
	const struct pass *pass = worker->pass;
	const struct thread_scan_record *before = thread_scan_find(pass->last, record->tid);
	int r = -EAGAIN;

	if (before && before->npcs > 0 && !before->place.running) {
		if (!pass->still_since || stillness_has_mover(&pass->scan->still, record->tid))
			r = check_unmoved(worker, before, &pass->table);
		else
			r = 0;
	}
	if (r == 0)
		return take_over(worker, before, record);
	return r == -EAGAIN ? find_place(worker, record) : r;
}

int thread_visit_read(struct worker *worker, struct thread_scan_record *record)
{
	const struct pass *pass = worker->pass;
	int r;

	read_stack(worker, record);
	r = keep(worker, record, 0);
	if (r < 0)
		return r;
	if (!record->name[0])
		task_reader_name(&pass->reader, record->tid, record->name);
	return 0;
}

int thread_visit_verify(struct worker *worker, struct thread_scan_record *record)
{
	const struct pass *pass = worker->pass;
	int r;

	if (!record->tid || !record->walked || record->place.running)
		return 0;
	r = check_unmoved(worker, record, &pass->after);
	return r == -EAGAIN ? keep(worker, record, walk_checked(worker, record)) : r;
}

// ---- Threads that run ----------------------------------------------------------------------------------------------

// It fired, or the thread waits by now; or else it had no CPU, or runs on and on where the kernel does not let us look.
static int end_capture(struct worker *worker, struct thread_capture *capture, struct thread_scan_record *record)
{
	struct task_times after;
	bool starved;
	int r;

	if (capture->taken) {
		record->npcs = thread_walker_walk_captured(worker->walker, capture, worker->pcs, &record->stop);
		record->pcs = keep_pcs(worker, worker->pcs, record->npcs);
		return record->pcs ? 0 : -ENOMEM;
	}
	r = task_reader_times(&worker->pass->reader, record->tid, NULL, &after);
	if (r < 0)
		return r;
	starved = after.run_ns == record->times.run_ns;
	r = keep(worker, record, walk_checked(worker, record));
	record->starved = starved && record->place.running;
	return r;
}

// Returns the first error of perf_event_open that is not the thread's own.
static int capture_batch(struct worker *worker, struct thread_scan_record **records, size_t count, int64_t timeout_ns)
{
	struct thread_capture captures[CAPTURES];
	int error = 0;

	for (size_t i = 0; i < count; i++) {
		int r = thread_capture_begin(&captures[i], records[i]->tid);

		if (r < 0 && r != -ESRCH)
			error = r;
	}
	thread_capture_wait(captures, count, timeout_ns);
	for (size_t i = 0; i < count; i++) {
		int r = end_capture(worker, &captures[i], records[i]);

		thread_capture_end(&captures[i]);
		if (r == -ENOMEM)
			error = r;
		else if (r < 0)
			records[i]->tid = 0; // it has ended
	}
	return error;
}

int thread_visit_running(struct worker *worker)
{
	struct thread_scan *scan = worker->pass->scan;
	int64_t end_ns = clock_now_ns() + CAPTURE_NS, left_ns;
	struct thread_scan_record *batch[CAPTURES];
	size_t i = 0, n;

	while (i < scan->count && (left_ns = end_ns - clock_now_ns()) > 0) {
		for (n = 0; i < scan->count && n < CAPTURES; i++)
			if (scan->records[i].tid && scan->records[i].place.running)
				batch[n++] = &scan->records[i];
		scan->capture_error =
			n ? capture_batch(worker, batch, n, left_ns < CAPTURE_BATCH_NS ? left_ns : CAPTURE_BATCH_NS)
			  : 0;
		if (scan->capture_error)
			break;
	}
	return scan->capture_error == -ENOMEM ? -ENOMEM : 0;
}
