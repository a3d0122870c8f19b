// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// truth.c: ten functions whose CPU shares are 1:2:…:10 by construction. All call the same loop, so the time of each is its
// number of iterations, wherever the compiler puts it. The order is shuffled every round: nothing keeps step with a timer. What
// each really got is measured as well, by the clock of its thread: a busy machine does not deal out a round evenly. But in one round of
// MEASURED_EVERY alone: to read that clock lets the scheduler see that a time slice is over. A program that did it all the time, with
// more threads than CPUs, would run from a tick to 1.4 ms behind it, again and again, and the next tick would find others.
//
// usage: truth [THREADS] [CPU-SECONDS]     (default: 1 24)
// prints: cpu SECONDS (getrusage, the whole process), then a line share_N SECONDS for each function

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#define MAX_THREADS 256
#define FUNCTIONS 10
#define UNIT 20000 // iterations of one share: some tens of microseconds
#define MEASURED_EVERY 64

static double cpu_limit_s; // of each thread
static uint64_t sink;      // atomic; keeps the work from being optimized away

// CPU time of each function, in seconds, all threads that ended.
static double measured_s[FUNCTIONS];
static pthread_mutex_t measured_lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((noinline)) static uint64_t spin(uint64_t x, uint64_t n)
{
	while (n--) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
	}
	return x;
}

#define SHARE(n)                                                               \
	__attribute__((noinline)) static uint64_t share_##n(uint64_t x)        \
	{                                                                      \
		return spin(x, (uint64_t)UNIT * (n)) + (n); /* no tail call */ \
	}
SHARE(1)
SHARE(2)
SHARE(3)
SHARE(4)
SHARE(5)
SHARE(6)
SHARE(7)
SHARE(8)
SHARE(9)
SHARE(10)

typedef uint64_t share_fn(uint64_t);
static share_fn *const shares[FUNCTIONS] = {share_1, share_2, share_3, share_4, share_5,
					    share_6, share_7, share_8, share_9, share_10};

static void shuffle(int order[FUNCTIONS], uint64_t *random)
{
	for (int i = FUNCTIONS - 1; i > 0; i--) {
		*random = *random * 6364136223846793005u + 1442695040888963407u;
		int j = (int)((*random >> 33) % (uint64_t)(i + 1));
		int kept = order[i];

		order[i] = order[j];
		order[j] = kept;
	}
}

static double clock_s(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

// Returns the thread's CPU time at the end.
static double measured_round(const int order[FUNCTIONS], uint64_t *x, double own_s[FUNCTIONS])
{
	double before = clock_s(CLOCK_THREAD_CPUTIME_ID);

	for (int i = 0; i < FUNCTIONS; i++) {
		*x = shares[order[i]](*x | 1);
		double after = clock_s(CLOCK_THREAD_CPUTIME_ID);

		own_s[order[i]] += after - before;
		before = after;
	}
	return before;
}

static void *thread_main(void *argument)
{
	int order[FUNCTIONS] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
	uint64_t random = (uint64_t)(uintptr_t)argument * 7919 + 1;
	uint64_t x = 88172645463325252u;
	double own_s[FUNCTIONS] = {0}, used_s = 0;

	for (unsigned round = 0; used_s < cpu_limit_s; round++) {
		shuffle(order, &random);
		if (round % MEASURED_EVERY == 0)
			used_s = measured_round(order, &x, own_s);
		else
			for (int i = 0; i < FUNCTIONS; i++)
				x = shares[order[i]](x | 1);
	}
	__atomic_fetch_xor(&sink, x, __ATOMIC_RELAXED);
	pthread_mutex_lock(&measured_lock);
	for (int i = 0; i < FUNCTIONS; i++)
		measured_s[i] += own_s[i];
	pthread_mutex_unlock(&measured_lock);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[MAX_THREADS];
	long count = argc > 1 ? strtol(argv[1], NULL, 10) : 1;
	double seconds = argc > 2 ? strtod(argv[2], NULL) : 24;
	struct rusage usage;

	if (count < 1 || count > MAX_THREADS || seconds <= 0)
		return 2;
	cpu_limit_s = seconds / (double)count;
	for (long i = 0; i < count; i++)
		if (pthread_create(&threads[i], NULL, thread_main, (void *)(uintptr_t)i) != 0)
			return 1;
	for (long i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	getrusage(RUSAGE_SELF, &usage);
	printf("cpu %.6f\n", (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
				     (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
	for (int i = 0; i < FUNCTIONS; i++)
		printf("share_%d %.6f\n", i + 1, measured_s[i]);
	return 0;
}
