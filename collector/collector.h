// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// collector.h: the collector's core: a loop thread that accepts agents (transport.c), keeps a session for each target
// (session.c), drains their rings (ring_reader.c) into the open windows (window.h, aggregate.c). What the commands and the
// HTTP endpoints see of it.

#ifndef PROFD_COLLECTOR_COLLECTOR_H
#define PROFD_COLLECTOR_COLLECTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "collector/debuginfod.h"
#include "collector/module.h"
#include "collector/table_cache.h"
#include "profd/wire.h"

struct collector;

// How agents sample, whatever the rate.
struct collector_sampling {
	uint32_t clock;                 // enum wire_clock
	uint32_t max_overhead_permille; // of a thread's CPU time; 0: no limit
	struct wire_rates rates;        // of heap and lock profiles, for each target; 0: what the target itself wishes
};

struct collector_options {
	const char *socket; // path, or "@name" for an abstract socket
	bool any_uid;       // accept agents of other users too (root's daemon only)
	pid_t family; // root's collector: accept this process, and what descends from it, whatever user it has become; 0: none
	struct collector_sampling sampling;
	bool cache_tables;         // on disk (table_cache.h)
	bool keep_stores;          // of targets that end, for a profile of the whole run (store_source.h)
	struct module_debug debug; // where debug info is looked for
};

// Starts the loop thread and listens. A new target that an open window covers (window.h: pid 0) is sampled from its very
// start: `run` opens its window before it starts the child. 0 or −errno (−EADDRINUSE…).
int collector_create(const struct collector_options *options, struct collector **ret_collector);
void collector_destroy(struct collector *collector); // ends the loop; accepts NULL

// A target as listed. Copied out; no pointers into the collector.
struct collector_target {
	pid_t pid, ppid;
	uid_t uid;
	char comm[16];
	char exe[256];
	int64_t since_ns;   // epoch, when it registered
	uint32_t period_ns; // 0: not sampled now
	uint32_t threads_live;
};
// Fills targets[0..max), returns how many there are (may be more than max).
size_t collector_targets(struct collector *collector, struct collector_target *targets, size_t max);

// How many processes are targets, or about to be, and not dead yet.
size_t collector_survivors(struct collector *collector);

struct collector_counters {
	uint64_t generated, delivered, dropped[3]; // over all targets, gone ones too; dropped by enum wire_drop
	uint64_t bad_records;                      // skipped: torn or hostile
	uint64_t targets_total, targets_refused;   // registered ever; turned away (other user, bad hello)
	uint32_t targets_now, windows_now;
	uint64_t threads_created, threads_now; // of targets; created: those that are live when it registers, too
	uint64_t threads_ended, thread_walks;
	struct table_cache_counters tables;
	struct debuginfod_counters downloads;
	uint32_t stores_now;                             // targets with heap or lock profiling
	uint64_t store_lost[WIRE_STORE_LOST_COUNT];      // in their stores; by enum wire_store_lost
	uint64_t traces_lost;                            // of samples there
	uint64_t stores_not_kept;                        // of targets that ended, for there were too many
	uint64_t contexts_lost, labels_lost, tasks_lost; // that had no room in their target
	uint64_t threads_unsampled, threads_slowed, foreign_forwarded, foreign_ignored, restarted_syscalls;
};
void collector_counters(struct collector *collector, struct collector_counters *ret_counters);

// Names at an address of a live target, for /symbol: "outer;inner" not needed, the function's demangled name. false: none.
bool collector_symbol(struct collector *collector, pid_t pid, uint64_t address, char *buf, size_t size);

// Heap and lock profiling, switched while the target runs: it takes effect as soon as the agent has heard of it. pid 0: all targets, those to
// come too. 0 or −ESRCH.
struct collector_rates_change {
	bool has_heap, has_mutex, has_block, has_block_io, has_wakers, has_heap_mmap;
	struct wire_rates rates;
};
int collector_change_rates(struct collector *collector, pid_t pid, const struct collector_rates_change *wanted);
int collector_rates(struct collector *collector, pid_t pid, struct wire_rates *ret_rates); // 0 or −ESRCH

// All threads of target pid, now (snapshot.h). The caller destroys the dump. 0, −ESRCH, −EPERM, −EACCES, −ENOMEM.
struct thread_dump;
int collector_snapshot(struct collector *collector, pid_t pid, struct thread_dump **ret_dump);
// Where its threads are now (thread_watch_destroy it), and all threads later, with who did not run since. The same errors.
struct thread_watch;
int collector_watch_threads(struct collector *collector, pid_t pid, struct thread_watch **ret_watch);
int collector_snapshot_watched(struct collector *collector, pid_t pid, const struct thread_watch *watch,
			       struct thread_dump **ret_dump);
// One of many: as snapshot_sample. The same errors.
int collector_sample_threads(struct collector *collector, pid_t pid, struct thread_dump **ret_dump);
// The stacks that made its threads, as snapshot_creators. The same errors.
int collector_thread_creators(struct collector *collector, pid_t pid, struct thread_dump **ret_dump);

#endif
