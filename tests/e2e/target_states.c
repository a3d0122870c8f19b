// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_states.c: one thread in each kind of wait, named after it. Prints a line "way NAME ADDRESS FD" for each, with the address of the
// object that it waits for and its descriptor (0x0 and -1: none), "skip NAME" for what the kernel does not allow, then "ready", and lives
// until its stdin ends.
//
// usage: target_states DIRECTORY     that it makes files and sockets in

#include "states.h"
#include "target.h"

#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>

static int epoll_fd, pipe_fds[2], other_pipe[2], event_fd, timer_fd, pair[2], full_pair[2], tcp_listener, tcp_client,
	unix_listener, abstract_listener, unix_client, busy_listener, connecting, flock_fd, fcntl_fd, uring_fd = -1;
static int queue_id, semaphore_id, fault_fd = -1;
static volatile char *fault_page;
static pid_t child;
static aio_context_t aio;

// ---- Signals, time, descriptors -------------------------------------------------------------------------------------

// A page that nobody will ever fill.
static void make_fault(void)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register range = {.mode = UFFDIO_REGISTER_MODE_MISSING};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) != 0)
		return;
	fault_page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	range.range.start = (uintptr_t)fault_page;
	range.range.len = 4096;
	if (ioctl(fd, UFFDIO_REGISTER, &range) == 0)
		fault_fd = fd;
}

static void wait_fault(void)
{
	(void)*fault_page;
}

static void wait_sigwait(void)
{
	sigset_t set;
	int number;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigwait(&set, &number);
}

static void wait_sigtimedwait(void)
{
	struct timespec timeout = {FAR_S, 0};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigtimedwait(&set, NULL, &timeout);
}

static void wait_sigsuspend(void)
{
	sigset_t set;

	sigfillset(&set);
	sigsuspend(&set);
}

static void wait_pause(void)
{
	pause();
}

static void wait_nanosleep(void)
{
	struct timespec time = {1500, 500000000};

	nanosleep(&time, NULL);
}

static void wait_clock_nanosleep(void)
{
	struct timespec at = far_from(CLOCK_MONOTONIC);

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
}

static void wait_usleep(void)
{
	usleep(2000000000);
}

static void wait_poll(void)
{
	struct pollfd fd = {.fd = pipe_fds[0], .events = POLLIN};

	poll(&fd, 1, -1);
}

static void wait_ppoll(void)
{
	struct pollfd fds[] = {{.fd = pipe_fds[0], .events = POLLIN}, {.fd = event_fd, .events = POLLIN}};
	struct timespec timeout = {FAR_S, 0};

	ppoll(fds, 2, &timeout, NULL);
}

static void wait_select(void)
{
	fd_set set;

	FD_ZERO(&set);
	FD_SET(pipe_fds[0], &set);
	select(pipe_fds[0] + 1, &set, NULL, NULL, NULL);
}

static void wait_pselect(void)
{
	struct timespec timeout = {FAR_S, 0};
	fd_set in, special;

	FD_ZERO(&in);
	FD_ZERO(&special);
	FD_SET(pipe_fds[0], &in);
	FD_SET(other_pipe[0], &in);
	FD_SET(other_pipe[0], &special);
	pselect(other_pipe[0] + 1, &in, NULL, &special, &timeout, NULL);
}

static void wait_epoll(void)
{
	struct epoll_event event;

	epoll_wait(epoll_fd, &event, 1, -1);
}

static void wait_epoll2(void)
{
	struct timespec timeout = {FAR_S, 0};
	struct epoll_event event;

	epoll_pwait2(epoll_fd, &event, 1, &timeout, NULL);
}

static void wait_read(int fd)
{
	char data[8];

	(void)!read(fd, data, sizeof(data));
}

static void wait_pipe(void)
{
	wait_read(pipe_fds[0]);
}

static void wait_eventfd(void)
{
	wait_read(event_fd);
}

static void wait_timerfd(void)
{
	wait_read(timer_fd);
}

static void wait_pair(void)
{
	wait_read(pair[0]);
}

static void wait_tcp_recv(void)
{
	char byte;

	recv(tcp_client, &byte, 1, 0);
}

static void wait_unix_recv(void)
{
	char byte;

	recv(unix_client, &byte, 1, 0);
}

static void wait_tcp_accept(void)
{
	(void)accept(tcp_listener, NULL, NULL);
}

static void wait_unix_accept(void)
{
	(void)accept(unix_listener, NULL, NULL);
}

static void wait_abstract_accept(void)
{
	(void)accept4(abstract_listener, NULL, NULL, SOCK_CLOEXEC);
}

static void wait_send(void)
{
	send(full_pair[0], "", 1, 0);
}

static void wait_connect(void)
{
	struct sockaddr_un address;
	socklen_t size = sizeof(address);

	getsockname(busy_listener, (struct sockaddr *)&address, &size);
	(void)connect(connecting, (struct sockaddr *)&address, size);
}

