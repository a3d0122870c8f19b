// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// registry.c: how many reads and joins a second the agent's thread table takes, beside the same table behind a mutex and behind a
// read-write lock. For scripts/bench registry. The agent's own threads.c and timer.c are linked; nothing is sampled.
//
// A join is a thread's way into the table and out again. A read copies every live slot (LIVE of them), as a dump of all threads would. One
// side has N threads, the other one: N readers beside one that joins, then N that join beside one reader.
//
// usage: registry [SECONDS]     (default: 0.5, for each line)
// prints: SIDE THREADS TABLE READS/S JOINS/S JOIN-P999-NS

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "profd/agent.h"
#include "profd/channel.h"
#include "profd/handler.h"
#include "profd/raw.h"
#include "profd/threads.h"
#include "profd/wake.h"

#define LIVE 1000
#define SLOTS 65536u
#define MAX_THREADS 65
#define TIMED_EVERY 16
#define BUCKETS 400 // of the histogram, 16 to each power of two

// What threads.c and timer.c know of the rest of the agent.
struct profd_agent profd_agent;
__thread uint64_t profd_handler_ending_pc;

void profd_wake_send(void) {}

// ---- The table behind a lock -------------------------------------------------------------------------------------------

static struct wire_slot *locked_slots;
static uint32_t locked_free[SLOTS], locked_nfree, locked_used;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

// The work that joining our table does before it touches it; done outside of the lock.
static void prepare(void)
{
	profd_raw0(SYS_gettid);
}

static uint32_t plain_join(uint32_t tid)
{
	uint32_t index = locked_nfree > 0 ? locked_free[--locked_nfree] : locked_used++;
	struct wire_slot *slot = &locked_slots[index];

	slot->creator = slot->creator_tid = 0;
	memset(slot->name, 0, sizeof(slot->name));
	memset(slot->private_words, 0, sizeof(slot->private_words));
	slot->state_tid = (slot->state_tid >> 32 << 32) | tid;
	return index;
}

static void plain_leave(uint32_t index)
{
	locked_slots[index].state_tid = ((locked_slots[index].state_tid >> 32) + 1) << 32;
	locked_free[locked_nfree++] = index;
}

static uint64_t plain_read(struct wire_slot *copies)
{
	uint64_t count = 0;

	for (uint32_t i = 0; i < locked_used; i++)
		if (WIRE_SLOT_TID(locked_slots[i].state_tid) != 0)
			copies[count++] = locked_slots[i];
	return count;
}

static uint32_t mutex_join(uint32_t tid)
{
	uint32_t index;

	prepare();
	pthread_mutex_lock(&mutex);
	index = plain_join(tid);
	pthread_mutex_unlock(&mutex);
	return index;
}

static void mutex_leave(uint32_t index)
{
	pthread_mutex_lock(&mutex);
	plain_leave(index);
	pthread_mutex_unlock(&mutex);
}

static uint64_t mutex_read(struct wire_slot *copies)
{
	uint64_t count;

	pthread_mutex_lock(&mutex);
	count = plain_read(copies);
	pthread_mutex_unlock(&mutex);
	return count;
}

static uint32_t rwlock_join(uint32_t tid)
{
	uint32_t index;

	prepare();
	pthread_rwlock_wrlock(&rwlock);
	index = plain_join(tid);
	pthread_rwlock_unlock(&rwlock);
	return index;
}

static void rwlock_leave(uint32_t index)
{
	pthread_rwlock_wrlock(&rwlock);
	plain_leave(index);
	pthread_rwlock_unlock(&rwlock);
}

static uint64_t rwlock_read(struct wire_slot *copies)
{
	uint64_t count;

	pthread_rwlock_rdlock(&rwlock);
	count = plain_read(copies);
	pthread_rwlock_unlock(&rwlock);
	return count;
}

// ---- The agent's table ---------------------------------------------------------------------------------------------------

static uint32_t profd_join(uint32_t tid)
{
	return profd_threads_join(tid, (struct profd_thread_stack){0, 0}, (struct profd_thread_origin){0, 0});
}

// As wire.h says: equal before and after means whole; otherwise the thread left meanwhile.
static uint64_t profd_read(struct wire_slot *copies)
{
	uint32_t used = __atomic_load_n(&profd_agent.region.header->slots_used, __ATOMIC_ACQUIRE);
	uint64_t count = 0;

	for (uint32_t i = 0; i < used; i++) {
		struct wire_slot *slot = &profd_agent.region.slots[i];
		uint64_t state = __atomic_load_n(&slot->state_tid, __ATOMIC_ACQUIRE);

		if (WIRE_SLOT_TID(state) == 0)
			continue;
		copies[count] = *slot;
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		if (__atomic_load_n(&slot->state_tid, __ATOMIC_RELAXED) == state)
			count++;
	}
	return count;
}

