// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// collector.c: see collector.h; its state is in core.h. The loop thread waits in epoll for the listening socket, the agents' sockets, a
// pidfd for each target, and a timer that runs only while something is sampled: with nothing to do, it does not wake.

#include "collector/collector.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "collector/clock.h"
#include "collector/log.h"
#include "collector/module.h"
#include "collector/session.h"
#include "collector/snapshot.h"
#include "collector/store_source.h"
#include "collector/table_cache.h"
#include "collector/window_impl.h"

#define EVENTS_AT_ONCE 64
#define ACCEPTS_AT_ONCE 64
#define FULL_PERCENT 30 // of a shard: drain more often. Each drain takes a CPU from the program; late ones lose samples
#define EMPTY_PERCENT 12 // drain less often
#define SYMBOL_WAIT_NS 1000000000LL
#define MAX_WORKERS 4

static struct log_limit accept_limit;

bool core_wait(struct collector *collector, int64_t deadline_ns)
{
	const struct timespec deadline = {.tv_sec = deadline_ns / 1000000000, .tv_nsec = deadline_ns % 1000000000};

	return pthread_cond_timedwait(&collector->changed, &collector->lock, &deadline) == 0;
}

int core_watch(struct collector *collector, int fd, uint32_t events, struct core_source *source)
{
	struct epoll_event event = {.events = events, .data.ptr = source};

	if (epoll_ctl(collector->epoll_fd, EPOLL_CTL_MOD, fd, &event) == 0)
		return 0;
	return epoll_ctl(collector->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

void core_unwatch(struct collector *collector, int fd)
{
	// ENOENT: was not watched any more.
	epoll_ctl(collector->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

// ---- Ticks ----------------------------------------------------------------------------------------------------------

static void set_timer(const struct collector *collector, unsigned interval_ms)
{
	const struct timespec interval = {.tv_nsec = interval_ms * 1000000L};
	const struct itimerspec timer = {.it_interval = interval, .it_value = interval};

	timerfd_settime(collector->timer_fd, 0, &timer, NULL);
}

void core_update_timer(struct collector *collector)
{
	const struct session *session;
	bool needed = false;

	TAILQ_FOREACH(session, &collector->sessions, link)
	{
		needed = session_needs_tick(session);
		if (needed)
			break;
	}
	if (needed == collector->ticking)
		return;
	collector->ticking = needed;
	collector->interval_ms = CORE_FIRST_INTERVAL_MS;
	set_timer(collector, needed ? collector->interval_ms : 0);
}

static void adapt_interval(struct collector *collector, unsigned fill)
{
	unsigned interval_ms = collector->interval_ms;

	if (fill > FULL_PERCENT)
		interval_ms /= 2;
	else if (fill < EMPTY_PERCENT)
		interval_ms += interval_ms / 4 + 1;
	if (interval_ms < CORE_MIN_INTERVAL_MS)
		interval_ms = CORE_MIN_INTERVAL_MS;
	if (interval_ms > CORE_MAX_INTERVAL_MS)
		interval_ms = CORE_MAX_INTERVAL_MS;
	if (interval_ms == collector->interval_ms)
		return;
	collector->interval_ms = interval_ms;
	set_timer(collector, interval_ms);
}

static void tick(void *owner, uint32_t events)
{
	struct collector *collector = owner;
	struct session *session, *next;
	unsigned fullest = 0;
	uint64_t expirations;

	if (read(collector->timer_fd, &expirations, sizeof(expirations)) < 0)
		return;
	for (session = TAILQ_FIRST(&collector->sessions); session; session = next) {
		unsigned fill;

		next = TAILQ_NEXT(session, link);
		if (!session_needs_tick(session))
			continue;
		fill = session_tick(session);
		if (fill > fullest)
			fullest = fill;
	}
	if (collector->ticking)
		adapt_interval(collector, fullest);
}

// ---- Connections ----------------------------------------------------------------------------------------------------

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

// Without a free fd a connection could not even be turned away, and epoll would report it for ever.
static void turn_away(struct collector *collector)
{
	int fd;

	close(collector->spare_fd);
	fd = accept4(collector->listener.fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0)
		close(fd);
	collector->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	collector->counters.targets_refused++;
	log_limited(&accept_limit, "too many open files: a target was turned away (ulimit -n)");
}

static void close_oldest_unregistered(struct collector *collector)
{
	struct session *session;

	TAILQ_FOREACH(session, &collector->sessions, link)
	{
		if (session->state == SESSION_NEW)
			break;
	}
	if (session)
		session_close(session);
}

static bool may_register(const struct collector *collector, const struct transport_peer *peer)
{
	return peer->uid == geteuid() || collector->any_uid ||
	       (geteuid() == 0 && kinship_includes(&collector->kinship, peer->pid));
}

static bool is_dead(const struct transport_peer *peer)
{
	struct pollfd poll_fd = {.fd = peer->pidfd, .events = POLLIN};

	return peer->pidfd < 0 || poll(&poll_fd, 1, 0) == 1;
}

static void admit(struct collector *collector, int fd, const struct transport_peer *peer)
{
	if (!may_register(collector, peer) && is_dead(peer)) {
		close_fd(peer->pidfd); // it is gone, and with it all that would tell whose it was
		close(fd);
		return;
	}
	if (!may_register(collector, peer)) {
		log_limited(&accept_limit, "refused process %d: it belongs to user %u", (int)peer->pid,
			    (unsigned)peer->uid);
		collector->counters.targets_refused++;
		transport_refuse(fd, WIRE_REFUSED_USER);
		close_fd(peer->pidfd);
		close(fd);
		return;
	}
	if (collector->nunregistered >= CORE_MAX_UNREGISTERED)
		close_oldest_unregistered(collector);
	// Out of memory: the session, if there is one, has been closed.
	(void)session_create(collector, fd, peer);
}

void core_accept_agents(struct collector *collector)
{
	for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
		struct transport_peer peer;
		int fd = transport_accept(collector->listener.fd, &peer);

		if (fd >= 0)
			admit(collector, fd, &peer);
		else if (fd == -EMFILE || fd == -ENFILE)
			turn_away(collector);
		else if (fd == -EAGAIN)
			return;
	}
}

static void agents_ready(void *owner, uint32_t events)
{
	core_accept_agents(owner);
}

// ---- The loop -------------------------------------------------------------------------------------------------------

static void woken(void *owner, uint32_t events)
{
	struct collector *collector = owner;
	uint64_t count;

	// Only there to be looked at: `stopping`, or sessions that other threads have closed.
	(void)!read(collector->wake_fd, &count, sizeof(count));
}

// No event of the batch in hand can name them any more, and no later one will.
static void free_closed(struct collector *collector)
{
	struct session *session;

	while ((session = TAILQ_FIRST(&collector->closed))) {
		TAILQ_REMOVE(&collector->closed, session, link);
		session_unref(session);
	}
}

static void *loop(void *argument)
{
	struct collector *collector = argument;
	bool stopping = false;

	while (!stopping) {
		struct epoll_event events[EVENTS_AT_ONCE];
		int n = epoll_wait(collector->epoll_fd, events, EVENTS_AT_ONCE, -1);

		pthread_mutex_lock(&collector->lock);
		for (int i = 0; i < n; i++) {
			const struct core_source *source = events[i].data.ptr;

			source->ready(source->owner, events[i].events);
		}
		free_closed(collector);
		core_update_timer(collector);
		stopping = collector->stopping;
		pthread_mutex_unlock(&collector->lock);
	}
	return NULL;
}

// ---- Life -----------------------------------------------------------------------------------------------------------

void core_unref(struct collector *collector)
{
	if (__atomic_sub_fetch(&collector->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	for (size_t i = 0; i < collector->nended; i++)
		store_source_unref(collector->ended[i]);
	module_cache_destroy(collector->modules);
	table_cache_destroy(collector->tables);
	close_fd(collector->epoll_fd);
	close_fd(collector->timer_fd);
	close_fd(collector->wake_fd);
	close_fd(collector->spare_fd);
	pthread_cond_destroy(&collector->changed);
	pthread_mutex_destroy(&collector->lock);
	free(collector);
}

static struct collector *allocate(const struct collector_options *options)
{
	struct collector *collector = calloc(1, sizeof(*collector));
	pthread_condattr_t attributes;

	if (!collector)
		return NULL;
	collector->refs = 1;
	collector->any_uid = options->any_uid;
	collector->sampling = options->sampling;
	collector->keeps_stores = options->keep_stores;
	if (options->family > 0)
		kinship_add(&collector->kinship, options->family);
	collector->epoll_fd = collector->timer_fd = collector->wake_fd = collector->spare_fd = -1;
	collector->listener.fd = -1;
	collector->listen_source = (struct core_source){agents_ready, collector};
	collector->timer_source = (struct core_source){tick, collector};
	collector->wake_source = (struct core_source){woken, collector};
	TAILQ_INIT(&collector->sessions);
	TAILQ_INIT(&collector->closed);
	TAILQ_INIT(&collector->windows);
	pthread_mutex_init(&collector->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&collector->changed, &attributes);
	pthread_condattr_destroy(&attributes);
	return collector;
}

static int open_fds(struct collector *collector, const char *socket_name)
{
	int r;

	collector->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	collector->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	collector->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	collector->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (collector->epoll_fd < 0 || collector->timer_fd < 0 || collector->wake_fd < 0 || collector->spare_fd < 0)
		return -errno;
	r = transport_listen(socket_name, collector->any_uid, &collector->listener);
	if (r == 0)
		r = core_watch(collector, collector->listener.fd, EPOLLIN, &collector->listen_source);
	if (r == 0)
		r = core_watch(collector, collector->timer_fd, EPOLLIN, &collector->timer_source);
	if (r == 0)
		r = core_watch(collector, collector->wake_fd, EPOLLIN, &collector->wake_source);
	return r;
}

static unsigned worker_count(void)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	return cpus < 2 ? 2 : cpus > MAX_WORKERS ? MAX_WORKERS : (unsigned)cpus;
}

// Signals are the main thread's business.
static int start_threads(struct collector *collector)
{
	sigset_t all, before;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	r = worker_pool_create(worker_count(), &collector->workers);
	if (r == 0)
		r = -pthread_create(&collector->thread, NULL, loop, collector);
	collector->started = r == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r;
}

int collector_create(const struct collector_options *options, struct collector **ret_collector)
{
	struct collector *collector = allocate(options);
	int r;

	if (!collector)
		return -ENOMEM;
	collector->tables = table_cache_open(options->cache_tables);
	collector->modules = module_cache_create(&options->debug, collector->tables);
	r = collector->modules && collector->tables ? open_fds(collector, options->socket) : -ENOMEM;
	if (r == 0)
		r = start_threads(collector);
	if (r < 0) {
		collector_destroy(collector);
		return r;
	}
	*ret_collector = collector;
	return 0;
}

// What the rings still hold goes to the windows that are open; then these end.
static void close_all(struct collector *collector)
{
	struct session *session;
	struct window *window;

	while ((session = TAILQ_FIRST(&collector->sessions))) {
		session_drain(session, RING_READER_LIVE);
		session_close(session);
	}
	free_closed(collector);
	TAILQ_FOREACH(window, &collector->windows, link)
	{
		window_end(window);
	}
	pthread_cond_broadcast(&collector->changed);
}

void collector_destroy(struct collector *collector)
{
	uint64_t one = 1;

	if (!collector)
		return;
	pthread_mutex_lock(&collector->lock);
	collector->stopping = true;
	pthread_mutex_unlock(&collector->lock);
	if (collector->started) {
		(void)!write(collector->wake_fd, &one, sizeof(one));
		pthread_join(collector->thread, NULL);
	}
	transport_unlisten(&collector->listener);
	// First the sessions, so that jobs end which would only begin others; their last references are the jobs' then.
	pthread_mutex_lock(&collector->lock);
	close_all(collector);
	pthread_mutex_unlock(&collector->lock);
	worker_pool_destroy(collector->workers);
	collector->workers = NULL;
	core_unref(collector);
}

// ---- Questions from other threads -----------------------------------------------------------------------------------

static void describe(const struct session *session, struct collector_target *target)
{
	struct region_live live;

	region_read_live(&session->region, &live);
	*target = (struct collector_target){
		.pid = session->pid,
		.ppid = session->ppid,
		.uid = session->uid,
		.since_ns = session->since_ns,
		.period_ns = live.period_ns,
		.threads_live = live.threads_live,
	};
	memcpy(target->comm, session->comm, sizeof(target->comm));
	memcpy(target->exe, session->exe, sizeof(target->exe));
}

size_t collector_targets(struct collector *collector, struct collector_target *targets, size_t max)
{
	const struct session *session;
	size_t n = 0;

	pthread_mutex_lock(&collector->lock);
	TAILQ_FOREACH(session, &collector->sessions, link)
	{
		if (session->state != SESSION_LIVE)
			continue;
		if (n < max)
			describe(session, &targets[n]);
		n++;
	}
	pthread_mutex_unlock(&collector->lock);
	return n;
}

size_t collector_survivors(struct collector *collector)
{
	const struct session *session;
	size_t n = 0;

	pthread_mutex_lock(&collector->lock);
	core_accept_agents(collector);
	TAILQ_FOREACH(session, &collector->sessions, link)
	{
		n += (session->state == SESSION_NEW || session->state == SESSION_LIVE) &&
		     !session_process_is_dead(session);
	}
	pthread_mutex_unlock(&collector->lock);
	return n;
}

void collector_counters(struct collector *collector, struct collector_counters *ret_counters)
{
	struct session *session;
	uint64_t threads = 0;

	pthread_mutex_lock(&collector->lock);
	TAILQ_FOREACH(session, &collector->sessions, link)
	{
		session_drain(session, RING_READER_LIVE);
		if (session->state == SESSION_LIVE)
			threads += session->live.threads_live;
	}
	*ret_counters = collector->counters;
	collector_count_stores(collector, ret_counters);
	ret_counters->threads_now = threads;
	ret_counters->thread_walks = snapshot_walks();
	table_cache_counters(collector->tables, &ret_counters->tables);
	module_cache_downloads(collector->modules, &ret_counters->downloads);
	pthread_mutex_unlock(&collector->lock);
}

// A reference to what is mapped at address in pid, or NULL.
static struct mapping *find_mapping(struct collector *collector, pid_t pid, uint64_t address)
{
	int64_t deadline_ns = clock_now_ns() + SYMBOL_WAIT_NS;
	struct mapping *mapping;
	struct session *session;

	TAILQ_FOREACH(session, &collector->sessions, link)
	{
		if (session->pid == pid && session->state == SESSION_LIVE)
			break;
	}
	if (!session)
		return NULL;
	session_ref(session);
	if (session->maps_dirty)
		session_resolve(session);
	while (session->resolving && core_wait(collector, deadline_ns))
		;
	mapping = session_find_mapping(session, session->known_gen, address);
	if (mapping)
		mapping_ref(mapping);
	session_unref(session);
	return mapping;
}

bool collector_symbol(struct collector *collector, pid_t pid, uint64_t address, char *buf, size_t size)
{
	struct module_frame frames[MODULE_MAX_INLINE];
	struct mapping *mapping;
	size_t n = 0;

	pthread_mutex_lock(&collector->lock);
	mapping = find_mapping(collector, pid, address);
	pthread_mutex_unlock(&collector->lock);
	if (mapping && mapping->module)
		n = module_symbolize(mapping->module, address - mapping->bias, frames, MODULE_MAX_INLINE);
	if (n > 0 && size > 0) {
		size_t length = strnlen(frames[0].name, size - 1);

		memcpy(buf, frames[0].name, length);
		buf[length] = '\0';
	}
	mapping_unref(mapping);
	return n > 0;
}
