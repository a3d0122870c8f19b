// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// session_store.c: see session_store.h and store_source.h.

#include "collector/session_store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "collector/clock.h"
#include "collector/module.h"
#include "collector/origins.h"
#include "collector/session.h"
#include "collector/store.h"
#include "collector/store_source.h"

#define MAPS_WAIT_NS 2000000000LL // for mappings that are being read

// ---- Rates ---------------------------------------------------------------------------------------------------------

static bool any(const struct wire_rates *rates)
{
	return rates->heap_bytes || rates->mutex || rates->block || rates->wakers;
}

static uint64_t choose(uint64_t ours, uint64_t wish)
{
	return ours ? ours : wish;
}

static void change(struct wire_rates *rates, const struct collector_rates_change *change)
{
	if (change->has_heap)
		rates->heap_bytes = change->rates.heap_bytes;
	if (change->has_mutex)
		rates->mutex = change->rates.mutex;
	if (change->has_block)
		rates->block = change->rates.block;
	if (change->has_block_io)
		rates->block_io = change->rates.block_io;
	if (change->has_wakers)
		rates->wakers = change->rates.wakers;
	if (change->has_heap_mmap)
		rates->heap_mmap = change->rates.heap_mmap;
}

// What was switched off for those to come as well is off, whatever their environment says.
void session_wish_rates(struct session *session, const struct wire_rates *wish)
{
	const struct wire_rates *ours = &session->collector->sampling.rates;

	session->rates_sent = *wish;
	session->rates = (struct wire_rates){
		.heap_bytes = choose(ours->heap_bytes, wish->heap_bytes),
		.mutex = choose(ours->mutex, wish->mutex),
		.block = choose(ours->block, wish->block),
		.block_io = ours->block_io | wish->block_io,
		.wakers = ours->wakers | wish->wakers,
		.heap_mmap = ours->heap_mmap | wish->heap_mmap,
	};
	change(&session->rates, &session->collector->told);
	session->wants_tables |= any(&session->rates);
}

void session_send_rates(struct session *session)
{
	struct wire_rates_msg message = {.msg.type = WIRE_MSG_RATES, .rates = session->rates};

	if (memcmp(&session->rates, &session->rates_sent, sizeof(session->rates)) == 0)
		return;
	session->rates_sent = session->rates;
	session_send(session, &message, sizeof(message), -1);
}

static void remember(struct collector_rates_change *told, const struct collector_rates_change *wanted)
{
	change(&told->rates, wanted);
	told->has_heap |= wanted->has_heap;
	told->has_mutex |= wanted->has_mutex;
	told->has_block |= wanted->has_block;
	told->has_block_io |= wanted->has_block_io;
	told->has_wakers |= wanted->has_wakers;
	told->has_heap_mmap |= wanted->has_heap_mmap;
}

int collector_change_rates(struct collector *collector, pid_t pid, const struct collector_rates_change *wanted)
{
	struct session *session;
	bool found = pid == 0;

	pthread_mutex_lock(&collector->lock);
	if (pid == 0)
		remember(&collector->told, wanted);
	TAILQ_FOREACH(session, &collector->sessions, link)
	{
		if (session->state != SESSION_LIVE || (pid != 0 && session->pid != pid))
			continue;
		found = true;
		change(&session->rates, wanted);
		session->wants_tables |= any(&session->rates);
		session_advance(session);
	}
	core_update_timer(collector);
	pthread_mutex_unlock(&collector->lock);
	return found ? 0 : -ESRCH;
}

int collector_rates(struct collector *collector, pid_t pid, struct wire_rates *ret_rates)
{
	struct session *session;
	int r = -ESRCH;

	pthread_mutex_lock(&collector->lock);
	TAILQ_FOREACH(session, &collector->sessions, link)
	{
		if (session->state == SESSION_LIVE && session->pid == pid) {
			*ret_rates = session->rates;
			r = 0;
		}
	}
	pthread_mutex_unlock(&collector->lock);
	return r;
}

// ---- The store -----------------------------------------------------------------------------------------------------

bool session_take_store(struct session *session, const void *data, size_t size, int fd)
{
	struct wire_store_msg message;

	if (size != sizeof(message) || fd < 0 || session->store)
		return false;
	memcpy(&message, data, sizeof(message));
	return store_map(fd, message.size, session->pid, &session->store) == 0;
}

static void count_lost(const struct store *store, struct collector_counters *counters)
{
	struct store_live live;

	store_read_live(store, &live);
	for (int i = 0; i < WIRE_STORE_LOST_COUNT; i++)
		counters->store_lost[i] += live.lost[i];
	counters->traces_lost += live.traces_lost;
}

void session_leave_store(struct session *session)
{
	struct collector *collector = session->collector;
	struct store_source *source;

	if (!session->store)
		return;
	count_lost(session->store, &collector->counters);
	if (collector->keeps_stores && collector->nended < CORE_MAX_ENDED_STORES) {
		source = store_source_create(session);
		if (source)
			collector->ended[collector->nended++] = source;
	} else if (collector->keeps_stores) {
		collector->counters.stores_not_kept++;
	}
	store_unref(session->store);
	session->store = NULL;
}

void collector_count_stores(const struct collector *collector, struct collector_counters *counters)
{
	const struct session *session;

	TAILQ_FOREACH(session, &collector->sessions, link)
	{
		if (!session->store)
			continue;
		count_lost(session->store, counters);
		counters->stores_now++;
	}
}

// ---- Sources -------------------------------------------------------------------------------------------------------

struct store_source *store_source_create(const struct session *session)
{
	struct store_source *source = calloc(1, sizeof(*source));

