// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// event_reader.c: see event_reader.h.

#include "collector/event_reader.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "collector/region.h"

#define EVENTS_MAX_SIZE ((uint64_t)(WIRE_EVENTS_MAX_MIB + 1) << 20)
#define SEEN_TRIES 16
#define STUCK_DRAINS 8 // then an unfinished event is given up: its writer was left by longjmp, or is stopped

static bool is_power_of_two(uint64_t n)
{
	return n > 0 && (n & (n - 1)) == 0;
}

static bool fits(uint64_t offset, uint64_t bytes, uint64_t least, uint64_t size)
{
	return offset % WIRE_PAGE == 0 && offset >= least && offset <= size && bytes <= size - offset;
}

// header is a copy.
static int check_header(const struct wire_events *header, uint64_t size, pid_t pid)
{
	uint64_t shards = (uint64_t)header->nshards * sizeof(struct wire_event_shard);
	uint64_t cells = (uint64_t)header->nshards * header->ncells * sizeof(struct wire_event);

	if (header->magic != WIRE_EVENTS_MAGIC || header->version != WIRE_EVENTS_VERSION ||
	    header->pid != (uint32_t)pid || header->size != size)
		return -EINVAL;
	if (!is_power_of_two(header->nshards) || header->nshards > WIRE_EVENTS_MAX_SHARDS ||
	    !is_power_of_two(header->ncells) || header->ncells < WIRE_EVENTS_MIN_CELLS)
		return -EINVAL;
	if (!fits(header->shards_off, shards, WIRE_PAGE, size) ||
	    !fits(header->cells_off, cells, header->shards_off + shards, size))
		return -EINVAL;
	return 0;
}

int event_file_of(void *base, uint64_t size, pid_t pid, struct event_file *ret_file)
{
	struct wire_events header;
	int r;

	if (size < WIRE_PAGE)
		return -EINVAL;
	for (size_t i = 0; i < sizeof(header) / 8; i++) {
		uint64_t word = __atomic_load_n((const uint64_t *)base + i, __ATOMIC_ACQUIRE);

		memcpy((char *)&header + i * 8, &word, 8);
	}
	r = check_header(&header, size, pid);
	if (r < 0)
		return r;
	*ret_file = (struct event_file){
		.header = base,
		.shards = (struct wire_event_shard *)((char *)base + header.shards_off),
		.cells = (const struct wire_event *)((char *)base + header.cells_off),
		.size = size,
		.nshards = header.nshards,
		.ncells = header.ncells,
		.flight_s = header.flight_s,
		.flight_rate_hz = header.flight_rate_hz < WIRE_MAX_RATE_HZ ? header.flight_rate_hz : WIRE_MAX_RATE_HZ,
	};
	return 0;
}

int event_file_map(int fd, uint64_t size, pid_t pid, struct event_file *ret_file)
{
	void *base;
	int r = region_check_file(fd, size, EVENTS_MAX_SIZE);

	if (r < 0)
		return r;
	base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (base == MAP_FAILED)
		return -errno;
	r = event_file_of(base, size, pid, ret_file);
	if (r < 0)
		munmap(base, size);
	return r;
}

void event_file_unmap(struct event_file *file)
{
	if (file->header)
		munmap((void *)file->header, file->size);
	*file = (struct event_file){0};
}

// ---- Reading --------------------------------------------------------------------------------------------------------

static uint64_t head_of(const struct event_file *file, uint32_t shard)
{
	return __atomic_load_n(&file->shards[shard].head, __ATOMIC_ACQUIRE);
}

