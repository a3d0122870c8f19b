// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_wait_state.c: what threads of our own wait for (wait_state.c, wait_object.c), by what the kernel says of them (task_reader.c).

#include <linux/futex.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "collector/task_reader.h"
#include "collector/wait_lock.h"
#include "collector/wait_memory.h"
#include "collector/wait_state.h"
#include "collector/wait_thread.h"

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
	struct wait_state_process *process = wait_state_open(getpid(), 0);
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

static struct wait_lock lock_at(const void *futex, int operation, uint32_t expected, const char *name)
{
	struct wait_state_input input = {.in_syscall = true, .nr = SYS_futex, .names = &name, .nnames = 1};
	struct wait_memory *memory = wait_memory_create(getpid());
	struct wait_lock lock;

	input.args[0] = (uintptr_t)futex;
	input.args[1] = (uint64_t)operation;
	input.args[2] = expected;
	wait_lock_find(memory, &input, &lock);
	wait_memory_destroy(memory);
	return lock;
}

static bool is_listed(uint32_t tid, const void *listed_at)
{
	struct wait_memory *memory = wait_memory_create(getpid());
	bool listed = wait_lock_is_listed(memory, tid, (uintptr_t)listed_at);

	wait_memory_destroy(memory);
	return listed;
}

// Over the borders of what is read at once, as it was when it was read first, and not beyond what is there.
static void test_memory(void **unused)
{
	struct wait_memory *memory = wait_memory_create(getpid());
	uint8_t *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), bytes[600];

	assert_int_equal(munmap(pages + 4096, 4096), 0);
	for (int i = 0; i < 4096; i++)
		pages[i] = (uint8_t)(i * 7);
	assert_true(wait_memory_read(memory, (uintptr_t)pages + 200, bytes, 600));
	assert_memory_equal(bytes, pages + 200, 600);
	pages[300] ^= 1;
	assert_true(wait_memory_read(memory, (uintptr_t)pages + 300, bytes, 1));
	assert_int_equal(bytes[0], pages[300] ^ 1);
	assert_true(wait_memory_read(memory, (uintptr_t)pages + 4088, bytes, 8));
	assert_false(wait_memory_read(memory, (uintptr_t)pages + 4092, bytes, 8));
	assert_false(wait_memory_read(memory, (uintptr_t)pages + 4096, bytes, 1));
	assert_false(wait_memory_read(memory, 0, bytes, 8));
	assert_false(wait_memory_read(memory, UINT64_MAX - 3, bytes, 8));
	munmap(pages, 4096);
	wait_memory_destroy(memory);
	wait_memory_destroy(NULL);
}

// Both layouts that glibc's have had, as they are after some use, and what only looks like one.
static void test_conditions(void **unused)
{
	_Alignas(8) uint32_t before_and_old[24] = {[12] = 8, [14] = 4, [16] = 2, [21] = 8}, *old = before_and_old + 12;
	_Alignas(8) uint32_t before_and_new[24] = {[12] = 9, [14] = 6, [17] = 0, [19] = 8}, *new = before_and_new + 12;
	_Alignas(8) uint32_t garbage[24];

	assert_int_equal(lock_at(&old[10], FUTEX_WAIT_BITSET, 0, "pthread_cond_wait").address, (uintptr_t)old);
	old[4] = 0;
	old[5] = 3; // the other group, closed
	assert_int_equal(lock_at(&old[11], FUTEX_WAIT_BITSET, 0, "pthread_cond_wait").address, (uintptr_t)old);
	assert_int_equal(lock_at(&new[8], FUTEX_WAIT_BITSET, 6, "pthread_cond_timedwait").address, (uintptr_t) new);
	assert_int_equal(lock_at(&new[9], FUTEX_WAIT_BITSET, 0, "pthread_cond_timedwait").address, (uintptr_t) new);
	memset(new, 0, 48);
	new[0] = 2; // the first that ever waits
	new[7] = 8;
	assert_int_equal(lock_at(&new[8], FUTEX_WAIT_BITSET, 0, "cnd_wait").address, (uintptr_t) new);
	memset(garbage, 0xa5, sizeof(garbage));
	for (int i = 10; i < 24; i++)
		assert_int_equal(lock_at(&garbage[i], FUTEX_WAIT, 0, "pthread_cond_wait").address,
				 (uintptr_t)&garbage[i]);
	assert_int_equal(lock_at((void *)8, FUTEX_WAIT, 0, "pthread_cond_wait").address, 8);
}

