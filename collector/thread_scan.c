// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// thread_scan.c: see thread_scan.h.
//
// A thread's place and its stack are read one after the other while it may go on. They belong together when its CPU time is the same
// before and after; otherwise they are read again, and after some attempts the thread counts as running. To ask for it costs a third of
// all: so first all threads are read, and only when the process did not stand still meanwhile (stillness.h), each is asked. Those that
// run are captured last (thread_capture.h), some at a time, and for no longer than CAPTURE_NS: who gets no CPU in that time has no stack
// to show.
//
// A process that stood still since the last scan, but for some threads, has that scan's stacks: only those threads are looked at.

#include "collector/thread_scan.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "collector/process.h"
#include "collector/thread_capture.h"
#include "collector/thread_list.h"
#include "collector/thread_walk.h"
#include "profd/wire.h"

#define ATTEMPTS 3
#define MAX_WORKERS 4
#define THREADS_A_WORKER 256u // fewer are not worth a thread of ours
#define BATCH THREAD_WALK_COPIES
#define CHUNK_PCS 65536u
#define CAPTURES 4u // at once: what may be locked for perf events' rings is 516 KiB unless one is root
#define CAPTURE_NS 100000000LL
#define CAPTURE_BATCH_NS 20000000LL

struct thread_scan_chunk {
	struct thread_scan_chunk *next;
	size_t used;
	uint64_t pcs[CHUNK_PCS];
};

struct worker;
// 0; 1: nothing more is to be done; −errno.
typedef int visit_fn(struct worker *worker, struct thread_scan_record *record);

struct pass {
	pid_t pid;
	visit_fn *look; // at each of a batch, before any of them is visited; NULL: not
	visit_fn *visit;
	// But for scan->still.movers, no thread ran
	bool still_since;     // the last scan began
	bool still_meanwhile; // while this scan read all threads
	struct task_reader reader;
	const struct walk_image *image;
	const struct thread_scan *last;
	struct thread_scan *scan;
	int64_t now_ns;       // CLOCK_MONOTONIC
	int64_t sched_now_ns; // the clock of task_times.last_ran_ns
	bool stopped;         // the whole process
	struct thread_list list;
	int error; // atomic: the first that concerns all
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
	return record->pcs ? 1 : -ENOMEM;
}

static int read_place(struct worker *worker, struct thread_scan_record *record)
{
	const struct task_reader *reader = &worker->pass->reader;
	int r = task_reader_times(reader, record->tid, record->name, &record->times);

	return r == 0 ? task_reader_place(reader, record->tid, &record->place) : r;
}

static bool has_stack(const struct thread_scan_record *record)
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
	if (has_stack(record))
		record->npcs = thread_walker_walk(worker->walker, &record->place, worker->pcs, &record->stop);
	keep_operand(worker, record);
}

// 0: it has not run since its times were read. −EAGAIN: it has.
static int check_unmoved(struct worker *worker, const struct thread_scan_record *record)
{
	struct task_times now;
	int r = task_reader_times(&worker->pass->reader, record->tid, NULL, &now);

	if (r < 0)
		return r;
	return now.run_ns == record->times.run_ns ? 0 : -EAGAIN;
}

static int walk_checked(struct worker *worker, struct thread_scan_record *record)
{
	int r = -EAGAIN;

	for (int attempt = 0; attempt < ATTEMPTS && r == -EAGAIN; attempt++) {
		r = read_place(worker, record);
		if (r == 0)
			read_stack(worker, record);
		if (r == 0 && !record->place.running)
			r = check_unmoved(worker, record);
	}
	return r;
}

