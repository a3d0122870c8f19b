// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_events.c: the event trace from the agent's writer to the collector's reader: each event offered is read or counted as lost, none is
// torn, whatever threads, signal handlers, laps and a fork do; a file that lies is refused or does no harm.

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "collector/event_process.h"
#include "collector/event_reader.h"
#include "profd/agent.h"
#include "profd/clock.h"
#include "profd/events.h"
#include "profd/threads.h"
#include "profd/waits.h"

struct profd_agent profd_agent = {.region = {.nshards = 4}};
__thread uint32_t profd_thread_slot = PROFD_NO_SLOT;

void profd_waits_set_tracing(bool on)
{
	(void)on;
}

static struct event_file file;

static int open_file(void **state)
{
	uint64_t size;
	int fd;

	(void)state;
	profd_clock_init();
	profd_events_set_fd(-1);
	assert_int_equal(profd_events_begin(1), 0);
	fd = profd_events_fd(&size);
	assert_true(fd >= 0);
	assert_int_equal(event_file_map(fd, size, getpid(), &file), 0);
	return 0;
}

static int close_file(void **state)
{
	(void)state;
	profd_events_end();
	event_file_unmap(&file);
	return 0;
}

// What was read: an event's object is its number, and what else it carries is made of that.
struct seen {
	uint64_t count, last, torn;
};

static void put(uint64_t number)
{
	profd_event(WIRE_EVENT_PARK, .reason = WIRE_WAIT_MUTEX, .object = number, .other = (uint32_t)(number * 7),
		    .context = (uint32_t)(number * 13));
}

static void take(void *context, const struct event *event)
{
	struct seen *seen = context;

	seen->count++;
	seen->last = event->object;
	seen->torn += event->other != (uint32_t)(event->object * 7) ||
		      event->context != (uint32_t)(event->object * 13) || event->type != WIRE_EVENT_PARK ||
		      event->reason != WIRE_WAIT_MUTEX || event->tid == 0;
}

static void test_what_is_written_is_read(void **state)
{
	struct event_reader reader;
	struct event_counts counts = {0};
	struct seen seen = {0};

	(void)state;
	event_reader_init(&reader, &file, false);
	for (uint64_t i = 1; i <= 100; i++)
		put(i);
	event_reader_drain(&reader, &file, EVENT_READER_LIVE, take, &seen, &counts);
	assert_int_equal(seen.count, 100);
	assert_int_equal(seen.last, 100);
	assert_int_equal(seen.torn, 0);
	assert_int_equal(counts.read, 100);
	assert_int_equal(counts.lost + counts.bad, 0);
	profd_events_end();
	put(101);
	event_reader_drain(&reader, &file, EVENT_READER_LIVE, take, &seen, &counts);
	assert_int_equal(seen.count, 100);
}

static void take_name(void *context, const struct event *event)
{
	assert_int_equal(event->type, WIRE_EVENT_NAME);
	memcpy(context, event->name, sizeof(event->name));
}

static void test_names(void **state)
{
	static const char *const names[] = {
		"", "a", "sevenby", "eightbyt", "fifteen bytes!!", "much more than 15 bytes", "\xff\xc3\xa4"};
	struct event_reader reader;
	struct event_counts counts = {0};

	(void)state;
	event_reader_init(&reader, &file, false);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char name[16] = "x", wanted[16] = "";

		strncpy(wanted, names[i], 15);
		profd_events_put_name(0, names[i]);
		event_reader_drain(&reader, &file, EVENT_READER_LIVE, take_name, name, &counts);
		assert_string_equal(name, wanted);
	}
}

static void test_the_oldest_are_overwritten_and_counted(void **state)
{
	struct event_reader early, late;
	struct event_counts counts = {0}, late_counts = {0};
	struct seen seen = {0}, late_seen = {0};
	uint64_t offered = 3ULL * file.ncells + 5;

	(void)state;
	event_reader_init(&early, &file, false);
	for (uint64_t i = 1; i <= offered; i++)
		put(i);
	assert_int_equal(event_reader_fill(&early, &file), 100);
	event_reader_drain(&early, &file, EVENT_READER_LIVE, take, &seen, &counts);
	assert_int_equal(counts.read, file.ncells);
	assert_int_equal(counts.read + counts.lost, offered);
	assert_int_equal(seen.last, offered);
	event_reader_init(&late, &file, true);
	event_reader_drain(&late, &file, EVENT_READER_LAST, take, &late_seen, &late_counts);
	assert_int_equal(late_counts.read, file.ncells);
	assert_int_equal(late_counts.lost, 0);
}

