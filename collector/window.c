// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// window.c: see window.h: opening, filling, stopping. What becomes of it is in window_profile.c.

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "collector/clock.h"
#include "collector/mapping.h"
#include "collector/module.h"
#include "collector/session.h"
#include "collector/trace.h"
#include "collector/window_impl.h"
#include "collector/window_work.h"
#include "collector/worker.h"

#define ARM_NS 2000000000LL    // that window_open waits for its targets' tables
#define SETTLE_NS 2000000000LL // that window_stop waits for their mappings
#define NAMES_AT_ONCE 64u      // threads named without letting go of the lock
#define SECOND_NS 1000000000u

bool window_covers(const struct window *window, const struct session *session)
{
	return !window->session || window->session == session;
}

uint32_t window_rate(const struct session *session)
{
	const struct window *window;
	uint32_t rate_hz = session_flight_rate(session);

	TAILQ_FOREACH(window, &session->collector->windows, link)
	{
		if (window_covers(window, session) && window->options.rate_hz > rate_hz)
			rate_hz = window->options.rate_hz;
	}
	return rate_hz;
}

// ---- Filling, on the loop thread ------------------------------------------------------------------------------------

struct window_source *window_add_source(struct window *window, struct session *session)
{
	bool new;
	uint32_t index = intern_add(&window->sources, &session->id, &new);
	struct window_source *source;

	if (index == INTERN_NONE)
		return NULL;
	source = intern_item(&window->sources, index);
	if (new)
		source->session = session_ref(session);
	return source;
}

struct seek_job {
	struct worker_job job;
	struct module *module; // a reference
};

static void run_seek(struct worker_job *job)
{
	struct seek_job *seek = (struct seek_job *)job;

	module_seek(seek->module);
	module_unref(seek->module);
	free(seek);
}

// A mapping has its first sample: its names will be wanted at the end, when the process may be gone, and its root directory with it.
static void seek_debug_info(struct window *window)
{
	const struct intern *mappings = &window->aggregate.mappings;

	for (; window->nsought < mappings->count; window->nsought++) {
		const struct aggregate_mapping *kept = intern_item(mappings, window->nsought);
		struct seek_job *seek = kept->mapping->module ? malloc(sizeof(*seek)) : NULL;

		if (!seek)
			continue;
		*seek = (struct seek_job){.job.run = run_seek, .module = module_ref(kept->mapping->module)};
		worker_pool_submit(window->collector->workers, &seek->job);
	}
}

static bool keep(struct window *window, struct session *session, const struct ring_record *record, uint32_t work,
		 const struct aggregate_frame *frames, size_t nframes)
{
	const struct wire_sample *sample = &record->sample;
	struct aggregate_sample sum = {.work = work, .samples = sample->weight, .cpu_ns = sample->cpu_ns};
	struct aggregate_thread *thread;
	bool new;

	if (!window_add_source(window, session) ||
	    aggregate_thread(&window->aggregate, session->id, sample->tid, &sum.thread, &new) < 0)
		return false;
	thread = intern_item(&window->aggregate.threads, sum.thread);
	if (new)
		session_thread_name(session, sample->tid, sample->slot, thread->name);
	if (aggregate_add(&window->aggregate, &sum, frames, nframes) < 0)
		return false;
	seek_debug_info(window);
	return true;
}

static void add_saturating(uint64_t *sum, uint64_t value)
{
	if (__builtin_add_overflow(*sum, value, sum))
		*sum = UINT64_MAX;
}

void window_take(struct window *window, struct session *session, const struct ring_record *record,
		 const struct aggregate_frame *frames, size_t nframes, uint8_t stop)
{
	struct window_stats *stats = &window->stats;
	uint32_t work;
	bool fits;

	// A trace that wants none, though somebody else has the target sampled.
	if (window->options.rate_hz == 0)
		return;
	fits = window_work_find(window, session, record, &work) == 0;
	if (fits && !window_work_is_wanted(window, work)) {
		stats->unwanted++;
		return;
	}
	if (fits)
		fits = window->options.trace ? window_trace_sample(window, session, record, frames, nframes)
					     : keep(window, session, record, work, frames, nframes);
	if (!fits) {
		stats->dropped_aggregate++;
		return;
	}
	stats->records++;
	add_saturating(&stats->stop_ns[stop], record->sample.cpu_ns);
	add_saturating(&stats->samples, record->sample.weight);
	add_saturating(&stats->cpu_ns, record->sample.cpu_ns);
}

void window_count(struct window *window, struct session *session, const struct ring_counts *counts,
		  const struct window_news *news)
{
	const struct region_live *live = &session->live;
	struct window_stats *stats = &window->stats;

	if (!window->first)
		window->first = session_ref(session);
	stats->generated += counts->generated;
	for (int i = 0; i < WIRE_DROP_COUNT; i++)
		stats->dropped[i] += counts->dropped[i];
	stats->threads_unsampled += news->unsampled;
	stats->slowed += news->slowed;
	if (live->timer_errno && stats->threads_unsampled > 0)
		stats->timer_errno = (int)live->timer_errno;
	if (live->period_ns > 0 && (stats->period_ns == 0 || live->period_ns < stats->period_ns))
		stats->period_ns = live->period_ns;
	if (live->clock > stats->clock)
		stats->clock = live->clock;
	if (live->perf_errno)
		stats->perf_errno = (int)live->perf_errno;
}

