// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// snapshot.h: all threads of a live process, with stacks and what they wait for, read from outside: no thread is stopped or woken. Works with and
// without an agent in the process; what it needs is the right to trace it (ptrace(2)).
//
// One source is for one process (a pid, until it ends or becomes another program), and remembers its last snapshot: a thread that has
// not run since keeps its stack.

#ifndef PROFD_COLLECTOR_SNAPSHOT_H
#define PROFD_COLLECTOR_SNAPSHOT_H

#include <stdint.h>
#include <sys/types.h>

#include "collector/thread_watch.h"

struct module_cache;
struct origins;
struct origins_past;
struct snapshot_source;
struct table_cache;
struct thread_dump;

uint64_t snapshot_walks(void); // of all sources, ever

// What an agent knows of the threads' creators, as of now; the caller destroys it. past: what need not be read again. NULL: there is no agent (any
// more), or no memory.
typedef struct origins *snapshot_origins(void *context, const struct origins_past *past);

// read_origins is called with context while a snapshot is taken, on the thread that takes it. NULL: no memory.
struct snapshot_source *snapshot_source_create(pid_t pid, struct module_cache *modules, struct table_cache *tables,
					       snapshot_origins *read_origins, void *context);
void snapshot_source_destroy(struct snapshot_source *source); // accepts NULL

// Takes a snapshot; may take long. Any thread; calls that overlap share one walk, and the states and creators read with it, as long as it
// began after they did. The caller destroys the dump. 0; −ESRCH: no such process; −EPERM, −EACCES: no right to look into it; −ENOEXEC: it
// has no memory of its own, as a kernel thread, or what has ended and is not reaped; −ENOMEM.
typedef int snapshot_taker(struct snapshot_source *source, struct thread_dump **ret_dump);
snapshot_taker snapshot_take;
// Where the threads are now, for snapshot_take_watched later; the caller destroys it. The same errors.
int snapshot_watch(struct snapshot_source *source, struct thread_watch **ret_watch);
// As snapshot_take, and says who did not run since watch.
int snapshot_take_watched(struct snapshot_source *source, const struct thread_watch *watch,
			  struct thread_dump **ret_dump);
// The same without verdicts, and without counting as a dump for those on growth: for one of many.
snapshot_taker snapshot_sample;
// The stacks that made threads, each with how many it made so far: a dump whose threads are those stacks. Otherwise as snapshot_take.
snapshot_taker snapshot_creators;

#endif