// What read_stack found, or what walk_checked did and returned as r.
static int keep(struct worker *worker, struct thread_scan_record *record, int r)
{
	const struct pass *pass = worker->pass;

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

// What is the same as last time is taken over: 1. Otherwise its place is read.
static int look_at_thread(struct worker *worker, struct thread_scan_record *record)
{
	const struct pass *pass = worker->pass;
	const struct thread_scan_record *before = find_last(pass->last, record->tid);
	struct task_times times;
	int r;

	if (before && before->npcs > 0 && !before->place.running) {
		if (pass->still_since && !stillness_has_mover(&pass->scan->still, record->tid))
			return take_over(worker, before, record);
		r = task_reader_times(&pass->reader, record->tid, NULL, &times);
		if (r < 0)
			return r;
		if (times.run_ns == before->times.run_ns)
			return take_over(worker, before, record);
	}
	return read_place(worker, record);
}

static int scan_thread(struct worker *worker, struct thread_scan_record *record)
{
	const struct pass *pass = worker->pass;
	int r;

	read_stack(worker, record);
	r = keep(worker, record, 0);
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

// Reads a thread again that has run since scan_thread read it.
static int verify_thread(struct worker *worker, struct thread_scan_record *record)
{
	const struct pass *pass = worker->pass;
	int r;

	if (!record->tid || !record->walked || record->place.running)
		return 0;
	if (pass->still_meanwhile && !stillness_has_mover(&pass->scan->still, record->tid))
		return 0;
	r = check_unmoved(worker, record);
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

static void look_at_batch(struct worker *worker, struct thread_scan_record *records, unsigned n, int results[BATCH])
{
	uint64_t sps[BATCH];
	unsigned nsps = 0;

	for (unsigned i = 0; i < n; i++) {
		results[i] = worker->pass->look(worker, &records[i]);
		if (results[i] == 0 && has_stack(&records[i]))
			sps[nsps++] = records[i].place.sp;
	}
	thread_walker_copy(worker->walker, sps, nsps);
}

static void run_batch(struct worker *worker, struct thread_scan_record *records, unsigned n)
{
	struct pass *pass = worker->pass;
	int results[BATCH] = {0};

	if (pass->look)
		look_at_batch(worker, records, n, results);
	for (unsigned i = 0; i < n; i++) {
		int r = results[i] ? results[i] : pass->visit(worker, &records[i]);

		if (r == -ENOMEM || r == -EPERM || r == -EACCES)
			set_error(pass, r);
		else if (r < 0)
			records[i].tid = 0; // it has ended
	}
}

static void *run_worker(void *argument)
{
	struct worker *worker = argument;
	struct pass *pass = worker->pass;
	struct thread_scan_record *records;
	size_t n;

	while (!__atomic_load_n(&pass->error, __ATOMIC_RELAXED) &&
	       (n = thread_list_take(&pass->list, &records, BATCH)) > 0)
		run_batch(worker, records, (unsigned)n);
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

// Every record, by all workers.
static void visit_all(struct worker *workers, unsigned n, visit_fn *look, visit_fn *visit)
{
	struct pass *pass = workers[0].pass;
	unsigned started = 1;
	int r;

	pass->look = look;
	pass->visit = visit;
	// One less than there could be: the others take what is left.
	while (started < n && pthread_create(&workers[started].thread, NULL, run_worker, &workers[started]) == 0)
		started++;
	r = thread_list_fill(&pass->list);
	if (r < 0)
		set_error(pass, r);
	run_worker(&workers[0]);
	for (unsigned i = 1; i < started; i++)
		pthread_join(workers[i].thread, NULL);
}

static void read_all(struct worker *workers, unsigned n)
{
	struct pass *pass = workers[0].pass;
	struct stillness after = pass->scan->still;

	visit_all(workers, n, look_at_thread, scan_thread);
	stillness_read(&after, pass->pid, &pass->reader);
	pass->still_meanwhile = stillness_is_same(&pass->scan->still, &after);
	if (pass->error == 0 && !(pass->still_meanwhile && after.nmovers == 0)) {
		thread_list_rewind(&pass->list);
		visit_all(workers, n, NULL, verify_thread);
	}
	if (pass->error == 0)
		pass->error = capture_running(&workers[0]);
}

static int run_pass(struct pass *pass)
{
	ssize_t threads = task_reader_count(&pass->reader);
	unsigned n = count_workers(threads > 0 ? (size_t)threads : 0), made = 0;
	struct worker *workers = calloc(n, sizeof(*workers));

	if (!workers)
		return -ENOMEM;
	for (; made < n; made++) {
		workers[made].pass = pass;
		workers[made].walker = thread_walker_create(pass->pid, pass->image);
		if (!workers[made].walker)
			break;
	}
	if (made > 0)
		read_all(workers, made);
	for (unsigned i = 0; i < made; i++)
		finish_worker(&workers[i], pass->scan);
	free(workers);
	return made > 0 ? pass->error : -ENOMEM;
}

static bool is_still(struct pass *pass)
{
	struct stillness *still = &pass->scan->still;

	if (!pass->last)
		return false;
	*still = pass->last->still;
	stillness_read(still, pass->pid, &pass->reader);
	return stillness_is_same(&pass->last->still, still) &&
	       task_reader_count(&pass->reader) == (ssize_t)pass->last->count;
}

static int begin(struct pass *pass, uint32_t helper_tid)
{
	struct thread_scan *scan = pass->scan;

	pass->still_since = is_still(pass);
	if (!pass->still_since) {
		scan->still = pass->last ? pass->last->next : (struct stillness){0};
		if (helper_tid)
			stillness_add_mover(&scan->still, helper_tid);
		stillness_read(&scan->still, pass->pid, &pass->reader);
	}
	pass->stopped = task_reader_state(&pass->reader, (uint32_t)process_living_task(pass->pid, 0)) == 'T';
	pass->sched_now_ns = task_reader_now_ns();
	return pass->still_since ? thread_list_begin_again(&pass->list, scan, pass->last)
				 : thread_list_begin(&pass->list, scan, &pass->reader);
}

// Those that moved this time will move again. Of too many, none: then the process does not stand still anyway.
static void expect_movers(struct pass *pass)
{
	struct thread_scan *scan = pass->scan;

	scan->next = (struct stillness){0};
	for (size_t i = 0; i < scan->count; i++) {
		const struct thread_scan_record *record = &scan->records[i];

		if ((record->place.running || (pass->last && record->walked)) &&
		    !stillness_add_mover(&scan->next, record->tid)) {
			scan->next.nmovers = 0;
			return;
		}
	}
}

int thread_scan_take(pid_t pid, const struct walk_image *image, const struct thread_scan *last, uint32_t helper_tid,
		     struct thread_scan **ret_scan)
{
	struct pass pass = {.pid = pid, .image = image, .last = last, .now_ns = monotonic_ns()};
	int r = task_reader_open(pid, &pass.reader);

	if (r < 0)
		return r;
	pass.scan = calloc(1, sizeof(*pass.scan));
	r = pass.scan ? begin(&pass, helper_tid) : -ENOMEM;
	if (r == 0) {
		pass.scan->start_ns = pass.now_ns;
		r = run_pass(&pass);
	}
	if (pass.scan && pass.scan->records)
		thread_list_end(&pass.list);
	task_reader_close(&pass.reader);
	if (r == 0) {
		expect_movers(&pass);
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
