// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// thread_scan.c: see thread_scan.h.
//
// A thread's place and its stack are read one after the other while it may go on. They belong together when its CPU time is the same
// before and after; otherwise they are read again, and after some attempts the thread counts as running. Those that run are captured
// last (thread_capture.h), some at a time, and for no longer than CAPTURE_NS: who gets no CPU in that time has no stack to show.

#include "collector/thread_scan.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "collector/thread_capture.h"
#include "collector/thread_walk.h"
#include "profd/wire.h"

#define ATTEMPTS 3
#define MAX_WORKERS 4
#define THREADS_A_WORKER 256u // fewer are not worth a thread of ours
#define BATCH 16u
#define CHUNK_PCS 65536u
#define CAPTURES 4u // at once: what may be locked for perf events' rings is 516 KiB unless one is root
#define CAPTURE_NS 100000000LL
#define CAPTURE_BATCH_NS 20000000LL

struct thread_scan_chunk {
	struct thread_scan_chunk *next;
	size_t used;
	uint64_t pcs[CHUNK_PCS];
};

struct pass {
	pid_t pid;
	struct task_reader reader;
	const struct walk_image *image;
	const struct thread_scan *last;
	struct thread_scan *scan;
	int64_t now_ns;       // CLOCK_MONOTONIC
	int64_t sched_now_ns; // the clock of task_times.last_ran_ns
	bool stopped;         // the whole process
	size_t next;          // atomic: the first record that nobody has taken
	int error;            // atomic: the first that concerns all
};

struct worker {
	struct pass *pass;
	struct thread_walker *walker;
	struct thread_scan_chunk *chunks;
	pthread_t thread;
	uint64_t pcs[WIRE_MAX_FRAMES];
};

static int64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

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

// ---- One thread ----------------------------------------------------------------------------------------------------

static const struct thread_scan_record *find_last(const struct thread_scan *last, uint32_t tid)
{
	size_t low = 0, high = last ? last->count : 0;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (last->records[middle].tid < tid)
			low = middle + 1;
		else
			high = middle;
	}
	return last && low < last->count && last->records[low].tid == tid ? &last->records[low] : NULL;
}

static int64_t time_since(const struct pass *pass, const struct thread_scan_record *record)
{
	int64_t by_clock = 0, by_scans = pass->now_ns - record->since_ns;

	if (record->times.last_ran_ns >= 0 && pass->sched_now_ns > record->times.last_ran_ns)
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
	return record->pcs ? 0 : -ENOMEM;
}

// Its place and stack, if it stayed there. −EAGAIN: it did not.
static int walk_once(struct worker *worker, struct thread_scan_record *record)
{
	const struct task_reader *reader = &worker->pass->reader;
	struct task_times after;
	int r = task_reader_place(reader, record->tid, &record->place);

	if (r < 0 || record->place.running)
		return r;
	record->npcs =
		thread_walker_walk(worker->walker, record->place.pc, record->place.sp, worker->pcs, &record->stop);
	r = task_reader_times(reader, record->tid, NULL, &after);
	if (r < 0)
		return r;
	return after.run_ns == record->times.run_ns ? 0 : -EAGAIN;
}

static int walk(struct worker *worker, struct thread_scan_record *record)
{
	const struct pass *pass = worker->pass;
	int r = -EAGAIN;

	for (int attempt = 0; attempt < ATTEMPTS && r == -EAGAIN; attempt++) {
		record->npcs = 0;
		r = task_reader_times(&pass->reader, record->tid, record->name, &record->times);
		if (r == 0)
			r = walk_once(worker, record);
	}
	if (r < 0 && r != -EAGAIN)
		return r;
	record->walked = true;
	if (r == -EAGAIN || record->place.running) {
		record->place = (struct task_place){.running = true, .nr = -1};
		record->npcs = 0;
		record->run_state = 'R';
		return 0;
	}
	record->since_ns = pass->now_ns;
	record->waiting_ns = time_since(pass, record);
	record->pcs = keep_pcs(worker, worker->pcs, record->npcs);
	return record->pcs ? 0 : -ENOMEM;
}

