// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cli_snapshot.c: one snapshot of a process, or a wall-clock profile made of many, for the commands that show or compare them; and why
// there is none, in words.

#include "collector/cli.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "collector/clock.h"
#include "collector/module.h"
#include "collector/origins.h"
#include "collector/process.h"
#include "collector/snapshot.h"
#include "collector/table_cache.h"
#include "collector/wall.h"
#include "formats/profile.h"
#include "formats/thread_dump.h"

#define NS_PER_S 1000000000LL

// With an agent in it, its memory says who made a thread.
static struct origins *read_origins(void *context, const struct origins_past *past)
{
	return origins_read_process(*(const pid_t *)context, past);
}

static int take_watched(struct snapshot_source *source, uint32_t window_s, bool strict, struct thread_dump **ret_dump)
{
	struct thread_watch *watch = NULL;
	int r = snapshot_watch(source, &watch);

	if (r == 0) {
		struct timespec left = {.tv_sec = window_s};

		if (strict)
			thread_watch_be_strict(watch);
		while (nanosleep(&left, &left) != 0 && errno == EINTR)
			;
		r = snapshot_take_watched(source, watch, ret_dump);
	}
	thread_watch_destroy(watch);
	return r;
}

static int take_from(struct snapshot_source *source, uint32_t window_s, struct thread_dump **ret_dump)
{
	return window_s ? take_watched(source, window_s, false, ret_dump) : snapshot_take(source, ret_dump);
}

static int take_strictly(struct snapshot_source *source, uint32_t window_s, struct thread_dump **ret_dump)
{
	return take_watched(source, window_s, true, ret_dump);
}

// ---- Looks ---------------------------------------------------------------------------------------------------------

static void wait_until(int64_t ns)
{
	const struct timespec time = {ns / NS_PER_S, ns % NS_PER_S};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL) == EINTR)
		;
}

// Takes the dump over.
static int add_look(struct thread_dump *dump, struct thread_dump **sum)
{
	int r = 0;

	if (*sum) {
		r = thread_dump_accumulate(*sum, dump);
		thread_dump_destroy(dump);
	} else {
		*sum = dump;
	}
	return r;
}

// A process that ends meanwhile was seen until then.
static int look(struct snapshot_source *source, uint32_t seconds, struct thread_dump **ret_dump)
{
	struct thread_dump *sum = NULL, *dump;
	int64_t start_ns = clock_now_ns(), end_ns = start_ns + seconds * NS_PER_S, next_ns = start_ns, looks = 0;
	int r = 0;

	while (r == 0 && next_ns < end_ns) {
		wait_until(next_ns);
		r = snapshot_sample(source, &dump);
		if (r == 0)
			r = add_look(dump, &sum);
		looks += r == 0;
		next_ns += NS_PER_S / WALL_DEFAULT_RATE_HZ;
		if (next_ns < clock_now_ns())
			next_ns = clock_now_ns();
	}
	if (sum && (r == -ESRCH || r == -ENOEXEC))
		r = 0;
	if (sum && r == 0) {
		int64_t elapsed_ns = clock_now_ns() - start_ns;

		sum->duration_ns = elapsed_ns;
		r = thread_dump_to_wall(sum, elapsed_ns / looks);
	}
	if (r == 0)
		*ret_dump = sum;
	else
		thread_dump_destroy(sum);
	return r;
}

// ---- Of a process ----------------------------------------------------------------------------------------------------

typedef int taker(struct snapshot_source *source, uint32_t seconds, struct thread_dump **ret_dump);

static int take(pid_t pid, taker *how, uint32_t seconds, const struct module_debug *debug,
		struct thread_dump **ret_dump)
{
	struct module_debug places = *debug;
	struct table_cache *tables = table_cache_open(true);
	struct module_cache *modules;
	struct snapshot_source *source;
	int r;

	places.leave_downloads = true;
	modules = module_cache_create(&places, tables);
	source = modules && tables ? snapshot_source_create(pid, modules, tables, read_origins, &pid) : NULL;
	r = source ? how(source, seconds, ret_dump) : -ENOMEM;
	snapshot_source_destroy(source);
	table_cache_destroy(tables);
	module_cache_destroy(modules);
	return r;
}

static int say_error(pid_t pid, int r)
{
	if (r == -EPERM || r == -EACCES)
		cli_say("no right to look into process %d: be its user with leave to trace it "
			"(kernel.yama.ptrace_scope), or root",
			(int)pid);
	else if (r == -ENOEXEC)
		cli_say(process_has_ended(pid) ? "process %d has ended"
					       : "process %d is a kernel thread: it has no memory of its own",
			(int)pid);
	else if (r < 0)
		cli_say(r == -ESRCH ? "there is no process %d" : "cannot read the threads of %d: %s", (int)pid,
			strerror(-r));
	return r;
}

int cli_snapshot(pid_t pid, uint32_t window_s, const struct module_debug *debug, struct thread_dump **ret_dump)
{
	return say_error(pid, take(pid, take_from, window_s, debug, ret_dump));
}

int cli_snapshot_strictly(pid_t pid, uint32_t window_s, const struct module_debug *debug, struct thread_dump **ret_dump)
{
	return say_error(pid, take(pid, take_strictly, window_s, debug, ret_dump));
}

int cli_snapshot_wall(pid_t pid, uint32_t seconds, const struct module_debug *debug, struct thread_dump **ret_dump)
{
	return say_error(pid, take(pid, look, seconds, debug, ret_dump));
}