// What is below head may be read from now on, and stays. Tried a few times: a target that changes it meanwhile deceives nobody but itself.
static void say_seen(const struct event_file *file, uint32_t shard, uint64_t head)
{
	uint64_t *place = &file->shards[shard].seen, seen = __atomic_load_n(place, __ATOMIC_RELAXED);

	for (int i = 0; i < SEEN_TRIES && seen < head; i++)
		if (__atomic_compare_exchange_n(place, &seen, head, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
			break;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

bool event_is_unfinished(const struct wire_event *cell, uint64_t position)
{
	return __atomic_load_n(&cell->state, __ATOMIC_ACQUIRE) != WIRE_EVENT_STATE(position, WIRE_EVENT_DONE);
}

uint64_t event_file_head_without(const struct event_file *file, uint32_t shard, uint64_t head,
				 bool (*leaves)(const struct wire_event *cell, uint64_t position))
{
	const struct wire_event *cells = &file->cells[(uint64_t)shard * file->ncells];

	for (uint32_t i = 0; i < file->ncells && head > 0; i++, head--)
		if (!leaves(&cells[(head - 1) & (file->ncells - 1)], head - 1))
			break;
	return head;
}

// Once head is said to be seen, no place below this one is given back.
static uint64_t finished_head(const struct event_file *file, uint32_t shard, uint64_t head)
{
	return event_file_head_without(file, shard, head, event_is_unfinished);
}

void event_reader_init(struct event_reader *reader, const struct event_file *file, bool from_oldest)
{
	memset(reader, 0, sizeof(*reader));
	for (uint32_t i = 0; i < file->nshards; i++) {
		uint64_t head = head_of(file, i);

		say_seen(file, i, head);
		if (!from_oldest)
			reader->next[i] = finished_head(file, i, head);
		else if (head > file->ncells)
			reader->next[i] = head - file->ncells;
	}
}

enum found { FOUND_EVENT, FOUND_TAKEN_BACK, FOUND_BAD, FOUND_UNFINISHED, FOUND_OVERWRITTEN };

// A cell with another state than the wanted one: of a later lap; else of this one or one before.
static enum found not_there(uint32_t state, uint32_t wanted)
{
	return (int32_t)((state & ~3u) - (wanted & ~3u)) > 0 ? FOUND_OVERWRITTEN : FOUND_UNFINISHED;
}

static enum found read_cell(const struct wire_event *cell, uint64_t position, struct event *ret_event)
{
	uint32_t wanted = WIRE_EVENT_STATE(position, WIRE_EVENT_DONE);
	uint32_t state = __atomic_load_n(&cell->state, __ATOMIC_ACQUIRE);
	uint64_t what;

	if (state != wanted)
		return not_there(state, wanted);
	what = __atomic_load_n(&cell->what, __ATOMIC_RELAXED);
	ret_event->time_ns = __atomic_load_n(&cell->time_ns, __ATOMIC_RELAXED);
	ret_event->tid = __atomic_load_n(&cell->tid, __ATOMIC_RELAXED);
	ret_event->other = __atomic_load_n(&cell->other, __ATOMIC_RELAXED);
	ret_event->context = __atomic_load_n(&cell->context, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	state = __atomic_load_n(&cell->state, __ATOMIC_RELAXED);
	if (state != wanted)
		return not_there(state, wanted);
	ret_event->object = WIRE_EVENT_OBJECT(what);
	ret_event->type = (uint8_t)WIRE_EVENT_TYPE(what);
	ret_event->reason = (uint8_t)WIRE_EVENT_REASON(what);
	if (ret_event->type == WIRE_EVENT_TAKEN_BACK)
		return FOUND_TAKEN_BACK;
	if (ret_event->type == WIRE_EVENT_NONE || ret_event->type >= WIRE_EVENT_COUNT || ret_event->tid == 0 ||
	    ret_event->time_ns > INT64_MAX)
		return FOUND_BAD;
	if (ret_event->type == WIRE_EVENT_NAME)
		for (uint32_t i = 0; i < WIRE_EVENT_NAME_BYTES; i++)
			ret_event->name[i] = (char)wire_event_name_byte(what, ret_event->other, ret_event->context, i);
	ret_event->name[WIRE_EVENT_NAME_BYTES] = '\0';
	if (ret_event->reason >= WIRE_WAIT_COUNT)
		ret_event->reason = WIRE_WAIT_NONE;
	return FOUND_EVENT;
}

// One that is not finished soon is given up: also where writers are about to overtake us.
static bool waits_for(struct event_reader *reader, uint32_t shard, uint64_t behind, uint32_t ncells)
{
	if (behind > ncells / 2 || reader->stuck[shard] >= STUCK_DRAINS) {
		reader->stuck[shard] = 0;
		return false;
	}
	reader->stuck[shard]++;
	return true;
}

static void drain_shard(struct event_reader *reader, const struct event_file *file, uint32_t shard,
			enum event_reader_mode mode, event_sink *sink, void *context, struct event_counts *counts)
{
	const struct wire_event *cells = &file->cells[(uint64_t)shard * file->ncells];
	uint64_t head = head_of(file, shard), at = reader->next[shard];
	struct event event;

	if (at < head)
		say_seen(file, shard, head);
	// What is being written or taken back just now has not been offered yet.
	if (mode == EVENT_READER_LAST)
		head = finished_head(file, shard, head);
	if (head < at) // a lie
		at = head;
	if (head - at > file->ncells) {
		counts->lost += head - at - file->ncells;
		at = head - file->ncells;
	}
	for (; at < head; at++) {
		enum found found = read_cell(&cells[at & (file->ncells - 1)], at, &event);

		if (found == FOUND_UNFINISHED && mode == EVENT_READER_LIVE &&
		    waits_for(reader, shard, head - at, file->ncells))
			break;
		if (found == FOUND_EVENT) {
			counts->read++;
			reader->stuck[shard] = 0;
			sink(context, &event);
		} else if (found == FOUND_TAKEN_BACK) {
			counts->taken_back++;
			reader->stuck[shard] = 0;
		} else if (found == FOUND_BAD) {
			counts->bad++;
		} else {
			counts->lost++;
		}
	}
	if (at == head)
		reader->stuck[shard] = 0;
	reader->next[shard] = at;
}

void event_reader_drain(struct event_reader *reader, const struct event_file *file, enum event_reader_mode mode,
			event_sink *sink, void *context, struct event_counts *counts)
{
	for (uint32_t i = 0; i < file->nshards; i++)
		drain_shard(reader, file, i, mode, sink, context, counts);
}

unsigned event_reader_fill(const struct event_reader *reader, const struct event_file *file)
{
	uint64_t most = 0;

	for (uint32_t i = 0; i < file->nshards; i++) {
		uint64_t head = head_of(file, i), behind = head > reader->next[i] ? head - reader->next[i] : 0;

		if (behind > most)
			most = behind;
	}
	return most >= file->ncells ? 100 : (unsigned)(most * 100 / file->ncells);
}
