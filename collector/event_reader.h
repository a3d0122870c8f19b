// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// event_reader.h: the collector's side of a target's event trace (wire_events.h). Nothing in the file is trusted: what decides where is read is
// checked once and copied, each event is copied once and checked, and a drain reads one lap at the most. Collector's lock held.

#ifndef PROFD_COLLECTOR_EVENT_READER_H
#define PROFD_COLLECTOR_EVENT_READER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "profd/wire.h"

struct event_file {
	const struct wire_events *header; // NULL: there is none
	struct wire_event_shard *shards;  // `seen` is ours to write
	const struct wire_event *cells;
	uint64_t size;
	uint32_t nshards, ncells;
	uint32_t flight_s, flight_rate_hz; // as the target wishes
};

// An event as read: type and reason are known ones, time is what the target says.
struct event {
	uint64_t time_ns, object;
	uint32_t tid, other, context;
	uint8_t type, reason;
	char name[WIRE_EVENT_NAME_BYTES + 1]; // of WIRE_EVENT_NAME
};

// Maps the file behind fd, which stays the caller's. −EINVAL: not a sealed memfd, or a header that contradicts it, pid or size.
int event_file_map(int fd, uint64_t size, pid_t pid, struct event_file *ret_file);
// The same for what is in memory already, and stays there.
int event_file_of(void *base, uint64_t size, pid_t pid, struct event_file *ret_file);
void event_file_unmap(struct event_file *file); // accepts a zeroed one

// head, without the last events that are to be left: a lap of them at the most.
uint64_t event_file_head_without(const struct event_file *file, uint32_t shard, uint64_t head,
				 bool (*leaves)(const struct wire_event *cell, uint64_t position));
// Such a cell: its event is not there yet, or not any more.
bool event_is_unfinished(const struct wire_event *cell, uint64_t position);

// One reader's place in a file. Several may read the same file.
struct event_reader {
	uint64_t next[WIRE_EVENTS_MAX_SHARDS];
	uint8_t stuck[WIRE_EVENTS_MAX_SHARDS]; // drains in a row that waited for the same event
};

struct event_counts {
	uint64_t read;
	uint64_t taken_back; // by who wrote them: none
	uint64_t lost;       // overwritten before they were read, or never finished
	uint64_t bad;        // make no sense
};

enum event_reader_mode {
	EVENT_READER_LIVE, // stops at an event that is not finished yet
	EVENT_READER_LAST, // nobody will come back: takes what is there
};

// Begins with what is written from now on, or with the oldest that is still there.
void event_reader_init(struct event_reader *reader, const struct event_file *file, bool from_oldest);
// Hands each event of each shard to the sink, in no order between shards, and adds to *counts.
typedef void event_sink(void *context, const struct event *event);
void event_reader_drain(struct event_reader *reader, const struct event_file *file, enum event_reader_mode mode,
			event_sink *sink, void *context, struct event_counts *counts);
// How full the fullest shard was with what is not read yet, in percent.
unsigned event_reader_fill(const struct event_reader *reader, const struct event_file *file);

#endif