static const struct table {
	const char *name;
	uint32_t (*join)(uint32_t tid);
	void (*leave)(uint32_t index);
	uint64_t (*read)(struct wire_slot *copies);
} tables[] = {
	{"profd", profd_join, profd_threads_leave, profd_read},
	{"mutex", mutex_join, mutex_leave, mutex_read},
	{"rwlock", rwlock_join, rwlock_leave, rwlock_read},
};

// ---- Measuring -----------------------------------------------------------------------------------------------------------

struct worker {
	pthread_t thread;
	const struct table *table;
	uint32_t tid;
	bool reads;
	uint64_t count;              // operations done
	uint64_t histogram[BUCKETS]; // of joins' nanoseconds
};

static struct worker workers[MAX_THREADS];
static uint32_t running; // atomic
static pthread_barrier_t start_line;

static unsigned bucket_of(uint64_t ns)
{
	unsigned power = 63 - (unsigned)__builtin_clzll(ns | 16);
	unsigned bucket = (power - 4) * 16 + (unsigned)((ns | 16) >> (power - 4) & 15);

	return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

static uint64_t bucket_ns(unsigned bucket)
{
	return (uint64_t)(16 + bucket % 16) << (bucket / 16);
}

static void do_joins(struct worker *worker)
{
	const struct table *table = worker->table;

	while (__atomic_load_n(&running, __ATOMIC_RELAXED)) {
		bool timed = worker->count % TIMED_EVERY == 0;
		uint64_t from = timed ? now_ns() : 0;

		table->leave(table->join(worker->tid));
		if (timed)
			worker->histogram[bucket_of(now_ns() - from)]++;
		worker->count++;
	}
}

static void do_reads(struct worker *worker)
{
	struct wire_slot *copies = calloc(LIVE + MAX_THREADS + 1, sizeof(*copies));

	if (!copies)
		abort();
	while (__atomic_load_n(&running, __ATOMIC_RELAXED)) {
		if (worker->table->read(copies) < LIVE)
			abort(); // those that stay must all be seen
		worker->count++;
	}
	free(copies);
}

static void *worker_main(void *argument)
{
	struct worker *worker = argument;

	pthread_barrier_wait(&start_line);
	if (worker->reads)
		do_reads(worker);
	else
		do_joins(worker);
	return NULL;
}

static uint64_t percentile_999(unsigned count)
{
	uint64_t total = 0, seen = 0;

	for (unsigned i = 0; i < count; i++)
		for (unsigned b = 0; b < BUCKETS; b++)
			total += workers[i].histogram[b];
	for (unsigned b = 0; b < BUCKETS; b++) {
		for (unsigned i = 0; i < count; i++)
			seen += workers[i].histogram[b];
		if (seen * 1000 >= total * 999)
			return bucket_ns(b);
	}
	return 0;
}

// readers + joiners threads for seconds; one printed line.
static void measure(const struct table *table, const char *side, unsigned readers, unsigned joiners, double seconds)
{
	unsigned count = readers + joiners;
	double totals[2] = {0, 0}, elapsed_s;
	uint64_t from;

	memset(workers, 0, sizeof(workers));
	pthread_barrier_init(&start_line, NULL, count + 1);
	__atomic_store_n(&running, 1, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < count; i++) {
		workers[i].table = table;
		workers[i].reads = i < readers;
		workers[i].tid = 1000000 + i; // no thread's: nothing is done to it
		if (pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]) != 0)
			abort();
	}
	pthread_barrier_wait(&start_line);
	from = now_ns();
	usleep((useconds_t)(seconds * 1e6));
	__atomic_store_n(&running, 0, __ATOMIC_RELAXED);
	elapsed_s = (double)(now_ns() - from) / 1e9;
	for (unsigned i = 0; i < count; i++) {
		pthread_join(workers[i].thread, NULL);
		totals[workers[i].reads] += (double)workers[i].count;
	}
	pthread_barrier_destroy(&start_line);
	printf("%s %u %s %.0f %.0f %llu\n", side, readers > joiners ? readers : joiners, table->name,
	       totals[true] / elapsed_s, totals[false] / elapsed_s, (unsigned long long)percentile_999(count));
	fflush(stdout);
}

static void *pages(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		abort();
	return memory;
}

static void fill(const struct table *table)
{
	for (uint32_t i = 0; i < LIVE; i++)
		table->join(2000000 + i);
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? strtod(argv[1], NULL) : 0.5;

	if (seconds <= 0 || seconds > 60)
		return 2;
	profd_agent.region.header = pages(WIRE_PAGE);
	profd_agent.region.slots = pages(SLOTS * sizeof(struct wire_slot));
	profd_agent.region.nslots = SLOTS;
	locked_slots = pages(SLOTS * sizeof(struct wire_slot));
	profd_threads_init();
	fill(&tables[0]);
	fill(&tables[1]); // the same one as tables[2]
	for (unsigned threads = 1; threads <= 64; threads *= 2)
		for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
			measure(&tables[i], "readers", threads, 1, seconds);
	for (unsigned threads = 1; threads <= 64; threads *= 2)
		for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
			measure(&tables[i], "joiners", 1, threads, seconds);
	return 0;
}
