// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_waits.c: every call that can come back with EINTR or too early, in a tight loop with timeouts of nothing or next to
// nothing, mixed with work so that the profiler's signals come at any point of it.
//
// usage: target_waits quiet SECONDS    no signals of its own: there must be no EINTR, no short sleep; 0 seconds: until its stdin ends
//        target_waits alarm SECONDS    SIGALRM without SA_RESTART all the while: its EINTRs must be seen

#include "target.h"

#include <linux/futex.h>
#include <linux/io_uring.h>
#include <linux/time_types.h>
#include <netinet/in.h>
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
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

static int epoll_fd, pipe_fds[2], sockets[2], queue_id, semaphore_id, timer_fd, listener, uring_fd, wake_requests[2],
	wake_pipe[2];
static pthread_t main_thread;
static uint32_t wake_word; // atomic
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

static enum outcome do_epoll_pwait(long us)
{
	struct epoll_event event;
	sigset_t mask;

	sigemptyset(&mask);
	return told(epoll_pwait(epoll_fd, &event, 1, (int)(us / 1000), &mask));
}

static enum outcome do_futex(long us)
{
	static uint32_t word;
	struct timespec timeout = {0, us * 1000};

	return told(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &timeout, NULL, 0));
}

static enum outcome do_read_timer(long us)
{
	struct itimerspec once = {.it_value.tv_nsec = us * 1000 + 1};
	uint64_t times;

	TARGET_CHECK(timerfd_settime(timer_fd, 0, &once, NULL) == 0);
	return told(read(timer_fd, &times, sizeof(times)));
}

static enum outcome do_accept(long us)
{
	if (us == 0)
		return FINE; // SO_RCVTIMEO
	return told(accept(listener, NULL, NULL));
}

static enum outcome do_io_uring(long us)
{
	struct __kernel_timespec timeout = {0, us * 1000};
	struct io_uring_getevents_arg argument = {.ts = (uintptr_t)&timeout};

	return told(syscall(SYS_io_uring_enter, uring_fd, 0, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG,
			    &argument, sizeof(argument)));
}

static enum outcome do_waitpid(long us)
{
	pid_t child = fork();
	enum outcome outcome;
	int status;

	TARGET_CHECK(child >= 0);
	if (child == 0) {
		usleep((useconds_t)us);
		_exit(0);
	}
	outcome = told(waitpid(child, &status, 0));
	while (outcome != FINE && waitpid(child, &status, 0) < 0)
		;
	return outcome;
}

// ---- What has no timeout: another thread ends it ---------------------------------------------------------------------

enum wake { WAKE_PIPE, WAKE_SOCKET, WAKE_QUEUE, WAKE_SEMAPHORE, WAKE_SIGNAL, WAKE_FUTEX };

struct wake_request {
	enum wake what;
	long us;
};

static void wake_after(enum wake what, long us)
{
	struct wake_request request = {what, us};

	TARGET_CHECK(write(wake_requests[1], &request, sizeof(request)) == sizeof(request));
}

