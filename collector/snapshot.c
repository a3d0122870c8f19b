// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// snapshot.c: see snapshot.h. A scan (thread_scan.h) finds stacks as PCs; snapshot_dump.c gives them names and states.
//
// The mappings are read again only when some thread has to be walked: a process that stands still has not changed them.

#include "collector/snapshot.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "collector/clock.h"
#include "collector/mapping.h"
#include "collector/origin_spans.h"
#include "collector/origins.h"
#include "collector/snapshot_impl.h"
#include "collector/snapshot_tasks.h"
#include "collector/thread_groups.h"
#include "collector/thread_scan.h"
#include "collector/thread_walk.h"
#include "formats/thread_dump.h"
#include "profd/wire.h"

static uint64_t walks; // atomic

uint64_t snapshot_walks(void)
{
	return __atomic_load_n(&walks, __ATOMIC_RELAXED);
}

struct snapshot_source *snapshot_source_create(pid_t pid, struct module_cache *modules, struct table_cache *tables,
					       snapshot_origins *read_origins, void *context)
{
	struct snapshot_source *source = calloc(1, sizeof(*source));

	if (!source)
		return NULL;
	source->pid = pid;
	source->modules = modules;
	source->tables = tables;
	source->read_origins = read_origins;
	source->origins_context = context;
	source->groups = thread_groups_create();
	if (!source->groups) {
		free(source);
		return NULL;
	}
	pthread_mutex_init(&source->lock, NULL);
	return source;
}

void snapshot_source_destroy(struct snapshot_source *source)
{
	if (!source)
		return;
	thread_groups_destroy(source->groups);
	free(source->findings);
	origins_destroy(source->origins);
	thread_scan_destroy(source->scan);
	walk_image_destroy(source->image);
	mapping_set_destroy(source->mappings);
	pthread_mutex_destroy(&source->lock);
	free(source);
}

// ---- Reading -------------------------------------------------------------------------------------------------------

static bool is_same_set(const struct mapping_set *a, const struct mapping_set *b)
{
	if (!a || !b || a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++)
		if (a->entries[i].mapping != b->entries[i].mapping)
			return false;
	return true;
}

// Returns 1 when they changed, 0 when not, or −errno.
static int read_mappings(struct snapshot_source *source)
{
	struct mapping_set *mappings;
	struct walk_image *image;
	int r = mapping_set_read(source->pid, 0, source->mappings, source->modules, &mappings);

	if (r < 0)
		return r;
	if (mappings->count == 0) {
		mapping_set_destroy(mappings);
		return -ENOEXEC;
	}
	if (is_same_set(source->mappings, mappings)) {
		mapping_set_destroy(mappings);
		return 0;
	}
	image = walk_image_create(source->pid, mappings, source->tables);
	if (!image) {
		mapping_set_destroy(mappings);
		return -ENOMEM;
	}
	walk_image_destroy(source->image);
	mapping_set_destroy(source->mappings);
	source->image = image;
	source->mappings = mappings;
	return 1;
}

static bool is_agent_pc(const struct mapping_set *mappings, const struct thread_scan_record *record, uint32_t i)
{
	bool exact = i == 0 || (record->pcs[i] & WIRE_PC_EXACT);
	const struct mapping *mapping = mapping_set_find(mappings, (record->pcs[i] & ~WIRE_PC_EXACT) - (exact ? 0 : 1));

	return mapping && mapping->agent;
}

// The agent's helper: between libc's call that it waits in and libc's start of a thread there is nothing but the agent.
bool snapshot_is_agents_own(const struct mapping_set *mappings, const struct thread_scan_record *record)
{
	return record->npcs >= 3 && is_agent_pc(mappings, record, 1) && is_agent_pc(mappings, record, record->npcs - 3);
}

// Some thread of the program's did run, and may have changed the mappings.
static bool has_moved(const struct snapshot_source *source, const struct thread_scan *now)
{
	for (size_t i = 0; i < now->count; i++)
		if (now->records[i].walked && !snapshot_is_agents_own(source->mappings, &now->records[i]))
			return true;
	return false;
}

// As of now. scan: taken since the source's were read; NULL: of the spans that are there, those before will do.
static struct origins *read_origins(const struct snapshot_source *source, const struct thread_scan *scan)
{
	return source->read_origins(source->origins_context, &(struct origins_past){source->origins, scan});
}