// ---- Many writers ---------------------------------------------------------------------------------------------------

#define WRITERS 4
#define EACH 400000ULL

static uint64_t from_handler; // atomic

static void handler(int signo)
{
	(void)signo;
	put(1);
	__atomic_fetch_add(&from_handler, 1, __ATOMIC_RELAXED);
}

static void *write_many(void *argument)
{
	// Two threads share a shard.
	profd_thread_slot = (uint32_t)(uintptr_t)argument / 2;
	for (uint64_t i = 1; i <= EACH; i++) {
		put(i);
		if (i % 1024 == 0)
			raise(SIGUSR1);
	}
	return NULL;
}

// The shards are small: writers are a lap ahead again and again.
static void test_nothing_is_torn_or_unaccounted(void **state)
{
	static struct wire_slot slots[2];
	struct event_reader reader;
	struct event_counts counts = {0};
	struct seen seen = {0};
	pthread_t threads[WRITERS];
	struct wire_header header = {0};

	(void)state;
	slots[0].state_tid = 11;
	slots[1].state_tid = 12;
	profd_agent.region.slots = slots;
	profd_agent.region.header = &header;
	signal(SIGUSR1, handler);
	event_reader_init(&reader, &file, false);
	for (uintptr_t i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, write_many, (void *)i), 0);
	while (counts.read + counts.lost + counts.bad < WRITERS * EACH)
		event_reader_drain(&reader, &file, EVENT_READER_LIVE, take, &seen, &counts);
	for (int i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	event_reader_drain(&reader, &file, EVENT_READER_LAST, take, &seen, &counts);
	assert_int_equal(counts.read + counts.lost + counts.bad, WRITERS * EACH + from_handler);
	assert_int_equal(seen.torn, 0);
	assert_int_equal(counts.bad, 0);
	assert_true(counts.read > 0);
	profd_agent.region.header = NULL;
}

// A writer that was left in the middle (longjmp out of a signal handler) costs its place, and nothing else.
static void test_an_unfinished_event(void **state)
{
	struct wire_event *cells = profd_events_page.events.cells;
	struct event_reader reader;
	struct event_counts counts = {0};
	struct seen seen = {0};
	uint64_t head = __atomic_load_n(&file.shards[0].head, __ATOMIC_RELAXED);

	(void)state;
	event_reader_init(&reader, &file, false);
	put(1);
	put(2);
	put(3);
	cells[(head + 1) & (file.ncells - 1)].state = WIRE_EVENT_STATE(head + 1, WIRE_EVENT_BUSY);
	event_reader_drain(&reader, &file, EVENT_READER_LIVE, take, &seen, &counts);
	assert_int_equal(seen.count, 1);
	for (int i = 0; i < 20; i++)
		event_reader_drain(&reader, &file, EVENT_READER_LIVE, take, &seen, &counts);
	assert_int_equal(counts.read, 2);
	assert_int_equal(counts.lost, 1);
	for (uint64_t i = 0; i < file.ncells; i++)
		put(i + 4);
	event_reader_drain(&reader, &file, EVENT_READER_LIVE, take, &seen, &counts);
	event_reader_drain(&reader, &file, EVENT_READER_LAST, take, &seen, &counts);
	assert_int_equal(counts.read + counts.lost, file.ncells + 3);
	assert_int_equal(counts.lost, 2);
}

