// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// perf_event.c: see perf_event.h. Helper thread only.

#include "profd/perf_event.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "profd/agent.h"
#include "profd/raw.h"

uint64_t profd_perf_owner[PROFD_PERF_FDS];

// Open events, in no order; indexed by what slot_index says. All of it is the helper's alone.
static struct open_event {
	uint32_t slot, tid;
	int fd;
} events[PROFD_PERF_FDS];
static uint32_t event_count;
static uint32_t slot_index[WIRE_MAX_SLOTS]; // index into events + 1; 0: none

void profd_perf_init(void)
{
	for (uint32_t i = 0; i < event_count; i++)
		slot_index[events[i].slot] = 0;
	event_count = 0;
}

uint32_t profd_perf_tick_ns(void)
{
	struct timespec resolution;

	if (clock_getres(CLOCK_MONOTONIC_COARSE, &resolution) < 0 || resolution.tv_sec)
		return 4000000;
	return (uint32_t)resolution.tv_nsec;
}

static int open_event(uint32_t tid, uint32_t period_ns)
{
	struct perf_event_attr attr;
	long fd;

	memset(&attr, 0, sizeof(attr));
	attr.size = sizeof(attr);
	attr.type = PERF_TYPE_SOFTWARE;
	attr.config = PERF_COUNT_SW_CPU_CLOCK;
	attr.sample_period = period_ns;
	attr.wakeup_events = 1;
	attr.disabled = 1;
	fd = profd_raw6(SYS_perf_event_open, (long)&attr, tid, -1, -1, PERF_FLAG_FD_CLOEXEC, 0);
	if (fd >= PROFD_PERF_FDS) {
		close((int)fd);
		return -EMFILE;
	}
	return (int)fd;
}

int profd_perf_probe(void)
{
	int fd = open_event((uint32_t)profd_raw0(SYS_gettid), 1000000000);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

static int direct_signal(int fd, uint32_t tid)
{
	struct f_owner_ex owner = {F_OWNER_TID, (pid_t)tid};

	if (fcntl(fd, F_SETOWN_EX, &owner) < 0 || fcntl(fd, F_SETSIG, SIGPROF) < 0 ||
	    fcntl(fd, F_SETFL, O_ASYNC | O_NONBLOCK) < 0)
		return -errno;
	return 0;
}

static void forget(uint32_t index)
{
	struct open_event *event = &events[index];

	close(event->fd);
	slot_index[event->slot] = 0;
	*event = events[--event_count];
	if (index < event_count)
		slot_index[event->slot] = index + 1;
	__atomic_fetch_sub(&profd_agent.region.header->threads_perf, 1, __ATOMIC_RELAXED);
}

static int change_period(int fd, uint32_t period_ns)
{
	uint64_t period = period_ns;

	return ioctl(fd, PERF_EVENT_IOC_PERIOD, &period) < 0 ? -errno : 0;
}

int profd_perf_arm(uint32_t slot, uint32_t tid, uint32_t period_ns)
{
	uint32_t index = slot_index[slot];
	int fd, error;

	if (index && events[index - 1].tid == tid)
		return change_period(events[index - 1].fd, period_ns);
	if (index)
		forget(index - 1);
	fd = open_event(tid, period_ns);
	if (fd < 0)
		return fd;
	__atomic_store_n(&profd_perf_owner[fd], (uint64_t)tid << 32 | slot, __ATOMIC_SEQ_CST);
	error = direct_signal(fd, tid);
	if (!error && ioctl(fd, PERF_EVENT_IOC_ENABLE, 0) < 0)
		error = -errno;
	if (error) {
		close(fd);
		return error;
	}
	events[event_count] = (struct open_event){slot, tid, fd};
	slot_index[slot] = ++event_count;
	__atomic_fetch_add(&profd_agent.region.header->threads_perf, 1, __ATOMIC_RELAXED);
	return 0;
}

void profd_perf_disarm(uint32_t slot)
{
	if (slot_index[slot])
		forget(slot_index[slot] - 1);
}

void profd_perf_sweep(void)
{
	for (uint32_t i = 0; i < event_count;) {
		const struct wire_slot *slot = &profd_agent.region.slots[events[i].slot];

		if (WIRE_SLOT_TID(__atomic_load_n(&slot->state_tid, __ATOMIC_ACQUIRE)) == events[i].tid)
			i++;
		else
			forget(i);
	}
}