static void test_mutex_kinds(void **unused)
{
	_Alignas(8) uint32_t mutex_words[12] = {2, 0, 77, 1};
	const uint32_t *words = mutex_words;

	for (uint32_t kind = 0; kind < 4; kind++) {
		mutex_words[4] = kind;
		assert_int_equal(lock_at(words, FUTEX_WAIT, 2, "pthread_mutex_lock").owner_tid, 77);
	}
	for (uint32_t kind = 128; kind < 0x80000000; kind *= 2) { // shared, elided, no kinds at all
		mutex_words[4] = kind;
		assert_int_equal(lock_at(words, FUTEX_WAIT, 2, "pthread_mutex_lock").owner_tid, kind == 512 ? 77 : 0);
	}
	mutex_words[4] = 32;
	mutex_words[0] = 78 | FUTEX_WAITERS;
	assert_int_equal(lock_at(words, FUTEX_LOCK_PI, 0, "__pthread_mutex_lock_full").owner_tid, 78);
	mutex_words[4] = 16 | 128;
	assert_int_equal(lock_at(words, FUTEX_WAIT, 0, "__pthread_mutex_lock_full").owner_tid, 78);
	assert_int_equal(lock_at(words, FUTEX_WAIT, 0, "__pthread_mutex_lock_full").listed_at, (uintptr_t)&words[8]);
	assert_false(is_listed((uint32_t)gettid(), &words[8]));
	mutex_words[4] = 0;
	mutex_words[0] = 0; // just unlocked
	assert_int_equal(lock_at(words, FUTEX_WAIT, 2, "pthread_mutex_lock").owner_tid, 0);
	assert_int_equal(lock_at(words + 1, FUTEX_WAIT, 2, "pthread_mutex_lock").owner_tid, 0);
}

static void test_robust_list(void **unused)
{
	pthread_mutexattr_t attributes;
	pthread_mutex_t robust[3];

	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	for (int i = 0; i < 3; i++) {
		pthread_mutex_init(&robust[i], &attributes);
		assert_int_equal(pthread_mutex_lock(&robust[i]), 0);
	}
	for (int i = 0; i < 3; i++)
		assert_true(is_listed((uint32_t)gettid(), (char *)&robust[i] + 32));
	pthread_mutex_unlock(&robust[1]);
	assert_false(is_listed((uint32_t)gettid(), (char *)&robust[1] + 32));
	assert_true(is_listed((uint32_t)gettid(), (char *)&robust[0] + 32));
	assert_false(is_listed(INT32_MAX, (char *)&robust[0] + 32));
	pthread_mutex_unlock(&robust[0]);
	pthread_mutex_unlock(&robust[2]);
}

// libc's functions, in glibc's spellings, and the program's that only begin like them.
static void test_names(void **unused)
{
	static const struct {
		const char *name;
		enum wait_kind kind;
	} cases[] = {
		{"__new_sem_wait_slow64.constprop.0", WAIT_SEMAPHORE},
		{"__GI___pthread_rwlock_wrlock", WAIT_WRITE_LOCK},
		{"__pthread_rwlock_rdlock_full64", WAIT_READ_LOCK},
		{"pthread_barrier_wait@@GLIBC_2.34", WAIT_BARRIER},
		{"__pthread_timedjoin_np64", WAIT_JOIN},
		{"__pthread_mutex_cond_lock", WAIT_MUTEX},
		{"sem_acquire", WAIT_UNKNOWN},
		{"sem_wait_for_work", WAIT_UNKNOWN},
		{"pthread_mutex_lock_hook", WAIT_UNKNOWN},
		{"poll", WAIT_UNKNOWN}, // is not in the call futex
		{"clock_nanosleep", WAIT_UNKNOWN},
		{"", WAIT_UNKNOWN},
		{"___", WAIT_UNKNOWN},
	};
	static const char *const once[] = {"futex_wait", "futex_wait_simple", "__pthread_once_slow"},
				 *const initializer[] = {"syscall", "initialize", "__pthread_once_slow"};
	struct wait_state_input input = {.nr = SYS_futex, .names = once, .nnames = 3};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct wait_state_input one = {.nr = SYS_futex, .names = &cases[i].name, .nnames = 1};

		assert_int_equal(wait_names_find(&one), cases[i].kind);
	}
	assert_int_equal(wait_names_find(&input), WAIT_ONCE);
	input.names = initializer;
	assert_int_equal(wait_names_find(&input), WAIT_UNKNOWN);
}

