// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// Unit tests of origin_spans.c: OpenTelemetry's records of a process, this one, whole, absent, wrong, and changed while they are read.

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "collector/origin_spans.h"
#include "collector/origins.h"
#include "collector/thread_scan.h"

#define THREADS 100u

static struct wire_otel_record records[THREADS];
static struct wire_otel_record *variables[THREADS]; // what each thread's variable points to
static struct origin threads[THREADS];
static struct origins origins;

static uint64_t address_of(const void *data)
{
	return (uint64_t)(uintptr_t)data;
}

static void set(struct wire_otel_record *record, uint8_t byte)
{
	memset(record->trace_id, byte, sizeof(record->trace_id));
	memset(record->span_id, byte, sizeof(record->span_id));
	record->valid = WIRE_OTEL_VALID;
}

static int set_up(void **state)
{
	(void)state;
	memset(records, 0, sizeof(records));
	memset(threads, 0, sizeof(threads));
	for (uint32_t i = 0; i < THREADS; i++) {
		set(&records[i], (uint8_t)(i + 1));
		variables[i] = &records[i];
		threads[i].tid = i + 1;
		threads[i].otel_at = address_of(&variables[i]);
	}
	origins = (struct origins){.count = THREADS, .threads = threads};
	return 0;
}

static bool has_its_own(uint32_t i)
{
	const struct wire_trace *span = &threads[i].span;

	return threads[i].has_span && memcmp(span->trace_id, records[i].trace_id, sizeof(span->trace_id)) == 0 &&
	       memcmp(span->span_id, records[i].span_id, sizeof(span->span_id)) == 0;
}

// How many of them have their own, and nobody has another's.
static unsigned count_found(void)
{
	unsigned found = 0;

	for (uint32_t i = 0; i < THREADS; i++) {
		found += threads[i].has_span;
		assert_true(!threads[i].has_span || has_its_own(i));
	}
	return found;
}

static void test_each_has_its_own(void **state)
{
	(void)state;
	records[7].trace_flags = 3; // sampled, random
	records[8].trace_flags = 2;
	assert_true(origin_spans_find(&origins, getpid(), NULL));
	assert_int_equal(count_found(), THREADS);
	assert_int_equal(threads[7].span.flags, WIRE_TRACE_SAMPLED);
	assert_int_equal(threads[8].span.flags, 0);
	for (uint32_t i = 0; i < THREADS; i++)
		assert_false(threads[i].has_trace); // before it is confirmed
}

// With one that the test breaks, all others are found: wherever in a batch it is.
static void assert_missing(uint32_t which)
{
	for (uint32_t i = 0; i < THREADS; i++)
		threads[i].has_span = false;
	assert_true(origin_spans_find(&origins, getpid(), NULL));
	assert_false(threads[which].has_span);
	assert_int_equal(count_found(), THREADS - 1);
}

static void test_no_span(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < THREADS; i += 11) {
		variables[i] = NULL;
		assert_missing(i);
		variables[i] = &records[i];
		threads[i].otel_at = 0;
		assert_missing(i);
		threads[i].otel_at = address_of(&variables[i]);
		records[i].valid = 0;
		assert_missing(i);
		records[i].valid = 2;
		assert_missing(i);
		records[i].valid = WIRE_OTEL_VALID;
		memset(records[i].trace_id, 0, sizeof(records[i].trace_id));
		assert_missing(i);
		set(&records[i], (uint8_t)(i + 1));
	}
}

static const uint64_t nowhere[] = {1,         8, 0x7fffffffffffu, 0x800000000000u, 0xffff800000000000u, UINT64_MAX - 7,
				   UINT64_MAX};

