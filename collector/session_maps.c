// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// session_maps.c: a target's mappings through time, and the unwind tables for them. Reading /proc/PID/maps, opening the files behind it
// and building tables may all wait (for the target's mmap lock, a dead file server, half a second of work), so worker jobs do it.

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "collector/clock.h"
#include "collector/jitdump.h"
#include "collector/jvm_options.h"
#include "collector/module.h"
#include "collector/process.h"
#include "collector/session.h"

#define MIN_RESOLVE_NS 10000000LL
#define FIRST_BACKOFF_NS 20000000LL
#define MAX_HOLD_NS 80000000LL // a longer backoff is not waited for: reading again has found nothing a few times
#define MAX_BACKOFF_NS 10000000000LL
#define MAX_WAIT_NS 1000000000LL // of records for mappings that are being read
#define MAX_TABLES 1024u         // being built for one target

struct table_job {
	struct worker_job job;
	struct session *session; // references, both
	struct module *module;
};

void session_release_maps(struct session *session)
{
	session->maps_changes++;
	for (int i = 0; i < SESSION_MAPPING_SETS; i++) {
		mapping_set_destroy(session->mapping_sets[i]);
		session->mapping_sets[i] = NULL;
	}
}

// ---- Looking up -----------------------------------------------------------------------------------------------------

static bool is_newer(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) > 0;
}

struct mapping *session_find_mapping(const struct session *session, uint32_t maps_gen, uint64_t address)
{
	struct mapping *other = NULL;

	// Newest first: the first set that is not younger than the sample fits best, then the newest that knows the address.
	for (int i = 0; i < SESSION_MAPPING_SETS && session->mapping_sets[i]; i++) {
		struct mapping *mapping = mapping_set_find(session->mapping_sets[i], address);

		if (!mapping)
			continue;
		if (!is_newer(session->mapping_sets[i]->maps_gen, maps_gen))
			return mapping;
		if (!other)
			other = mapping;
	}
	return other;
}

// For a PC in no mapping (dlopen before it returns, a JIT compiler): reads again, ever less often while that finds nothing.
static bool waits_for_unknown(struct session *session)
{
	bool hurry = session->patience == SESSION_HURRIES;

	if (session->resolve_backoff_ns > MAX_HOLD_NS && hurry)
		return false;
	if (session->drain_ns - session->resolve_since_ns < session->resolve_backoff_ns && !hurry)
		return session->resolve_backoff_ns <= MAX_HOLD_NS;
	session->unknown_pc = true;
	session_resolve(session);
	return session->resolving;
}

bool session_waits_for_maps(struct session *session, uint32_t maps_gen, bool unknown_pc)
{
	bool outdated = !session->resolved || is_newer(maps_gen, session->known_gen);

	if ((!outdated && !unknown_pc) || session->patience == SESSION_WAITS_NO_MORE)
		return false;
	if (session->resolving)
		return session->drain_ns - session->resolve_since_ns < MAX_WAIT_NS;
	if (session->state != SESSION_LIVE)
		return false;
	if (!outdated)
		return waits_for_unknown(session);
	session->maps_dirty = true;
	session_resolve(session);
	return true;
}

static ssize_t read_file(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, buf, size);
	close(fd);
	return n;
}

void session_thread_name(const struct session *session, uint32_t tid, uint32_t slot, char ret_name[16])
{
	char path[64], name[32];
	ssize_t n = -1;

	ret_name[0] = '\0';
	if (session->state == SESSION_LIVE) {
		snprintf(path, sizeof(path), "/proc/%d/task/%u/comm", (int)session->pid, tid);
		n = read_file(path, name, sizeof(name) - 1);
	}
	if (n > 0) {
		name[n] = '\0';
		name[strcspn(name, "\n")] = '\0';
		snprintf(ret_name, 16, "%.15s", name);
	} else if (session->region.header) {
		region_thread_name(&session->region, slot, tid, ret_name);
	}
}

// ---- Reading the mappings -------------------------------------------------------------------------------------------

static void send_table(struct session *session, const struct mapping *mapping, int fd, uint64_t size)
{
	const struct wire_table_msg message = {
		.msg.type = fd >= 0 ? WIRE_MSG_TABLE : WIRE_MSG_FORGET,
		.start = mapping->start,
		.end = mapping->end,
		.bias = mapping->bias,
		.size = size,
	};

	session_send(session, &message, sizeof(message), fd);
}