static void wait_flock(void)
{
	flock(flock_fd, LOCK_EX);
}

static void wait_fcntl(void)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

	fcntl(fcntl_fd, F_OFD_SETLKW, &lock);
}

static void wait_msgrcv(void)
{
	struct {
		long type;
		char text[8];
	} message;

	msgrcv(queue_id, &message, sizeof(message.text), 1, 0);
}

static void wait_semop(void)
{
	struct sembuf down = {0, -1, 0};

	semop(semaphore_id, &down, 1);
}

static void wait_waitpid(void)
{
	waitpid(child, NULL, 0);
}

static void wait_waitid(void)
{
	siginfo_t info;

	waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT);
}

static void wait_to_be_killed(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		pause();
}

static void wait_vfork(void)
{
	if (vfork() == 0)            // NOLINT(clang-analyzer-security.insecureAPI.vfork): what is tested
		wait_to_be_killed(); // NOLINT(clang-analyzer-unix.Vfork)
}

// posix_spawn calls clone, and returns when the child has called exec; this one waits for a FIFO before that.
static void wait_spawn(void)
{
	posix_spawn_file_actions_t actions;
	char *argv[] = {"true", NULL};
	pid_t spawned;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "fifo", O_RDONLY, 0);
	posix_spawnp(&spawned, "true", &actions, NULL, argv, NULL);
	pause();
}

static void wait_uring(void)
{
	syscall(SYS_io_uring_enter, uring_fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0);
}

static void wait_aio(void)
{
	struct io_event event;

	syscall(SYS_io_getevents, aio, 1L, 1L, &event, NULL);
}

// ---- All of them ---------------------------------------------------------------------------------------------------

static const struct state_way ways[] = {
	{"sigwait", wait_sigwait, NULL, NULL},
	{"sigtimedwait", wait_sigtimedwait, NULL, NULL},
	{"sigsuspend", wait_sigsuspend, NULL, NULL},
	{"pause", wait_pause, NULL, NULL},
	{"nanosleep", wait_nanosleep, NULL, NULL},
	{"clock_nanosleep", wait_clock_nanosleep, NULL, NULL},
	{"usleep", wait_usleep, NULL, NULL},
	{"poll", wait_poll, NULL, &pipe_fds[0]},
	{"ppoll", wait_ppoll, NULL, &pipe_fds[0]},
	{"select", wait_select, NULL, &pipe_fds[0]},
	{"pselect", wait_pselect, NULL, &pipe_fds[0]},
	{"epoll_wait", wait_epoll, NULL, &epoll_fd},
	{"epoll_pwait2", wait_epoll2, NULL, &epoll_fd},
	{"pipe", wait_pipe, NULL, &pipe_fds[0]},
	{"eventfd", wait_eventfd, NULL, &event_fd},
	{"timerfd", wait_timerfd, NULL, &timer_fd},
	{"pair", wait_pair, NULL, &pair[0]},
	{"tcp-recv", wait_tcp_recv, NULL, &tcp_client},
	{"unix-recv", wait_unix_recv, NULL, &unix_client},
	{"tcp-accept", wait_tcp_accept, NULL, &tcp_listener},
	{"unix-accept", wait_unix_accept, NULL, &unix_listener},
	{"abstract-accept", wait_abstract_accept, NULL, &abstract_listener},
	{"send", wait_send, NULL, &full_pair[0]},
	{"connect", wait_connect, NULL, &connecting},
	{"flock", wait_flock, NULL, &flock_fd},
	{"fcntl", wait_fcntl, NULL, &fcntl_fd},
	{"msgrcv", wait_msgrcv, NULL, &queue_id},
	{"semop", wait_semop, NULL, &semaphore_id},
	{"waitpid", wait_waitpid, NULL, &child},
	{"waitid", wait_waitid, NULL, &child},
	{"vfork", wait_vfork, NULL, NULL},
	{"spawn", wait_spawn, NULL, NULL},
	{"io_uring", wait_uring, NULL, &uring_fd},
	{"page-fault", wait_fault, NULL, NULL},
	{"aio", wait_aio, NULL, NULL},
	{0},
};

static int unix_socket(const char *name, int backlog)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	size_t size = strlen(name);

	memcpy(address.sun_path, name, size);
	if (name[0] == '@')
		address.sun_path[0] = '\0';
	TARGET_CHECK(
		bind(fd, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size)) == 0);
	TARGET_CHECK(listen(fd, backlog) == 0);
	return fd;
}

static int connected_to(int listener)
{
	struct sockaddr_storage address = {0};
	socklen_t size = sizeof(address);

	TARGET_CHECK(getsockname(listener, (struct sockaddr *)&address, &size) == 0);
	listener = socket(address.ss_family, SOCK_STREAM, 0);
	TARGET_CHECK(connect(listener, (struct sockaddr *)&address, size) == 0);
	return listener;
}