// A scan by the mappings of now. What is taken over from the last scan needs none of them.
static int scan(struct snapshot_source *source)
{
	struct thread_scan *now = NULL;
	struct origins *origins;
	uint32_t helper_tid;
	int r;

	// For the agent's own thread, which stays the same but for rare events; a guess is good enough.
	if (!source->origins)
		source->origins = read_origins(source, NULL);
	helper_tid = source->origins ? source->origins->helper_tid : 0;
	r = source->image ? 0 : read_mappings(source);

	if (r >= 0)
		r = thread_scan_take(source->pid, source->image, source->scan, helper_tid, &now);
	if (r == 0 && source->scan && has_moved(source, now)) {
		r = read_mappings(source);
		if (r > 0) {
			thread_scan_destroy(now);
			now = NULL;
			r = thread_scan_take(source->pid, source->image, source->scan, helper_tid, &now);
		}
	}
	if (r < 0) {
		thread_scan_destroy(now);
		return r;
	}
	thread_scan_destroy(source->scan);
	free(source->findings);
	source->scan = now;
	source->findings = NULL;
	origins = read_origins(source, now);
	origins_destroy(source->origins);
	source->origins = origins;
	source->counted = false;
	source->scan_time_ns = clock_epoch_ns() - (clock_now_ns() - now->start_ns);
	__atomic_fetch_add(&walks, 1, __ATOMIC_RELAXED);
	return 0;
}

// Lock held.
static int scan_since(struct snapshot_source *source, int64_t asked_ns)
{
	// Whoever had to wait for another's walk may find that a later one has begun and ended meanwhile.
	return source->scan && source->scan->start_ns >= asked_ns ? 0 : scan(source);
}

// Of tasks it is not known before whether they stand still: their stacks count if what the agent has of them is the same afterwards.
static int confirm_tasks(struct snapshot_source *source, struct thread_dump *dump)
{
	struct origins *after;
	int r;

	if (!source->origins || source->origins->ntasks == 0)
		return 0;
	after = read_origins(source, NULL);
	r = snapshot_tasks_confirm(dump, source->origins, after);
	origins_destroy(after);
	return r;
}

// Lock held.
static int make_dump(struct snapshot_source *source, const struct thread_watch *watch, enum snapshot_kind kind,
		     struct thread_dump **ret_dump)
{
	struct thread_dump *dump;
	int r = snapshot_name(source, watch, kind, &dump);

	if (r < 0)
		return r;
	r = kind == SNAPSHOT_DUMP ? confirm_tasks(source, dump) : 0;
	if (r < 0)
		thread_dump_destroy(dump);
	else
		*ret_dump = dump;
	return r;
}

static int take(struct snapshot_source *source, const struct thread_watch *watch, enum snapshot_kind kind,
		struct thread_dump **ret_dump)
{
	int64_t asked_ns = clock_now_ns();
	int r;

	pthread_mutex_lock(&source->lock);
	r = scan_since(source, asked_ns);
	if (r == 0)
		r = make_dump(source, watch, kind, ret_dump);
	pthread_mutex_unlock(&source->lock);
	return r;
}

int snapshot_take(struct snapshot_source *source, struct thread_dump **ret_dump)
{
	return take(source, NULL, SNAPSHOT_DUMP, ret_dump);
}

int snapshot_take_watched(struct snapshot_source *source, const struct thread_watch *watch,
			  struct thread_dump **ret_dump)
{
	return take(source, watch, SNAPSHOT_DUMP, ret_dump);
}

int snapshot_sample(struct snapshot_source *source, struct thread_dump **ret_dump)
{
	return take(source, NULL, SNAPSHOT_SAMPLE, ret_dump);
}

int snapshot_watch(struct snapshot_source *source, struct thread_watch **ret_watch)
{
	int64_t asked_ns = clock_now_ns();
	int r;

	pthread_mutex_lock(&source->lock);
	r = scan_since(source, asked_ns);
	if (r == 0) {
		*ret_watch = thread_watch_create(source->scan);
		r = *ret_watch ? 0 : -ENOMEM;
	}
	pthread_mutex_unlock(&source->lock);
	return r;
}

// By origins of now; those of the last scan stay with it, for its sharers.
int snapshot_creators(struct snapshot_source *source, struct thread_dump **ret_dump)
{
	struct origins *of_scan;
	int r;

	pthread_mutex_lock(&source->lock);
	of_scan = source->origins;
	source->origins = read_origins(source, NULL);
	r = read_mappings(source);
	if (r >= 0)
		r = make_dump(source, NULL, SNAPSHOT_CREATORS, ret_dump);
	origins_destroy(source->origins);
	source->origins = of_scan;
	pthread_mutex_unlock(&source->lock);
	return r;
}