// What the agent has of mappings that are still there, it keeps; what it has of others, it is to forget.
static void carry_tables_over(struct session *session, const struct mapping_set *before, struct mapping_set *now)
{
	for (size_t i = 0; before && i < before->count; i++) {
		const struct mapping_entry *old = &before->entries[i];
		struct mapping_entry *new = mapping_set_entry(now, old->mapping);

		if (new)
			new->table = old->table;
		else if (old->table == MAPPING_TABLE_SENT)
			send_table(session, old->mapping, -1, 0);
	}
}

static bool is_same_set(const struct mapping_set *a, const struct mapping_set *b)
{
	if (!a || a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++)
		if (a->entries[i].mapping != b->entries[i].mapping)
			return false;
	return true;
}

static void adapt_backoff(struct session *session, bool found_something)
{
	if (!session->unknown_pc || found_something || session->resolve_backoff_ns == 0)
		session->resolve_backoff_ns = FIRST_BACKOFF_NS;
	else if (session->resolve_backoff_ns < MAX_BACKOFF_NS)
		session->resolve_backoff_ns *= 2;
	session->unknown_pc = false;
}

// The mapping of exe; where none has just that path (longer than we keep, replaced), the first file: programs are mapped below their
// libraries.
static void set_main_mapping(struct session *session, const struct mapping_set *set)
{
	size_t length = strlen(session->exe);
	struct mapping *first = NULL, *found = NULL;

	if (length > 10 && strcmp(session->exe + length - 10, " (deleted)") == 0)
		length -= 10;
	for (size_t i = 0; i < set->count && !found; i++) {
		struct mapping *mapping = set->entries[i].mapping;

		if (!first && mapping->path[0] == '/')
			first = mapping;
		if (length > 0 && strncmp(mapping->path, session->exe, length) == 0 && mapping->path[length] == '\0')
			found = mapping;
	}
	if (first)
		session->main_mapping = mapping_ref(found ? found : first);
}

static void install(struct session *session, struct mapping_set *set)
{
	struct mapping_set *before = session->mapping_sets[0];

	adapt_backoff(session, !is_same_set(before, set));
	mapping_set_destroy(session->mapping_sets[SESSION_MAPPING_SETS - 1]);
	for (int i = SESSION_MAPPING_SETS - 1; i > 0; i--)
		session->mapping_sets[i] = session->mapping_sets[i - 1];
	session->mapping_sets[0] = set;
	session->maps_changes++;
	if (!session->main_mapping)
		set_main_mapping(session, set);
	carry_tables_over(session, before, set);
}

// A fork's child is sampled from its first moment, and may be gone, or another program, before its mappings can be read. What its
// parent has is as good: it was the same a moment ago.
void session_inherit(struct session *session)
{
	const struct session *parent;

	// Newest first: what the parent was before its last exec may still be in the list.
	TAILQ_FOREACH_REVERSE(parent, &session->collector->sessions, session_list, link)
	{
		if (parent->pid == session->ppid && (parent->uid == session->uid || parent->uid == 0) &&
		    parent->mapping_sets[0])
			break;
	}
	if (!parent)
		return;
	session->mapping_sets[0] = mapping_set_copy(parent->mapping_sets[0], session->live.maps_gen);
	session->maps_changes++;
	if (parent->main_mapping)
		session->main_mapping = mapping_ref(parent->main_mapping);
	if (parent->cmdline)
		session->cmdline = strdup(parent->cmdline);
	if (parent->jitdump_fd >= 0)
		session->jitdump_fd = fcntl(parent->jitdump_fd, F_DUPFD_CLOEXEC, 0);
	session->jit_skips_callers = parent->jit_skips_callers;
	if (!session->comm[0])
		memcpy(session->comm, parent->comm, sizeof(session->comm));
}

void session_end_job(struct session *session)
{
	struct collector *collector = session->collector;

	session->jobs--;
	if (session->state == SESSION_CLOSED && session->jobs == 0)
		session_release_maps(session);
	if (session->state == SESSION_ENDING)
		session_check_end(session);
	session_advance(session);
	core_update_timer(collector);
	pthread_cond_broadcast(&collector->changed);
	session_unref(session);
	pthread_mutex_unlock(&collector->lock);
}

// Names of generated code are read from it when they are asked for, which may be after the process, and its root directory, are gone.
static void keep_jitdump(struct session *session, int fd)
{
	if (session->jitdump_fd < 0)
		__atomic_store_n(&session->jitdump_fd, fd, __ATOMIC_RELAXED);
	else if (fd >= 0)
		close(fd);
}