// A writer that got no CPU for a lap does not put its event in the place of a newer one.
static void test_who_was_overtaken(void **state)
{
	struct wire_event *cells = profd_events_page.events.cells;
	struct event_reader reader;
	struct event_counts counts = {0};
	struct seen seen = {0};
	uint64_t *head = &profd_events_page.events.shards[0].head;
	uint64_t early = *head;

	(void)state;
	event_reader_init(&reader, &file, false);
	for (uint64_t i = 0; i < 2ULL * file.ncells; i++)
		put(i + 1);
	*head = early; // as the one that took its place first
	put(77);
	assert_int_equal(cells[early & (file.ncells - 1)].state,
			 WIRE_EVENT_STATE(early + file.ncells, WIRE_EVENT_DONE));
	*head = early + 2ULL * file.ncells;
	event_reader_drain(&reader, &file, EVENT_READER_LIVE, take, &seen, &counts);
	assert_int_equal(counts.read, file.ncells);
	assert_int_equal(counts.read + counts.lost, 2ULL * file.ncells);
	// Positions go round in 30 bits.
	*head = (1ULL << 32) - 1;
	cells[*head & (file.ncells - 1)].state = WIRE_EVENT_STATE(*head - file.ncells, WIRE_EVENT_DONE);
	cells[0].state = WIRE_EVENT_STATE((1ULL << 32) - file.ncells, WIRE_EVENT_DONE);
	put(1);
	put(2);
	assert_int_equal(cells[file.ncells - 1].state, WIRE_EVENT_STATE((1ULL << 32) - 1, WIRE_EVENT_DONE));
	assert_int_equal(cells[0].state, WIRE_EVENT_STATE(1ULL << 32, WIRE_EVENT_DONE));
}

