// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// name_worker.c: see name_worker.h. The worker is another process's child (name_server.h), which says how it ended. It is spoken to by
// messages of a socket: a name that it wants opened (the descriptor or nothing goes back), and at the end its result.

#include "collector/name_worker.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "collector/clock.h"
#include "collector/name_process.h"
#include "collector/name_server.h"
#include "collector/name_table.h"
#include "collector/target_root.h"

#define MAX_SECONDS (NAME_SERVER_SECONDS + 10) // if the server does not say anything
#define MAX_SPLIT_FILES 65536u

struct worker {
	const struct name_request *request;
	int socket, status_fd; // our ends
	int output;
	uint32_t opened;
	pid_t server; // that the worker is a child of
	bool has_result, has_status;
	int result;
	struct name_status status;
};

// ---- What it asks for ----------------------------------------------------------------------------------------------

static bool ends_with(const char *text, const char *end)
{
	size_t length = strlen(text), size = strlen(end);

	return length > size && strcmp(text + length - size, end) == 0;
}

// It is mapped and read by the worker alone; but who could make us open any file by any name could tell which ones there are.
static int open_split(const struct target_root *root, const struct name_message *message)
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

// It has one question at a time; who asks on without listening is not listened to. False: that is so.
static bool answer_split(struct worker *worker, const struct name_message *request)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
	int fd = worker->opened++ < MAX_SPLIT_FILES ? open_split(worker->request->sources.root, request) : -EMFILE;
	char byte = 0;
	struct iovec iov = {&byte, 1};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t sent;

	if (fd >= 0) {
		memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
		message.msg_control = control.bytes;
		message.msg_controllen = sizeof(control);
	}
	sent = sendmsg(worker->socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (fd >= 0)
		close(fd);
	return sent == 1;
}

// One message. False: there will be no more.
static bool listen_to(struct worker *worker)
{
	struct name_message message;
	ssize_t n = recv(worker->socket, &message, sizeof(message), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n != (ssize_t)sizeof(message))
		return false;
	if (message.kind == NAME_MESSAGE_SPLIT)
		return answer_split(worker, &message);
	worker->has_result = true;
	worker->result = message.error <= 0 && message.error > -4096 ? message.error : -EIO; // an errno
	return false;
}

// Until the server says that it has ended. Whatever it said before is read before.
static void serve(struct worker *worker)
{
	int64_t deadline = clock_now_ms() + MAX_SECONDS * 1000LL;
	struct pollfd fds[] = {{.fd = worker->socket, .events = POLLIN}, {.fd = worker->status_fd, .events = POLLIN}};
	int64_t left;

	while ((left = deadline - clock_now_ms()) > 0) {
		if (poll(fds, 2, (int)left) <= 0) {
			if (errno != EINTR)
				break;
			continue;
		}
		if (fds[0].revents) {
			if (!listen_to(worker))
				fds[0].fd = -1;
		} else if (fds[1].revents) {
			worker->has_status = read(worker->status_fd, &worker->status, sizeof(worker->status)) ==
					     (ssize_t)sizeof(worker->status);
			return;
		}
	}
	worker->status.too_long = worker->has_status = true;
	name_server_kill(worker->server); // its task was to end this
}

static int judge(const struct worker *worker, char reason[NAME_WORKER_REASON])
{
	int status = worker->status.wait_status;

	if (!worker->has_status)
		snprintf(reason, NAME_WORKER_REASON, "the process that starts those which read debug info died");
	else if (worker->status.error)
		snprintf(reason, NAME_WORKER_REASON, "no process could be started to read its debug info: %s",
			 strerror(-worker->status.error));
	else if (worker->status.too_long)
		snprintf(reason, NAME_WORKER_REASON, "reading its debug info took more than %d s", NAME_SERVER_SECONDS);
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

// ---- Starting it ---------------------------------------------------------------------------------------------------

static int write_all(int fd, const void *data, size_t size)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = write(fd, (const char *)data + done, size - done);

		if (n < 0 && errno != EINTR)
			return -errno;
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

// Whoever is given it cannot change it.
static int make_memfd(const char *name, const void *data, size_t size, const void *more, size_t more_size)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING), error;

	if (fd < 0)
		return -errno;
	error = write_all(fd, data, size);
	if (!error)
		error = write_all(fd, more, more_size);
	if (!error && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
		error = -errno;
	if (error)
		close(fd);
	return error ? error : fd;
}

