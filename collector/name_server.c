// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// name_server.c: see name_server.h. It ends when profd's end of the socket is closed: with profd, however that ends. A worker dies with it.

#include "collector/name_server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "collector/clock.h"
#include "collector/close_fds.h"
#include "collector/name_process.h"

#define MAX_WORKERS 64 // further ones wait
#define JOB_FDS 4      // of struct name_job; status first: it can be told what went wrong with the others
#define MAX_FDS (JOB_FDS + NAME_SOURCES)

union control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(MAX_FDS * sizeof(int))];
};

struct child {
	pid_t pid;
	int status_fd;
	int64_t deadline_ms;
	bool too_long;
};

struct server {
	int socket, signal_fd;
	struct child children[MAX_WORKERS];
	int count;
};

// ---- The process ---------------------------------------------------------------------------------------------------

static void say(int fd, struct name_status status)
{
	ssize_t n = write(fd, &status, sizeof(status)); // a pipe of its own: there is room, or nobody who reads

	(void)n;
	close(fd);
}

// Takes the first descriptor over, status.
static void start_worker(struct server *server, const int *fds, int count)
{
	pid_t self = getpid(), pid = fork();

	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != self)
			_exit(1);
		name_process_run(fds[1], fds[2], fds[3], fds + JOB_FDS, count - JOB_FDS);
	}
	if (pid < 0) {
		say(fds[0], (struct name_status){.error = -errno});
		return;
	}
	server->children[server->count++] = (struct child){
		.pid = pid, .status_fd = fds[0], .deadline_ms = clock_now_ms() + NAME_SERVER_SECONDS * 1000LL};
}

// False: profd is gone.
static bool take_job(struct server *server)
{
	union control control;
	char byte;
	struct iovec iov = {&byte, 1};
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(server->socket, &message, MSG_CMSG_CLOEXEC);
	struct cmsghdr *found = n == 1 ? CMSG_FIRSTHDR(&message) : NULL;
	int fds[MAX_FDS], count = 0;

	if (n == 0 || (n < 0 && errno != EINTR && errno != EMFILE && errno != ENFILE))
		return false;
	if (found && found->cmsg_type == SCM_RIGHTS) {
		count = (int)((found->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(found), (size_t)count * sizeof(int));
	}
	if (count > JOB_FDS && !(message.msg_flags & MSG_CTRUNC))
		start_worker(server, fds, count);
	else if (count > 0)
		say(fds[0], (struct name_status){.error = -EMFILE});
	for (int i = 1; i < count; i++)
		close(fds[i]);
	return true;
}

static void bury(struct server *server)
{
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	while (read(server->signal_fd, &info, sizeof(info)) > 0)
		;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (int i = 0; i < server->count; i++) {
			struct child *child = &server->children[i];

			if (child->pid != pid)
				continue;
			say(child->status_fd, (struct name_status){.wait_status = status, .too_long = child->too_long});
			*child = server->children[--server->count];
			break;
		}
	}
}

// Kills those whose time is over. ms until the next one's is; −1: never.
static int end_late_ones(struct server *server)
{
	int64_t now = clock_now_ms(), next = INT64_MAX;

	for (int i = 0; i < server->count; i++) {
		struct child *child = &server->children[i];

		if (!child->too_long && child->deadline_ms <= now) {
			child->too_long = true;
			(void)kill(child->pid, SIGKILL);
		} else if (!child->too_long && child->deadline_ms < next) {
			next = child->deadline_ms;
		}
	}
	return next == INT64_MAX ? -1 : (int)(next - now);
}

// A session of its own: what a terminal sends to profd's group is no matter of ours. Nothing of profd's stays open.
static void leave_profd(struct server *server, int socket)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	sigset_t all;

	(void)setsid();
	(void)prctl(PR_SET_NAME, "profd-names");
	for (int fd = 0; null >= 0 && fd <= STDERR_FILENO; fd++)
		if (fd != socket)
			(void)dup2(null, fd);
	if (socket > STDERR_FILENO + 1)
		close_fds(STDERR_FILENO + 1, (unsigned)socket - 1);
	close_fds(socket > STDERR_FILENO ? (unsigned)socket + 1 : STDERR_FILENO + 1, ~0u);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	(void)signal(SIGCHLD, SIG_DFL);
	sigemptyset(&all);
	sigaddset(&all, SIGCHLD);
	*server = (struct server){.socket = socket, .signal_fd = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK)};
}

