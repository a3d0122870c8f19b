// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// channel.c: see channel.h. All but the last section runs on the helper thread.

#include "profd/channel.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "profd/agent.h"
#include "profd/connection.h"
#include "profd/events.h"
#include "profd/governor.h"
#include "profd/handover.h"
#include "profd/heap.h"
#include "profd/interpose.h"
#include "profd/modules.h"
#include "profd/rates.h"
#include "profd/raw.h"
#include "profd/store.h"
#include "profd/threads.h"
#include "profd/timer.h"
#include "profd/unwind_libunwind.h"
#include "profd/wake.h"

#define TICK_MS 50        // while sampling
#define SWEEP_MS 10       // and with perf events, where new threads wait for us to have one
#define SCAN_TICKS 4      // a look for unknown threads every so many ticks
#define GOVERNOR_TICKS 10 // a look at what the handler costs
#define RECONNECT_MS 1000 // a daemon's path is tried again this often
#define STACK_BYTES (256u << 10)
#define STOP_NS 2000000 // an answer to the wake-up within this is usual
#define SIGSETXID 33    // glibc's
#define NOT_YET_BORN UINT32_MAX

// Unwind tables while nothing is sampled: wanted by some thread; the collector was told; it answered.
enum tables_state { TABLES_NONE, TABLES_WANTED, TABLES_TOLD, TABLES_HERE };
enum stop { STOP_NOT, STOP_FOR_GOOD, STOP_TO_GO_ON };
// What became of the helper's descriptors, from one helper to the next (handover.h).
enum handed { HANDED_NOTHING, HANDED_OVER, HANDED_FAILED };

static uint32_t state;      // atomic futex; enum profd_channel_state
static uint32_t stopping;   // atomic; enum stop
static uint32_t helper_tid; // atomic futex; 0: it has ended
static uint32_t tables;     // atomic futex; enum tables_state
static uint32_t maps_dirty; // atomic; ticks for which the collector is to look again
static pthread_t helper;
static bool helper_started;
static uint32_t handed;       // atomic futex; enum handed
static uint32_t handed_clock; // enum wire_clock: PERF, if the next helper is to take events again
static struct profd_handover handover = {.fd = -1};
static char error_text[200];
static uint32_t refusal; // enum wire_refusal

static void set_state(enum profd_channel_state to)
{
	__atomic_store_n(&state, to, __ATOMIC_RELEASE);
	profd_raw_futex_wake(&state);
}

static void fail(const char *what, int error)
{
	snprintf(error_text, sizeof(error_text), "%s: %s", what, strerror(error));
	set_state(PROFD_CHANNEL_FAILED);
}

static void fail_for(const char *reason)
{
	snprintf(error_text, sizeof(error_text), "%s", reason);
	set_state(PROFD_CHANNEL_FAILED);
}

// ---- Messages ------------------------------------------------------------------------------------------------------

static void set_sampling(const struct wire_sampling *request)
{
	struct wire_header *header = profd_agent.region.header;
	uint32_t rate_hz = request->rate_hz > WIRE_MAX_RATE_HZ ? WIRE_MAX_RATE_HZ : request->rate_hz;

	if (rate_hz)
		profd_threads_scan();
	profd_governor_set(request->max_overhead_permille);
	profd_timer_set_period(rate_hz ? 1000000000u / rate_hz : 0, request->clock);
	__atomic_store_n(&header->sampling_seq, request->msg.arg, __ATOMIC_RELEASE);
}

