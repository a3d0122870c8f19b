// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_waits.c: every call that can come back with EINTR or too early, in a tight loop with timeouts of nothing or next to
// nothing, mixed with work so that the profiler's signals come at any point of it.
//
// usage: target_waits quiet SECONDS    no signals of its own: there must be no EINTR, no short sleep
//        target_waits alarm SECONDS    SIGALRM without SA_RESTART all the while: its EINTRs must be seen

#include "target.h"

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/time.h>

static int epoll_fd, pipe_fds[2], sockets[2], queue_id, semaphore_id;
static sem_t never;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;

// What a call did: fine, EINTR, or came back before its time.
enum outcome { FINE, INTERRUPTED, SHORT };

static struct timespec in_ns(clockid_t clock, long ns)
{
	struct timespec at;

	clock_gettime(clock, &at);
	at.tv_nsec += ns;
	at.tv_sec += at.tv_nsec / 1000000000;
	at.tv_nsec %= 1000000000;
	return at;
}

// of a call that says −1 and errno
static enum outcome told(long result)
{
	return result < 0 && errno == EINTR ? INTERRUPTED : FINE;
}

static enum outcome do_epoll_wait(long us)
{
	struct epoll_event event;

	return told(epoll_wait(epoll_fd, &event, 1, (int)(us / 1000)));
}

static enum outcome do_epoll_pwait2(long us)
{
	struct timespec timeout = {0, us * 1000};
	struct epoll_event event;

	return told(epoll_pwait2(epoll_fd, &event, 1, &timeout, NULL));
}

static enum outcome do_poll(long us)
{
	struct pollfd fd = {.fd = pipe_fds[0], .events = POLLIN};

	return told(poll(&fd, 1, (int)(us / 1000)));
}

static enum outcome do_ppoll(long us)
{
	struct pollfd fd = {.fd = pipe_fds[0], .events = POLLIN};
	struct timespec timeout = {0, us * 1000};
	sigset_t mask;

	sigemptyset(&mask);
	return told(ppoll(&fd, 1, &timeout, &mask));
}

static enum outcome do_select(long us)
{
	struct timeval timeout = {0, us};
	fd_set set;

	FD_ZERO(&set);
	FD_SET(pipe_fds[0], &set);
	return told(select(pipe_fds[0] + 1, &set, NULL, NULL, &timeout));
}

static enum outcome do_pselect(long us)
{
	struct timespec timeout = {0, us * 1000};

	return told(pselect(0, NULL, NULL, NULL, &timeout, NULL));
}

static enum outcome do_nanosleep(long us)
{
	struct timespec request = {0, us * 1000}, left = {-1, -1};
	double start = target_clock_s(CLOCK_MONOTONIC);
	enum outcome outcome = told(nanosleep(&request, &left));

	return outcome == FINE && target_clock_s(CLOCK_MONOTONIC) - start < (double)us / 1e6 - 1e-9 ? SHORT : outcome;
}

static enum outcome do_clock_nanosleep(long us)
{
	struct timespec request = {0, us * 1000};

	return clock_nanosleep(CLOCK_MONOTONIC, 0, &request, NULL) == EINTR ? INTERRUPTED : FINE;
}

static enum outcome do_clock_nanosleep_absolute(long us)
{
	struct timespec at = in_ns(CLOCK_MONOTONIC, us * 1000);
	int error = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
	double late = target_clock_s(CLOCK_MONOTONIC) - ((double)at.tv_sec + (double)at.tv_nsec / 1e9);

	return error == EINTR ? INTERRUPTED : late < -1e-9 ? SHORT : FINE;
}

static enum outcome do_usleep(long us)
{
	return told(usleep((useconds_t)us));
}

static enum outcome do_sem_timedwait(long us)
{
	struct timespec at = in_ns(CLOCK_REALTIME, us * 1000);

	return told(sem_timedwait(&never, &at));
}

// Never EINTR by POSIX; a spurious wake-up would be ours.
static enum outcome do_cond_timedwait(long us)
{
	struct timespec at = in_ns(CLOCK_REALTIME, us * 1000);
	int error;

	pthread_mutex_lock(&mutex);
	error = pthread_cond_timedwait(&condition, &mutex, &at);
	pthread_mutex_unlock(&mutex);
	return error == EINTR ? INTERRUPTED : error == 0 ? SHORT : FINE;
}

static enum outcome do_msgrcv(long us)
{
	struct {
		long type;
		char text[8];
	} message;

	(void)us;
	return told(msgrcv(queue_id, &message, sizeof(message.text), 1, IPC_NOWAIT | MSG_NOERROR));
}

static enum outcome do_semtimedop(long us)
{
	struct sembuf down = {0, -1, 0};
	struct timespec timeout = {0, us * 1000};

	return told(semtimedop(semaphore_id, &down, 1, &timeout));
}

static enum outcome do_recv(long us)
{
	char byte;