static void test_namespace_ids(void **unused)
{
	struct wait_threads *threads = wait_threads_create(getpid()), *gone = wait_threads_create(INT32_MAX);
	uint32_t tid = 5;

	assert_int_equal(wait_thread_parse("Name:\tx\nNSpid:\t4242\nVmPeak:\t1\n", &tid), 1);
	assert_int_equal(tid, 4242);
	assert_int_equal(wait_thread_parse("Name:\tx\nNSpid:\t4242\t17\t3\n", &tid), 3);
	assert_int_equal(tid, 3);
	tid = 5;
	for (const char *const *bad = (const char *const[]){"", "Name:\tx\n", "\nNSpid:\n", "\nNSpid:\t1",
							    "\nNSpid:\t12\t", "\nNSpid:\tx\n", "\nNSpid:\t0\n",
							    "\nNSpid:\t4294967296\n", "\nNSpid: 3\n", NULL};
	     *bad; bad++)
		assert_int_equal(wait_thread_parse(*bad, &tid), 0);
	assert_int_equal(tid, 5);
	assert_int_equal(wait_threads_find(threads, 0), 0);
	assert_int_equal(wait_threads_find(threads, INT32_MAX), 0);
	assert_int_equal(wait_threads_find(gone, 1), 0);
	assert_false(wait_threads_same_ids(gone));
	wait_threads_destroy(threads);
	wait_threads_destroy(gone);
	wait_threads_destroy(NULL);
}

// A name with spaces, and one that would be a line of its own in the kernel's table.
static void test_unix_sockets(void **unused)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "\0a b  c\n0000: 1 2 3 4 5 6 /other,["};
	char expected[160];
	struct wait_state state;
	socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 7);

	for (int i = 0; i < 2; i++) {
		listener = socket(AF_UNIX, SOCK_STREAM, 0);
		assert_int_equal(bind(listener, (struct sockaddr *)&address, size), 0);
		assert_int_equal(listen(listener, 1), 0);
		state = state_of(wait_accept, NULL);
		snprintf(expected, sizeof(expected), "unix listening at @a b  c (fd %d)", listener);
		assert_string_equal(state.object, expected);
		close(listener);
		size = sizeof(address);
	}
}

static void test_without_a_call(void **unused)
{
	static const struct {
		char run_state;
		const char *state;
	} cases[] = {{'R', "running"},    {'T', "stopped"},    {'t', "traced"}, {'Z', "zombie"},
		     {'D', "page fault"}, {'S', "page fault"}, {'I', "waiting"}};
	struct wait_state_process *process = wait_state_open(getpid(), 0);
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
	struct wait_state_process *process = wait_state_open(getpid(), 0), *gone = wait_state_open(INT32_MAX, 0);

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

// Locks whose memory says anything at all.
static void test_nonsense_in_locks(void **unused)
{
	static const char *const names[] = {
		"pthread_mutex_lock",   "pthread_rwlock_rdlock", "pthread_rwlock_wrlock", "pthread_cond_wait",
		"pthread_barrier_wait", "pthread_join",          "pthread_once",          "sem_wait"};
	struct wait_state_process *process = wait_state_open(getpid(), 0);
	_Alignas(8) uint32_t words[32];

	srand(2);
	for (int k = 0; k < 20000; k++) {
		const char *name = names[rand() % 8];
		struct wait_state_input input = {.in_syscall = true, .nr = SYS_futex, .names = &name, .nnames = 1};
		struct wait_state state;

		for (int i = 0; i < 32; i++)
			words[i] = rand() % 3 ? (uint32_t)(rand() % 16) : (uint32_t)rand() * 2;
		input.args[0] = (uintptr_t)&words[rand() % 32];
		input.args[1] = (uint64_t)(rand() % 16);
		input.args[2] = (uint64_t)(rand() % 8);
		wait_state_find(process, &input, &state);
		assert_true(state.owner_tid == 0 || state.owner_tid == (uint32_t)gettid());
		assert_true(state.address <= input.args[0] && state.address + 44 >= input.args[0]);
	}
	wait_state_close(process);
}

static void interrupt(int number)
{
	(void)number;
}

int main(void)
{
	const struct sigaction action = {.sa_handler = interrupt}; // no SA_RESTART: it ends any wait
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_descriptors),  cmocka_unit_test(test_locks),
		cmocka_unit_test(test_memory),       cmocka_unit_test(test_conditions),
		cmocka_unit_test(test_mutex_kinds),  cmocka_unit_test(test_robust_list),
		cmocka_unit_test(test_names),        cmocka_unit_test(test_namespace_ids),
		cmocka_unit_test(test_unix_sockets), cmocka_unit_test(test_without_a_call),
		cmocka_unit_test(test_nonsense),     cmocka_unit_test(test_nonsense_in_locks),
	};

	sigaction(SIGUSR1, &action, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
