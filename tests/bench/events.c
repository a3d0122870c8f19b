// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// events.c: what an event of the trace costs the thread that writes it, and what becomes of two million a second: bench_events.
//
//   bench_events cost ROUNDS           ns of CPU an event: off, on, on from two threads in one shard and in two; medians of the rounds
//   bench_events offered PER_SECOND S  two threads offer so many events a second together, for S seconds, while a reader (the collector's
//                                      own) drains every 5 ms: offered, read, lost, and the CPU time of either side

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "collector/event_reader.h"
#include "profd/agent.h"
#include "profd/clock.h"
#include "profd/events.h"
#include "profd/threads.h"
#include "profd/waits.h"

#define EVENTS 2000000ULL
#define MAX_ROUNDS 101

struct profd_agent profd_agent = {.region = {.nshards = 4}};
__thread uint32_t profd_thread_slot = PROFD_NO_SLOT;

void profd_waits_set_tracing(bool on)
{
	(void)on;
}

static struct event_file file;
static struct wire_slot slots[4];
static struct wire_header header;

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void check(int error, const char *what)
{
	if (!error)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(-error));
	exit(1);
}

static void open_file(void)
{
	uint64_t size;
	int fd;

	profd_clock_init();
	for (uint32_t i = 0; i < 4; i++)
		slots[i].state_tid = 100 + i;
	profd_agent.region.slots = slots;
	profd_agent.region.header = &header;
	check(profd_events_begin(WIRE_EVENTS_DEFAULT_MIB), "profd_events_begin");
	fd = profd_events_fd(&size);
	check(event_file_map(fd, size, getpid(), &file), "event_file_map");
}

// ---- Cost -----------------------------------------------------------------------------------------------------------

static void *write_events(void *slot)
{
	uint64_t *result = malloc(sizeof(*result));
	uint64_t begin_ns;

	profd_thread_slot = (uint32_t)(uintptr_t)slot;
	begin_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	for (uint64_t i = 0; i < EVENTS; i++)
		profd_event(WIRE_EVENT_WAKE, .reason = WIRE_WAIT_MUTEX, .object = i);
	*result = clock_ns(CLOCK_THREAD_CPUTIME_ID) - begin_ns;
	return result;
}

// ns of CPU an event, of threads in these slots.
static double cost(const uint32_t *wanted, uint32_t count)
{
	pthread_t threads[2];
	double sum = 0;

	for (uint32_t i = 0; i < count; i++)
		check(-pthread_create(&threads[i], NULL, write_events, (void *)(uintptr_t)wanted[i]), "pthread_create");
	for (uint32_t i = 0; i < count; i++) {
		void *result;

		pthread_join(threads[i], &result);
		sum += (double)*(uint64_t *)result;
		free(result);
	}
	return sum / (double)(count * EVENTS);
}

static int compare(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;

	return (left > right) - (left < right);
}

static int run_cost(long rounds)
{
	static const struct {
		const char *name;
		uint32_t slots[2], count;
	} cases[] = {{"off", {0}, 1},
		     {"on", {0}, 1},
		     {"on, 2 threads, a shard each", {0, 1}, 2},
		     {"on, 2 threads in one shard", {0, 4}, 2}};
	double all[4][MAX_ROUNDS];

	for (long round = 0; round < rounds && round < MAX_ROUNDS; round++) {
		for (size_t i = 0; i < 4; i++) {
			if (i == 0)
				profd_events_end();
			else
				check(profd_events_begin(0), "profd_events_begin");
			all[i][round] = cost(cases[i].slots, cases[i].count);
		}
	}
	for (size_t i = 0; i < 4; i++) {
		qsort(all[i], (size_t)rounds, sizeof(double), compare);
		printf("%s: %.1f ns (%.1f to %.1f)\n", cases[i].name, all[i][rounds / 2], all[i][0],
		       all[i][rounds - 1]);
	}
	return 0;
}

// ---- Two million a second -------------------------------------------------------------------------------------------

struct offer {
	uint32_t slot;
	uint64_t per_ms, ms;
	uint64_t cpu_ns, late_ms;
};

// So many each millisecond, and as soon as it can where it is late.
static void *offer_events(void *argument)
{
	struct offer *offer = argument;
	uint64_t begin_ns = clock_ns(CLOCK_MONOTONIC), cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID), now_ns;

	profd_thread_slot = offer->slot;
	for (uint64_t ms = 0; ms < offer->ms; ms++) {
		for (uint64_t i = 0; i < offer->per_ms; i++)
			profd_event(WIRE_EVENT_WAKE, .reason = WIRE_WAIT_MUTEX, .object = i);
		now_ns = clock_ns(CLOCK_MONOTONIC);
		if (now_ns < begin_ns + (ms + 1) * 1000000)
			usleep((useconds_t)((begin_ns + (ms + 1) * 1000000 - now_ns) / 1000));
	}
	now_ns = clock_ns(CLOCK_MONOTONIC) - begin_ns;
	offer->late_ms = now_ns / 1000000 > offer->ms ? now_ns / 1000000 - offer->ms : 0;
	offer->cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_ns;
	return NULL;
}

static void count(void *context, const struct event *event)
{
	*(uint64_t *)context += event->tid;
}

static int run_offered(uint64_t per_second, uint64_t seconds)
{
	struct offer offers[2] = {{0, per_second / 2000, seconds * 1000, 0, 0},
				  {1, per_second / 2000, seconds * 1000, 0, 0}};
	struct event_reader reader;
	struct event_counts counts = {0};
	uint64_t sum = 0, offered = 2 * offers[0].per_ms * offers[0].ms, cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	pthread_t threads[2];

	event_reader_init(&reader, &file, false);
	for (int i = 0; i < 2; i++)
		check(-pthread_create(&threads[i], NULL, offer_events, &offers[i]), "pthread_create");
	while (counts.read + counts.lost + counts.bad < offered) {
		event_reader_drain(&reader, &file, EVENT_READER_LIVE, count, &sum, &counts);
		usleep(5000);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	event_reader_drain(&reader, &file, EVENT_READER_LAST, count, &sum, &counts);
	cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_ns;
	printf("offered %llu events, %llu a second: read %llu, lost and counted %llu, unaccounted %lld; writers %.0f "
	       "ns of CPU an event, "
	       "late by %llu ms; reader %.0f ns\n",
	       (unsigned long long)offered, (unsigned long long)per_second, (unsigned long long)counts.read,
	       (unsigned long long)(counts.lost + counts.bad),
	       (long long)(offered - counts.read - counts.lost - counts.bad),
	       (double)(offers[0].cpu_ns + offers[1].cpu_ns) / (double)offered,
	       (unsigned long long)(offers[0].late_ms > offers[1].late_ms ? offers[0].late_ms : offers[1].late_ms),
	       (double)cpu_ns / (double)offered);
	return offered == counts.read + counts.lost + counts.bad ? 0 : 1;
}

int main(int argc, char **argv)
{
	open_file();
	if (argc == 3 && strcmp(argv[1], "cost") == 0)
		return run_cost(strtol(argv[2], NULL, 10));
	if (argc == 4 && strcmp(argv[1], "offered") == 0)
		return run_offered(strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10));
	fprintf(stderr, "usage: bench_events cost ROUNDS | offered PER_SECOND SECONDS\n");
	return 2;
}
