// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// session.c: see session.h. What concerns mappings and tables is in session_maps.c.

#include "collector/session.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "collector/clock.h"
#include "collector/flight_samples.h"
#include "collector/log.h"
#include "collector/session_store.h"
#include "collector/snapshot.h"
#include "collector/window_impl.h"

#define MESSAGES_AT_ONCE 32
#define LINGER_NS 100000000LL  // of a target that lives on without us: exec's other threads may still be dying
#define SETTLE_NS 2000000000LL // that an ended target's samples wait for its mappings
#define TABLES_NS 200000000LL  // that sampling waits for unwind tables
#define DRAINS_AFTER_STOP 5

static struct log_limit refused_limit;

struct session *session_ref(struct session *session)
{
	session->refs++;
	return session;
}

void session_unref(struct session *session)
{
	if (!session || --session->refs > 0)
		return;
	session_release_maps(session);
	snapshot_source_destroy(session->snapshot);
	mapping_unref(session->main_mapping);
	free(session->cmdline);
	if (session->jitdump_fd >= 0)
		close(session->jitdump_fd);
	free(session);
}

static void release_target(struct session *session)
{
	session_leave_store(session);
	ring_reader_finish(&session->reader);
	region_unmap(&session->region);
	event_file_unmap(&session->events);
	flight_samples_destroy(session->flight);
	session->flight = NULL;
	if (session->transport.fd >= 0)
		core_unwatch(session->collector, session->transport.fd);
	transport_finish(&session->transport);
	if (session->pidfd >= 0) {
		core_unwatch(session->collector, session->pidfd);
		close(session->pidfd);
	}
	session->pidfd = -1;
	if (session->jobs == 0)
		session_release_maps(session);
}

// What a counter in the header grew by. One that went back is a lie and counts nothing.
static uint64_t growth(uint64_t now, uint64_t before)
{
	return now > before && now - before < (1ULL << 32) ? now - before : 0;
}

// Of those that it had; never less than before, though the two numbers are not of one moment.
static void count_ended(struct session *session, uint64_t ended)
{
	if (ended <= session->threads_ended)
		return;
	session->collector->counters.threads_ended += growth(ended, session->threads_ended);
	session->threads_ended = ended;
}

void session_close(struct session *session)
{
	struct collector *collector = session->collector;
	struct window *window;

	if (session->state == SESSION_CLOSED)
		return;
	if (session->state == SESSION_NEW)
		collector->nunregistered--;
	else
		collector->counters.targets_now--;
	count_ended(session, session->live.threads_seen);
	TAILQ_FOREACH(window, &collector->windows, link)
	{
		if (window->options.trace && window_covers(window, session))
			window_trace_end(window, session);
	}
	session->state = SESSION_CLOSED;
	release_target(session);
	TAILQ_REMOVE(&collector->sessions, session, link);
	TAILQ_INSERT_TAIL(&collector->closed, session, link);
	collector->nsessions--;
	TAILQ_FOREACH(window, &collector->windows, link)
	{
		if (window->session == session)
			window_end(window);
	}
	pthread_cond_broadcast(&collector->changed);
}

// ---- What the target sends ------------------------------------------------------------------------------------------

static void begin_end(struct session *session)
{
	session->state = SESSION_ENDING;
	session->ending_since_ns = clock_now_ns();
	session->rate_sent = 0;
	core_unwatch(session->collector, session->transport.fd);
	transport_finish(&session->transport);
}

// The connection is gone, for whatever reason.
static void hang_up(struct session *session)
{
	if (session->state == SESSION_NEW) {
		session_close(session);
	} else if (session->state == SESSION_LIVE) {
		begin_end(session);
		session_check_end(session);
	}
}

static void refuse(struct session *session, const char *why, enum wire_refusal refusal)
{
	log_limited(&refused_limit, "refused process %d of user %u: %s", (int)session->pid, (unsigned)session->uid,
		    why);
	session->collector->counters.targets_refused++;
	transport_refuse(session->transport.fd, refusal);
	session_close(session);
}

