// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// store_source.h: what a heap or lock profile of one process image is made of: its store, and what names the PCs in there. Immutable, and
// outlives the session that it was taken from; so it is used without the collector's lock, and kept for the end of a run.

#ifndef PROFD_COLLECTOR_STORE_SOURCE_H
#define PROFD_COLLECTOR_STORE_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define STORE_SOURCE_MAPS 4

struct collector;
struct mapping;
struct mapping_set;
struct origins;
struct session;
struct store;

struct store_source {
	uint32_t refs;       // atomic
	struct store *store; // a reference
	pid_t pid;
	uid_t uid;
	char comm[16];
	struct mapping_set *maps[STORE_SOURCE_MAPS]; // newest first; NULL at the end
	struct mapping *main_mapping;                // a reference; NULL: not known
	struct origins *origins;                     // contexts and labels; NULL: not known
	int jitdump_fd;                              // −1: none
	int64_t ended_ns;                            // CLOCK_MONOTONIC; 0: it lives
	bool replaced;                               // by exec: what was in use there is gone
};

struct store_sources {
	size_t count;
	struct store_source **list;
	int error; // errno: why one of the targets could not make its store although it was asked to; 0: none
};

struct store_source *store_source_create(const struct session *session); // lock held. NULL: no memory
void store_source_unref(struct store_source *source);                    // accepts NULL
// Where pc is mapped, in the newest set that knows it. NULL: nowhere.
struct mapping *store_source_find(const struct store_source *source, uint64_t address);
// The variable at that address, as module_variable. false: none is known there.
bool store_source_variable(const struct store_source *source, uint64_t address, char *buf, size_t size);

// Of the target with that pid, or of all (0), those that have ended included if the collector keeps them. 0 with none in the list: nothing is
// switched on there. The caller finishes the list. 0, −ESRCH, −ENOMEM.
int collector_stores(struct collector *collector, pid_t pid, struct store_sources *ret_sources);
void store_sources_finish(struct store_sources *sources);

#endif
