// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// agent.c: the agent's life. The constructor finds or starts a collector, and starts the helper, which announces the region;
// main runs once the collector is ready (or after READY_WAIT_MS: then the first samples lack their unwind tables). A fork's
// child starts over with a region of its own. When anything fails, one line says why and the target runs unprofiled.

#include "profd/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "profd/channel.h"
#include "profd/contexts.h"
#include "profd/creators.h"
#include "profd/events.h"
#include "profd/handler.h"
#include "profd/heap.h"
#include "profd/interpose.h"
#include "profd/interpose_heap.h"
#include "profd/interpose_map.h"
#include "profd/interpose_new.h"
#include "profd/rates.h"
#include "profd/raw.h"
#include "profd/safe_read.h"
#include "profd/stay.h"
#include "profd/tasks.h"
#include "profd/threads.h"
#include "profd/timer.h"
#include "profd/unwind_libunwind.h"

#define READY_WAIT_MS 3000
#define CHILD_WAIT_MS 100 // a child does not wait for a collector that is busy
#define SYSTEM_SOCKET "/run/profd.sock"

struct profd_agent profd_agent = {.region = {.fd = -1}};

bool profd_agent_is_on(void)
{
	return __atomic_load_n(&profd_agent.on, __ATOMIC_ACQUIRE) &&
	       !__atomic_load_n(&profd_agent.sealed, __ATOMIC_ACQUIRE) &&
	       profd_agent.pid == (pid_t)profd_raw0(SYS_getpid);
}

static uint32_t recalling; // atomic futex: 1 while a thread has the helper away

static void set_on(bool on)
{
	__atomic_store_n(&profd_agent.on, on, __ATOMIC_RELEASE);
}

static uint32_t random_cookie(void)
{
	uint32_t cookie = 0;

	if (getrandom(&cookie, sizeof(cookie), GRND_NONBLOCK) != sizeof(cookie))
		cookie = (uint32_t)getpid() * 2654435761u;
	return cookie | 1;
}

// Starts the helper and puts the calling thread into the table. period_ns: sampling goes on from here (fork's child).
static int start(bool is_main, uint32_t period_ns)
{
	int error;

	profd_agent.pid = getpid();
	profd_agent.cookie = random_cookie();
	profd_safe_read_init();
	profd_handler_init();
	profd_unwind_libunwind_init();
	profd_interpose_thread_init();
	error = profd_channel_start();
	if (error)
		return error;
	if (profd_channel_wait(PROFD_CHANNEL_REGION, -1) != PROFD_CHANNEL_REGION)
		return -EIO;
	profd_threads_init();
	profd_creators_init();
	profd_tasks_init();
	profd_agent.region.header->period_ns = period_ns;
	error = profd_interpose_handler_install();
	if (error) {
		profd_channel_stop();
		return error;
	}
	set_on(true);
	profd_interpose_thread_join_self(is_main);
	profd_channel_joined();
	return 0;
}

// Back to a program without an agent; the region stays mapped, for a signal may still be on its way.
static void give_up(const char *why)
{
	if (__atomic_load_n(&profd_agent.on, __ATOMIC_ACQUIRE))
		profd_timer_set_period(0, WIRE_CLOCK_CPU); // before the default action can be back in place
	set_on(false);
	profd_rates_stop();
	profd_events_stop();
	if (profd_handler_app_action)
		profd_interpose_handler_remove();
	if (why)
		profd_message("running unprofiled: %s", why);
}

// ---- Fork ----------------------------------------------------------------------------------------------------------

void profd_agent_restart(void)
{
	uint32_t period_ns = 0;
	int error;

	profd_agent.forked = true;
	if (profd_agent.region.header) {
		period_ns = profd_agent.region.header->period_ns;
		profd_contexts_keep_parents(&profd_agent.region);
	}
	error = start(false, period_ns);
	profd_contexts_release_parents();
	if (error) {
		give_up(profd_channel_error());
		return;
	}
	if (profd_channel_wait(PROFD_CHANNEL_ANNOUNCED, CHILD_WAIT_MS) == PROFD_CHANNEL_FAILED)
		give_up(profd_agent.config.verbose ? profd_channel_error() : NULL);
}

static void fork_prepare(void)
{
	if (profd_agent_is_on() && profd_agent.config.follow)
		profd_contexts_before_fork(PROFD_CALLER());
}

