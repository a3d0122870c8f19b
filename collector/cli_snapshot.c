// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// cli_snapshot.c: one snapshot of a process for the commands that show it or compare it, and why there is none, in words.

#include "collector/cli.h"

#include <errno.h>
#include <string.h>

#include "collector/module.h"
#include "collector/snapshot.h"
#include "collector/table_cache.h"

static int take(pid_t pid, struct thread_dump **ret_dump)
{
	struct module_cache *modules = module_cache_create(NULL);
	struct table_cache *tables = table_cache_open(true);
	struct snapshot_source *source = modules && tables ? snapshot_source_create(pid, modules, tables) : NULL;
	int r = source ? snapshot_take(source, NULL, ret_dump) : -ENOMEM;

	snapshot_source_destroy(source);
	table_cache_destroy(tables);
	module_cache_destroy(modules);
	return r;
}

int cli_snapshot(pid_t pid, struct thread_dump **ret_dump)
{
	int r = take(pid, ret_dump);

	if (r == -EPERM || r == -EACCES)
		cli_say("no right to look into process %d: be its user with leave to trace it "
			"(kernel.yama.ptrace_scope), or root",
			(int)pid);
	else if (r < 0)
		cli_say(r == -ESRCH ? "there is no process %d" : "cannot read the threads of %d: %s", (int)pid,
			strerror(-r));
	return r;
}
