// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// name_worker.c: see name_worker.h. A fork without exec: the child works with a copy of our memory, on files that are open. It speaks to
// us by messages of a socket: a name that it wants opened (the descriptor or nothing comes back), and at the end its result.

#include "collector/name_worker.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "collector/name_sandbox.h"
#include "collector/name_table.h"
#include "collector/target_root.h"

#define MAX_SECONDS 120
#define MAX_SPLIT_FILES 65536u

enum message_kind { MESSAGE_SPLIT, MESSAGE_RESULT };

struct message {
	uint32_t kind;
	int32_t error;
	char dir[PATH_MAX], name[PATH_MAX]; // of a .dwo file; with their NULs
};

struct worker {
	const struct name_request *request;
	int socket, output;
	pid_t pid;
	uint32_t opened;
	bool has_result, too_long;
	int result;
};

static int64_t now_ms(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000LL + time.tv_nsec / 1000000;
}

// ---- The child -----------------------------------------------------------------------------------------------------

static int receive_fd(int socket)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	char byte;
	struct iovec iov = {&byte, 1};
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control)};
	struct cmsghdr *found;
	int fd;

	if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 1)
		return -EIO;
	found = CMSG_FIRSTHDR(&message);
	if (!found || found->cmsg_type != SCM_RIGHTS)
		return -ENOENT;
	memcpy(&fd, CMSG_DATA(found), sizeof(fd));
	return fd;
}

static int ask_for_split(void *context, const char *dir, const char *name)
{
	const struct worker *worker = context;
	struct message message = {.kind = MESSAGE_SPLIT};

	if (snprintf(message.dir, sizeof(message.dir), "%s", dir ? dir : "") >= (int)sizeof(message.dir) ||
	    snprintf(message.name, sizeof(message.name), "%s", name) >= (int)sizeof(message.name) ||
	    send(worker->socket, &message, sizeof(message), MSG_NOSIGNAL) != sizeof(message))
		return -ENOENT;
	return receive_fd(worker->socket);
}

static _Noreturn void run_child(struct worker *worker)
{
	struct name_request request = *worker->request;
	const struct name_sources *sources = &request.sources;
	const struct elf_file *files[] = {sources->file, sources->debug, sources->alt, sources->package};
	int keep[8] = {worker->socket, worker->output}, count = 2;
	struct message message = {.kind = MESSAGE_RESULT};
	sigset_t limits;

	sigemptyset(&limits);
	sigaddset(&limits, SIGXCPU); // says what it died of; else the kernel kills it a second later
	pthread_sigmask(SIG_UNBLOCK, &limits, NULL);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		if (files[i] && files[i]->fd >= 0)
			keep[count++] = files[i]->fd;
	message.error = name_sandbox_enter(keep, count);
	request.sources.open_split = ask_for_split;
	request.sources.context = worker;
	if (!message.error)
		message.error = name_compile(&request, worker->output);
	(void)send(worker->socket, &message, sizeof(message), MSG_NOSIGNAL);
	_exit(0);
}

// ---- We ------------------------------------------------------------------------------------------------------------

static bool ends_with(const char *text, const char *end)
{
	size_t length = strlen(text), size = strlen(end);

	return length > size && strcmp(text + length - size, end) == 0;
}

// It is mapped and read by the worker alone; but who could make us open any file by any name could tell which ones there are.
static int open_split(const struct target_root *root, const struct message *message)
{
	char path[2 * PATH_MAX];
	struct stat st;
	int fd;

	if (!memchr(message->dir, 0, sizeof(message->dir)) || !memchr(message->name, 0, sizeof(message->name)) ||
	    (message->name[0] != '/' && message->dir[0] != '/') || !ends_with(message->name, ".dwo"))
		return -EINVAL;
	snprintf(path, sizeof(path), "%s%s%s", message->name[0] == '/' ? "" : message->dir,
		 message->name[0] == '/' ? "" : "/", message->name);
	fd = elf_file_open_at(target_root_fd(root), path);
	if (fd < 0 && root)
		fd = elf_file_open_path(path);
	if (fd >= 0 && (fstat(fd, &st) < 0 || (st.st_uid != 0 && st.st_uid != geteuid()))) {
		close(fd);
		return -EACCES;
	}
	return fd;
}