static void make_sockets(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	char name[64], junk[4096] = "";
	int served;

	TARGET_CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 &&
		     socketpair(AF_UNIX, SOCK_STREAM, 0, full_pair) == 0);
	while (send(full_pair[0], junk, sizeof(junk), MSG_DONTWAIT) > 0)
		;
	while (send(full_pair[0], junk, 1, MSG_DONTWAIT) > 0)
		;
	TARGET_CHECK(errno == EAGAIN && (tcp_listener = socket(AF_INET, SOCK_STREAM, 0)) >= 0);
	TARGET_CHECK(bind(tcp_listener, (struct sockaddr *)&address, sizeof(address)) == 0 &&
		     listen(tcp_listener, 4) == 0);
	tcp_client = connected_to(tcp_listener);
	TARGET_CHECK(accept(tcp_listener, NULL, NULL) >= 0);
	unix_listener = unix_socket("listener", 4);
	// The end of the connection that has the listener's name.
	connecting = connected_to(unix_listener);
	TARGET_CHECK((unix_client = accept(unix_listener, NULL, NULL)) >= 0);
	snprintf(name, sizeof(name), "@profd-states-%d", getpid());
	abstract_listener = unix_socket(name, 4);
	busy_listener = unix_socket("busy", 0);
	served = connected_to(busy_listener);
	TARGET_CHECK(served >= 0 && (connecting = socket(AF_UNIX, SOCK_STREAM, 0)) >= 0);
}

static void make_files(void)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	struct itimerspec far = {.it_value.tv_sec = FAR_S};
	struct epoll_event event = {.events = EPOLLIN};
	int flocked = open("flock", O_RDWR | O_CREAT, 0600), locked_fd = open("fcntl", O_RDWR | O_CREAT, 0600);

	flock_fd = open("flock", O_RDWR);
	fcntl_fd = open("fcntl", O_RDWR);
	TARGET_CHECK(flock(flocked, LOCK_EX) == 0 && fcntl(locked_fd, F_OFD_SETLK, &lock) == 0);
	TARGET_CHECK(pipe(pipe_fds) == 0 && pipe(other_pipe) == 0 && (event_fd = eventfd(0, 0)) >= 0);
	TARGET_CHECK((timer_fd = timerfd_create(CLOCK_MONOTONIC, 0)) >= 0 &&
		     timerfd_settime(timer_fd, 0, &far, NULL) == 0);
	TARGET_CHECK((epoll_fd = epoll_create1(0)) >= 0 &&
		     epoll_ctl(epoll_fd, EPOLL_CTL_ADD, pipe_fds[0], &event) == 0);
	TARGET_CHECK(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, event_fd, &event) == 0);
	TARGET_CHECK(mkfifo("fifo", 0600) == 0);
	TARGET_CHECK((queue_id = msgget(IPC_PRIVATE, 0600)) >= 0 && (semaphore_id = semget(IPC_PRIVATE, 1, 0600)) >= 0);
}

static void make_rings(void)
{
	struct io_uring_params parameters = {0};

	uring_fd = (int)syscall(SYS_io_uring_setup, 4, &parameters);
	if (syscall(SYS_io_setup, 4, &aio) < 0)
		aio = 0;
}

static void make_child(void)
{
	child = fork();
	TARGET_CHECK(child >= 0);
	if (child == 0)
		wait_to_be_killed();
}

static void *run(void *argument)
{
	const struct state_way *way = argument;

	for (;;) // whatever wakes it
		way->wait();
	return NULL;
}

static void start(const struct state_way *way)
{
	pthread_t thread;

	if ((way->wait == wait_uring && uring_fd < 0) || (way->wait == wait_aio && aio == 0) ||
	    (way->wait == wait_fault && fault_fd < 0)) {
		printf("skip %s\n", way->name);
		return;
	}
	TARGET_CHECK(pthread_create(&thread, NULL, run, (void *)(uintptr_t)way) == 0);
	pthread_setname_np(thread, way->name);
	state_locks_started(way);
	printf("way %s 0x%lx %d\n", way->name, (unsigned long)(uintptr_t)way->address, way->fd ? *way->fd : -1);
}

int main(int argc, char **argv)
{
	sigset_t blocked;
	char data[16];

	TARGET_CHECK(argc == 2 && chdir(argv[1]) == 0);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &blocked, NULL);
	make_child();
	state_locks_make();
	make_files();
	make_sockets();
	make_rings();
	make_fault();
	for (const struct state_way *way = state_lock_ways; way->name; way++)
		start(way);
	for (const struct state_way *way = ways; way->name; way++)
		start(way);
	puts("ready");
	fflush(stdout);
	while (read(0, data, sizeof(data)) > 0)
		;
	msgctl(queue_id, IPC_RMID, NULL);
	semctl(semaphore_id, 0, IPC_RMID);
	kill(child, SIGKILL);
	open("fifo", O_RDWR); // lets wait_spawn's child go
	_exit(0);
}
