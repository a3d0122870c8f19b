// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// ring_reader.c: see ring_reader.h; the protocol is in wire.h.
//
// Memory order: a record's head word is loaded with acquire, which pairs with the producer's release at commit. Its words are zeroed
// from the last to the first, so that a collector that dies there leaves a head word behind, by which the next one can skip it; tail
// is stored with release after that, which pairs with the producer's acquire: it finds zeroes.

#include "collector/ring_reader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "collector/region.h"

#define SAMPLE_WORDS (sizeof(struct wire_sample) / 8)
#define MAX_WORDS (SAMPLE_WORDS + WIRE_MAX_FRAMES + WIRE_TRACE_WORDS)
#define MAX_TID (1u << 22)          // PID_MAX_LIMIT
#define MAX_WEIGHT (1u << 30)       // timer overrun is at most INT_MAX
#define MAX_CPU_NS (1ULL << 50)     // 13 days
#define MAX_COUNT_STEP (1ULL << 32) // of a counter from one drain to the next
#define STUCK_DRAINS 20

// One shard during one drain.
struct cursor {
	struct ring_reader *reader;
	struct ring_reader_shard *state;
	struct wire_shard *shard;
	uint64_t *data;
	uint64_t mask; // of word indices
	uint64_t head; // loaded once: what comes later waits for the next drain
};

static uint64_t load_word(const struct cursor *cursor, uint64_t position)
{
	return __atomic_load_n(&cursor->data[(position / 8) & cursor->mask], __ATOMIC_ACQUIRE);
}

static void store_word(const struct cursor *cursor, uint64_t position, uint64_t word)
{
	__atomic_store_n(&cursor->data[(position / 8) & cursor->mask], word, __ATOMIC_RELAXED);
}

// Gives [tail, tail + bytes) back to the producers.
static void consume(struct cursor *cursor, uint64_t bytes)
{
	uint64_t tail = cursor->state->tail;

	for (uint64_t offset = bytes; offset > 0; offset -= 8)
		store_word(cursor, tail + offset - 8, 0);
	cursor->state->tail = tail + bytes;
	__atomic_store_n(&cursor->shard->tail, cursor->state->tail, __ATOMIC_RELEASE);
}

static void resync_to_head(struct cursor *cursor)
{
	cursor->state->tail = cursor->head & ~7ULL;
	__atomic_store_n(&cursor->shard->tail, cursor->state->tail, __ATOMIC_RELEASE);
}

// Could a record that starts at position begin with this word? *ret_words: its size.
static bool is_head_word(const struct cursor *cursor, uint64_t position, uint64_t word, uint32_t *ret_words)
{
	uint32_t type = WIRE_HEAD_TYPE(word), words = WIRE_HEAD_WORDS(word);

	if (WIRE_HEAD_TAG(word) != WIRE_TAG(position) || (type != WIRE_REC_RESERVED && type != WIRE_REC_SAMPLE))
		return false;
	if (words < SAMPLE_WORDS || words > MAX_WORDS || words * 8ULL > cursor->head - position)
		return false;
	*ret_words = words;
	return true;
}

// Skips to the next word that may begin a record, or to head.
static void scan(struct cursor *cursor)
{
	uint64_t position = cursor->state->tail + 8;
	uint32_t words;

	while (position < cursor->head && !is_head_word(cursor, position, load_word(cursor, position), &words))
		position += 8;
	consume(cursor, position - cursor->state->tail);
}

static bool is_sane(const struct wire_sample *sample, uint32_t words)
{
	const uint32_t trace_words = sample->flags & WIRE_SAMPLE_TRACE ? WIRE_TRACE_WORDS : 0;

	return sample->nframes > 0 && sample->nframes <= WIRE_MAX_FRAMES &&
	       sample->nframes + trace_words == words - SAMPLE_WORDS && sample->stop < WIRE_STOP_COUNT &&
	       sample->tid > 0 && sample->tid <= MAX_TID && sample->weight > 0 && sample->weight <= MAX_WEIGHT &&
	       sample->cpu_ns <= MAX_CPU_NS;
}

// Copies the record at tail out, once. false: it is not whole, or changed under our eyes.
static bool copy_record(const struct cursor *cursor, uint64_t head_word, uint32_t words)
{
	struct ring_record *record = cursor->reader->record;
	uint64_t tail = cursor->state->tail;

	memcpy(record, &head_word, 8);
	for (uint32_t i = 1; i < words; i++) {
		uint64_t word = load_word(cursor, tail + i * 8ULL);

		memcpy((char *)record + i * 8ULL, &word, 8);
	}
	return load_word(cursor, tail) == head_word && is_sane(&record->sample, words);
}

enum step { STEP_GO_ON, STEP_STOP };

// A zero word on a live shard: its producer is between reserving and writing it. But where we found tail at the start, it may also be
// where a collector before us died between zeroing and storing tail; a producer does not take that long.
static enum step wait_for_producer(struct cursor *cursor, struct ring_counts *counts)
{
	struct ring_reader_shard *state = cursor->state;

