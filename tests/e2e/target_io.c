// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_io.c: calls that wait for files, sockets and processes, each once. Printed as "NAME KIND RESULT NAMED NANOSECONDS NANOSECONDS": the kind of wait
// that a block profile calls it, with _ for a blank; its result, or −errno; "named" if it is for one descriptor, else "-"; how long it took, and how
// much of that it slept, at the least.
//
// usage: target_io FILE

#include "target.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>

#define WAIT_MS 30

static const char *path;
static int file, other, event, pipe_ends[2], sockets[2]; // other: the same file, opened again
static FILE *popened;
static char byte;
static struct iovec part = {&byte, 1};
static struct mmsghdr message = {.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1}};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void print(const char *name, const char *kind, long result, int error, const char *named, uint64_t ns,
		  uint64_t awake_ns)
{
	printf("%s %s %ld %s %llu %llu\n", name, kind, result < 0 ? -(long)error : result, named,
	       (unsigned long long)ns, (unsigned long long)(ns > awake_ns ? ns - awake_ns : 0));
}

#define CALL(name, kind, named, call)                                                                        \
	TARGET_NOINLINE static void io_##name(void)                                                          \
	{                                                                                                    \
		uint64_t awake_ns = target_awake_ns(), began_ns = now_ns();                                  \
		long result = (long)(call);                                                                  \
		uint64_t ended_ns = now_ns();                                                                \
		int error = errno;                                                                           \
                                                                                                             \
		print(#name, kind, result, error, named, ended_ns - began_ns, target_awake_ns() - awake_ns); \
	}

CALL(splice, "write", "named", splice(pipe_ends[0], NULL, other, NULL, 1, 0))
CALL(sendfile, "write", "named", sendfile(sockets[1], file, &(off_t){0}, 1))
CALL(copy_file_range, "write", "named", copy_file_range(file, &(off64_t){0}, other, &(off64_t){100}, 10, 0))
CALL(eventfd_read, "read", "named", eventfd_read(event, &(eventfd_t){0}))
CALL(eventfd_write, "write", "named", eventfd_write(event, 1))
CALL(recvmmsg, "receive", "named", recvmmsg(sockets[0], &message, 1, 0, NULL))
CALL(sendmmsg, "send", "named", sendmmsg(sockets[0], &message, 1, 0))
CALL(preadv, "read", "named", preadv(file, &part, 1, 0))
CALL(pwritev, "write", "named", pwritev(file, &part, 1, 0))
CALL(preadv2, "read", "named", preadv2(file, &part, 1, 0, 0))
CALL(pwritev2, "write", "named", pwritev2(file, &part, 1, 0, 0))
CALL(vmsplice, "write", "named", vmsplice(pipe_ends[1], &part, 1, 0))
CALL(syncfs, "sync", "named", syncfs(file))
CALL(sync_file_range, "sync", "named", sync_file_range(file, 0, 0, SYNC_FILE_RANGE_WRITE))
CALL(msync, "sync", "-", msync(mmap(NULL, 4096, PROT_READ, MAP_SHARED, file, 0), 4096, MS_SYNC))
CALL(system, "child", "-", system("exec sleep 0.03"))
CALL(pclose, "child", "-", pclose(popened))
CALL(poll, "poll", "named", poll(&(struct pollfd){event, POLLPRI, 0}, 1, WAIT_MS))
CALL(poll_of_none, "poll", "-", poll(&(struct pollfd){-2, POLLIN, 0}, 1, WAIT_MS))
CALL(fcntl, "file_lock", "named", fcntl(file, F_SETLKW, &(struct flock){.l_type = F_WRLCK}))
CALL(lockf, "file_lock", "named", lockf(file, F_LOCK, 0))
CALL(fcntl_ofd, "file_lock", "named", fcntl(other, F_OFD_SETLKW, &(struct flock){.l_type = F_WRLCK}))

// The kernel's to refuse; we must not look at it either.
TARGET_NOINLINE static void io_poll_of_nowhere(void)
{
	struct pollfd *volatile nowhere = (struct pollfd *)16; // NOLINT(performance-no-int-to-ptr)
	uint64_t began_ns = now_ns();
	int result = poll(nowhere, 1, 0);

	print("poll_of_nowhere", "poll", result, errno, "-", now_ns() - began_ns, UINT64_MAX);
}

// ---- Who ends the waiting ------------------------------------------------------------------------------------------------

static void sleep_ms(long ms)
{
	nanosleep(&(struct timespec){0, ms * 1000000}, NULL);
}

static void *write_later(void *fd)
{
	static const uint64_t one = 1;

	sleep_ms(WAIT_MS);
	TARGET_CHECK(write(*(int *)fd, &one, fd == &event ? sizeof(one) : 1) > 0);
	return NULL;
}

static void meanwhile(int *fd, void (*call)(void))
{
	pthread_t thread;

	TARGET_CHECK(pthread_create(&thread, NULL, write_later, fd) == 0);
	call();
	pthread_join(thread, NULL);
}

static void while_locked(int command, void (*call)(void))
{
	int held[2];
	pid_t child;

	TARGET_CHECK(pipe(held) == 0);
	child = fork();
	if (child == 0) {
		TARGET_CHECK(fcntl(open(path, O_RDWR), command, &(struct flock){.l_type = F_WRLCK}) == 0);
		TARGET_CHECK(write(held[1], "x", 1) == 1);
		sleep_ms(WAIT_MS);
		_exit(0);
	}
	TARGET_CHECK(read(held[0], &byte, 1) == 1);
	call();
	TARGET_CHECK(waitpid(child, NULL, 0) == child);
	TARGET_CHECK(fcntl(file, F_SETLK, &(struct flock){.l_type = F_UNLCK}) == 0);
}

int main(int argc, char **argv)
{
	char buf[16];

	path = argc > 1 ? argv[1] : "target_io.file";
	file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	other = open(path, O_RDWR);
	event = eventfd(0, 0);
	TARGET_CHECK(file >= 0 && other >= 0 && ftruncate(file, 4096) == 0 && pipe(pipe_ends) == 0 &&
		     socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
	meanwhile(&pipe_ends[1], io_splice);
	meanwhile(&event, io_eventfd_read);
	meanwhile(&sockets[1], io_recvmmsg);
	io_sendfile();
	TARGET_CHECK(recv(sockets[0], buf, sizeof(buf), 0) == 1);
	io_copy_file_range();
	io_eventfd_write();
	io_sendmmsg();
	io_preadv();
	io_pwritev();
	io_preadv2();
	io_pwritev2();
	io_vmsplice();
	io_syncfs();
	io_sync_file_range();
	io_msync();
	io_system();
	popened = popen("exec sleep 0.03", "r"); // which waits, too, for the child to begin
	TARGET_CHECK(popened);
	io_pclose();
	io_poll();
	io_poll_of_none();
	io_poll_of_nowhere();
	while_locked(F_SETLKW, io_fcntl);
	while_locked(F_SETLKW, io_lockf);
	while_locked(F_OFD_SETLKW, io_fcntl_ofd);
	// Commands that do not wait, whose argument is another thing each time, or nothing.
	TARGET_CHECK((fcntl(file, F_GETFL) & O_ACCMODE) == O_RDWR && fcntl(file, F_DUPFD, 100) == 100 &&
		     fcntl(-1, F_GETFD) == -1 && errno == EBADF);
	return 0;
}