static void test_addresses_of_nothing(void **state)
{
	char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_true(pages != MAP_FAILED);
	memset(pages, 1, 8192); // what is there would be a record
	assert_int_equal(mprotect(pages + 4096, 4096, PROT_NONE), 0);
	for (uint32_t i = 0; i < THREADS; i += 11) {
		for (size_t k = 0; k < sizeof(nowhere) / sizeof(nowhere[0]); k++) {
			threads[i].otel_at = nowhere[k];
			assert_missing(i);
			threads[i].otel_at = address_of(&variables[i]);
			variables[i] =
				(struct wire_otel_record *)(uintptr_t)nowhere[k]; // NOLINT(performance-no-int-to-ptr)
			assert_missing(i);
		}
		variables[i] = (struct wire_otel_record *)(void *)(pages + 4096 - 27); // its last byte is not there
		assert_missing(i);
		variables[i] = &records[i];
		threads[i].otel_at = address_of(pages + 4096 - 7);
		assert_missing(i);
		threads[i].otel_at = address_of(&variables[i]);
	}
	munmap(pages, 8192);
}

static void test_all_of_them_nowhere(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < THREADS; i++)
		threads[i].otel_at = nowhere[i % (sizeof(nowhere) / sizeof(nowhere[0]))];
	assert_false(origin_spans_find(&origins, getpid(), NULL));
	assert_int_equal(count_found(), 0);
}

static void test_nobody_to_look_at(void **state)
{
	pid_t child = fork();

	(void)state;
	assert_true(child >= 0);
	if (child == 0)
		_exit(0);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_false(origin_spans_find(&origins, child, NULL));
	assert_false(origin_spans_find(NULL, getpid(), NULL));
	for (uint32_t i = 0; i < THREADS; i++)
		threads[i].otel_at = 0;
	assert_false(origin_spans_find(&origins, getpid(), NULL));
}

// ---- What is known already -----------------------------------------------------------------------------------------

static struct thread_scan_record scanned[THREADS];
static struct origin threads_before[THREADS];
static struct origins origins_before;
static struct thread_scan scan;

// All were read, and have not run since; and what they had is no more.
static struct origins_past remember(void)
{
	assert_true(origin_spans_find(&origins, getpid(), NULL));
	memcpy(threads_before, threads, sizeof(threads));
	origins_before = origins;
	origins_before.threads = threads_before;
	scan = (struct thread_scan){.count = THREADS, .records = scanned};
	memset(scanned, 0, sizeof(scanned));
	for (uint32_t i = 0; i < THREADS; i++) {
		scanned[i].tid = i + 1;
		variables[i] = NULL;
		threads[i].has_span = false;
	}
	origins.spans_known = false;
	return (struct origins_past){&origins_before, &scan};
}

static void test_who_did_not_run_keeps_it(void **state)
{
	const struct origins_past past = remember();

	(void)state;
	assert_true(origin_spans_find(&origins, getpid(), &past));
	assert_int_equal(count_found(), THREADS);
	assert_true(origins.spans_known);
	threads_before[5].has_span = false; // nor does it get one
	variables[5] = &records[5];
	assert_true(origin_spans_find(&origins, getpid(), &past));
	assert_false(threads[5].has_span);
	assert_int_equal(count_found(), THREADS - 1);
}

static void test_who_is_read_again(void **state)
{
	const struct origins_past past = remember();

	(void)state;
	scanned[1].walked = true;              // it ran
	threads[2].state_tid = 1;              // it is another one
	threads[3].slot = 1;                   // likewise
	threads[4].otel_at += sizeof(void *);  // of an address that nobody has read
	scanned[0].tid = 0;                    // nobody has seen it
	threads_before[THREADS - 1].tid = 999; // it is new
	assert_true(origin_spans_find(&origins, getpid(), &past));
	assert_int_equal(count_found(), THREADS - 6);
	for (uint32_t i = 0; i <= 4; i++)
		assert_false(threads[i].has_span);
	variables[1] = &records[1];
	assert_true(origin_spans_find(&origins, getpid(), &past));
	assert_true(has_its_own(1));
}

static void test_nothing_is_known(void **state)
{
	struct origins_past past = remember();

	(void)state;
	variables[7] = &records[7];
	origins_before.spans_known = false;
	assert_true(origin_spans_find(&origins, getpid(), &past));
	assert_int_equal(count_found(), 1);
	threads[7].has_span = false;
	past.origins = NULL;
	assert_true(origin_spans_find(&origins, getpid(), &past));
	assert_int_equal(count_found(), 1);
}

