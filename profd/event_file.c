// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// event_file.c: makes the event trace's file (wire_events.h), and switches tracing on and off. The helper.

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "profd/agent.h"
#include "profd/clock.h"
#include "profd/events.h"
#include "profd/own_map.h"
#include "profd/shared_file.h"
#include "profd/waits.h"

#define MIB (1u << 20)

// Not in the page that a fork's child finds cleared: it is to do as its parent did.
static struct {
	int fd;
	uint64_t size;
	uint32_t mib;      // of the file; 0: tracing was never asked for
	bool on;           // as wanted
	uint32_t flight_s; // the environment's wish: on for good
	uint32_t flight_rate_hz;
} file = {.fd = -1};

static struct wire_events layout(uint32_t mib)
{
	struct wire_events events = {.magic = WIRE_EVENTS_MAGIC,
				     .version = WIRE_EVENTS_VERSION,
				     .pid = (uint32_t)getpid(),
				     .nshards = profd_agent.region.nshards,
				     .start_ns = profd_clock_now_ns(),
				     .flight_s = file.flight_s,
				     .flight_rate_hz = file.flight_rate_hz,
				     .ncells = WIRE_EVENTS_MIN_CELLS};

	if (mib < 1 || mib > WIRE_EVENTS_MAX_MIB)
		mib = WIRE_EVENTS_DEFAULT_MIB;
	while (2ULL * events.ncells * events.nshards * sizeof(struct wire_event) <= (uint64_t)mib * MIB)
		events.ncells *= 2;
	events.shards_off = WIRE_PAGE;
	events.cells_off = events.shards_off + profd_shared_page_up(events.nshards * sizeof(struct wire_event_shard));
	events.size = events.cells_off + (uint64_t)events.nshards * events.ncells * sizeof(struct wire_event);
	return events;
}

// The mapping is not a fork's child's, either: it would be of no use there. NULL, and errno.
static char *map_file(int fd, uint64_t size)
{
	void *base;
	int error;

	if (madvise(&profd_events_page, sizeof(profd_events_page), MADV_WIPEONFORK) < 0)
		return NULL;
	error = profd_own_map(size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, &base);
	if (error) {
		errno = -error;
		return NULL;
	}
	if (madvise(base, size, MADV_DONTFORK) == 0)
		return base;
	profd_own_unmap(base, size);
	return NULL;
}

// A file before it stays mapped: some thread may still be writing to it.
static int open_file(uint32_t mib)
{
	const struct wire_events header = layout(mib);
	struct profd_events *events = &profd_events_page.events;
	int fd = profd_shared_file_create("profd-events", header.size);
	char *base;

	if (fd < 0)
		return fd;
	base = map_file(fd, header.size);
	if (!base) {
		int error = -errno;

		close(fd);
		return error;
	}
	*(struct wire_events *)base = header;
	// Where there was a file before, it had the same size: who takes the old cells and the new heads stays inside of both.
	events->nshards = header.nshards;
	events->ncells = header.ncells;
	__atomic_store_n(&events->cells, (struct wire_event *)(base + header.cells_off), __ATOMIC_RELEASE);
	__atomic_store_n(&events->shards, (struct wire_event_shard *)(base + header.shards_off), __ATOMIC_RELEASE);
	file.fd = fd;
	file.size = header.size;
	return 0;
}

static void set_on(bool on)
{
	file.on = on;
	__atomic_store_n(&profd_events_page.events.on, on, __ATOMIC_RELEASE);
	profd_waits_set_tracing(on);
}

int profd_events_begin(uint32_t mib)
{
	int error = 0;

	// Of the size that it had, where there was one.
	if (file.mib == 0)
		file.mib = mib;
	if (file.fd < 0)
		error = open_file(file.mib);
	set_on(error == 0);
	return error;
}

void profd_events_end(void)
{
	set_on(file.flight_s > 0 && file.fd >= 0);
}

void profd_events_stop(void)
{
	file.flight_s = 0;
	set_on(false);
}

void profd_events_start(uint32_t flight_s, uint32_t flight_rate_hz)
{
	file.fd = -1;
	file.flight_s = flight_s;
	file.flight_rate_hz = flight_rate_hz;
	if (flight_s > 0 || file.on)
		(void)profd_events_begin(file.mib ? file.mib : WIRE_EVENTS_DEFAULT_MIB);
	else
		set_on(false);
}

int profd_events_fd(uint64_t *ret_size)
{
	if (ret_size)
		*ret_size = file.size;
	return file.fd;
}

void profd_events_set_fd(int fd)
{
	file.fd = fd;
}