static _Noreturn void run_server(int socket)
{
	static struct server server;

	leave_profd(&server, socket);
	for (bool go_on = server.signal_fd >= 0; go_on;) {
		struct pollfd fds[] = {{.fd = server.signal_fd, .events = POLLIN},
				       {.fd = socket, .events = server.count < MAX_WORKERS ? POLLIN : 0}};

		(void)poll(fds, 2, end_late_ones(&server));
		bury(&server);
		if (fds[1].revents & POLLIN)
			go_on = take_job(&server);
		else if (fds[1].revents)
			go_on = false;
	}
	_exit(0);
}

// ---- profd ---------------------------------------------------------------------------------------------------------

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int server_socket = -1; // guarded by lock
static pid_t server_pid, server_parent;

// After a fork of ours that goes on as a profd of its own, the server is another's.
static bool is_there(void)
{
	return server_socket >= 0 && server_parent == getpid();
}

static void forget(void)
{
	if (server_socket < 0)
		return;
	close(server_socket);
	server_socket = -1;
	if (server_parent == getpid())
		(void)waitpid(server_pid, NULL, 0); // it ends when it sees this, if it has not
}

static int start(void)
{
	sigset_t all, before;
	int sockets[2];

	if (is_there())
		return 0;
	forget();
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
		return -errno;
	sigfillset(&all); // no handler of profd's runs in it
	pthread_sigmask(SIG_SETMASK, &all, &before);
	server_pid = fork();
	if (server_pid == 0) {
		close(sockets[0]); // first of all: by its end we shall know profd's
		run_server(sockets[1]);
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	close(sockets[1]);
	if (server_pid < 0) {
		close(sockets[0]);
		return -errno;
	}
	server_socket = sockets[0];
	server_parent = getpid();
	return 0;
}

static int give(const int *fds, int count)
{
	union control control = {.header = {.cmsg_len = CMSG_LEN((size_t)count * sizeof(int)),
					    .cmsg_level = SOL_SOCKET,
					    .cmsg_type = SCM_RIGHTS}};
	char byte = 0;
	struct iovec iov = {&byte, 1};
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = control.bytes,
				 .msg_controllen = CMSG_SPACE((size_t)count * sizeof(int))};
	ssize_t n;

	memcpy(CMSG_DATA(&control.header), fds, (size_t)count * sizeof(int));
	do
		n = sendmsg(server_socket, &message, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n == 1 ? 0 : -errno;
}

int name_server_start(void)
{
	int error;

	pthread_mutex_lock(&lock);
	error = start();
	pthread_mutex_unlock(&lock);
	return error;
}

static bool means_dead(int error)
{
	return error == -EPIPE || error == -ECONNRESET || error == -ECONNREFUSED || error == -ENOTCONN;
}

int name_server_fork(const struct name_job *job, const int *files, int nfiles)
{
	int fds[MAX_FDS] = {job->status, job->socket, job->output, job->request}, error;

	memcpy(fds + JOB_FDS, files, (size_t)nfiles * sizeof(int));
	pthread_mutex_lock(&lock);
	error = start();
	if (!error)
		error = give(fds, JOB_FDS + nfiles);
	if (means_dead(error)) {
		forget();
		error = start();
		if (!error)
			error = give(fds, JOB_FDS + nfiles);
	}
	if (!error)
		error = server_pid;
	pthread_mutex_unlock(&lock);
	return error;
}

void name_server_kill(pid_t server)
{
	pthread_mutex_lock(&lock);
	if (is_there() && server_pid == server) {
		(void)kill(server, SIGKILL);
		forget();
	}
	pthread_mutex_unlock(&lock);
}