void window_end(struct window *window)
{
	uint64_t one = 1;

	window->ended = true;
	// The counter cannot be full: it was 0 or 1.
	(void)!write(window->event_fd, &one, sizeof(one));
}

// ---- Opening --------------------------------------------------------------------------------------------------------

static struct window *create(struct collector *collector, const struct window_options *options)
{
	struct window *window = calloc(1, sizeof(*window));

	if (!window)
		return NULL;
	window->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (window->event_fd < 0) {
		free(window);
		return NULL;
	}
	window->options = *options;
	window->collector = collector;
	__atomic_fetch_add(&collector->refs, 1, __ATOMIC_RELAXED);
	aggregate_init(&window->aggregate, CORE_WINDOW_BYTES);
	intern_init(&window->sources, sizeof(struct window_source), sizeof(uint32_t), &window->aggregate.budget);
	return window;
}

static struct session *find_target(struct collector *collector, pid_t pid)
{
	struct session *session;

	TAILQ_FOREACH(session, &collector->sessions, link)
	{
		if (session->pid == pid && session->state == SESSION_LIVE && !session_process_is_dead(session))
			return session;
	}
	return NULL;
}

static int attach(struct window *window)
{
	struct collector *collector = window->collector;
	struct session *session = NULL;

	if (collector->stopping)
		return -ESHUTDOWN;
	if (collector->counters.windows_now >= CORE_MAX_WINDOWS)
		return -EBUSY;
	if (window->options.pid != 0) {
		session = find_target(collector, window->options.pid);
		if (!session)
			return -ESRCH;
		window->session = session_ref(session);
	}
	TAILQ_FOREACH(session, &collector->sessions, link)
	{
		if (!window_covers(window, session))
			continue;
		// What was sampled before is not this window's.
		session_drain(session, RING_READER_LIVE);
		if (window->options.trace && session->events.header)
			window_trace_begin(window, session,
					   trace_options(window->options.trace)->keep_ns > 0 ||
						   trace_options(window->options.trace)->from_oldest);
		window->stats.threads_unsampled += session->live.threads_unsampled;
	}
	window->open = true;
	TAILQ_INSERT_TAIL(&collector->windows, window, link);
	collector->counters.windows_now++;
	return 0;
}

static void advance_targets(const struct window *window)
{
	struct session *session, *next;

	for (session = TAILQ_FIRST(&window->collector->sessions); session; session = next) {
		next = TAILQ_NEXT(session, link);
		if (window_covers(window, session))
			session_advance(session);
	}
	core_update_timer(window->collector);
}

static bool waits_for_events(const struct window *window, const struct session *session)
{
	return window->options.trace && !trace_options(window->options.trace)->passive && !session->events.header &&
	       session->events_errno == 0;
}

static bool is_armed(const struct window *window)
{
	const struct session *session;

	TAILQ_FOREACH(session, &window->collector->sessions, link)
	{
		if (window_covers(window, session) && session->state == SESSION_LIVE &&
		    (session->rate_sent < window->options.rate_hz || waits_for_events(window, session)))
			return false;
	}
	return true;
}

int window_open(struct collector *collector, const struct window_options *options, struct window **ret_window)
{
	struct window *window;
	int64_t deadline_ns = clock_now_ns() + ARM_NS;
	int r;

	if ((options->rate_hz < 1 && !options->trace) || options->rate_hz > WIRE_MAX_RATE_HZ || options->pid < 0)
		return -EINVAL;
	window = create(collector, options);
	if (!window)
		return -ENOMEM;
	pthread_mutex_lock(&collector->lock);
	r = attach(window);
	if (r == 0) {
		advance_targets(window);
		while (!is_armed(window) && !window->ended && core_wait(collector, deadline_ns))
			;
		window->stats.start_ns = clock_epoch_ns();
	}
	pthread_mutex_unlock(&collector->lock);
	if (r < 0) {
		window_destroy(window);
		return r;
	}
	*ret_window = window;
	return 0;
}

bool window_ended(struct window *window)
{
	bool ended;

	pthread_mutex_lock(&window->collector->lock);
	ended = window->ended;
	pthread_mutex_unlock(&window->collector->lock);
	return ended;
}

int window_fd(struct window *window)
{
	return window->event_fd;
}

void window_stats(struct window *window, struct window_stats *ret_stats)
{
	pthread_mutex_lock(&window->collector->lock);
	*ret_stats = window->stats;
	ret_stats->threads = window->aggregate.threads.count;
	ret_stats->targets = window->sources.count;
	if (window->open)
		ret_stats->end_ns = clock_epoch_ns();
	if (ret_stats->period_ns == 0)
		ret_stats->period_ns = window->options.rate_hz ? SECOND_NS / window->options.rate_hz : 0;
	pthread_mutex_unlock(&window->collector->lock);
}