	if (!source)
		return NULL;
	source->refs = 1;
	source->store = store_ref(session->store);
	source->pid = session->pid;
	source->uid = session->uid;
	source->jitdump_fd = -1;
	if (session->state != SESSION_LIVE) {
		source->ended_ns = session->ending_since_ns ? session->ending_since_ns : clock_now_ns();
		source->replaced = !session_process_is_dead(session);
	}
	memcpy(source->comm, session->comm, sizeof(source->comm));
	for (int i = 0; i < STORE_SOURCE_MAPS && i < SESSION_MAPPING_SETS && session->mapping_sets[i]; i++) {
		source->maps[i] = mapping_set_copy(session->mapping_sets[i], session->mapping_sets[i]->maps_gen);
		if (!source->maps[i]) {
			store_source_unref(source);
			return NULL;
		}
	}
	if (session->region.header)
		source->origins = origins_read(&session->region);
	if (session->main_mapping)
		source->main_mapping = mapping_ref(session->main_mapping);
	if (session->jitdump_fd >= 0)
		source->jitdump_fd = fcntl(session->jitdump_fd, F_DUPFD_CLOEXEC, 0);
	return source;
}

static struct store_source *source_ref(struct store_source *source)
{
	__atomic_fetch_add(&source->refs, 1, __ATOMIC_RELAXED);
	return source;
}

void store_source_unref(struct store_source *source)
{
	if (!source || __atomic_sub_fetch(&source->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	store_unref(source->store);
	for (int i = 0; i < STORE_SOURCE_MAPS; i++)
		mapping_set_destroy(source->maps[i]);
	mapping_unref(source->main_mapping);
	origins_destroy(source->origins);
	if (source->jitdump_fd >= 0)
		close(source->jitdump_fd);
	free(source);
}

struct mapping *store_source_find(const struct store_source *source, uint64_t address)
{
	struct mapping *mapping = NULL;

	for (int i = 0; i < STORE_SOURCE_MAPS && source->maps[i] && !mapping; i++)
		mapping = mapping_set_find(source->maps[i], address);
	return mapping;
}

bool store_source_variable(const struct store_source *source, uint64_t address, char *buf, size_t size)
{
	for (int i = 0; i < STORE_SOURCE_MAPS && source->maps[i]; i++) {
		for (size_t k = 0; k < source->maps[i]->count; k++) {
			const struct mapping *mapping = source->maps[i]->entries[k].mapping;

			if (mapping->module && module_variable(mapping->module, address - mapping->bias, buf, size))
				return true;
		}
	}
	return false;
}

void store_sources_finish(struct store_sources *sources)
{
	for (size_t i = 0; i < sources->count; i++)
		store_source_unref(sources->list[i]);
	free(sources->list);
	*sources = (struct store_sources){0};
}

// Of a run that is over: what has not been heard of yet, or not to its end.
static void settle(struct collector *collector)
{
	struct session *session, *next;

	core_accept_agents(collector);
	for (session = TAILQ_FIRST(&collector->sessions); session; session = next) {
		next = TAILQ_NEXT(session, link);
		session_receive(session);
		session_check_end(session);
	}
}

static bool is_wanted(const struct session *session, pid_t pid)
{
	return (session->state == SESSION_LIVE || session->state == SESSION_ENDING) &&
	       (pid == 0 || session->pid == pid);
}

// What is loaded may have changed since the mappings were read: they are read again. Lock held, and given up meanwhile.
static void refresh_maps(struct collector *collector, pid_t pid)
{
	int64_t deadline_ns = clock_now_ns() + MAPS_WAIT_NS;
	struct session *session;
	bool waits = true;

	while (waits) {
		waits = false;
		TAILQ_FOREACH(session, &collector->sessions, link)
		{
			if (!is_wanted(session, pid) || !session->store)
				continue;
			if (session->maps_dirty)
				session_resolve(session);
			waits |= session->resolving;
		}
		waits = waits && core_wait(collector, deadline_ns);
	}
}

static void note_error(const struct session *session, struct store_sources *sources)
{
	struct region_live live;

	if (!session->region.header)
		return;
	region_read_live(&session->region, &live);
	if (live.store_errno)
		sources->error = (int)live.store_errno;
}

// −ESRCH: there is no such target.
static int collect(struct collector *collector, pid_t pid, struct store_sources *sources)
{
	struct session *session;
	int r = pid == 0 ? 0 : -ESRCH;

	TAILQ_FOREACH(session, &collector->sessions, link)
	{
		if (!is_wanted(session, pid))
			continue;
		r = 0;
		if (!session->store) {
			note_error(session, sources);
			continue;
		}
		sources->list[sources->count] = store_source_create(session);
		if (!sources->list[sources->count])
			return -ENOMEM;
		sources->count++;
	}
	for (size_t i = 0; pid == 0 && i < collector->nended; i++)
		sources->list[sources->count++] = source_ref(collector->ended[i]);
	return r;
}

int collector_stores(struct collector *collector, pid_t pid, struct store_sources *ret_sources)
{
	struct store_sources sources = {0};
	int r = -ENOMEM;

	pthread_mutex_lock(&collector->lock);
	if (pid == 0 && collector->keeps_stores)
		settle(collector);
	refresh_maps(collector, pid);
	sources.list = calloc((size_t)collector->nsessions + collector->nended + 1, sizeof(*sources.list));
	if (sources.list)
		r = collect(collector, pid, &sources);
	pthread_mutex_unlock(&collector->lock);
	if (r < 0)
		store_sources_finish(&sources);
	else
		*ret_sources = sources;
	return r;
}