static void test_a_child_does_not_write(void **state)
{
	struct event_reader reader;
	struct event_counts counts = {0};
	struct seen seen = {0};
	int status;
	pid_t child;

	(void)state;
	event_reader_init(&reader, &file, false);
	child = (pid_t)syscall(SYS_fork); // without libc, whose fork handlers would tell us
	if (child == 0) {
		put(1);
		syscall(SYS_exit_group, 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	put(2);
	event_reader_drain(&reader, &file, EVENT_READER_LIVE, take, &seen, &counts);
	assert_int_equal(seen.count, 1);
	assert_int_equal(seen.last, 2);
}

// ---- Events that are taken back -----------------------------------------------------------------------------------------

struct waiting {
	struct profd_event_place place;
	uint64_t time_ns;
};

static struct waiting put_wait(uint64_t number)
{
	struct waiting waiting = {.time_ns = profd_clock_now_ns()};

	waiting.place = profd_events_put(&(struct profd_event){.type = WIRE_EVENT_PARK,
							       .reason = WIRE_WAIT_MUTEX,
							       .object = number,
							       .other = (uint32_t)(number * 7),
							       .context = (uint32_t)(number * 13),
							       .time_ns = waiting.time_ns});
	return waiting;
}

static bool take_back(struct waiting waiting)
{
	return profd_events_take_back(waiting.place, waiting.time_ns);
}

static void test_taken_back(void **state)
{
	struct event_reader reader;
	struct event_counts counts = {0};
	struct seen seen = {0};
	const struct wire_event_shard *shard = &file.shards[0];
	struct waiting last, before;
	uint64_t head;

	(void)state;
	event_reader_init(&reader, &file, false);
	put(1);
	head = shard->head;
	// The last: as if it had never been, and its place is the next one's.
	assert_true(take_back(put_wait(2)));
	assert_int_equal(shard->head, head);
	put(3);
	event_reader_drain(&reader, &file, EVENT_READER_LIVE, take, &seen, &counts);
	assert_int_equal(counts.read, 2);
	assert_int_equal(seen.last, 3);
	assert_int_equal(counts.taken_back + counts.lost + counts.bad, 0);
	// Others have come after it.
	before = put_wait(4);
	put(5);
	assert_true(take_back(before));
	event_reader_drain(&reader, &file, EVENT_READER_LIVE, take, &seen, &counts);
	assert_int_equal(counts.read, 3);
	assert_int_equal(seen.last, 5);
	assert_int_equal(counts.taken_back, 1);
	// It was read.
	last = put_wait(6);
	event_reader_drain(&reader, &file, EVENT_READER_LIVE, take, &seen, &counts);
	assert_int_equal(seen.last, 6);
	head = shard->head;
	assert_false(take_back(last));
	assert_int_equal(shard->head, head);
	assert_int_equal(seen.torn + counts.lost + counts.bad, 0);
}

// What is not there any more is left alone, and so is what has another one's place.
static void test_taken_back_too_late(void **state)
{
	struct waiting waiting = put_wait(1), other = put_wait(2);

	(void)state;
	assert_false(
		take_back((struct waiting){waiting.place, other.time_ns + 1})); // a child's file, with other events
	for (uint64_t i = 0; i < file.ncells; i++)
		put(i);
	assert_false(take_back(waiting));
	profd_events_end();
	assert_false(take_back(put_wait(3)));
}

// A reader that begins later reads from there on: what is taken back then stays where it is, so that nothing comes to a place before his.
static void test_taken_back_from_who_joins(void **state)
{
	struct event_reader reader;
	struct event_counts counts = {0};
	struct seen seen = {0};
	struct waiting waiting = put_wait(1);

	(void)state;
	event_reader_init(&reader, &file, false);
	assert_false(take_back(waiting));
	put(2);
	event_reader_drain(&reader, &file, EVENT_READER_LIVE, take, &seen, &counts);
	assert_int_equal(counts.read, 1);
	assert_int_equal(seen.last, 2);
}

// A writer is between its look at `seen` and the CAS of head when a reader joins.
static void test_joins_while_a_place_is_given_back(void **state)
{
	struct wire_event *cells = profd_events_page.events.cells;
	struct wire_event_shard *shard = &profd_events_page.events.shards[0];
	struct event_reader reader;
	struct event_counts counts = {0};
	struct seen seen = {0};
	uint64_t position;

	(void)state;
	put(1);
	position = put_wait(2).place.position;
	cells[position & (file.ncells - 1)].state = WIRE_EVENT_STATE(position, WIRE_EVENT_GONE);
	event_reader_init(&reader, &file, false);
	shard->head = position; // the CAS: P + 1 was still there
	put(3);                 // after the reader joined
	put(4);
	event_reader_drain(&reader, &file, EVENT_READER_LIVE, take, &seen, &counts);
	assert_int_equal(counts.read + counts.lost, 2);
}

// A place is in flight at some drains, each time another event; none of them stays so.
static void test_not_stuck(void **state)
{
	struct wire_event *cells = profd_events_page.events.cells;
	struct wire_event_shard *shard = &profd_events_page.events.shards[0];
	struct event_reader reader;
	struct event_counts counts = {0};
	struct seen seen = {0};

	(void)state;
	event_reader_init(&reader, &file, false);
	for (int i = 0; i < 20; i++) {
		uint64_t position = put_wait(2).place.position;
		uint32_t *cell = &cells[position & (file.ncells - 1)].state;

		*cell = WIRE_EVENT_STATE(position, WIRE_EVENT_GONE);
		event_reader_drain(&reader, &file, EVENT_READER_LIVE, take, &seen, &counts);
		shard->head = position;
		event_reader_drain(&reader, &file, EVENT_READER_LIVE, take, &seen, &counts);
	}
	assert_int_equal(counts.read, 0);
	assert_int_equal(counts.lost, 0);
}

// Who was overtaken finds a place that was taken back a lap later.
static void test_overtaken_and_free(void **state)
{
	struct wire_event *cells = profd_events_page.events.cells;
	struct wire_event_shard *shard = &profd_events_page.events.shards[0];
	uint64_t early, now;

	(void)state;
	early = shard->head;
	for (uint64_t i = 0; i < file.ncells; i++)
		put(i);
	assert_true(take_back(put_wait(1)));
	now = shard->head;
	shard->head = early;
	put(77);
	shard->head = now;
	assert_int_not_equal(cells[early & (file.ncells - 1)].state, WIRE_EVENT_STATE(early, WIRE_EVENT_DONE));
}

// A copy of the file out of a process's memory cannot say `seen`: what may be taken back yet is left to the next one.
static void test_copies(void **state)
{
	struct event_reader reader;
	struct event_counts counts = {0};
	struct seen seen = {0};
	struct event_file copy;

	(void)state;
	put(1);
	profd_event(WIRE_EVENT_PARK, .reason = WIRE_WAIT_READ, .object = 2);
	put(3);
	profd_event(WIRE_EVENT_PARK, .reason = WIRE_WAIT_READ, .object = 4);
	profd_event(WIRE_EVENT_PARK, .reason = WIRE_WAIT_SLEEP, .object = 5);
	assert_int_equal(event_process_copy(getpid(), &copy), 0);
	event_reader_init(&reader, &copy, true);
	event_reader_drain(&reader, &copy, EVENT_READER_LAST, take, &seen, &counts);
	event_process_free(&copy);
	assert_int_equal(counts.read, 3);
	assert_int_equal(seen.last, 3);
	put(6);
	assert_int_equal(event_process_copy(getpid(), &copy), 0);
	event_reader_drain(&reader, &copy, EVENT_READER_LAST, take, &seen, &counts);
	event_process_free(&copy);
	assert_int_equal(counts.read, 6);
	assert_int_equal(seen.last, 6);
	assert_int_equal(counts.lost + counts.bad, 0);
}

static struct {
	uint8_t gone[WRITERS][EACH + 1], read[WRITERS][EACH + 1];
	uint64_t taken_back; // atomic
} waits;

static void *wait_many(void *argument)
{
	uintptr_t writer = (uintptr_t)argument;
	uint64_t taken_back = 0;

	profd_thread_slot = (uint32_t)writer / 2;
	for (uint64_t i = 1; i <= EACH; i++) {
		struct waiting waiting = {.time_ns = profd_clock_now_ns()};

		waiting.place = profd_events_put(&(struct profd_event){
			.type = WIRE_EVENT_PARK, .object = i, .other = (uint32_t)writer, .time_ns = waiting.time_ns});
		if (i % 3 && take_back(waiting))
			taken_back += waits.gone[writer][i] = 1;
	}
	__atomic_fetch_add(&waits.taken_back, taken_back, __ATOMIC_RELAXED);
	return NULL;
}

static void take_wait(void *context, const struct event *event)
{
	(void)context;
	assert_in_range(event->other, 0, WRITERS - 1);
	assert_in_range(event->object, 1, EACH);
	waits.read[event->other][event->object]++;
}

// Whoever writes, and whenever is read: what was taken back is read by nobody, all else once, or it is counted.
static void test_none_that_is_taken_back_is_read(void **state)
{
	struct event_reader reader;
	struct event_counts counts = {0};
	pthread_t threads[WRITERS];
	uint64_t stay;

	(void)state;
	memset(&waits, 0, sizeof(waits));
	event_reader_init(&reader, &file, false);
	for (uintptr_t i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, wait_many, (void *)i), 0);
	for (int i = 0; i < WRITERS; i++)
		while (pthread_tryjoin_np(threads[i], NULL) == EBUSY)
			event_reader_drain(&reader, &file, EVENT_READER_LIVE, take_wait, NULL, &counts);
	event_reader_drain(&reader, &file, EVENT_READER_LAST, take_wait, NULL, &counts);
	for (int writer = 0; writer < WRITERS; writer++)
		for (uint64_t i = 1; i <= EACH; i++)
			assert_true(waits.read[writer][i] + waits.gone[writer][i] <= 1);
	stay = WRITERS * EACH - waits.taken_back;
	assert_true(waits.taken_back > 0 && counts.read > 0);
	assert_true(counts.read <= stay && stay <= counts.read + counts.lost);
	assert_int_equal(counts.bad, 0);
}

// ---- Files that lie -------------------------------------------------------------------------------------------------

static int map_with(void (*spoil)(struct wire_events *header))
{
	uint64_t size;
	int fd = profd_events_fd(&size);
	struct wire_events *header = mmap(NULL, WIRE_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	struct wire_events kept;
	struct event_file other = {0};
	int r;

	assert_ptr_not_equal(header, MAP_FAILED);
	kept = *header;
	spoil(header);
	r = event_file_map(fd, size, getpid(), &other);
	*header = kept;
	munmap(header, WIRE_PAGE);
	event_file_unmap(&other);
	return r;
}

static void spoil_nothing(struct wire_events *header)
{
	(void)header;
}
static void spoil_magic(struct wire_events *header)
{
	header->magic++;
}
static void spoil_pid(struct wire_events *header)
{
	header->pid++;
}
static void spoil_size(struct wire_events *header)
{
	header->size += WIRE_PAGE;
}
static void spoil_cells(struct wire_events *header)
{
	header->ncells *= 2;
}
static void spoil_odd_cells(struct wire_events *header)
{
	header->ncells -= 1;
}
static void spoil_shards(struct wire_events *header)
{
	header->nshards = 0;
}
static void spoil_many_shards(struct wire_events *header)
{
	header->nshards = 1u << 31;
}
static void spoil_offset(struct wire_events *header)
{
	header->cells_off = UINT64_MAX - 4095;
}
static void spoil_overlap(struct wire_events *header)
{
	header->cells_off = header->shards_off;
}

static void test_headers_that_lie(void **state)
{
	(void)state;
	assert_int_equal(map_with(spoil_nothing), 0);
	assert_int_equal(map_with(spoil_magic), -EINVAL);
	assert_int_equal(map_with(spoil_pid), -EINVAL);
	assert_int_equal(map_with(spoil_size), -EINVAL);
	assert_int_equal(map_with(spoil_cells), -EINVAL);
	assert_int_equal(map_with(spoil_odd_cells), -EINVAL);
	assert_int_equal(map_with(spoil_shards), -EINVAL);
	assert_int_equal(map_with(spoil_many_shards), -EINVAL);
	assert_int_equal(map_with(spoil_offset), -EINVAL);
	assert_int_equal(map_with(spoil_overlap), -EINVAL);
}

static void count(void *context, const struct event *event)
{
	(void)event;
	++*(uint64_t *)context;
}

// Heads that go back or leap, cells of garbage: bounded work, and known types and reasons alone.
static void test_contents_that_lie(void **state)
{
	struct wire_event *cells = profd_events_page.events.cells;
	uint64_t *head = &profd_events_page.events.shards[0].head;
	struct event_reader reader;
	struct event_counts counts = {0};
	uint64_t taken = 0;

	(void)state;
	event_reader_init(&reader, &file, false);
	put(1);
	*head = UINT64_MAX;
	event_reader_drain(&reader, &file, EVENT_READER_LIVE, count, &taken, &counts);
	*head = 0;
	event_reader_drain(&reader, &file, EVENT_READER_LIVE, count, &taken, &counts);
	assert_true(taken <= 2ULL * file.ncells);
	counts = (struct event_counts){0};
	event_reader_init(&reader, &file, false);
	put(2);
	put(3);
	put(4);
	cells[0].what = WIRE_EVENT_WHAT(WIRE_EVENT_COUNT, 0, 1);
	cells[1].tid = 0;
	cells[2].time_ns = UINT64_MAX;
	event_reader_drain(&reader, &file, EVENT_READER_LIVE, count, &taken, &counts);
	assert_int_equal(counts.bad, 3);
	*head = 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		// first: files stay mapped, and it looks for one
		cmocka_unit_test_setup_teardown(test_copies, open_file, close_file),
		cmocka_unit_test_setup_teardown(test_what_is_written_is_read, open_file, close_file),
		cmocka_unit_test_setup_teardown(test_names, open_file, close_file),
		cmocka_unit_test_setup_teardown(test_the_oldest_are_overwritten_and_counted, open_file, close_file),
		cmocka_unit_test_setup_teardown(test_nothing_is_torn_or_unaccounted, open_file, close_file),
		cmocka_unit_test_setup_teardown(test_an_unfinished_event, open_file, close_file),
		cmocka_unit_test_setup_teardown(test_who_was_overtaken, open_file, close_file),
		cmocka_unit_test_setup_teardown(test_a_child_does_not_write, open_file, close_file),
		cmocka_unit_test_setup_teardown(test_taken_back, open_file, close_file),
		cmocka_unit_test_setup_teardown(test_taken_back_too_late, open_file, close_file),
		cmocka_unit_test_setup_teardown(test_taken_back_from_who_joins, open_file, close_file),
		cmocka_unit_test_setup_teardown(test_joins_while_a_place_is_given_back, open_file, close_file),
		cmocka_unit_test_setup_teardown(test_not_stuck, open_file, close_file),
		cmocka_unit_test_setup_teardown(test_overtaken_and_free, open_file, close_file),
		cmocka_unit_test_setup_teardown(test_none_that_is_taken_back_is_read, open_file, close_file),
		cmocka_unit_test_setup_teardown(test_headers_that_lie, open_file, close_file),
		cmocka_unit_test_setup_teardown(test_contents_that_lie, open_file, close_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