const char *window_perf_reason(int perf_errno)
{
	const char *text;

	switch (perf_errno) {
	case EACCES:
	case EPERM:
		return "refused: see kernel.perf_event_paranoid";
	case ENOTSUP:
		return "not used where the program takes SIGPROF from a signalfd";
	default:
		text = strerrordesc_np(perf_errno);
		return text ? text : "unknown error";
	}
}

// ---- Stopping -------------------------------------------------------------------------------------------------------

static bool is_settled(const struct window *window)
{
	const struct session *session;

	TAILQ_FOREACH(session, &window->collector->sessions, link)
	{
		if (window_covers(window, session) && !session_is_settled(session))
			return false;
	}
	return true;
}

static void drain_targets(const struct window *window, enum session_patience patience)
{
	struct session *session, *next;

	// A short life may be over before the loop has heard of it.
	core_accept_agents(window->collector);
	for (session = TAILQ_FIRST(&window->collector->sessions); session; session = next) {
		next = TAILQ_NEXT(session, link);
		if (session->state == SESSION_NEW)
			session_receive(session);
		if (!window_covers(window, session))
			continue;
		session_drain_with(session, patience);
		session_check_end(session);
	}
}

static void end_traces(struct window *window)
{
	struct session *session;

	TAILQ_FOREACH(session, &window->collector->sessions, link)
	{
		if (window_covers(window, session))
			window_trace_end(window, session);
	}
	trace_finish(window->options.trace);
}

// Threads may have been named since they were first seen.
static void refresh_names(struct window *window, uint32_t first)
{
	struct aggregate *aggregate = &window->aggregate;

	for (uint32_t i = first; i < aggregate->threads.count && i < first + NAMES_AT_ONCE; i++) {
		struct aggregate_thread *thread = intern_item(&aggregate->threads, i);
		uint32_t index = intern_find(&window->sources, &thread->source);
		const struct window_source *source;
		char name[16];

		if (index == INTERN_NONE)
			continue;
		source = intern_item(&window->sources, index);
		session_thread_name(source->session, thread->tid, UINT32_MAX, name);
		if (name[0])
			memcpy(thread->name, name, sizeof(name));
	}
}

// The target that the profile is named after: the first with a sample.
static void note_main_target(struct window *window)
{
	const struct session *session = window->first;

	if (window->sources.count > 0)
		session = ((struct window_source *)intern_item(&window->sources, 0))->session;
	if (!session)
		return;
	if (session->main_mapping)
		window->main_mapping = mapping_ref(session->main_mapping);
	window->command = strdup(session->cmdline ? session->cmdline : session->comm);
}

// What targets say of themselves as a whole.
static void note_sources(struct window *window)
{
	for (uint32_t i = 0; i < window->sources.count; i++) {
		struct window_source *source = intern_item(&window->sources, i);

		window->stats.contexts_lost += source->session->live.contexts_lost;
		window->stats.labels_lost += source->session->live.labels_lost;
		memcpy(source->service, source->session->service, sizeof(source->service));
	}
}

void window_stop(struct window *window)
{
	struct collector *collector = window->collector;
	int64_t deadline_ns = clock_now_ns() + SETTLE_NS;

	pthread_mutex_lock(&collector->lock);
	if (!window->open) {
		pthread_mutex_unlock(&collector->lock);
		return;
	}
	drain_targets(window, SESSION_HURRIES);
	while (!is_settled(window) && core_wait(collector, deadline_ns))
		;
	drain_targets(window, SESSION_WAITS_NO_MORE);
	if (window->options.trace)
		end_traces(window);
	note_main_target(window);
	note_sources(window);
	window->open = false;
	window->stats.end_ns = clock_epoch_ns();
	TAILQ_REMOVE(&collector->windows, window, link);
	collector->counters.windows_now--;
	advance_targets(window);
	pthread_mutex_unlock(&collector->lock);
	for (uint32_t i = 0; i < window->aggregate.threads.count; i += NAMES_AT_ONCE) {
		pthread_mutex_lock(&collector->lock);
		refresh_names(window, i);
		pthread_mutex_unlock(&collector->lock);
	}
}

static void release_source(struct window_source *source)
{
	session_unref(source->session);
	free(source->events);
}

void window_destroy(struct window *window)
{
	struct collector *collector;

	if (!window)
		return;
	collector = window->collector;
	window_stop(window);
	pthread_mutex_lock(&collector->lock);
	for (uint32_t i = 0; i < window->sources.count; i++)
		release_source(intern_item(&window->sources, i));
	session_unref(window->session);
	session_unref(window->first);
	pthread_mutex_unlock(&collector->lock);
	aggregate_finish(&window->aggregate);
	intern_finish(&window->sources);
	mapping_unref(window->main_mapping);
	free(window->command);
	close(window->event_fd);
	free(window);
	core_unref(collector);
}