	if (state->tail != state->attach_tail || state->attach_tail == 0 || ++state->stuck < STUCK_DRAINS)
		return STEP_STOP;
	counts->bad++;
	scan(cursor);
	return STEP_GO_ON;
}

static enum step take_one(struct cursor *cursor, enum ring_reader_mode mode, ring_reader_sink sink, void *context,
			  struct ring_counts *counts)
{
	uint64_t word = load_word(cursor, cursor->state->tail);
	uint32_t words;

	if (word == 0 && mode == RING_READER_LIVE)
		return wait_for_producer(cursor, counts);
	if (!is_head_word(cursor, cursor->state->tail, word, &words)) {
		counts->bad++;
		scan(cursor);
		return STEP_GO_ON;
	}
	if (WIRE_HEAD_TYPE(word) == WIRE_REC_RESERVED && mode == RING_READER_LIVE)
		return STEP_STOP;
	if (WIRE_HEAD_TYPE(word) == WIRE_REC_RESERVED || !copy_record(cursor, word, words)) {
		counts->bad++;
	} else {
		if (!sink(context, cursor->reader->record))
			return STEP_STOP;
		counts->records++;
	}
	consume(cursor, words * 8ULL);
	return STEP_GO_ON;
}

// Adds what a shared counter grew by since *last. A counter that went back, or jumped, is a lie and counts nothing.
static void count_up(const uint64_t *shared, uint64_t *last, uint64_t *sum)
{
	uint64_t now = __atomic_load_n(shared, __ATOMIC_RELAXED);
	uint64_t step = now - *last;

	*last = now;
	if (step <= MAX_COUNT_STEP)
		*sum += step;
}

static unsigned drain_shard(struct ring_reader *reader, uint32_t index, enum ring_reader_mode mode,
			    ring_reader_sink sink, void *context, struct ring_counts *counts)
{
	const struct region *region = reader->region;
	struct cursor cursor = {
		.reader = reader,
		.state = &reader->shards[index],
		.shard = &region->shards[index],
		.data = region->ring + (uint64_t)index * (region->shard_size / 8),
		.mask = region->shard_size / 8 - 1,
	};
	unsigned fill;

	cursor.head = __atomic_load_n(&cursor.shard->head, __ATOMIC_ACQUIRE);
	if (cursor.head % 8 != 0 || cursor.head - cursor.state->tail > region->shard_size) {
		counts->bad++;
		resync_to_head(&cursor);
		return 0;
	}
	fill = (unsigned)((cursor.head - cursor.state->tail) * 100 / region->shard_size);
	while (cursor.state->tail != cursor.head && take_one(&cursor, mode, sink, context, counts) == STEP_GO_ON)
		;
	count_up(&cursor.shard->generated, &cursor.state->generated, &counts->generated);
	for (int i = 0; i < WIRE_DROP_COUNT; i++)
		count_up(&cursor.shard->dropped[i], &cursor.state->dropped[i], &counts->dropped[i]);
	return fill;
}

// What was counted before a reattach is not ours; on a fresh ring it all is.
static void attach_shard(const struct region *region, uint32_t index, struct ring_reader_shard *state)
{
	struct wire_shard *shard = &region->shards[index];

	state->tail = __atomic_load_n(&shard->tail, __ATOMIC_ACQUIRE) & ~7ULL;
	state->attach_tail = state->tail;
	if (state->tail == 0)
		return;
	state->generated = __atomic_load_n(&shard->generated, __ATOMIC_RELAXED);
	for (int i = 0; i < WIRE_DROP_COUNT; i++)
		state->dropped[i] = __atomic_load_n(&shard->dropped[i], __ATOMIC_RELAXED);
}

int ring_reader_init(struct ring_reader *reader, const struct region *region)
{
	*reader = (struct ring_reader){.region = region, .nshards = region->nshards};
	reader->shards = calloc(region->nshards, sizeof(*reader->shards));
	reader->record = calloc(1, sizeof(*reader->record));
	if (!reader->shards || !reader->record) {
		ring_reader_finish(reader);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < region->nshards; i++)
		attach_shard(region, i, &reader->shards[i]);
	return 0;
}

void ring_reader_finish(struct ring_reader *reader)
{
	free(reader->shards);
	free(reader->record);
	*reader = (struct ring_reader){0};
}

unsigned ring_reader_drain(struct ring_reader *reader, enum ring_reader_mode mode, ring_reader_sink sink, void *context,
			   struct ring_counts *counts)
{
	unsigned fullest = 0;

	for (uint32_t i = 0; i < reader->nshards; i++) {
		unsigned fill = drain_shard(reader, i, mode, sink, context, counts);

		if (fill > fullest)
			fullest = fill;
	}
	return fullest;
}