// READY is the answer to either.
static void tables_arrived(void)
{
	uint32_t told = TABLES_TOLD;

	if (__atomic_compare_exchange_n(&tables, &told, TABLES_HERE, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		profd_raw_futex_wake(&tables);
}

// Its store goes to the collector before it can be asked for.
static void set_rates(int socket_fd, const struct wire_rates *rates)
{
	bool had_store = profd_store.header != NULL;

	if (profd_rates_set(rates) == 0 && !had_store)
		profd_connection_store(socket_fd);
}

static void handle(int socket_fd, const union profd_message_in *message, size_t size, int fd)
{
	switch (message->msg.type) {
	case WIRE_MSG_TABLE:
		if (size == sizeof(message->table) && fd >= 0)
			profd_modules_add(&message->table, fd);
		break;
	case WIRE_MSG_FORGET:
		if (size == sizeof(message->table))
			profd_modules_forget(message->table.start, message->table.end);
		break;
	case WIRE_MSG_SAMPLING:
		if (size == sizeof(message->sampling))
			set_sampling(&message->sampling);
		break;
	case WIRE_MSG_TRACE:
		if (size == sizeof(message->trace))
			profd_events_request(&message->trace, socket_fd);
		break;
	case WIRE_MSG_RATES:
		if (size == sizeof(message->rates))
			set_rates(socket_fd, &message->rates.rates);
		break;
	case WIRE_MSG_REFUSED:
		refusal = message->msg.arg;
		break;
	case WIRE_MSG_READY:
		set_state(PROFD_CHANNEL_READY);
		tables_arrived();
		break;
	default:
		break;
	}
}

// Handles all that has come. False when the connection is at its end.
static bool handle_all(int socket_fd)
{
	for (;;) {
		union profd_message_in message;
		int fd;
		ssize_t size = profd_connection_receive(socket_fd, &message, &fd);

		if (size == -EAGAIN || size == -EINTR)
			return true;
		if (size >= (ssize_t)sizeof(struct wire_msg))
			handle(socket_fd, &message, (size_t)size, fd);
		if (fd >= 0)
			close(fd);
		if (size <= 0)
			return false;
	}
}

// ---- The loop ------------------------------------------------------------------------------------------------------

struct loop {
	int socket_fd; // −1: not connected
	int wake_fd;
	int waited_ms; // since the last tick, sweeps apart
	unsigned ticks;
	bool was_ready;
};

static bool sampling(void)
{
	return __atomic_load_n(&profd_agent.region.header->period_ns, __ATOMIC_RELAXED) != 0;
}

// A path can have a daemon again; an abstract name was one collector's own.
static bool can_reconnect(void)
{
	return profd_agent.config.socket[0] == '/';
}

static void disconnect(struct loop *loop)
{
	profd_events_disconnected();
	close(loop->socket_fd);
	loop->socket_fd = -1;
	profd_timer_set_period(0, WIRE_CLOCK_CPU);
}

static void reconnect(struct loop *loop)
{
	loop->socket_fd = profd_connection_open(profd_agent.config.socket);
	if (loop->socket_fd >= 0 && profd_connection_hello(loop->socket_fd) < 0)
		disconnect(loop);
	// A collector that is new has to be asked again.
	if (__atomic_load_n(&tables, __ATOMIC_ACQUIRE) != TABLES_NONE)
		__atomic_store_n(&tables, TABLES_WANTED, __ATOMIC_RELEASE);
}

static void tell_maps(struct loop *loop)
{
	struct wire_msg message = {WIRE_MSG_MAPS, 0};
	uint32_t dirty = __atomic_load_n(&maps_dirty, __ATOMIC_ACQUIRE);

	if (!dirty)
		return;
	__atomic_fetch_sub(&maps_dirty, 1, __ATOMIC_ACQ_REL);
	message.arg = __atomic_add_fetch(&profd_agent.region.header->maps_gen, 1, __ATOMIC_SEQ_CST);
	send(loop->socket_fd, &message, sizeof(message), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void tell_tables(struct loop *loop)
{
	struct wire_msg message = {WIRE_MSG_WANT_TABLES, 0};
	uint32_t wanted = TABLES_WANTED;

	if (loop->was_ready && loop->socket_fd >= 0 &&
	    __atomic_compare_exchange_n(&tables, &wanted, TABLES_TOLD, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		send(loop->socket_fd, &message, sizeof(message), MSG_NOSIGNAL | MSG_DONTWAIT);
}

// The kernel's disposition must be our handler: a program that went past libc (raw rt_sigaction) gets no more timers.
static void check_handler(void)
{
	if (profd_interpose_handler_installed())
		return;
	__atomic_fetch_add(&profd_agent.region.header->handler_lost, 1, __ATOMIC_RELAXED);
	profd_timer_set_period(0, WIRE_CLOCK_CPU);
}

static bool with_perf_events(void)
{
	return __atomic_load_n(&profd_agent.region.header->clock, __ATOMIC_RELAXED) == WIRE_CLOCK_PERF;
}

static int tick_ms(void)
{
	return with_perf_events() && !profd_timer_is_calm() ? SWEEP_MS : TICK_MS;
}

static void tick(struct loop *loop)
{
	loop->waited_ms += tick_ms();
	profd_timer_sweep();
	if (loop->waited_ms < TICK_MS)
		return;
	loop->waited_ms = 0;
	check_handler();
	tell_maps(loop);
	if (++loop->ticks % SCAN_TICKS == 0)
		profd_threads_scan();
	if (loop->ticks % GOVERNOR_TICKS == 0)
		profd_governor_look();
	profd_modules_reclaim();
	profd_unwind_libunwind_learn();
}

// Nothing is sampled by time, but heap or lock profiles want unwind tables of what is loaded: maps_changed wakes us.
static bool follows_maps(void)
{
	return profd_rates_any() && __atomic_load_n(&maps_dirty, __ATOMIC_ACQUIRE);
}

static int poll_timeout(const struct loop *loop)
{
	if (loop->socket_fd < 0)
		return RECONNECT_MS;
	if (!sampling())
		return follows_maps() ? TICK_MS : -1;
	return tick_ms();
}

// Returns when told to stop, or when the collector is gone for good.
static void run(struct loop *loop)
{
	while (!__atomic_load_n(&stopping, __ATOMIC_ACQUIRE)) {
		struct pollfd fds[2] = {{.fd = loop->wake_fd, .events = POLLIN},
					{.fd = loop->socket_fd, .events = POLLIN}};

		if (poll(fds, 2, poll_timeout(loop)) < 0 && errno != EINTR)
			return;
		profd_wake_drain(loop->wake_fd);
		if (loop->socket_fd < 0) {
			reconnect(loop);
			continue;
		}
		if (fds[1].revents && !handle_all(loop->socket_fd)) {
			if (refusal == WIRE_REFUSED_SILENTLY)
				refusal = profd_connection_refusal(loop->socket_fd);
			disconnect(loop);
			// One that hung up before it was ever ready does not want us: another user's, or another version.
			if (!can_reconnect() || !loop->was_ready)
				return;
		}
		if (__atomic_load_n(&state, __ATOMIC_ACQUIRE) == PROFD_CHANNEL_READY)
			loop->was_ready = true;
		tell_tables(loop);
		if (loop->socket_fd >= 0 && sampling())
			tick(loop);
		else if (loop->socket_fd >= 0 && follows_maps())
			tell_maps(loop);
	}
}

static void unreachable(int error)
{
	if (error == ECONNREFUSED && !can_reconnect()) // an abstract address belongs to a network namespace
		fail_for("cannot reach the collector: it has ended, or is in another network namespace");
	else
		fail("cannot reach the collector", error);
}

// 0, or −errno with the reason in error_text.
static int introduce(struct loop *loop)
{
	int error;

	loop->socket_fd = profd_connection_open_patiently(profd_agent.config.socket, &stopping);
	if (loop->socket_fd < 0) {
		if (!__atomic_load_n(&stopping, __ATOMIC_ACQUIRE))
			unreachable(-loop->socket_fd);
		return loop->socket_fd;
	}
	error = profd_connection_hello(loop->socket_fd);
	if (!error)
		set_state(PROFD_CHANNEL_ANNOUNCED);
	else if (error == -EPIPE || error == -ECONNRESET)
		fail_for(profd_connection_refusal_text(profd_connection_refusal(loop->socket_fd)));
	else
		fail("cannot register with the collector", -error);
	return error;
}

// The next helper begins where this one ends.
static void hand_over(const struct loop *loop)
{
	struct wire_header *header = profd_agent.region.header;

	if (loop->socket_fd < 0 && loop->was_ready && !can_reconnect())
		return;
	// Perf events end with us: CPU timers take over, and what is owed. The next helper may be allowed what we were not.
	if (with_perf_events() || header->perf_errno)
		handed_clock = WIRE_CLOCK_PERF;
	if (with_perf_events())
		profd_timer_set_period(header->period_ns, WIRE_CLOCK_CPU);
	handed = profd_handover_give(&handover, &(struct profd_handover_fds){profd_agent.region.fd, loop->socket_fd,
									     profd_store.fd, profd_events_fd(NULL)})
			 ? HANDED_FAILED
			 : HANDED_OVER;
}

static void connect_and_run(int socket_fd)
{
	struct loop loop = {.socket_fd = socket_fd};

	loop.wake_fd = profd_wake_open();
	if (loop.wake_fd < 0) {
		fail("cannot make a socket", -loop.wake_fd);
		return;
	}
	loop.was_ready = __atomic_load_n(&state, __ATOMIC_ACQUIRE) == PROFD_CHANNEL_READY;
	if (socket_fd >= 0 || loop.was_ready || introduce(&loop) == 0)
		run(&loop);
	if (__atomic_load_n(&stopping, __ATOMIC_ACQUIRE) == STOP_TO_GO_ON) {
		hand_over(&loop);
		return;
	}
	if (loop.socket_fd >= 0)
		disconnect(&loop);
	// The collector is gone for good, and nobody will ask what was counted. Not at the process's own end: what it frees then is freed.
	if (!__atomic_load_n(&stopping, __ATOMIC_ACQUIRE))
		profd_rates_stop();
	if (!loop.was_ready && __atomic_load_n(&state, __ATOMIC_ACQUIRE) != PROFD_CHANNEL_FAILED)
		fail_for(profd_connection_refusal_text(refusal));
}

static void begin(void)
{
	int error;

	error = profd_handover_own_table(-1);
	if (error) {
		fail("cannot have a file descriptor table of our own", -error);
		return;
	}
	error = profd_region_create(&profd_agent.region);
	if (error) {
		fail("cannot make the shared region", -error);
		return;
	}
	profd_agent.region.header->helper_tid = helper_tid;
	profd_rates_set(&profd_rates);
	profd_events_start(profd_agent.config.flight_s, profd_agent.config.trace_rate_hz);
	set_state(PROFD_CHANNEL_REGION);
	if (profd_channel_wait(PROFD_CHANNEL_JOINED, -1) == PROFD_CHANNEL_JOINED)
		connect_and_run(-1);
}

static void go_on(void)
{
	struct wire_header *header = profd_agent.region.header;
	struct profd_handover_fds fds;
	int error = profd_handover_own_table(handover.fd);

	if (!error)
		error = profd_handover_take(&handover, &fds);
	if (!error) {
		profd_agent.region.fd = fds.region;
		profd_store.fd = fds.store;
		profd_events_set_fd(fds.events);
	}
	header->helper_tid = helper_tid;
	__atomic_store_n(&handed, error ? HANDED_FAILED : HANDED_NOTHING, __ATOMIC_RELEASE);
	profd_raw_futex_wake(&handed);
	if (error)
		return;
	if (handed_clock == WIRE_CLOCK_PERF && header->period_ns)
		profd_timer_set_period(header->period_ns, WIRE_CLOCK_PERF);
	handed_clock = WIRE_CLOCK_CPU;
	connect_and_run(fds.connection);
}

static void *helper_main(void *unused)
{
	profd_thread_is_helper = true;
	__atomic_store_n(&helper_tid, (uint32_t)profd_raw0(SYS_gettid), __ATOMIC_RELEASE);
	profd_raw3(SYS_prctl, PR_SET_NAME, (long)"profd", 0);
	profd_timer_init_helper();
	profd_heap_exclude_thread(true);
	if (handed == HANDED_OVER)
		go_on();
	else
		begin();
	__atomic_store_n(&helper_tid, 0, __ATOMIC_RELEASE);
	profd_raw_futex_wake(&helper_tid);
	return NULL;
}

// ---- What other threads call ---------------------------------------------------------------------------------------

static int start_helper(void)
{
	pthread_attr_t attr;
	uint64_t all = ~(3ULL << 31); // glibc's own two signals (cancellation, setxid) must reach every thread
	uint64_t saved;
	int error;

	__atomic_store_n(&stopping, STOP_NOT, __ATOMIC_RELEASE);
	__atomic_store_n(&helper_tid, NOT_YET_BORN, __ATOMIC_RELEASE);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	profd_raw4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&saved, sizeof(all));
	error = PROFD_REAL(pthread_create)(&helper, &attr, helper_main, NULL);
	profd_raw4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&saved, 0, sizeof(saved));
	pthread_attr_destroy(&attr);
	helper_started = error == 0;
	return -error;
}

int profd_channel_start(void)
{
	__atomic_store_n(&state, PROFD_CHANNEL_OFF, __ATOMIC_RELEASE);
	return start_helper();
}

enum profd_channel_state profd_channel_wait(enum profd_channel_state wanted, int timeout_ms)
{
	struct timespec start, now;

	clock_gettime(CLOCK_MONOTONIC, &start);
	for (;;) {
		uint32_t seen = __atomic_load_n(&state, __ATOMIC_ACQUIRE);
		int64_t left_ms = -1;

		if (seen >= (uint32_t)wanted)
			return (enum profd_channel_state)seen;
		if (timeout_ms >= 0) {
			clock_gettime(CLOCK_MONOTONIC, &now);
			left_ms = timeout_ms -
				  ((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000);
			if (left_ms <= 0)
				return (enum profd_channel_state)seen;
		}
		profd_raw_futex_wait(&state, seen, left_ms < 0 ? -1 : left_ms * 1000000);
	}
}

void profd_channel_joined(void)
{
	set_state(PROFD_CHANNEL_JOINED);
}

// glibc's handler for it returns at once, for it is not from glibc; poll and connect return, too. A wake-up may miss the helper: by
// its network namespace, or between its look at `stopping` and its call.
static void interrupt(uint32_t tid)
{
	siginfo_t info = {.si_signo = SIGSETXID, .si_code = SI_QUEUE};

	info.si_pid = profd_agent.pid;
	profd_raw4(SYS_rt_tgsigqueueinfo, profd_agent.pid, tid, SIGSETXID, (long)&info);
}

// Returns when the kernel knows it no more, nor counts it.
static void end_helper(enum stop how)
{
	uint32_t tid, last = 0;

	__atomic_store_n(&stopping, how, __ATOMIC_RELEASE);
	profd_wake_send();
	while ((tid = __atomic_load_n(&helper_tid, __ATOMIC_ACQUIRE))) {
		last = tid;
		if (profd_raw_futex_wait(&helper_tid, tid, STOP_NS) == -ETIMEDOUT && tid != NOT_YET_BORN)
			interrupt(tid);
	}
	pthread_join(helper, NULL);
	helper_started = false;
	while (last && last != NOT_YET_BORN && profd_raw3(SYS_tgkill, profd_agent.pid, last, 0) == 0)
		profd_raw0(SYS_sched_yield);
}

void profd_channel_stop(void)
{
	if (!helper_started)
		return;
	set_state(PROFD_CHANNEL_FAILED); // it may be waiting for its starter
	end_helper(STOP_FOR_GOOD);
}

void profd_channel_recall(void)
{
	bool possible;

	if (!helper_started)
		return;
	handed = HANDED_NOTHING;
	possible = profd_handover_open(&handover) == 0;
	end_helper(possible ? STOP_TO_GO_ON : STOP_FOR_GOOD);
	if (!possible)
		handed = HANDED_FAILED;
}

int profd_channel_resume(void)
{
	int error = 0;

	if (handed == HANDED_OVER) {
		error = start_helper();
		while (!error && __atomic_load_n(&handed, __ATOMIC_ACQUIRE) == HANDED_OVER)
			profd_raw_futex_wait(&handed, HANDED_OVER, -1);
	}
	profd_handover_close(&handover);
	if (!error && handed != HANDED_FAILED)
		return 0;
	set_state(PROFD_CHANNEL_FAILED);
	return error ? error : -ENOTCONN;
}

void profd_channel_end(void)
{
	profd_handover_close(&handover);
	set_state(PROFD_CHANNEL_FAILED);
}

void profd_channel_want_tables(int timeout_ms)
{
	uint32_t seen = TABLES_NONE;

	if (__atomic_load_n(&state, __ATOMIC_ACQUIRE) != PROFD_CHANNEL_READY)
		return; // the next one asks
	if (!__atomic_compare_exchange_n(&tables, &seen, TABLES_WANTED, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		return;
	profd_wake_send();
	seen = TABLES_WANTED;
	while (timeout_ms-- > 0 && seen != TABLES_HERE &&
	       __atomic_load_n(&state, __ATOMIC_ACQUIRE) == PROFD_CHANNEL_READY) {
		profd_raw_futex_wait(&tables, seen, 1000000);
		seen = __atomic_load_n(&tables, __ATOMIC_ACQUIRE);
	}
}

void profd_channel_forget(void)
{
	__atomic_store_n(&tables, TABLES_NONE, __ATOMIC_RELAXED);
	helper_started = false;
	handed = HANDED_NOTHING;
	profd_handover_close(&handover);
	__atomic_store_n(&maps_dirty, 0, __ATOMIC_RELAXED);
}

const char *profd_channel_error(void)
{
	return error_text;
}

void profd_channel_maps_changed(void)
{
	// The call that changes them is still to come: let the collector look now, and twice more.
	__atomic_store_n(&maps_dirty, 3, __ATOMIC_RELEASE);
	if (profd_rates_any() && !sampling())
		profd_wake_send();
}