static void test_nobody_asks(void **state)
{
	struct origins_past past = remember();

	(void)state;
	past.scan = NULL;
	threads[3].state_tid = 1;
	assert_true(origin_spans_find(&origins, getpid(), &past));
	assert_int_equal(count_found(), THREADS - 1);
	assert_true(origins.spans_known);
	past.origins = NULL;
	assert_false(origin_spans_find(&origins, getpid(), &past));
	assert_int_equal(count_found(), 0);
	assert_false(origins.spans_known);
}

// ---- While they change ---------------------------------------------------------------------------------------------

static uint32_t over; // atomic

// As an SDK does it that updates its record in place: for who interrupts it each moment is fine.
static void change(struct wire_otel_record *record, uint8_t byte)
{
	volatile uint8_t *valid = &record->valid;

	*valid = 0;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	memset(record->trace_id, byte, sizeof(record->trace_id));
	memset(record->span_id, byte, sizeof(record->span_id));
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	*valid = WIRE_OTEL_VALID;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

// From one span to the next as fast as it can, and now and then not.
static void *keep_changing(void *record)
{
	const struct timespec pause = {0, 1000};

	for (uint32_t round = 0; !__atomic_load_n(&over, __ATOMIC_ACQUIRE); round++) {
		for (uint32_t i = 0; i < 20000; i++) {
			change(record, i % 2 ? 0x11 : 0x22);
			for (uint32_t k = 0; k < i % 64; k++) // or it would hardly ever be seen valid
				__asm__ volatile("pause");
		}
		nanosleep(&pause, NULL);
	}
	return NULL;
}

static bool is_all(const uint8_t *bytes, size_t n, uint8_t byte)
{
	for (size_t i = 0; i < n; i++)
		if (bytes[i] != byte)
			return false;
	return true;
}

static void assert_whole(const struct wire_trace *span)
{
	assert_true(span->trace_id[0] == 0x11 || span->trace_id[0] == 0x22);
	assert_true(is_all(span->trace_id, sizeof(span->trace_id), span->trace_id[0]));
	assert_true(is_all(span->span_id, sizeof(span->span_id), span->trace_id[0]));
}

static void assert_never_half(char *place)
{
	struct wire_otel_record *record = (void *)place;
	unsigned found = 0;
	pthread_t thread;

	for (uint32_t i = 0; i < THREADS; i++)
		variables[i] = record; // many looks at once
	__atomic_store_n(&over, 0, __ATOMIC_RELEASE);
	assert_int_equal(pthread_create(&thread, NULL, keep_changing, record), 0);
	for (int look = 0; look < 1000 || (found == 0 && look < 1000000); look++) { // the other thread may begin late
		for (uint32_t i = 0; i < THREADS; i++)
			threads[i].has_span = false;
		origin_spans_find(&origins, getpid(), NULL);
		for (uint32_t i = 0; i < THREADS; i++) {
			found += threads[i].has_span;
			if (threads[i].has_span)
				assert_whole(&threads[i].span);
		}
	}
	__atomic_store_n(&over, 1, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	assert_true(found > 0);
}

// Its ids are in two pages, which the kernel reads one after the other: of one reading, dozens are torn here, of two, some.
static void test_never_half_of_one(void **state)
{
	char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_true(pages != MAP_FAILED);
	assert_never_half(pages + 4096 - sizeof(((struct wire_otel_record *)0)->trace_id));
	assert_never_half(pages + 64 - 8); // and in two lines of the cache
	munmap(pages, 8192);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_each_has_its_own, set_up),
		cmocka_unit_test_setup(test_no_span, set_up),
		cmocka_unit_test_setup(test_addresses_of_nothing, set_up),
		cmocka_unit_test_setup(test_all_of_them_nowhere, set_up),
		cmocka_unit_test_setup(test_nobody_to_look_at, set_up),
		cmocka_unit_test_setup(test_who_did_not_run_keeps_it, set_up),
		cmocka_unit_test_setup(test_who_is_read_again, set_up),
		cmocka_unit_test_setup(test_nothing_is_known, set_up),
		cmocka_unit_test_setup(test_nobody_asks, set_up),
		cmocka_unit_test_setup(test_never_half_of_one, set_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
