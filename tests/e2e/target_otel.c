// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_otel.c: two threads at once, each with a span of its own, published by a library (otel_sdk.c): 400 ms of CPU time and 20 blocks of memory,
// which they keep, each.

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "target.h"

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

int main(void)
{
	int numbers[2] = {1, 2};
	pthread_t threads[2];

	for (int i = 0; i < 2; i++)
		TARGET_CHECK(pthread_create(&threads[i], NULL, work, &numbers[i]) == 0);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	return 0;
}
