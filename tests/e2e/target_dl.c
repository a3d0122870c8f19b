// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_dl.c: loads and unloads a library over and over while its code, and other threads', is sampled.
//
// usage: target_dl LIBRARY MS      ends when this thread has used so much CPU time, and the other one more than half of it

#include "target.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>

static bool stop;

static void *burn_meanwhile(void *unused)
{
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		target_burn(0.5);
	return unused;
}

// Two copies of the library at different addresses in turn, so that an address soon holds another module.
static long use(const char *library, double ms)
{
	void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
	long (*work)(double) = NULL;
	long result;

	TARGET_CHECK(handle);
	*(void **)&work = dlsym(handle, "plugin_work");
	TARGET_CHECK(work);
	result = work(ms);
	TARGET_CHECK(dlclose(handle) == 0);
	return result;
}

int main(int argc, char **argv)
{
	double seconds = (double)target_number(argc, argv, 2, 1000) / 1e3;
	double end = target_clock_s(CLOCK_THREAD_CPUTIME_ID) + seconds;
	clockid_t others_clock;
	pthread_t thread;
	long good = 0, rounds = 0;

	TARGET_CHECK(argc > 1 && pthread_create(&thread, NULL, burn_meanwhile, NULL) == 0);
	TARGET_CHECK(pthread_getcpuclockid(thread, &others_clock) == 0);
	while (target_clock_s(CLOCK_THREAD_CPUTIME_ID) < end || target_clock_s(others_clock) < 0.55 * seconds) {
		good += use(argv[1], rounds % 64 ? 0.2 : 60) == 42;
		rounds++;
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	TARGET_CHECK(pthread_join(thread, NULL) == 0);
	printf("all good: %d\n", good == rounds && rounds > 10);
	return 0;
}
