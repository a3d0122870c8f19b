// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// thread_scan.c: see thread_scan.h.
//
// A thread's place and its stack are read one after the other while it may go on. They belong together when its CPU time is the same
// before and after, and it waits there still; otherwise they are read again, and after some attempts the thread counts as running. That is
// asked of each when all are read, whatever the process's CPU time says: what a thread uses that runs just now is not in that. Those that
// run are captured last (thread_capture.h), some at a time, and for no longer than CAPTURE_NS (thread_visit.c): who gets no CPU in that
// time has no stack to show.
//
// Of many threads, where the kernel has a table of them for us (task_table.h), times and places are that table's, and another one, read
// when all stacks are, says who has moved.
//
// A process that stood still since the last scan, but for some threads, has that scan's stacks: only those threads are looked at.

#include "collector/thread_scan.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "collector/clock.h"
#include "collector/process.h"
#include "collector/thread_scan_impl.h"
#include "collector/thread_walk.h"

#define MAX_WORKERS 4
#define THREADS_A_WORKER 256u // fewer are not worth a thread of ours
#define TABLE_THREADS 512u    // fewer are not worth a program of ours in the kernel
#define BATCH THREAD_WALK_COPIES

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
		if (results[i] == 0 && thread_visit_has_stack(&records[i]))
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

	visit_all(workers, n, thread_visit_look, thread_visit_read);
	if (pass->error == 0) {
		if (pass->table.count > 0)
			task_table_read(pass->pid, &pass->after);
		thread_list_rewind(&pass->list);
		visit_all(workers, n, NULL, thread_visit_verify);
	}
	if (pass->error == 0)
		pass->error = thread_visit_running(&workers[0]);
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

// As /proc lists them; those of the last scan, when there are no others. Not as the table does: of threads that end meanwhile, it may leave
// out many.
static int begin_list(struct pass *pass)
{
	const struct thread_scan *last = pass->last;
	uint32_t *tids;
	int r;

	if (!pass->still_since)
		return thread_list_begin(&pass->list, pass->scan, &pass->reader);
	tids = calloc(last->count, sizeof(*tids));
	if (!tids)
		return -ENOMEM;
	for (size_t i = 0; i < last->count; i++)
		tids[i] = last->records[i].tid;
	r = thread_list_begin_with(&pass->list, pass->scan, tids, last->count);
	free(tids);
	return r;
}

// Many threads' places and times at once. Where there is no table, it stays empty; so it does for who may not read the files: a table does
// not ask whether the process is ours to look at.
static void begin_table(struct pass *pass, uint32_t living)
{
	struct task_place place;
	int r = task_reader_place(&pass->reader, living, &place);

	if (r != -EPERM && r != -EACCES && task_reader_count(&pass->reader) >= (ssize_t)TABLE_THREADS)
		task_table_read(pass->pid, &pass->table);
}

static int begin(struct pass *pass, uint32_t helper_tid)
{
	struct thread_scan *scan = pass->scan;
	uint32_t living = (uint32_t)process_living_task(pass->pid, 0);

	pass->still_since = is_still(pass);
	if (!pass->still_since) {
		scan->still = pass->last ? pass->last->next : (struct stillness){0};
		if (helper_tid)
			stillness_add_mover(&scan->still, helper_tid);
		stillness_read(&scan->still, pass->pid, &pass->reader);
	}
	pass->stopped = task_reader_state(&pass->reader, living) == 'T';
	pass->sched_now_ns = task_reader_now_ns();
	if (!pass->still_since)
		begin_table(pass, living);
	return begin_list(pass);
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
	struct pass pass = {.pid = pid, .image = image, .last = last, .now_ns = clock_now_ns()};
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
	task_table_finish(&pass.table);
	task_table_finish(&pass.after);
	task_reader_close(&pass.reader);
	if (r == 0) {
		expect_movers(&pass);
		pass.scan->end_ns = clock_now_ns();
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

const struct thread_scan_record *thread_scan_find(const struct thread_scan *scan, uint32_t tid)
{
	size_t low = 0, high = scan ? scan->count : 0;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (scan->records[middle].tid < tid)
			low = middle + 1;
		else
			high = middle;
	}
	return scan && low < scan->count && scan->records[low].tid == tid ? &scan->records[low] : NULL;
}