static void answer_split(struct worker *worker, const struct message *request)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
	int fd = worker->opened++ < MAX_SPLIT_FILES ? open_split(worker->request->sources.root, request) : -EMFILE;
	char byte = 0;
	struct iovec iov = {&byte, 1};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

	if (fd >= 0) {
		memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
		message.msg_control = control.bytes;
		message.msg_controllen = sizeof(control);
	}
	(void)sendmsg(worker->socket, &message, MSG_NOSIGNAL);
	if (fd >= 0)
		close(fd);
}

// Until the worker closes its end, or takes too long.
static void serve(struct worker *worker)
{
	int64_t deadline = now_ms() + MAX_SECONDS * 1000LL;
	static const size_t size = sizeof(struct message);
	struct message message;

	for (;;) {
		struct pollfd poll_fd = {.fd = worker->socket, .events = POLLIN};
		int64_t left = deadline - now_ms();
		ssize_t n;

		if (left <= 0 || poll(&poll_fd, 1, (int)left) == 0) {
			worker->too_long = true;
			(void)kill(worker->pid, SIGKILL);
			return;
		}
		n = recv(worker->socket, &message, size, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n != (ssize_t)size)
			return;
		if (message.kind == MESSAGE_SPLIT) {
			answer_split(worker, &message);
			continue;
		}
		worker->has_result = true;
		worker->result = message.error;
		return;
	}
}

static int reap(const struct worker *worker, char reason[NAME_WORKER_REASON])
{
	int status = 0;

	while (waitpid(worker->pid, &status, 0) < 0 && errno == EINTR)
		;
	if (worker->too_long)
		snprintf(reason, NAME_WORKER_REASON, "reading its debug info took more than %d s", MAX_SECONDS);
	else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU)
		snprintf(reason, NAME_WORKER_REASON, "reading its debug info took too much CPU time");
	else if (WIFSIGNALED(status))
		snprintf(reason, NAME_WORKER_REASON, "the process that read its debug info died (signal %d, %s)",
			 WTERMSIG(status), strsignal(WTERMSIG(status)));
	else if (!worker->has_result)
		snprintf(reason, NAME_WORKER_REASON, "the process that read its debug info ended early");
	else if (worker->result < 0)
		snprintf(reason, NAME_WORKER_REASON, "its debug info cannot be read: %s", strerror(-worker->result));
	else
		return 0;
	return worker->has_result && worker->result < 0 ? worker->result : -EIO;
}

static int run(struct worker *worker, char reason[NAME_WORKER_REASON])
{
	sigset_t all, before;
	int sockets[2], error = 0;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
		return -errno;
	// What a terminal sends to all of us is no matter of the child's, nor is a handler of ours.
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	worker->pid = fork();
	if (worker->pid < 0)
		error = -errno;
	if (worker->pid == 0) {
		worker->socket = sockets[1];
		run_child(worker);
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	close(sockets[1]);
	worker->socket = sockets[0];
	if (!error) {
		serve(worker);
		error = reap(worker, reason);
	}
	close(sockets[0]);
	return error;
}

static int seal(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || st.st_size <= 0 || (uint64_t)st.st_size > NAME_MAX_SIZE)
		return -EIO;
	return fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0 ? -errno : 0;
}

int name_worker_run(const struct name_request *request, int *ret_fd, char reason[NAME_WORKER_REASON])
{
	struct worker worker = {.request = request};
	int error;

	reason[0] = '\0';
	worker.output = memfd_create("profd-names", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (worker.output < 0) {
		snprintf(reason, NAME_WORKER_REASON, "memfd_create: %s", strerror(errno));
		return -errno;
	}
	error = run(&worker, reason);
	if (!error)
		error = seal(worker.output);
	if (error) {
		close(worker.output);
		if (!reason[0])
			snprintf(reason, NAME_WORKER_REASON, "%s", strerror(-error));
		return error;
	}
	*ret_fd = worker.output;
	return 0;
}
