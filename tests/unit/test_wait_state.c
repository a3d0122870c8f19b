// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_wait_state.c: what threads of our own wait for (wait_state.c, wait_object.c), by what the kernel says of them (task_reader.c).

#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "collector/task_reader.h"
#include "collector/wait_state.h"

struct waiter {
	void (*wait)(void);
	uint32_t tid; // atomic
	pthread_t thread;
};

static int pipe_fds[2], listener, epoll_fd;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_t joined;

static void *run(void *argument)
{
	struct waiter *waiter = argument;

	__atomic_store_n(&waiter->tid, (uint32_t)gettid(), __ATOMIC_RELEASE);
	waiter->wait();
	return NULL;
}

// Until the kernel has it wait in some call.
static void start(struct waiter *waiter, void (*wait)(void), struct task_place *ret_place)
{
	struct task_reader reader;

	*waiter = (struct waiter){.wait = wait};
	assert_int_equal(task_reader_open(getpid(), &reader), 0);
	assert_int_equal(pthread_create(&waiter->thread, NULL, run, waiter), 0);
	while (!__atomic_load_n(&waiter->tid, __ATOMIC_ACQUIRE))
		sched_yield();
	do
		assert_int_equal(task_reader_place(&reader, waiter->tid, ret_place), 0);
	while (!ret_place->in_syscall || task_reader_state(&reader, waiter->tid) != 'S');
	task_reader_close(&reader);
}

static struct wait_state find_with(const struct task_place *place, const char *const *names, size_t nnames)
{
	struct wait_state_process *process = wait_state_open(getpid());
	struct wait_state_input input = {
		.in_syscall = place->in_syscall, .nr = place->nr, .names = names, .nnames = nnames};
	struct wait_state state;

	memcpy(input.args, place->args, sizeof(input.args));
	wait_state_find(process, &input, &state);
	wait_state_close(process);
	return state;
}

static struct wait_state find(const struct task_place *place, const char *name)
{
	return find_with(place, &name, name ? 1 : 0);
}

static void end(const struct waiter *waiter)
{
	pthread_kill(waiter->thread, SIGUSR1);
	pthread_join(waiter->thread, NULL);
}

static struct wait_state state_of(void (*wait)(void), const char *name)
{
	struct task_place place;
	struct waiter waiter;
	struct wait_state state;

	start(&waiter, wait, &place);
	state = find(&place, name);
	end(&waiter);
	return state;
}

static void wait_read(void)
{
	char byte;

	(void)!read(pipe_fds[0], &byte, 1);
}

static void wait_accept(void)
{
	accept(listener, NULL, NULL);
}

static void wait_epoll(void)
{
	struct epoll_event event;

	epoll_wait(epoll_fd, &event, 1, -1);
}

static void wait_poll(void)
{
	struct pollfd fds[] = {{.fd = pipe_fds[0], .events = POLLIN}, {.fd = listener, .events = POLLIN}};

	poll(fds, 2, -1);
}

static void wait_sleep(void)
{
	struct timespec time = {1500, 500000000};

	nanosleep(&time, NULL);
}

static void test_descriptors(void **unused)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct epoll_event event = {.events = EPOLLIN};
	socklen_t size = sizeof(address);
	char expected[128];
	struct wait_state state;

	assert_int_equal(pipe(pipe_fds), 0);
	listener = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 1), 0);
	getsockname(listener, (struct sockaddr *)&address, &size);
	epoll_fd = epoll_create1(0);
	assert_int_equal(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, pipe_fds[0], &event), 0);

	state = state_of(wait_read, NULL);
	assert_string_equal(state.state, "read");
	assert_int_equal(strncmp(state.object, "pipe:(", 6), 0);
	state = state_of(wait_accept, NULL);
	assert_string_equal(state.state, "accept");
	snprintf(expected, sizeof(expected), "tcp listening at 127.0.0.1:%u (fd %d)", ntohs(address.sin_port),
		 listener);
	assert_string_equal(state.object, expected);
	state = state_of(wait_epoll, NULL);
	assert_string_equal(state.state, "epoll");
	snprintf(expected, sizeof(expected), "(fd %d; 1 fds)", epoll_fd);
	assert_string_equal(state.object, expected);
	state = state_of(wait_poll, NULL);
	assert_string_equal(state.state, "poll");
	assert_int_equal(strncmp(state.object, "2 fds: pipe:(", 13), 0);
	state = state_of(wait_sleep, NULL);
	assert_string_equal(state.state, "sleep");
	assert_string_equal(state.object, "of 1500.5 s");
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	close(listener);
	close(epoll_fd);
}

