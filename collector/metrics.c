// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// metrics.c: see metrics.h. Any connection thread.

#include "collector/metrics.h"
#include "collector/collector.h"
#include "formats/thread_dump.h"
#include "profd/wire.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define METRICS_TARGETS 64 // whose threads are counted by state

static const unsigned metrics_statuses[METRICS_STATUSES - 1] = {200, 301, 302, 400, 403, 404, 405, 413, 500, 503};

static const char *const metrics_paths[HTTP_ENDPOINT_COUNT] = {
	[HTTP_ENDPOINT_OTHER] = "other",
	[HTTP_ENDPOINT_TARGETS] = "/",
	[HTTP_ENDPOINT_METRICS] = "/metrics",
	[HTTP_ENDPOINT_INDEX] = "/debug/pprof/",
	[HTTP_ENDPOINT_PROFILE] = "/debug/pprof/profile",
	[HTTP_ENDPOINT_CMDLINE] = "/debug/pprof/cmdline",
	[HTTP_ENDPOINT_SYMBOL] = "/debug/pprof/symbol",
	[HTTP_ENDPOINT_THREADS] = "/debug/pprof/goroutine",
	[HTTP_ENDPOINT_THREADCREATE] = "/debug/pprof/threadcreate",
	[HTTP_ENDPOINT_WALL] = "/debug/pprof/wall",
	[HTTP_ENDPOINT_HEAP] = "/debug/pprof/heap",
	[HTTP_ENDPOINT_ALLOCS] = "/debug/pprof/allocs",
	[HTTP_ENDPOINT_MUTEX] = "/debug/pprof/mutex",
	[HTTP_ENDPOINT_BLOCK] = "/debug/pprof/block",
	[HTTP_ENDPOINT_CONFIG] = "/debug/pprof/config",
	[HTTP_ENDPOINT_TRACE] = "/debug/pprof/trace",
	[HTTP_ENDPOINT_ZOMBIES] = "/debug/pprof/zombies",
};

static const char *const metrics_drops[WIRE_DROP_COUNT] = {
	[WIRE_DROP_RING_FULL] = "ring_full",
	[WIRE_DROP_CONTENTION] = "contention",
	[WIRE_DROP_NO_SCRATCH] = "no_scratch",
};

void metrics_count(struct metrics *metrics, const struct http_reply *reply)
{
	uint32_t at = 0;

	if (reply->hung_up) {
		__atomic_fetch_add(&metrics->hangups, 1, __ATOMIC_RELAXED);
		return;
	}
	while (at < METRICS_STATUSES - 1 && metrics_statuses[at] != reply->status)
		at++;
	__atomic_fetch_add(&metrics->requests[reply->endpoint][at], 1, __ATOMIC_RELAXED);
}