static void read_identity(struct session *session)
{
	char path[64];
	ssize_t n;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/exe", (int)session->pid);
	n = readlink(path, session->exe, sizeof(session->exe) - 1);
	session->exe[n > 0 ? n : 0] = '\0';
	snprintf(path, sizeof(path), "/proc/%d/comm", (int)session->pid);
	file = fopen(path, "re");
	if (!file)
		return;
	if (fgets(session->comm, sizeof(session->comm), file))
		session->comm[strcspn(session->comm, "\n")] = '\0';
	(void)fclose(file);
}

static const char *check_limits(const struct session *session)
{
	const struct collector *collector = session->collector;
	const struct session *other;
	uint32_t of_user = 0;

	if (collector->counters.targets_now >= CORE_MAX_SESSIONS)
		return "too many targets";
	if (session->uid == geteuid())
		return NULL;
	TAILQ_FOREACH(other, &collector->sessions, link)
	{
		of_user += other->uid == session->uid && other->state != SESSION_NEW;
	}
	return of_user >= CORE_MAX_FOREIGN_SESSIONS ? "too many targets of this user" : NULL;
}

static const char *map_target(struct session *session, const struct wire_hello *hello, size_t size, int fd,
			      enum wire_refusal *ret_refusal)
{
	*ret_refusal = WIRE_REFUSED_BAD;
	if (size != sizeof(*hello) || hello->msg.type != WIRE_MSG_HELLO || hello->magic != WIRE_MAGIC || fd < 0)
		return "not an agent";
	*ret_refusal = WIRE_REFUSED_VERSION;
	if (hello->msg.arg != WIRE_VERSION)
		return "its libprofd.so is of another version";
	*ret_refusal = WIRE_REFUSED_NAMESPACE;
	if (hello->pid != (uint32_t)session->pid)
		return "its pid is not the one seen from here (another PID namespace, or a fork)";
	*ret_refusal = WIRE_REFUSED_BAD;
	if (region_map(fd, hello->region_size, session->pid, &session->region) < 0)
		return "its shared memory makes no sense";
	if (ring_reader_init(&session->reader, &session->region) < 0)
		return "out of memory";
	return NULL;
}

static void take_hello(struct session *session, const struct wire_hello *hello, size_t size, int fd)
{
	struct collector *collector = session->collector;
	const char *problem = check_limits(session);
	enum wire_refusal refusal = WIRE_REFUSED_FULL;
	struct region_live live;

	if (!problem)
		problem = map_target(session, hello, size, fd, &refusal);
	if (problem) {
		refuse(session, problem, refusal);
		return;
	}
	session->ppid = (pid_t)hello->ppid;
	session->since_ns = clock_epoch_ns();
	read_identity(session);
	kinship_add(&collector->kinship, session->pid);
	session->state = SESSION_LIVE;
	collector->nunregistered--;
	collector->counters.targets_now++;
	collector->counters.targets_total++;
	// Sampling before we said so: it goes on from the parent of a fork.
	region_read_live(&session->region, &live);
	session_wish_rates(session, &hello->rates);
	if (hello->forked && (live.period_ns > 0 || session->wants_tables)) {
		session->live.maps_gen = live.maps_gen;
		session_inherit(session);
	}
	session_resolve(session);
	session_advance(session);
}

static void take_message(struct session *session, const void *data, size_t size, int fd)
{
	struct wire_hello hello = {0};

	memcpy(&hello, data, size < sizeof(hello) ? size : sizeof(hello));
	if (session->state == SESSION_NEW) {
		take_hello(session, &hello, size, fd);
	} else if (size == sizeof(struct wire_msg) && hello.msg.type == WIRE_MSG_MAPS) {
		// What was sampled before the change is looked up in the mappings from before it.
		session_drain(session, RING_READER_LIVE);
		session->maps_dirty = true;
		session_advance(session);
	} else if (size == sizeof(struct wire_msg) && hello.msg.type == WIRE_MSG_WANT_TABLES) {
		session->wants_tables = true;
		session->ready_sent = false;
		session_advance(session);
	} else if ((hello.msg.type == WIRE_MSG_EVENTS && session_take_events(session, data, size, fd)) ||
		   (hello.msg.type == WIRE_MSG_STORE && session_take_store(session, data, size, fd))) {
		return;
	} else {
		log_limited(&refused_limit, "process %d sent a message that is none of an agent's", (int)session->pid);
		hang_up(session);
	}
}