static void fork_child(void)
{
	if (!__atomic_load_n(&profd_agent.on, __ATOMIC_ACQUIRE) || profd_agent.sealed)
		return;
	set_on(false);
	profd_rates_forget();
	recalling = 0;
	profd_channel_forget();
	if (profd_agent.config.follow) {
		profd_agent_restart();
		return;
	}
	// Not followed: this process has no timers and needs no handler, but the program's own must be back in place.
	profd_region_destroy(&profd_agent.region);
	give_up(NULL);
}

// ---- Calls that the helper must not live through ------------------------------------------------------------------

// False: nothing is on any more, by another thread that was quicker.
static bool begin_recall(struct profd_recall *recall)
{
	uint64_t all = ~(3ULL << 31); // glibc's own two

	profd_raw4(SYS_rt_sigprocmask, SIG_BLOCK, (long)&all, (long)&recall->mask, sizeof(all));
	while (__atomic_exchange_n(&recalling, 1, __ATOMIC_ACQUIRE))
		profd_raw_futex_wait(&recalling, 1, -1);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &recall->cancel_state);
	return profd_agent_is_on();
}

static void end_recall(const struct profd_recall *recall)
{
	pthread_setcancelstate(recall->cancel_state, NULL);
	__atomic_store_n(&recalling, 0, __ATOMIC_RELEASE);
	profd_raw_futex_wake(&recalling);
	profd_raw4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&recall->mask, 0, sizeof(recall->mask));
}

bool profd_agent_recall(struct profd_recall *recall)
{
	int error = errno;

	if (!profd_agent_is_on())
		return false;
	if (!begin_recall(recall)) {
		end_recall(recall);
		return false;
	}
	profd_channel_recall();
	errno = error;
	return true;
}

void profd_agent_resume(const struct profd_recall *recall)
{
	int saved = errno, error;

	profd_heap_exclude_thread(true); // libc allocates for the next helper
	error = profd_channel_resume();
	profd_heap_exclude_thread(false);
	if (error) {
		profd_timer_set_period(0, WIRE_CLOCK_CPU);
		profd_message("no longer profiled: %s", strerror(-error));
	}
	end_recall(recall);
	errno = saved;
}

void profd_agent_seal(void)
{
	struct profd_recall recall;
	int error = errno;

	if (!profd_agent_recall(&recall))
		return;
	profd_channel_end();
	profd_rates_stop();
	profd_events_stop();
	profd_timer_set_period(0, WIRE_CLOCK_CPU);
	profd_message(
		"no longer profiled: the program installs a seccomp filter, which may forbid what profiling needs");
	__atomic_store_n(&profd_agent.sealed, 1, __ATOMIC_RELEASE);
	end_recall(&recall);
	errno = error;
}

// ---- Start-up ------------------------------------------------------------------------------------------------------

static bool socket_listens(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISSOCK(st.st_mode);
}

// The host's daemon, if its socket is there.
static bool find_daemon(char socket[PROFD_SOCKET_MAX])
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");

	if (runtime && snprintf(socket, PROFD_SOCKET_MAX, "%s/profd.sock", runtime) < PROFD_SOCKET_MAX &&
	    socket_listens(socket))
		return true;
	memcpy(socket, SYSTEM_SOCKET, sizeof(SYSTEM_SOCKET));
	if (socket_listens(socket))
		return true;
	socket[0] = 0;
	return false;
}

// Fills config->socket: given, the daemon's, or a new private collector's.
static int find_collector(struct profd_config *config)
{
	int error;

	if (config->socket[0])
		return 0;
	if (!config->http && !config->output && !config->trace_output && find_daemon(config->socket))
		return 0;
	error = profd_spawn_collector(config);
	if (!error && config->follow)
		setenv("PROFD_SOCKET", config->socket, 1); // children join it
	return error;
}

__attribute__((constructor)) static void agent_construct(void)
{
	struct profd_config *config = &profd_agent.config;

	profd_reals_find_all();
	profd_stay_init();
	profd_heap_reals_find();
	profd_new_stand_aside();
	profd_map_reals_find();
	profd_agent.heap_unseen = profd_heap_unseen();
	profd_config_read(config);
	if (!config->follow)
		profd_config_unfollow();
	if (find_collector(config) < 0)
		return;
	pthread_atfork(fork_prepare, NULL, fork_child);
	if (start(true, 0) < 0 || profd_channel_wait(PROFD_CHANNEL_READY, READY_WAIT_MS) == PROFD_CHANNEL_FAILED)
		give_up(profd_channel_error());
	else
		profd_rates_say_error();
}