static void wait_mutex(void)
{
	pthread_mutex_lock(&mutex);
	pthread_mutex_unlock(&mutex);
}

static void wait_join(void)
{
	pthread_join(joined, NULL);
}

static void test_locks(void **unused)
{
	struct waiter waiter, joiner;
	struct task_place place;
	struct wait_state state;

	pthread_mutex_lock(&mutex);
	start(&waiter, wait_mutex, &place);
	state = find(&place, "___pthread_mutex_lock");
	assert_string_equal(state.state, "mutex lock");
	assert_int_equal(state.owner_tid, gettid());
	assert_int_equal(state.address, (uintptr_t)&mutex);
	state = find(&place, NULL);
	assert_string_equal(state.state, "futex");
	assert_int_equal(state.owner_tid, 0);
	state = find(&place, "___pthread_cond_wait"); // which takes its mutex again
	assert_string_equal(state.state, "mutex lock");
	assert_int_equal(state.owner_tid, gettid());
	state = find(&place, "pthread_cond_signal");
	assert_string_equal(state.state, "futex");
	state = find(&place, "__lll_lock_wait_private");
	assert_string_equal(state.state, "lock");
	assert_int_equal(state.owner_tid, 0);
	state = find(&place, "my_pthread_mutex_lock");
	assert_string_equal(state.state, "futex");
	state = find_with(&place, (const char *[]){"__lll_lock_wait", "___pthread_mutex_lock", "___pthread_cond_wait"},
			  3);
	assert_string_equal(state.state, "mutex lock");
	assert_int_equal(state.owner_tid, gettid());
	place.nr = SYS_restart_syscall;
	state = find(&place, "___pthread_mutex_lock");
	assert_string_equal(state.state, "mutex lock");
	assert_int_equal(state.owner_tid, 0);
	state = find(&place, "__clock_nanosleep");
	assert_string_equal(state.state, "sleep");
	state = find(&place, NULL);
	assert_string_equal(state.state, "restarted call");
	place.nr = SYS_futex;
	joined = waiter.thread;
	start(&joiner, wait_join, &place);
	state = find(&place, "__pthread_clockjoin_ex");
	assert_string_equal(state.state, "join");
	assert_int_equal(state.owner_tid, waiter.tid);
	assert_string_equal(state.object, "");
	pthread_mutex_unlock(&mutex);
	pthread_join(joiner.thread, NULL);
}

static void test_without_a_call(void **unused)
{
	static const struct {
		char run_state;
		const char *state;
	} cases[] = {{'R', "running"}, {'T', "stopped"},    {'t', "traced"},
		     {'Z', "zombie"},  {'D', "page fault"}, {'S', "waiting"}};
	struct wait_state_process *process = wait_state_open(getpid());
	struct wait_state state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct wait_state_input input = {.run_state = cases[i].run_state};

		wait_state_find(process, &input, &state);
		assert_string_equal(state.state, cases[i].state);
	}
	wait_state_close(process);
	wait_state_close(NULL);
}

// Whatever the kernel, the process and the names say: words, and no harm.
static void test_nonsense(void **unused)
{
	struct wait_state_process *process = wait_state_open(getpid()), *gone = wait_state_open(INT32_MAX);

	srand(1);
	for (int64_t nr = -1; nr < 500; nr++) {
		for (int k = 0; k < 20; k++) {
			static const char *const names[] = {"pthread_mutex_lock", "pthread_clockjoin_ex", "",
							    "sem_wait"};
			const char *name = names[rand() % 4];
			struct wait_state_input input = {.in_syscall = true, .nr = nr, .names = &name, .nnames = 1};
			struct wait_state state;

			for (int i = 0; i < 6; i++)
				input.args[i] = (uint64_t)rand() << (rand() % 40);
			wait_state_find(k % 2 ? process : gone, &input, &state);
			assert_true(state.state[0]);
			assert_null(strpbrk(state.object, ",[]\n"));
		}
	}
	wait_state_close(process);
	wait_state_close(gone);
}

static void interrupt(int number)
{
	(void)number;
}

int main(void)
{
	const struct sigaction action = {.sa_handler = interrupt}; // no SA_RESTART: it ends any wait
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_locks),
		cmocka_unit_test(test_without_a_call),
		cmocka_unit_test(test_nonsense),
	};

	sigaction(SIGUSR1, &action, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
