// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// causal.c: what it costs the caller, ns, that profd knows why threads do what they do: pthread_create, and the calls of include/profd.h.
// Run with the agent preloaded, and without. Prints "NAME NS" lines, medians.
//
// usage: bench_causal [FRAMES]      how deep the calls are made (default 30)

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "include/profd.h"

#define CREATES 2000
#define BATCHES 200
#define BATCH 100

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;

	return (left > right) - (left < right);
}

static void print_median(const char *name, double *values, size_t count)
{
	qsort(values, count, sizeof(*values), by_value);
	printf("%s %.1f\n", name, values[count / 2]);
}

static void *nothing(void *unused)
{
	return unused;
}

static void time_create(void)
{
	static double taken[CREATES];

	for (int i = 0; i < CREATES; i++) {
		uint64_t begin = now_ns();
		pthread_t thread;

		if (pthread_create(&thread, NULL, nothing, NULL) != 0)
			exit(1);
		taken[i] = (double)(now_ns() - begin);
		pthread_join(thread, NULL);
	}
	print_median("create", taken, CREATES);
}

static void do_capture(int i)
{
	profd_capture();
	(void)i;
}

static void do_enter_leave(int i)
{
	static struct profd_link link;

	if (i == 0)
		link = profd_capture();
	profd_enter(link);
	profd_leave();
}

static void do_label(int i)
{
	profd_label_set("endpoint", i & 1 ? "/checkout" : "/search");
}

static void do_trace(int i)
{
	const unsigned char trace_id[16] = {1, (unsigned char)i}, span_id[8] = {2};

	profd_trace_set(trace_id, span_id, 1);
}

static void time_call(const char *name, void (*call)(int))
{
	static double taken[BATCHES];

	for (int i = 0; i < BATCHES; i++) {
		uint64_t begin = now_ns();

		for (int k = 0; k < BATCH; k++)
			call(k);
		taken[i] = (double)(now_ns() - begin) / BATCH;
	}
	print_median(name, taken, BATCHES);
}

__attribute__((noinline)) static void at_depth(int frames)
{
	if (frames > 1) {
		at_depth(frames - 1);
		__asm__ volatile(""); // no tail call
		return;
	}
	time_create();
	time_call("capture", do_capture);
	time_call("enter+leave", do_enter_leave);
	time_call("label_set", do_label);
	time_call("trace_set", do_trace);
}

int main(int argc, char **argv)
{
	at_depth(argc > 1 ? atoi(argv[1]) : 30);
	return 0;
}
