// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cli_snapshot.c: one snapshot of a process for the commands that show it or compare it, and why there is none, in words.

#include "collector/cli.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "collector/module.h"
#include "collector/origins.h"
#include "collector/process.h"
#include "collector/snapshot.h"
#include "collector/table_cache.h"

// How often: once (0), or twice; and whether only what is for ever counts as not running (thread_watch_be_strict).
struct look {
	uint32_t window_s;
	bool strict;
};

// With an agent in it, its memory says who made a thread.
static struct origins *read_origins(void *context)
{
	return origins_read_process(*(const pid_t *)context);
}

static int take_from(struct snapshot_source *source, const struct look *look, struct thread_dump **ret_dump)
{
	struct thread_watch *watch = NULL;
	int r = look->window_s ? snapshot_watch(source, &watch) : 0;

	if (watch && look->strict)
		thread_watch_be_strict(watch);
	if (r == 0) {
		struct timespec left = {.tv_sec = look->window_s};

		while (nanosleep(&left, &left) != 0 && errno == EINTR)
			;
		r = watch ? snapshot_take_watched(source, watch, ret_dump) : snapshot_take(source, ret_dump);
	}
	thread_watch_destroy(watch);
	return r;
}

static int take(pid_t pid, const struct look *look, struct thread_dump **ret_dump)
{
	struct table_cache *tables = table_cache_open(true);
	struct module_cache *modules = module_cache_create(NULL, tables);
	struct snapshot_source *source =
		modules && tables ? snapshot_source_create(pid, modules, tables, read_origins, &pid) : NULL;
	int r = source ? take_from(source, look, ret_dump) : -ENOMEM;

	snapshot_source_destroy(source);
	table_cache_destroy(tables);
	module_cache_destroy(modules);
	return r;
}

static int take_or_say(pid_t pid, const struct look *look, struct thread_dump **ret_dump)
{
	int r = take(pid, look, ret_dump);

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

int cli_snapshot(pid_t pid, uint32_t window_s, struct thread_dump **ret_dump)
{
	return take_or_say(pid, &(struct look){.window_s = window_s}, ret_dump);
}

int cli_snapshot_strictly(pid_t pid, uint32_t window_s, struct thread_dump **ret_dump)
{
	return take_or_say(pid, &(struct look){.window_s = window_s, .strict = true}, ret_dump);
}