static void *wake_loop(void *unused)
{
	struct {
		long type;
		char text[8];
	} message = {.type = 2};
	struct sembuf up = {1, 1, 0};
	struct wake_request request;

	(void)unused;
	for (;;) {
		TARGET_CHECK(read(wake_requests[0], &request, sizeof(request)) == sizeof(request)); // nor EINTR here
		TARGET_CHECK(usleep((useconds_t)request.us) == 0);
		if (request.what == WAKE_PIPE)
			TARGET_CHECK(write(wake_pipe[1], "", 1) == 1);
		else if (request.what == WAKE_SOCKET)
			TARGET_CHECK(send(sockets[0], "", 1, 0) == 1);
		else if (request.what == WAKE_QUEUE)
			TARGET_CHECK(msgsnd(queue_id, &message, sizeof(message.text), 0) == 0);
		else if (request.what == WAKE_SEMAPHORE)
			TARGET_CHECK(semop(semaphore_id, &up, 1) == 0);
		else if (request.what == WAKE_SIGNAL)
			TARGET_CHECK(pthread_kill(main_thread, SIGUSR2) == 0);
		else {
			__atomic_store_n(&wake_word, 1, __ATOMIC_RELEASE);
			syscall(SYS_futex, &wake_word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
		}
	}
	return NULL;
}

static enum outcome do_read(long us)
{
	char byte;

	wake_after(WAKE_PIPE, us);
	return told(read(wake_pipe[0], &byte, 1));
}

static enum outcome do_recv_blocking(long us)
{
	char byte;

	wake_after(WAKE_SOCKET, us);
	return told(recv(sockets[1], &byte, 1, 0));
}

static enum outcome do_msgrcv_blocking(long us)
{
	struct {
		long type;
		char text[8];
	} message;

	wake_after(WAKE_QUEUE, us);
	return told(msgrcv(queue_id, &message, sizeof(message.text), 2, 0));
}

static enum outcome do_semop(long us)
{
	struct sembuf down = {1, -1, 0};

	wake_after(WAKE_SEMAPHORE, us);
	return told(semop(semaphore_id, &down, 1));
}

static enum outcome do_sigwait(long us)
{
	sigset_t set;
	int number = 0;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	wake_after(WAKE_SIGNAL, us);
	return sigwait(&set, &number) == EINTR || number != SIGUSR2 ? INTERRUPTED : FINE;
}

static enum outcome do_futex_woken(long us)
{
	enum outcome outcome = FINE;

	__atomic_store_n(&wake_word, 0, __ATOMIC_RELAXED);
	wake_after(WAKE_FUTEX, us);
	while (!__atomic_load_n(&wake_word, __ATOMIC_ACQUIRE))
		if (told(syscall(SYS_futex, &wake_word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0)) == INTERRUPTED)
			outcome = INTERRUPTED;
	return outcome;
}

enum {
	SIGNALS = 1, // a signal of one's own makes it fail
	TIMED = 2,   // comes back no earlier than it is asked to
	IN_MS = 4,   // whole ones
	ONCE = 8,    // dear
};

// How long it is asked to wait when an alarm comes, which ends it earlier. A thread that gets no CPU for so long after the alarm finds its time over.
#define ALARM_US 500000

static const struct wait {
	const char *name;
	enum outcome (*call)(long us);
	int flags;
	long alarm_us; // how long it is asked to wait when alarms come
} waits[] = {
	{"epoll_wait", do_epoll_wait, SIGNALS | TIMED | IN_MS, ALARM_US},
	{"epoll_pwait", do_epoll_pwait, SIGNALS | TIMED | IN_MS, ALARM_US},
	{"epoll_pwait2", do_epoll_pwait2, SIGNALS | TIMED, ALARM_US},
	{"poll", do_poll, SIGNALS | TIMED | IN_MS, ALARM_US},
	{"ppoll", do_ppoll, SIGNALS | TIMED, ALARM_US},
	{"select", do_select, SIGNALS | TIMED, ALARM_US},
	{"pselect", do_pselect, SIGNALS | TIMED, ALARM_US},
	{"nanosleep", do_nanosleep, SIGNALS | TIMED, ALARM_US},
	{"clock_nanosleep", do_clock_nanosleep, SIGNALS | TIMED, ALARM_US},
	{"clock_nanosleep-absolute", do_clock_nanosleep_absolute, SIGNALS, ALARM_US},
	{"usleep", do_usleep, SIGNALS | TIMED, ALARM_US},
	{"sem_timedwait", do_sem_timedwait, SIGNALS, ALARM_US},
	{"pthread_cond_timedwait", do_cond_timedwait, 0, 0},
	{"futex", do_futex, SIGNALS | TIMED, ALARM_US},
	{"futex-woken", do_futex_woken, 0, 0},
	{"msgrcv", do_msgrcv, 0, 0},
	{"msgrcv-blocking", do_msgrcv_blocking, 0, 0},
	{"semtimedop", do_semtimedop, SIGNALS, ALARM_US},
	{"semop", do_semop, 0, 0},
	{"read", do_read, 0, 0},
	{"read-timerfd", do_read_timer, SIGNALS | TIMED, ALARM_US},
	{"recv", do_recv, 0, 0},
	{"recv-blocking", do_recv_blocking, 0, 0},
	{"accept", do_accept, 0, 0},
	{"sigwait", do_sigwait, 0, 0},
	{"sigtimedwait", do_sigtimedwait, SIGNALS | TIMED, ALARM_US},
	{"io_uring_enter", do_io_uring, SIGNALS, ALARM_US},
	{"waitpid", do_waitpid, ONCE, 0},
};
#define WAITS (sizeof(waits) / sizeof(waits[0]))

// Some kernels and sandboxes have no io_uring.
static bool is_there(const struct wait *wait)
{
	return wait->call != do_io_uring || uring_fd >= 0;
}

static void set_up(void)
{
	struct io_uring_params parameters = {0};
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval one_ms = {0, 1000};
	struct epoll_event event = {.events = EPOLLIN};

	TARGET_CHECK(pipe(pipe_fds) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
	TARGET_CHECK(setsockopt(sockets[0], SOL_SOCKET, SO_RCVTIMEO, &one_ms, sizeof(one_ms)) == 0);
	TARGET_CHECK((epoll_fd = epoll_create1(0)) >= 0);
	TARGET_CHECK(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, pipe_fds[0], &event) == 0);
	TARGET_CHECK((queue_id = msgget(IPC_PRIVATE, 0600)) >= 0);
	TARGET_CHECK((semaphore_id = semget(IPC_PRIVATE, 2, 0600)) >= 0 && sem_init(&never, 0, 0) == 0);
	TARGET_CHECK((timer_fd = timerfd_create(CLOCK_MONOTONIC, 0)) >= 0 &&
		     (listener = socket(AF_INET, SOCK_STREAM, 0)) >= 0);
	TARGET_CHECK(bind(listener, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(listener, 1) == 0);
	TARGET_CHECK(setsockopt(listener, SOL_SOCKET, SO_RCVTIMEO, &one_ms, sizeof(one_ms)) == 0);
	uring_fd = (int)syscall(SYS_io_uring_setup, 4, &parameters);
	if (uring_fd >= 0 && !(parameters.features & IORING_FEAT_EXT_ARG)) {
		close(uring_fd);
		uring_fd = -1;
	}
}

// Only where no signals of our own come, which it could get instead of us.
static void set_up_waker(void)
{
	pthread_t waker;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	main_thread = pthread_self();
	TARGET_CHECK(pipe(wake_requests) == 0 && pipe(wake_pipe) == 0);
	TARGET_CHECK(pthread_create(&waker, NULL, wake_loop, NULL) == 0);
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

static enum outcome time_call(const struct wait *wait, long us)
{
	double start = target_clock_s(CLOCK_MONOTONIC),
	       least = (double)(wait->flags & IN_MS ? us / 1000 * 1000 : us) / 1e6;
	enum outcome outcome = wait->call(us);

	if (outcome == FINE && (wait->flags & TIMED) && target_clock_s(CLOCK_MONOTONIC) - start < least - 1e-9)
		return SHORT;
	return outcome;
}

// Most waits are of nothing, some so short that the timer is due at once, a few long enough to be slept through.
static long random_us(void)
{
	uint32_t kind = random_below(32);

	return kind == 0 ? 1000 + random_below(1000) : kind < 8 ? random_below(30) : 0;
}

static bool is_over(double end)
{
	struct pollfd in = {.fd = 0, .events = POLLIN};

	return end > 0 ? target_clock_s(CLOCK_MONOTONIC) >= end : poll(&in, 1, 0) > 0;
}

static void quiet(double seconds)
{
	long counts[WAITS][3] = {{0}};
	double end = seconds > 0 ? target_clock_s(CLOCK_MONOTONIC) + seconds : 0;

	set_up_waker();
	while (!is_over(end)) {
		for (size_t i = 0; i < WAITS; i++) {
			for (int repeat = 0; is_there(&waits[i]) && repeat < (waits[i].flags & ONCE ? 1 : 8); repeat++)
				counts[i][time_call(&waits[i], random_us())]++;
			target_burn(0.001 * random_below(300));
		}
	}
	for (size_t i = 0; i < WAITS; i++)
		if (is_there(&waits[i]))
			printf("%s %ld %ld\n", waits[i].name, counts[i][INTERRUPTED], counts[i][SHORT]);
	for (size_t i = 0; i < WAITS; i++)
		fprintf(stderr, "%s %ld\n", waits[i].name, counts[i][FINE]);
	fprintf(stderr, "calls %ld\n", counts[0][FINE]);
}

static volatile long alarms;
static volatile double alarmed_s; // the last one

static void on_alarm(int signo)
{
	alarms++;
	alarmed_s = target_clock_s(CLOCK_MONOTONIC);
}

// Each wait is far longer than the time to the alarm, which comes while it sleeps: one alarm, one EINTR. Where the machine was so slow that it
// came before the call, that does not count.
static void alarmed(double seconds)
{
	long calls[WAITS] = {0}, interrupted[WAITS] = {0};
	struct sigaction action = {.sa_handler = on_alarm};
	double end = target_clock_s(CLOCK_MONOTONIC) + seconds;

	TARGET_CHECK(sigaction(SIGALRM, &action, NULL) == 0);
	while (target_clock_s(CLOCK_MONOTONIC) < end) {
		for (size_t i = 0; i < WAITS; i++) {
			struct itimerval once = {{0, 0}, {0, 600 + random_below(800)}};
			double began_s;
			long before = alarms;

			if ((!(waits[i].flags & SIGNALS) || !is_there(&waits[i])))
				continue;
			target_burn(0.001 * random_below(400));
			setitimer(ITIMER_REAL, &once, NULL);
			began_s = target_clock_s(CLOCK_MONOTONIC);
			if (waits[i].call(waits[i].alarm_us) == INTERRUPTED)
				interrupted[i]++;
			calls[i] += alarms > before && alarmed_s > began_s;
		}
	}
	for (size_t i = 0; i < WAITS; i++)
		if ((waits[i].flags & SIGNALS) && is_there(&waits[i]))
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