static void run_resolve(struct worker_job *job)
{
	struct session *session = (struct session *)((char *)job - offsetof(struct session, resolve_job));
	struct collector *collector = session->collector;
	struct mapping_set *set = NULL;
	char *cmdline = session->resolved ? NULL : process_command(session->pid);
	bool jit_skips_callers;
	int jitdump_fd = -1;

	if (mapping_set_read(session->pid, session->resolve_gen, session->mapping_sets[0], collector->modules, &set) <
	    0)
		set = NULL;
	if (set && session->jitdump_fd < 0)
		jitdump_fd = jitdump_open(session->pid, session->uid, set);
	jit_skips_callers = set && jvm_is_in(set) && !jvm_keeps_frame_pointers(session->pid);
	pthread_mutex_lock(&collector->lock);
	// Read from a process that died meanwhile, or became another image by exec (which closes the agent's socket
	// before the mappings change), it is nothing of this session's.
	if (set && set->count > 0 && session->state == SESSION_LIVE && !session_process_is_dead(session) &&
	    !transport_is_hung_up(session->transport.fd)) {
		install(session, set);
		keep_jitdump(session, jitdump_fd);
		session->jit_skips_callers = jit_skips_callers;
		if (cmdline) {
			free(session->cmdline);
			session->cmdline = cmdline;
			cmdline = NULL;
		}
	} else {
		mapping_set_destroy(set);
		if (jitdump_fd >= 0)
			close(jitdump_fd);
	}
	free(cmdline);
	session->resolving = false;
	session->resolved = true;
	session->known_gen = session->resolve_gen;
	session_end_job(session);
}

void session_resolve(struct session *session)
{
	int64_t now = clock_now_ns();

	if (session->resolving || session->state != SESSION_LIVE)
		return;
	if (session->resolved && now - session->resolve_since_ns < MIN_RESOLVE_NS &&
	    session->patience != SESSION_HURRIES)
		return;
	session->resolving = true;
	session->maps_dirty = false;
	session->resolve_since_ns = now;
	session->resolve_gen = __atomic_load_n(&session->region.header->maps_gen, __ATOMIC_ACQUIRE);
	session->resolve_job.run = run_resolve;
	session->jobs++;
	session_ref(session);
	worker_pool_submit(session->collector->workers, &session->resolve_job);
}

// ---- Tables ---------------------------------------------------------------------------------------------------------

static void run_table(struct worker_job *job)
{
	struct table_job *table = (struct table_job *)job;
	struct session *session = table->session;
	struct collector *collector = session->collector;
	struct mapping_set *set;
	uint64_t size = 0;
	int fd = -1;
	int r = module_table(table->module, collector->tables, &fd, &size);

	pthread_mutex_lock(&collector->lock);
	set = session->mapping_sets[0];
	for (size_t i = 0; set && i < set->count; i++) {
		struct mapping_entry *entry = &set->entries[i];

		if (entry->mapping->module != table->module || entry->table != MAPPING_TABLE_BUILDING)
			continue;
		entry->table = r < 0 ? MAPPING_TABLE_FAILED : MAPPING_TABLE_SENT;
		if (r == 0)
			send_table(session, entry->mapping, fd, size);
	}
	session->tables_pending--;
	module_unref(table->module);
	free(table);
	session_end_job(session);
}

// All mappings of one module share its job.
static void start_table(struct session *session, struct mapping_set *set, struct module *module)
{
	struct table_job *table = calloc(1, sizeof(*table));

	for (size_t i = 0; i < set->count; i++) {
		struct mapping_entry *entry = &set->entries[i];

		if (entry->mapping->module == module && entry->table == MAPPING_TABLE_NONE)
			entry->table = table ? MAPPING_TABLE_BUILDING : MAPPING_TABLE_FAILED;
	}
	if (!table)
		return;
	*table =
		(struct table_job){.job.run = run_table, .session = session_ref(session), .module = module_ref(module)};
	session->jobs++;
	session->tables_pending++;
	worker_pool_submit(session->collector->workers, &table->job);
}

void session_build_tables(struct session *session)
{
	struct mapping_set *set = session->mapping_sets[0];

	// What is left over MAX_TABLES is begun when those are done.
	for (size_t i = 0; set && i < set->count && session->tables_pending < MAX_TABLES; i++) {
		const struct mapping_entry *entry = &set->entries[i];

		if (entry->mapping->module && entry->table == MAPPING_TABLE_NONE)
			start_table(session, set, entry->mapping->module);
	}
}