// The file's own descriptor; of an image in memory, one with its bytes, which is the caller's to close.
static int source_fd(const struct elf_file *file, int *ret_copy)
{
	const char *image;
	size_t size;

	*ret_copy = -1;
	if (file->fd >= 0)
		return file->fd;
	image = elf_rawfile(file->elf, &size);
	return image ? *ret_copy = make_memfd("profd-image", image, size, NULL, 0) : -EIO;
}

static void close_all(const int *fds, int count)
{
	for (int i = 0; i < count; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

// The PID of who got it, or −errno.
static int give_order(const struct name_request *request, struct name_job *job)
{
	const struct name_sources *from = &request->sources;
	const struct elf_file *sources[NAME_SOURCES] = {from->file, from->debug, from->alt, from->package};
	struct name_order order = {.each_unit = request->each_unit,
				   .symbols_alone = request->symbols_alone,
				   .identity = {request->identity[0], request->identity[1]},
				   .count = request->count};
	int files[NAME_SOURCES], copies[NAME_SOURCES], count = 0, error = 0;

	for (int i = 0; i < NAME_SOURCES && !error; i++) {
		if (!sources[i])
			continue;
		order.sources |= 1u << i;
		files[count] = source_fd(sources[i], &copies[count]);
		error = files[count] < 0 ? files[count] : 0;
		count++;
	}
	job->request = error ? error
			     : make_memfd("profd-order", &order, sizeof(order), request->addresses,
					  request->count * sizeof(*request->addresses));
	if (!error)
		error = job->request < 0 ? job->request : name_server_fork(job, files, count);
	close_all(&job->request, 1);
	close_all(copies, count);
	return error;
}

static int run(struct worker *worker, char reason[NAME_WORKER_REASON])
{
	int sockets[2], pipe_fds[2], error;
	struct name_job job;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
		return -errno;
	if (pipe2(pipe_fds, O_CLOEXEC) < 0) {
		error = -errno;
		close_all(sockets, 2);
		return error;
	}
	worker->socket = sockets[0];
	worker->status_fd = pipe_fds[0];
	job = (struct name_job){.socket = sockets[1], .output = worker->output, .status = pipe_fds[1]};
	worker->server = give_order(worker->request, &job);
	error = worker->server < 0 ? worker->server : 0;
	close(sockets[1]);
	close(pipe_fds[1]);
	if (worker->server > 0) {
		serve(worker);
		error = judge(worker, reason);
	}
	close(sockets[0]);
	close(pipe_fds[0]);
	return error;
}

static int seal(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || st.st_size <= 0 || (uint64_t)st.st_size > NAME_MAX_SIZE)
		return -EIO;
	return fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0 ? -errno : 0;
}

static int run_once(const struct name_request *request, struct worker *worker, char reason[NAME_WORKER_REASON])
{
	int error;

	*worker = (struct worker){.request = request};
	worker->output = memfd_create("profd-names", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (worker->output < 0) {
		snprintf(reason, NAME_WORKER_REASON, "memfd_create: %s", strerror(errno));
		return -errno;
	}
	error = run(worker, reason);
	if (!error)
		error = seal(worker->output);
	if (error)
		close(worker->output);
	return error;
}

int name_worker_run(const struct name_request *request, int *ret_fd, char reason[NAME_WORKER_REASON])
{
	struct worker worker;
	int error;

	reason[0] = '\0';
	error = run_once(request, &worker, reason);
	if (error && worker.server > 0 && !worker.has_status) { // the server was killed, and the worker with it
		reason[0] = '\0';
		error = run_once(request, &worker, reason);
	}
	if (error && !reason[0])
		snprintf(reason, NAME_WORKER_REASON, "%s", strerror(-error));
	if (!error)
		*ret_fd = worker.output;
	return error;
}