void session_receive(struct session *session)
{
	for (int i = 0; i < MESSAGES_AT_ONCE; i++) {
		uint64_t buf[TRANSPORT_MAX_MESSAGE / 8];
		int fd;
		ssize_t n;

		if (session->state != SESSION_NEW && session->state != SESSION_LIVE)
			return;
		n = transport_receive(session->transport.fd, buf, sizeof(buf), &fd);
		if (n == -EAGAIN || n == -EINTR)
			return;
		if (n > 0)
			take_message(session, buf, (size_t)n, fd);
		else
			hang_up(session);
		if (fd >= 0)
			close(fd);
	}
}

static void flush(struct session *session)
{
	if (session->transport.fd >= 0 && transport_flush(&session->transport) < 0)
		hang_up(session);
}

static void watch_for_room(struct session *session)
{
	uint32_t events = EPOLLIN | EPOLLRDHUP;

	if (session->transport.fd < 0)
		return;
	if (session->transport.first && !session->transport.wants_retry)
		events |= EPOLLOUT;
	core_watch(session->collector, session->transport.fd, events, &session->socket_source);
}

static void socket_ready(void *owner, uint32_t events)
{
	struct session *session = owner;

	if (session->state == SESSION_CLOSED)
		return;
	if (events & EPOLLOUT) {
		flush(session);
		watch_for_room(session);
	}
	if (events & ~(uint32_t)EPOLLOUT)
		session_receive(session);
}

static void pidfd_ready(void *owner, uint32_t events)
{
	struct session *session = owner;

	if (session->state == SESSION_CLOSED)
		return;
	core_unwatch(session->collector, session->pidfd);
	// A short life may be over before its first message was read.
	session_receive(session);
	if (session->state == SESSION_NEW)
		session_close(session);
	else
		session_check_end(session);
}

struct session *session_create(struct collector *collector, int fd, const struct transport_peer *peer)
{
	struct session *session = calloc(1, sizeof(*session));

	if (!session)
		return NULL;
	*session = (struct session){.collector = collector, .refs = 1, .id = ++collector->last_session_id};
	session->pid = peer->pid;
	session->uid = peer->uid;
	session->pidfd = peer->pidfd;
	session->jitdump_fd = -1;
	transport_init(&session->transport, fd);
	session->socket_source = (struct core_source){socket_ready, session};
	session->pidfd_source = (struct core_source){pidfd_ready, session};
	TAILQ_INSERT_TAIL(&collector->sessions, session, link);
	collector->nsessions++;
	collector->nunregistered++;
	if (core_watch(collector, fd, EPOLLIN | EPOLLRDHUP, &session->socket_source) < 0 ||
	    (peer->pidfd >= 0 && core_watch(collector, peer->pidfd, EPOLLIN, &session->pidfd_source) < 0)) {
		session_close(session);
		return NULL;
	}
	return session;
}

// ---- What we send ---------------------------------------------------------------------------------------------------

void session_send(struct session *session, const void *data, size_t size, int passed_fd)
{
	if (session->state != SESSION_LIVE)
		return;
	if (transport_send(&session->transport, data, size, passed_fd) < 0)
		hang_up(session);
	else if (session->transport.first)
		watch_for_room(session);
}

static void send_ready(struct session *session)
{
	const struct wire_msg message = {.type = WIRE_MSG_READY};

	if (session->ready_sent)
		return;
	session->ready_sent = true;
	session_send(session, &message, sizeof(message), -1);
}