static int scan_thread(struct worker *worker, struct thread_scan_record *record)
{
	const struct pass *pass = worker->pass;
	const struct thread_scan_record *before = find_last(pass->last, record->tid);
	struct task_times times;
	int r;

	if (before && before->npcs > 0 && !before->place.running) {
		r = task_reader_times(&pass->reader, record->tid, NULL, &times);
		if (r < 0)
			return r;
		if (times.run_ns == before->times.run_ns)
			return take_over(worker, before, record);
	}
	r = walk(worker, record);
	if (r < 0)
		return r;
	if (!record->name[0])
		task_reader_name(&pass->reader, record->tid, record->name);
	if (pass->stopped)
		record->run_state = 'T';
	else if (!record->place.running && !record->place.in_syscall)
		record->run_state = task_reader_state(&pass->reader, record->tid);
	return 0;
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
	r = walk(worker, record);
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

static int capture_running(struct worker *worker)
{
	struct thread_scan *scan = worker->pass->scan;
	int64_t end_ns = monotonic_ns() + CAPTURE_NS, left_ns;
	struct thread_scan_record *batch[CAPTURES];
	size_t i = 0, n;

	while (i < scan->count && (left_ns = end_ns - monotonic_ns()) > 0) {
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

// ---- All of them ---------------------------------------------------------------------------------------------------

static void set_error(struct pass *pass, int error)
{
	int none = 0;

	__atomic_compare_exchange_n(&pass->error, &none, error, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

static void *run_worker(void *argument)
{
	struct worker *worker = argument;
	struct pass *pass = worker->pass;

	while (!__atomic_load_n(&pass->error, __ATOMIC_RELAXED)) {
		size_t first = __atomic_fetch_add(&pass->next, BATCH, __ATOMIC_RELAXED);

		if (first >= pass->scan->count)
			break;
		for (size_t i = first; i < first + BATCH && i < pass->scan->count; i++) {
			struct thread_scan_record *record = &pass->scan->records[i];
			int r = scan_thread(worker, record);

			if (r == -ENOMEM || r == -EPERM || r == -EACCES)
				set_error(pass, r);
			else if (r < 0)
				record->tid = 0; // it has ended
		}
	}
	return NULL;
}

static unsigned count_workers(size_t threads)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned wanted = (unsigned)(threads / THREADS_A_WORKER) + 1;

	if (wanted > MAX_WORKERS)
		wanted = MAX_WORKERS;
	return cpus > 0 && wanted > (unsigned)cpus ? (unsigned)cpus : wanted;
}

static void finish_worker(struct worker *worker, struct thread_scan *scan)
{
	struct thread_scan_chunk **end = &worker->chunks;

	while (*end)
		end = &(*end)->next;
	*end = scan->chunks;
	scan->chunks = worker->chunks;
	thread_walker_destroy(worker->walker);
}

static int run_pass(struct pass *pass)
{
	unsigned n = count_workers(pass->scan->count), started = 1, made = 0;
	struct worker *workers = calloc(n, sizeof(*workers));

	if (!workers)
		return -ENOMEM;
	for (; made < n; made++) {
		workers[made].pass = pass;
		workers[made].walker = thread_walker_create(pass->pid, pass->image);
		if (!workers[made].walker)
			break;
	}
	if (made > 0) {
		// One less than there could be: the others take what is left.
		while (started < made &&
		       pthread_create(&workers[started].thread, NULL, run_worker, &workers[started]) == 0)
			started++;
		run_worker(&workers[0]);
	}
	for (unsigned i = 1; made > 0 && i < started; i++)
		pthread_join(workers[i].thread, NULL);
	if (made > 0 && pass->error == 0)
		pass->error = capture_running(&workers[0]);
	for (unsigned i = 0; i < made; i++)
		finish_worker(&workers[i], pass->scan);
	free(workers);
	return made > 0 ? pass->error : -ENOMEM;
}

static void drop_ended(struct thread_scan *scan)
{
	size_t kept = 0;

	for (size_t i = 0; i < scan->count; i++)
		if (scan->records[i].tid != 0)
			scan->records[kept++] = scan->records[i];
	scan->count = kept;
}

static int begin(struct pass *pass)
{
	uint32_t *tids;
	size_t count;
	char state;
	int r = task_reader_list(&pass->reader, &tids, &count);

	if (r < 0)
		return r;
	pass->scan->records = calloc(count, sizeof(*pass->scan->records));
	if (!pass->scan->records) {
		free(tids);
		return -ENOMEM;
	}
	pass->scan->count = count;
	for (size_t i = 0; i < count; i++)
		pass->scan->records[i].tid = tids[i];
	free(tids);
	state = task_reader_state(&pass->reader, (uint32_t)pass->pid);
	pass->stopped = state == 'T';
	pass->sched_now_ns = task_reader_now_ns();
	return 0;
}

int thread_scan_take(pid_t pid, const struct walk_image *image, const struct thread_scan *last,
		     struct thread_scan **ret_scan)
{
	struct pass pass = {.pid = pid, .image = image, .last = last, .now_ns = monotonic_ns()};
	int r = task_reader_open(pid, &pass.reader);

	if (r < 0)
		return r;
	pass.scan = calloc(1, sizeof(*pass.scan));
	r = pass.scan ? begin(&pass) : -ENOMEM;
	if (r == 0) {
		pass.scan->start_ns = pass.now_ns;
		r = run_pass(&pass);
	}
	task_reader_close(&pass.reader);
	if (r == 0) {
		drop_ended(pass.scan);
		pass.scan->end_ns = monotonic_ns();
		r = pass.scan->count > 0 ? 0 : -ESRCH;
	}
	if (r < 0) {
		thread_scan_destroy(pass.scan);
		return r;
	}
	*ret_scan = pass.scan;
	return 0;
}

void thread_scan_destroy(struct thread_scan *scan)
{
	if (!scan)
		return;
	while (scan->chunks) {
		struct thread_scan_chunk *chunk = scan->chunks;

		scan->chunks = chunk->next;
		free(chunk);
	}
	free(scan->records);
	free(scan);
}