	if (us == 0)
		return FINE; // SO_RCVTIMEO is 1 ms at the least
	return told(recv(sockets[0], &byte, 1, 0));
}

static enum outcome do_sigtimedwait(long us)
{
	struct timespec timeout = {0, us * 1000};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	return told(sigtimedwait(&set, NULL, &timeout));
}

static const struct wait {
	const char *name;
	enum outcome (*call)(long us);
	bool eintr;    // a signal of one's own makes it fail
	long alarm_us; // how long it is asked to wait when alarms come
} waits[] = {
	{"epoll_wait", do_epoll_wait, true, 20000},
	{"epoll_pwait2", do_epoll_pwait2, true, 20000},
	{"poll", do_poll, true, 20000},
	{"ppoll", do_ppoll, true, 20000},
	{"select", do_select, true, 20000},
	{"pselect", do_pselect, true, 20000},
	{"nanosleep", do_nanosleep, true, 20000},
	{"clock_nanosleep", do_clock_nanosleep, true, 20000},
	{"clock_nanosleep-absolute", do_clock_nanosleep_absolute, true, 20000},
	{"usleep", do_usleep, true, 20000},
	{"sem_timedwait", do_sem_timedwait, true, 20000},
	{"pthread_cond_timedwait", do_cond_timedwait, false, 0},
	{"msgrcv", do_msgrcv, false, 0},
	{"semtimedop", do_semtimedop, true, 20000},
	{"recv", do_recv, false, 0},
	{"sigtimedwait", do_sigtimedwait, true, 20000},
};
#define WAITS (sizeof(waits) / sizeof(waits[0]))

static void set_up(void)
{
	struct timeval one_ms = {0, 1000};
	struct epoll_event event = {.events = EPOLLIN};

	TARGET_CHECK(pipe(pipe_fds) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
	TARGET_CHECK(setsockopt(sockets[0], SOL_SOCKET, SO_RCVTIMEO, &one_ms, sizeof(one_ms)) == 0);
	TARGET_CHECK((epoll_fd = epoll_create1(0)) >= 0);
	TARGET_CHECK(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, pipe_fds[0], &event) == 0);
	TARGET_CHECK((queue_id = msgget(IPC_PRIVATE, 0600)) >= 0);
	TARGET_CHECK((semaphore_id = semget(IPC_PRIVATE, 1, 0600)) >= 0 && sem_init(&never, 0, 0) == 0);
}

static void clean_up(void)
{
	msgctl(queue_id, IPC_RMID, NULL);
	semctl(semaphore_id, 0, IPC_RMID);
}

static uint32_t random_below(uint32_t bound)
{
	static uint64_t state = 88172645463325252u;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 33) % bound;
}

static void quiet(double seconds)
{
	long counts[WAITS][3] = {{0}};
	double end = target_clock_s(CLOCK_MONOTONIC) + seconds;

	while (target_clock_s(CLOCK_MONOTONIC) < end) {
		for (size_t i = 0; i < WAITS; i++) {
			for (int repeat = 0; repeat < 8; repeat++)
				counts[i][waits[i].call(random_below(4) ? 0 : random_below(30))]++;
			target_burn(0.001 * random_below(300));
		}
	}
	for (size_t i = 0; i < WAITS; i++)
		printf("%s %ld %ld\n", waits[i].name, counts[i][INTERRUPTED], counts[i][SHORT]);
	fprintf(stderr, "calls %ld\n", counts[0][FINE]);
}

static volatile long alarms;

static void on_alarm(int signo)
{
	alarms++;
}

// Each wait is far longer than the time to the alarm, which comes while it sleeps: one alarm, one EINTR.
static void alarmed(double seconds)
{
	long calls[WAITS] = {0}, interrupted[WAITS] = {0};
	struct sigaction action = {.sa_handler = on_alarm};
	double end = target_clock_s(CLOCK_MONOTONIC) + seconds;

	TARGET_CHECK(sigaction(SIGALRM, &action, NULL) == 0);
	while (target_clock_s(CLOCK_MONOTONIC) < end) {
		for (size_t i = 0; i < WAITS; i++) {
			struct itimerval once = {{0, 0}, {0, 600 + random_below(800)}};
			long before = alarms;

			if (!waits[i].eintr)
				continue;
			target_burn(0.001 * random_below(400));
			setitimer(ITIMER_REAL, &once, NULL);
			if (waits[i].call(waits[i].alarm_us) == INTERRUPTED)
				interrupted[i]++;
			calls[i] += alarms > before;
		}
	}
	for (size_t i = 0; i < WAITS; i++)
		if (waits[i].eintr)
			fprintf(stderr, "%s %ld %ld\n", waits[i].name, calls[i], interrupted[i]);
}

int main(int argc, char **argv)
{
	double seconds = argc > 2 ? strtod(argv[2], NULL) : 1;

	set_up();
	if (argc > 1 && strcmp(argv[1], "alarm") == 0)
		alarmed(seconds);
	else
		quiet(seconds);
	clean_up();
	return 0;
}