static void send_rate(struct session *session, uint32_t rate_hz)
{
	struct wire_sampling message = {.msg.type = WIRE_MSG_SAMPLING, .rate_hz = rate_hz};

	if (session->rate_sent == rate_hz)
		return;
	message.clock = session->collector->sampling.clock;
	message.max_overhead_permille = session->collector->sampling.max_overhead_permille;
	message.msg.arg = ++session->sampling_seq;
	session->rate_sent = rate_hz;
	session->drains_left = DRAINS_AFTER_STOP;
	session_send(session, &message, sizeof(message), -1);
	pthread_cond_broadcast(&session->collector->changed);
}

// A moment's wait for its tables gives whole stacks from the first one on. Not more: until a table is there, frame pointers must do.
static bool waits_for_tables(struct session *session)
{
	if (session->tables_pending == 0 || session->rate_sent > 0)
		return false;
	if (session->tables_since_ns == 0)
		session->tables_since_ns = clock_now_ns();
	return clock_now_ns() - session->tables_since_ns < TABLES_NS;
}

void session_advance(struct session *session)
{
	uint32_t rate_hz;

	if (session->state != SESSION_LIVE)
		return;
	session_send_trace(session);
	rate_hz = window_rate(session);
	// An armed target changes its rate at once; tables concern arming alone.
	if (rate_hz == 0 || session->rate_sent > 0)
		send_rate(session, rate_hz);
	if (rate_hz == 0 && !session->wants_tables) {
		session->tables_since_ns = 0;
		session_send_rates(session);
		send_ready(session);
		return;
	}
	if (session->resolving)
		return;
	if (!session->resolved || session->maps_dirty) {
		session_resolve(session);
		return;
	}
	session_build_tables(session);
	if (waits_for_tables(session))
		return;
	session->tables_since_ns = 0;
	send_rate(session, rate_hz);
	session_send_rates(session);
	send_ready(session);
}

// ---- Samples --------------------------------------------------------------------------------------------------------

// A stack with generated code in it that keeps no frame pointers is only thought to be complete.
static uint8_t judge_stop(const struct session *session, uint8_t stop, size_t nframes)
{
	const struct aggregate_frame *frames = session->collector->lookup.frames;

	for (size_t i = 0; session->jit_skips_callers && stop == WIRE_STOP_END && i < nframes; i++)
		if (frames[i].mapping && !frames[i].mapping->module)
			return WINDOW_STOP_SKIPPED;
	return stop;
}

static bool take_record(void *context, const struct ring_record *record)
{
	struct session *session = context;
	struct collector *collector = session->collector;
	struct window *window;
	size_t nframes;
	uint8_t stop;
	bool unknown;

	if (TAILQ_EMPTY(&collector->windows) && session_flight_rate(session) == 0)
		return true;
	nframes = frame_lookup(&collector->lookup, session, record, &unknown);
	if (session_waits_for_maps(session, record->sample.maps_gen, unknown)) {
		if (record->sample.time_ns < (uint64_t)session->held_ns)
			session->held_ns = (int64_t)record->sample.time_ns;
		return false;
	}
	session_flight_keep(session, &record->sample, collector->lookup.frames, nframes);
	stop = judge_stop(session, record->sample.stop, nframes);
	TAILQ_FOREACH(window, &collector->windows, link)
	{
		if (window_covers(window, session))
			window_take(window, session, record, collector->lookup.frames, nframes, stop);
	}
	return true;
}

