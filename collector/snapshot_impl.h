// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// snapshot_impl.h: what snapshot.c and snapshot_dump.c share.

#ifndef PROFD_COLLECTOR_SNAPSHOT_IMPL_H
#define PROFD_COLLECTOR_SNAPSHOT_IMPL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "collector/snapshot.h"
#include "collector/wait_state.h"

struct mapping_set;
struct thread_scan_record;

// What a thread waits for, and whether it stayed there, is read once for a scan, and as soon as there is one: who shares the scan, later,
// must not show a thread's old stack with its new state.
struct finding {
	bool has_state;
	bool was_asked, is_unmoved; // see is_unmoved
	struct wait_state state;
};

struct snapshot_source {
	pid_t pid;
	struct module_cache *modules;
	struct table_cache *tables;
	snapshot_origins *read_origins;
	void *origins_context;
	pthread_mutex_t lock; // guards what follows; held while a snapshot is taken
	struct mapping_set *mappings;
	struct walk_image *image;
	struct thread_scan *scan; // the last one
	struct finding *findings; // of each of its records; NULL: no dump has been made of it
	int64_t scan_time_ns;     // CLOCK_REALTIME: when it began
	struct origins *origins;  // read when it had ended: of all its threads. NULL: no agent
	struct thread_groups *groups;
	bool counted; // by groups: the last scan
};

enum snapshot_kind { SNAPSHOT_DUMP, SNAPSHOT_SAMPLE, SNAPSHOT_CREATORS };

// Lock held. Makes a dump of the last scan and its origins; of the origins alone for SNAPSHOT_CREATORS. 0 or −ENOMEM.
int snapshot_name(struct snapshot_source *source, const struct thread_watch *watch, enum snapshot_kind kind,
		  struct thread_dump **ret_dump);
bool snapshot_is_agents_own(const struct mapping_set *mappings, const struct thread_scan_record *record);

#endif
