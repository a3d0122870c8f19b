// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// empty.c: what a clock costs by itself: LD_PRELOADed, each thread gets SIGPROF by the agent's means, and the handler does nothing but
// count. For scripts/bench cpu.
//
// EMPTY_RATE: Hz. EMPTY_CLOCK: cpu (a timer on the thread's CPU clock) or perf (a perf_event). At the end the number of signals
// goes to the file EMPTY_OUTPUT.

#include <dlfcn.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct start {
	void *(*routine)(void *);
	void *argument;
};

static uint64_t signals;
static uint32_t rate_hz;
static int with_perf;

static void on_signal(int signo, siginfo_t *info, void *context)
{
	__atomic_fetch_add(&signals, 1, __ATOMIC_RELAXED);
}

static void arm_timer(void)
{
	long period_ns = (long)(1000000000u / rate_hz);
	struct itimerspec spec = {{0, period_ns}, {0, period_ns}};
	struct sigevent event;
	timer_t timer;

	memset(&event, 0, sizeof(event));
	event.sigev_notify = SIGEV_THREAD_ID;
	event.sigev_signo = SIGPROF;
	event._sigev_un._tid = gettid();
	if (timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer) < 0 || timer_settime(timer, 0, &spec, NULL) < 0)
		abort();
}

static void arm_perf(void)
{
	struct f_owner_ex owner = {F_OWNER_TID, gettid()};
	struct perf_event_attr attr;
	int fd;

	memset(&attr, 0, sizeof(attr));
	attr.size = sizeof(attr);
	attr.type = PERF_TYPE_SOFTWARE;
	attr.config = PERF_COUNT_SW_CPU_CLOCK;
	attr.sample_period = 1000000000u / rate_hz;
	attr.wakeup_events = 1;
	attr.disabled = 1;
	fd = (int)syscall(SYS_perf_event_open, &attr, gettid(), -1, -1, PERF_FLAG_FD_CLOEXEC);
	if (fd < 0 || fcntl(fd, F_SETOWN_EX, &owner) < 0 || fcntl(fd, F_SETSIG, SIGPROF) < 0 ||
	    fcntl(fd, F_SETFL, O_ASYNC) < 0 || ioctl(fd, PERF_EVENT_IOC_ENABLE, 0) < 0)
		abort();
}

static void *thread_main(void *argument)
{
	struct start start = *(struct start *)argument;

	free(argument);
	with_perf ? arm_perf() : arm_timer();
	return start.routine(start.argument);
}

__attribute__((visibility("default"))) int pthread_create(pthread_t *thread, const pthread_attr_t *attr,
							  void *(*routine)(void *), void *argument)
{
	int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) =
		(int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *))dlsym(RTLD_NEXT,
											       "pthread_create");
	struct start *start = malloc(sizeof(*start));

	*start = (struct start){routine, argument};
	return real(thread, attr, thread_main, start);
}

__attribute__((constructor)) static void begin(void)
{
	struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
	const char *rate = getenv("EMPTY_RATE"), *clock = getenv("EMPTY_CLOCK");

	rate_hz = rate ? (uint32_t)strtoul(rate, NULL, 10) : 100;
	with_perf = clock && strcmp(clock, "perf") == 0;
	sigaction(SIGPROF, &action, NULL);
	with_perf ? arm_perf() : arm_timer();
}

__attribute__((destructor)) static void end(void)
{
	const char *path = getenv("EMPTY_OUTPUT");
	FILE *file = path ? fopen(path, "w") : NULL;

	signal(SIGPROF, SIG_IGN);
	if (file) {
		fprintf(file, "%lu\n", (unsigned long)signals);
		fclose(file);
	}
}