static void add_counts(struct session *session, const struct ring_counts *counts)
{
	struct collector_counters *sums = &session->collector->counters;
	const struct region_live before = session->live;
	struct window *window;
	struct window_news news;

	region_read_live(&session->region, &session->live);
	news = (struct window_news){.unsampled = growth(session->live.threads_unsampled, before.threads_unsampled),
				    .slowed = growth(session->live.slowed_total, before.slowed_total)};
	sums->generated += counts->generated;
	sums->delivered += counts->records;
	sums->bad_records += counts->bad;
	for (int i = 0; i < WIRE_DROP_COUNT; i++)
		sums->dropped[i] += counts->dropped[i];
	sums->threads_unsampled += news.unsampled;
	sums->threads_created += growth(session->live.threads_seen, before.threads_seen);
	sums->threads_slowed += news.slowed;
	sums->contexts_lost += growth(session->live.contexts_lost, before.contexts_lost);
	sums->labels_lost += growth(session->live.labels_lost, before.labels_lost);
	sums->tasks_lost += growth(session->live.tasks_lost, before.tasks_lost);
	if (session->live.threads_seen > session->live.threads_live)
		count_ended(session, session->live.threads_seen - session->live.threads_live);
	sums->foreign_forwarded += growth(session->live.foreign_forwarded, before.foreign_forwarded);
	sums->foreign_ignored += growth(session->live.foreign_ignored, before.foreign_ignored);
	sums->restarted_syscalls += growth(session->live.restarted, before.restarted);
	TAILQ_FOREACH(window, &session->collector->windows, link)
	{
		if (window_covers(window, session))
			window_count(window, session, counts, &news);
	}
}

unsigned session_drain(struct session *session, enum ring_reader_mode mode)
{
	struct ring_counts counts = {0};
	unsigned fill, events_fill;

	if (!session->region.header)
		return 0;
	session->drain_ns = clock_now_ns();
	session->held_ns = INT64_MAX;
	fill = ring_reader_drain(&session->reader, mode, take_record, session, &counts);
	add_counts(session, &counts);
	session_drain_events(session, mode);
	events_fill = session_events_fill(session);
	return events_fill > fill ? events_fill : fill;
}

void session_drain_with(struct session *session, enum session_patience patience)
{
	session->patience = patience;
	session_drain(session, RING_READER_LIVE);
	if (patience == SESSION_WAITS_NO_MORE && session->state == SESSION_ENDING)
		session_drain(session, RING_READER_DEAD);
	session->patience = SESSION_WAITS;
}

// ---- Ticks and the end ----------------------------------------------------------------------------------------------

bool session_process_is_dead(const struct session *session)
{
	struct pollfd poll_fd = {.fd = session->pidfd, .events = POLLIN};

	return session->pidfd < 0 || (poll(&poll_fd, 1, 0) == 1 && (poll_fd.revents & POLLIN));
}

bool session_is_settled(const struct session *session)
{
	return session->state == SESSION_CLOSED || !session->resolving;
}

void session_check_end(struct session *session)
{
	bool dead;
	int64_t waited_ns;

	if (session->state != SESSION_LIVE && session->state != SESSION_ENDING)
		return;
	dead = session_process_is_dead(session);
	if (session->state == SESSION_LIVE) {
		if (!dead)
			return;
		begin_end(session);
	}
	waited_ns = clock_now_ns() - session->ending_since_ns;
	session_drain(session, RING_READER_LIVE);
	if ((!dead && waited_ns < LINGER_NS) || (session->resolving && waited_ns < SETTLE_NS))
		return;
	session_drain(session, RING_READER_DEAD);
	session_close(session);
}

unsigned session_tick(struct session *session)
{
	unsigned fill = 0;

	if (session->transport.wants_retry) {
		flush(session);
		watch_for_room(session);
	}
	if (session->state == SESSION_ENDING) {
		session_check_end(session);
	} else if (session->state == SESSION_LIVE) {
		fill = session_drain(session, RING_READER_LIVE);
		if (session->rate_sent > 0)
			session_look_for_service(session);
		if (session->rate_sent == 0 && session->drains_left > 0)
			session->drains_left--;
		if (session->maps_dirty || session->tables_since_ns > 0) {
			session_advance(session);
			pthread_cond_broadcast(&session->collector->changed);
		}
	}
	return fill;
}

bool session_needs_tick(const struct session *session)
{
	if (session->state == SESSION_ENDING || session->transport.wants_retry)
		return true;
	if (session->state != SESSION_LIVE)
		return false;
	return session->rate_sent > 0 || session->trace_sent || session->drains_left > 0 ||
	       session->tables_since_ns > 0 ||
	       (session->maps_dirty && (window_rate(session) > 0 || session->wants_tables));
}
