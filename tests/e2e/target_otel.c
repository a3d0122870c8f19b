// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_otel.c: threads with spans that a library publishes (otel_sdk.c).
//
// usage: target_otel          two threads at once, each with a span of its own: 400 ms of CPU time and 20 blocks of memory, which
//                             they keep, each
//        target_otel wait     threads that wait until its input ends, each with another kind of record; the main thread has a span, and runs.
//                             After a line of input the first of them has another span, says "changed", and waits on

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "target.h"

#include "include/profd.h"

struct otel_record {
	uint8_t trace_id[16], span_id[8], valid, trace_flags;
	uint16_t attrs_data_size;
};

extern void otel_sdk_publish(struct otel_record *record);

TARGET_NOINLINE static void with_span(void)
{
	target_burn(400);
	__asm__ volatile("");
}

static void *volatile kept[2][20];

TARGET_NOINLINE static void keep_blocks(int number)
{
	for (int i = 0; i < 20; i++)
		kept[number - 1][i] = malloc(500);
	__asm__ volatile("");
}

static void *work(void *number)
{
	struct otel_record record = {.valid = 1};

	memset(record.trace_id, *(int *)number, sizeof(record.trace_id));
	memset(record.span_id, *(int *)number, sizeof(record.span_id));
	pthread_setname_np(pthread_self(), *(int *)number == 1 ? "one" : "two");
	otel_sdk_publish(&record);
	with_span();
	keep_blocks(*(int *)number);
	otel_sdk_publish(NULL);
	return NULL;
}

// ---- Threads that wait ---------------------------------------------------------------------------------------------

static const struct kind {
	const char *name;
	uint8_t digit, valid, flags;
	struct otel_record *instead; // of its record; NULL: nothing
	uint8_t own_digit;           // of a trace that it tells profd of; 0: none
} kinds[] = {
	{.name = "plain", .digit = 0x11, .valid = 1},
	{.name = "sampled", .digit = 0x22, .valid = 1, .flags = 1},
	{.name = "changing", .digit = 0x33, .valid = 0},
	{.name = "nowhere", .digit = 0x44, .valid = 1, .instead = (struct otel_record *)8},
	{.name = "both", .digit = 0x55, .valid = 1, .own_digit = 0x66},
	{.name = "own", .digit = 0x77, .valid = 0, .own_digit = 0x88},
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static pthread_barrier_t ready;

static void publish(const struct kind *kind, struct otel_record *record)
{
	unsigned char own[16];

	*record = (struct otel_record){.valid = kind->valid, .trace_flags = kind->flags};
	memset(record->trace_id, kind->digit, sizeof(record->trace_id));
	memset(record->span_id, kind->digit, sizeof(record->span_id));
	memset(own, kind->own_digit, sizeof(own));
	if (kind->own_digit)
		profd_trace_set(own, own, 1);
	otel_sdk_publish(kind->instead ? kind->instead : record);
}

static void *wait_with_span(void *kind)
{
	struct otel_record record;

	pthread_setname_np(pthread_self(), ((const struct kind *)kind)->name);
	publish(kind, &record);
	pthread_barrier_wait(&ready);
	pause();
	memset(record.span_id, 0xaa, sizeof(record.span_id));
	pthread_barrier_wait(&ready);
	for (;;)
		pause();
	return NULL;
}

static void wake_up(int signo)
{
	(void)signo;
}

static int wait_for_input(void)
{
	static const struct kind mine = {.digit = 0x99, .valid = 1};
	struct pollfd input = {.fd = 0, .events = POLLIN};
	struct otel_record record;
	pthread_t threads[KINDS];

	signal(SIGUSR1, wake_up);
	pthread_barrier_init(&ready, NULL, KINDS + 1);
	for (size_t i = 0; i < KINDS; i++)
		TARGET_CHECK(pthread_create(&threads[i], NULL, wait_with_span, (void *)&kinds[i]) == 0);
	publish(&mine, &record);
	pthread_barrier_wait(&ready);
	puts("ready");
	fflush(stdout);
	while (poll(&input, 1, 0) == 0)
		target_burn(1);
	if (getchar() != '\n')
		_exit(0);
	pthread_barrier_destroy(&ready);
	pthread_barrier_init(&ready, NULL, 2);
	pthread_kill(threads[0], SIGUSR1);
	pthread_barrier_wait(&ready);
	puts("changed");
	fflush(stdout);
	while (getchar() != EOF)
		;
	_exit(0);
}

int main(int argc, char **argv)
{
	int numbers[2] = {1, 2};
	pthread_t threads[2];

	if (argc > 1 && strcmp(argv[1], "wait") == 0)
		return wait_for_input();
	for (int i = 0; i < 2; i++)
		TARGET_CHECK(pthread_create(&threads[i], NULL, work, &numbers[i]) == 0);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	return 0;
}
