// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_wakers.c: work that is handed from thread to thread by nothing but libc: whoever burns CPU time was woken by somebody known. Two producers,
// ask_for_red and ask_for_blue, wake one consumer, which works on one job after the other: red jobs in paint_red, blue ones in paint_blue.
//
// usage: target_wakers KIND [ROUNDS [stuck]]       KIND: cond, sem, large, deep, eventfd, pipe, socketpair, epoll, futex; 0 ROUNDS: until its stdin
// ends. stuck: until it has a line; from the last job, ask_to_be_stuck's, the consumer does not come back.
//        target_wakers timeouts            two threads at one condition variable, and two at one epoll: one is woken again and again, the other one
//                                          waits until its time is over each time, and burns CPU time then (after_time);
//                                          says how often at the condition variable

#include "target.h"

#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>

enum { RED = 1, BLUE, END, STUCK };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static sem_t semaphore, done;
static int job; // one at a time: `done` sees to that
static int fds[2], epoll_fd;
static uint32_t word;
static long consumer; // atomic; its id

static void wait_cond(void)
{
	pthread_mutex_lock(&mutex);
	while (!job)
		pthread_cond_wait(&cond, &mutex);
	pthread_mutex_unlock(&mutex);
}

static void wake_cond(void)
{
	pthread_cond_signal(&cond);
}

static void wait_sem(void)
{
	while (sem_wait(&semaphore) < 0)
		;
}

static void wake_sem(void)
{
	sem_post(&semaphore);
}

// What asks is far up: behind a large frame, or many.
TARGET_NOINLINE static void wake_behind_large(void)
{
	char large[32768];

	memset(large, 1, sizeof(large));
	__asm__ volatile("" ::"r"(large) : "memory");
	sem_post(&semaphore);
	__asm__ volatile("" ::"r"(large) : "memory");
}

TARGET_NOINLINE static void wake_below(int frames)
{
	if (frames)
		wake_below(frames - 1);
	else
		sem_post(&semaphore);
	__asm__ volatile("");
}

static void wake_deep(void)
{
	wake_below(60);
}

static void wait_fd(void)
{
	uint64_t value;

	TARGET_CHECK(read(fds[0], &value, sizeof(value)) == sizeof(value));
}

static void wake_fd(void)
{
	uint64_t value = 1;

	TARGET_CHECK(write(fds[1], &value, sizeof(value)) == sizeof(value));
}

static void wait_epoll(void)
{
	struct epoll_event event;

	TARGET_CHECK(epoll_wait(epoll_fd, &event, 1, -1) == 1);
	wait_fd();
}

static void wait_futex(void)
{
	while (!__atomic_load_n(&word, __ATOMIC_ACQUIRE))
		syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
	__atomic_store_n(&word, 0, __ATOMIC_RELEASE);
}

static void wake_futex(void)
{
	__atomic_store_n(&word, 1, __ATOMIC_RELEASE);
	syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

// As the above, by libc's own calls for it.
static void wait_eventfd(void)
{
	eventfd_t value;

	while (eventfd_read(fds[0], &value) < 0)
		;
}

static void wake_eventfd(void)
{
	TARGET_CHECK(eventfd_write(fds[1], 1) == 0);
}

static const struct kind {
	const char *name;
	void (*wait)(void), (*wake)(void);
} kinds[] = {{"large", wait_sem, wake_behind_large},
	     {"deep", wait_sem, wake_deep},
	     {"cond", wait_cond, wake_cond},
	     {"sem", wait_sem, wake_sem},
	     {"eventfd", wait_fd, wake_fd},
	     {"pipe", wait_fd, wake_fd},
	     {"socketpair", wait_fd, wake_fd},
	     {"epoll", wait_epoll, wake_fd},
	     {"eventfd_t", wait_eventfd, wake_eventfd},
	     {"futex", wait_futex, wake_futex}};
static const struct kind *kind;

TARGET_NOINLINE static void paint_red(void)
{
	target_burn(8);
	__asm__ volatile("");
}

TARGET_NOINLINE static void paint_blue(void)
{
	target_burn(9); // not the same code: the compiler would make one of two
	__asm__ volatile("");
}

TARGET_NOINLINE static void be_stuck(void)
{
	sem_post(&done);
	for (;;)
		pause();
}

TARGET_NOINLINE static void *consume(void *unused)
{
	__atomic_store_n(&consumer, syscall(SYS_gettid), __ATOMIC_RELEASE);
	for (;;) {
		int mine;

		kind->wait();
		pthread_mutex_lock(&mutex);
		mine = job;
		job = 0;
		pthread_mutex_unlock(&mutex);
		if (mine == END)
			return NULL;
		if (mine == STUCK)
			be_stuck();
		if (mine == RED)
			paint_red();
		else
			paint_blue();
		sem_post(&done);
	}
}

TARGET_NOINLINE static void hand_over(int what)
{
	while (!target_sleeps(&consumer)) // it waits
		usleep(500);
	pthread_mutex_lock(&mutex);
	job = what;
	kind->wake();
	pthread_mutex_unlock(&mutex);
	if (what != END)
		sem_wait(&done);
	__asm__ volatile("");
}

TARGET_NOINLINE static void ask_for_red(void)
{
	hand_over(RED);
	__asm__ volatile("");
}

TARGET_NOINLINE static void ask_for_blue(void)
{
	hand_over(BLUE);
	__asm__ volatile("");
}

TARGET_NOINLINE static void ask_to_be_stuck(void)
{
	hand_over(STUCK);
	__asm__ volatile("");
}

static void stay_stuck(void)
{
	while (getchar() != '\n')
		;
	ask_to_be_stuck();
	puts("stuck");
	fflush(stdout);
	while (getchar() != EOF)
		;
	_exit(0);
}

static bool stdin_ended(void)
{
	struct pollfd input = {.fd = 0, .events = POLLIN};

	return poll(&input, 1, 0) != 0;
}

static void open_fds(const char *name)
{
	bool by_epoll = strcmp(name, "epoll") == 0;

	if (by_epoll || strncmp(name, "eventfd", strlen("eventfd")) == 0)
		fds[0] = fds[1] = eventfd(0, EFD_CLOEXEC);
	else if (strcmp(name, "pipe") == 0)
		TARGET_CHECK(pipe(fds) == 0);
	else if (strcmp(name, "socketpair") == 0)
		TARGET_CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	if (!by_epoll)
		return;
	epoll_fd = epoll_create1(0);
	TARGET_CHECK(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fds[0], &(struct epoll_event){.events = EPOLLIN}) == 0);
}