static void metrics_head(struct writer *writer, const char *name, const char *type, const char *help)
{
	writer_printf(writer, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void metrics_one(struct writer *writer, const char *name, const char *type, const char *help, uint64_t value)
{
	metrics_head(writer, name, type, help);
	writer_printf(writer, "%s %" PRIu64 "\n", name, value);
}

static void metrics_samples(struct writer *writer, const struct collector_counters *counters)
{
	metrics_one(writer, "profd_samples_generated_total", "counter", "Samples taken in all targets.",
		    counters->generated);
	metrics_one(writer, "profd_samples_delivered_total", "counter", "Samples read from the targets' rings.",
		    counters->delivered);
	metrics_head(writer, "profd_samples_dropped_total", "counter", "Samples taken and then lost, by reason.");
	for (int i = 0; i < WIRE_DROP_COUNT; i++)
		writer_printf(writer, "profd_samples_dropped_total{reason=\"%s\"} %" PRIu64 "\n", metrics_drops[i],
			      counters->dropped[i]);
	metrics_one(writer, "profd_records_bad_total", "counter", "Ring records skipped because they made no sense.",
		    counters->bad_records);
	metrics_one(writer, "profd_threads_unsampled_total", "counter",
		    "Threads that could not be given a timer or slot.", counters->threads_unsampled);
	metrics_one(writer, "profd_threads_slowed_total", "counter",
		    "Times that a thread's rate was lowered to keep to --max-overhead.", counters->threads_slowed);
	metrics_head(writer, "profd_pool_lost_total", "counter",
		     "What had no room in its target: contexts (of threads made, of work handed over), sets of labels, "
		     "tasks.");
	writer_printf(writer, "profd_pool_lost_total{what=\"contexts\"} %" PRIu64 "\n", counters->contexts_lost);
	writer_printf(writer, "profd_pool_lost_total{what=\"labels\"} %" PRIu64 "\n", counters->labels_lost);
	writer_printf(writer, "profd_pool_lost_total{what=\"tasks\"} %" PRIu64 "\n", counters->tasks_lost);
	metrics_head(writer, "profd_foreign_sigprof_total", "counter",
		     "SIGPROF that was not ours, by what became of it.");
	writer_printf(writer, "profd_foreign_sigprof_total{disposition=\"forwarded\"} %" PRIu64 "\n",
		      counters->foreign_forwarded);
	writer_printf(writer, "profd_foreign_sigprof_total{disposition=\"ignored\"} %" PRIu64 "\n",
		      counters->foreign_ignored);
	metrics_one(writer, "profd_syscalls_restarted_total", "counter",
		    "System calls of targets restarted after our signal.", counters->restarted_syscalls);
}

static void metrics_targets(struct writer *writer, const struct collector_counters *counters)
{
	metrics_one(writer, "profd_targets", "gauge", "Processes registered now.", counters->targets_now);
	metrics_one(writer, "profd_targets_registered_total", "counter", "Processes that ever registered.",
		    counters->targets_total);
	metrics_one(writer, "profd_targets_refused_total", "counter", "Processes turned away.",
		    counters->targets_refused);
	metrics_one(writer, "profd_windows", "gauge", "Consumers of the sample stream now.", counters->windows_now);
}

static void metrics_threads(struct writer *writer, const struct collector_counters *counters)
{
	metrics_one(writer, "profd_threads", "gauge", "Threads of all targets now.", counters->threads_now);
	metrics_one(writer, "profd_threads_created_total", "counter", "Threads that targets had or made.",
		    counters->threads_created);
	metrics_one(writer, "profd_threads_ended_total", "counter", "Threads of targets that ended.",
		    counters->threads_ended);
	metrics_one(writer, "profd_thread_walks_total", "counter",
		    "Walks over all threads of a target; requests that overlap share one.", counters->thread_walks);
}

// A snapshot of each target.
static void metrics_states(struct collector *collector, struct writer *writer)
{
	struct collector_target targets[METRICS_TARGETS];
	size_t count = collector_targets(collector, targets, METRICS_TARGETS);

	metrics_head(writer, "profd_threads_by_state", "gauge", "Threads of a target, by what they wait for.");
	for (size_t i = 0; i < count && i < METRICS_TARGETS; i++) {
		struct thread_dump *dump;
		uint32_t nstates;

		if (collector_snapshot(collector, targets[i].pid, &dump) != 0)
			continue;
		struct thread_dump_state_count *states = thread_dump_count_states(dump, &nstates);
		for (uint32_t k = 0; states != NULL && k < nstates; k++)
			writer_printf(writer, "profd_threads_by_state{pid=\"%d\",state=\"%s\"} %" PRIu64 "\n",
				      (int)targets[i].pid, states[k].state, states[k].count);
		free(states);
		thread_dump_destroy(dump);
	}
}

static void metrics_tables(struct writer *writer, const struct table_cache_counters *counters)
{
	metrics_head(writer, "profd_unwind_tables_total", "counter", "Unwind tables, by where they came from.");
	writer_printf(writer, "profd_unwind_tables_total{source=\"built\"} %" PRIu64 "\n", counters->built);
	writer_printf(writer, "profd_unwind_tables_total{source=\"cache\"} %" PRIu64 "\n", counters->found);
	metrics_head(writer, "profd_name_tables_total", "counter",
		     "Tables of names: compiled from debug info; found in the cache.");
	writer_printf(writer, "profd_name_tables_total{source=\"built\"} %" PRIu64 "\n", counters->names_built);
	writer_printf(writer, "profd_name_tables_total{source=\"cache\"} %" PRIu64 "\n", counters->names_found);
	metrics_head(writer, "profd_table_cache_errors_total", "counter",
		     "Files of the cache that were damaged and removed; tables that could not be stored.");
	writer_printf(writer, "profd_table_cache_errors_total{reason=\"damaged\"} %" PRIu64 "\n", counters->damaged);
	writer_printf(writer, "profd_table_cache_errors_total{reason=\"unwritten\"} %" PRIu64 "\n",
		      counters->unwritten);
}

static void metrics_names(struct writer *writer, const struct collector_counters *counters)
{
	metrics_one(writer, "profd_name_failures_total", "counter",
		    "Processes that were to read a file's debug info, and died or made nothing of it.",
		    counters->tables.names_failed);
	metrics_one(writer, "profd_debuginfod_asked_total", "counter",
		    "Files of debug info that debuginfod servers were asked for.", counters->downloads.asked);
	metrics_head(writer, "profd_debuginfod_answers_total", "counter", "What came of it.");
	writer_printf(writer, "profd_debuginfod_answers_total{result=\"downloaded\"} %" PRIu64 "\n",
		      counters->downloads.downloaded);
	writer_printf(writer, "profd_debuginfod_answers_total{result=\"not_there\"} %" PRIu64 "\n",
		      counters->downloads.not_there);
	writer_printf(writer, "profd_debuginfod_answers_total{result=\"failed\"} %" PRIu64 "\n",
		      counters->downloads.failed);
}

static void metrics_stores(struct writer *writer, const struct collector_counters *counters)
{
	static const char *const reasons[WIRE_STORE_LOST_COUNT] = {
		[WIRE_STORE_LOST_STACKS] = "stacks_full",
		[WIRE_STORE_LOST_BUCKETS] = "buckets_full",
		[WIRE_STORE_LOST_LIVE] = "live_objects_full",
	};

	metrics_one(writer, "profd_stores", "gauge", "Targets with a heap or lock profile now.", counters->stores_now);
	metrics_head(writer, "profd_store_dropped_total", "counter",
		     "Samples of heap and lock profiles that found no room, or objects that cannot be followed.");
	for (int i = 0; i < WIRE_STORE_LOST_COUNT; i++)
		writer_printf(writer, "profd_store_dropped_total{reason=\"%s\"} %" PRIu64 "\n", reasons[i],
			      counters->store_lost[i]);
	metrics_one(writer, "profd_store_traces_lost_total", "counter",
		    "Samples of heap and lock profiles whose trace id was not kept, for others came after.",
		    counters->traces_lost);
}

static void metrics_requests(struct metrics *metrics, struct writer *writer)
{
	metrics_head(writer, "profd_http_requests_total", "counter", "Answered requests by path and status.");
	for (int path = 0; path < HTTP_ENDPOINT_COUNT; path++) {
		for (int i = 0; i < METRICS_STATUSES; i++) {
			uint64_t count = __atomic_load_n(&metrics->requests[path][i], __ATOMIC_RELAXED);
			char status[16] = "other";
			if (count == 0)
				continue;
			if (i < METRICS_STATUSES - 1)
				snprintf(status, sizeof(status), "%u", metrics_statuses[i]);
			writer_printf(writer, "profd_http_requests_total{path=\"%s\",status=\"%s\"} %" PRIu64 "\n",
				      metrics_paths[path], status, count);
		}
	}
	metrics_one(writer, "profd_http_hangups_total", "counter", "Clients gone before their profile was ready.",
		    __atomic_load_n(&metrics->hangups, __ATOMIC_RELAXED));
}

static uint64_t metrics_rss_bytes(void)
{
	unsigned long size = 0;
	unsigned long resident = 0;
	FILE *file = fopen("/proc/self/statm", "re");

	if (file == NULL)
		return 0;
	if (fscanf(file, "%lu %lu", &size, &resident) != 2) // NOLINT(cert-err34-c): the kernel's own numbers
		resident = 0;
	fclose(file);
	return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void metrics_process(struct writer *writer)
{
	struct timespec cpu = {0};

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	metrics_head(writer, "process_cpu_seconds_total", "counter", "CPU time used by the collector.");
	writer_printf(writer, "process_cpu_seconds_total %lld.%06ld\n", (long long)cpu.tv_sec, cpu.tv_nsec / 1000);
	metrics_one(writer, "process_resident_memory_bytes", "gauge", "Resident memory of the collector.",
		    metrics_rss_bytes());
}

void metrics_write(struct metrics *metrics, struct collector *collector, uint32_t profiles_running, bool with_states,
		   struct writer *writer)
{
	struct collector_counters counters = {0};

	collector_counters(collector, &counters);
	metrics_samples(writer, &counters);
	metrics_targets(writer, &counters);
	metrics_threads(writer, &counters);
	if (with_states)
		metrics_states(collector, writer);
	metrics_tables(writer, &counters.tables);
	metrics_names(writer, &counters);
	metrics_stores(writer, &counters);
	metrics_requests(metrics, writer);
	metrics_one(writer, "profd_profiles_running", "gauge", "Profile requests running now.", profiles_running);
	metrics_process(writer);
	metrics_head(writer, "profd_build_info", "gauge", "The collector's version.");
	writer_puts(writer, "profd_build_info{version=\"" PROFD_VERSION "\"} 1\n");
}
