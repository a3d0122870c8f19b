// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// early.c: a library to preload: its constructor makes threads, before the agent's has run.

#include "target.h"

#include <pthread.h>

#define THREADS 2

static pthread_t threads[THREADS];

TARGET_NOINLINE static void *early_burn(void *unused)
{
	target_burn(800);
	__asm__ volatile("");
	return unused;
}

static void early_join(void)
{
	for (int i = 0; i < THREADS; i++)
		TARGET_CHECK(pthread_join(threads[i], NULL) == 0);
}

__attribute__((constructor)) static void early_construct(void)
{
	char address[32];

	for (int i = 0; i < THREADS; i++)
		TARGET_CHECK(pthread_create(&threads[i], NULL, early_burn, NULL) == 0);
	snprintf(address, sizeof(address), "%lx", (unsigned long)(uintptr_t)early_join);
	setenv("EARLY_JOIN", address, 1);
}