// ---- Waits that time ends -----------------------------------------------------------------------------------------------

#define TIME_MS 8

static bool ends;     // atomic
static long timeouts; // atomic

TARGET_NOINLINE static void after_time(void)
{
	target_burn(5);
	__asm__ volatile("");
}

static void *wait_for_time(void *unused)
{
	struct epoll_event event;
	struct timespec until;
	int result;

	pthread_setname_np(pthread_self(), "patient");
	while (!__atomic_load_n(&ends, __ATOMIC_RELAXED)) {
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += TIME_MS * 1000000;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		pthread_mutex_lock(&mutex);
		result = pthread_cond_timedwait(&cond, &mutex, &until);
		pthread_mutex_unlock(&mutex);
		__atomic_fetch_add(&timeouts, result == ETIMEDOUT, __ATOMIC_RELAXED);
		if (result == ETIMEDOUT)
			after_time();
		if (epoll_wait(epoll_fd, &event, 1, TIME_MS) == 0)
			after_time();
	}
	return unused;
}

static void *wait_to_be_woken(void *unused)
{
	struct epoll_event event;
	uint64_t number;

	while (!__atomic_load_n(&ends, __ATOMIC_RELAXED)) {
		pthread_mutex_lock(&mutex);
		pthread_cond_wait(&cond, &mutex);
		pthread_mutex_unlock(&mutex);
		if (epoll_wait(epoll_fd, &event, 1, -1) == 1)
			(void)!read(fds[0], &number, sizeof(number));
	}
	return unused;
}

TARGET_NOINLINE static void let_one_go(void)
{
	uint64_t one = 1;

	pthread_mutex_lock(&mutex);
	pthread_cond_signal(&cond);
	pthread_mutex_unlock(&mutex);
	(void)!write(fds[1], &one, sizeof(one));
	__asm__ volatile("");
}

static int run_timeouts(void)
{
	pthread_t thread = 0;

	fds[0] = fds[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	epoll_fd = epoll_create1(0);
	TARGET_CHECK(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fds[0], &(struct epoll_event){.events = EPOLLIN | EPOLLET}) ==
		     0);
	for (int i = 0; i < 2; i++)
		TARGET_CHECK(pthread_create(&thread, NULL, wait_to_be_woken, NULL) == 0);
	TARGET_CHECK(pthread_create(&thread, NULL, wait_for_time, NULL) == 0);
	// For 1.5 s, and longer where that is too short for some to be in time.
	for (int i = 0; i < 300 || (i < 10000 && __atomic_load_n(&timeouts, __ATOMIC_RELAXED) < 20); i++) {
		let_one_go();
		usleep(5000);
	}
	__atomic_store_n(&ends, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	printf("%ld\n", timeouts);
	return 0;
}

int main(int argc, char **argv)
{
	long rounds = target_number(argc, argv, 2, 40);
	pthread_t thread;

	for (size_t i = 0; argc > 1 && i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(kinds[i].name, argv[1]) == 0)
			kind = &kinds[i];
	if (argc > 1 && strcmp(argv[1], "timeouts") == 0)
		return run_timeouts();
	if (!kind)
		return 98;
	sem_init(&semaphore, 0, 0);
	sem_init(&done, 0, 0);
	open_fds(argv[1]);
	TARGET_CHECK(pthread_create(&thread, NULL, consume, NULL) == 0);
	puts("ready");
	fflush(stdout);
	for (long i = 0; rounds ? i < rounds : !stdin_ended(); i++) {
		ask_for_red();
		ask_for_blue();
	}
	if (argc > 3)
		stay_stuck();
	hand_over(END);
	pthread_join(thread, NULL);
	puts("done");
	return 0;
}
