// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// interpose_io.c: calls that wait for files, sockets, other processes and time. Off, and unless PROFD_WAITS_IO asks for them, a test and a jump; how
// such a function is put together: interpose_waits.h. Any thread of the target, in its signal handlers, too; our own helper comes through here
// as well, and is not told of.
//
// What libc itself reads and writes (stdio) does not come through here. Whether a call will wait is not known beforehand: a short one is as good as never kept in a
// profile, and one in which the thread stayed on its CPU is taken back out of a trace.

// pread and pread64 are two symbols.
#undef _FILE_OFFSET_BITS

#include <errno.h>

#include "profd/interpose.h"
#include "profd/peers.h"
#include "profd/raw.h"
#include "profd/waits.h"

// NOLINTBEGIN(bugprone-macro-parentheses): lists of parameters and of arguments

// A write wakes whoever in this process reads the other end, or waits for it in an epoll.
static inline void tell_peer(enum wire_wait kind, int fd, struct profd_caller caller)
{
	uint32_t peer, epoll;

	if (kind != WIRE_WAIT_WRITE && kind != WIRE_WAIT_SEND)
		return;
	peer = profd_peer(fd);
	if (!peer)
		return;
	profd_wait_wakes(WIRE_WAIT_READ, peer - 1, caller);
	epoll = profd_peer_epoll((int)peer - 1);
	if (epoll)
		profd_wait_wakes(WIRE_WAIT_EPOLL, epoll - 1, caller);
}

// let_go, of the call's result: did somebody let it go on?
#define IO_WAIT_THAT(type, name, kind, descriptor, parameters, arguments, let_go) \
	static PROFD_NOINLINE type watched_##name parameters                      \
	{                                                                         \
		struct profd_caller caller = PROFD_CALLER();                      \
		struct profd_wait wait;                                           \
		type result;                                                      \
                                                                                  \
		tell_peer(kind, descriptor, caller);                              \
		profd_wait_begins(&wait, kind, (uint32_t)(descriptor), caller);   \
		result = PROFD_REAL(name) arguments;                              \
		profd_wait_ends(&wait, let_go);                                   \
		return result;                                                    \
	}                                                                         \
	PROFD_EXPORT type name parameters                                         \
	{                                                                         \
		if (!profd_waits_io_on())                                         \
			return PROFD_FOUND(name) arguments;                       \
		return watched_##name arguments;                                  \
	}
// Nothing came, or nothing at all of several, if the result is not positive: then nobody did. Of other calls nobody is known to.
#define IO_WAIT(type, name, kind, descriptor, parameters, arguments) \
	IO_WAIT_THAT(type, name, kind, descriptor, parameters, arguments, (ssize_t)result > 0)

// What programs that are compiled with _FORTIFY_SOURCE call; no header declares them without it.
#define X(type, name, parameters) type name parameters;
PROFD_FORTIFIED_REALS(X)
#undef X

// ---- Files and pipes -------------------------------------------------------------------------------------------------------

IO_WAIT(ssize_t, read, WIRE_WAIT_READ, fd, (int fd, void *buf, size_t size), (fd, buf, size))
IO_WAIT(ssize_t, write, WIRE_WAIT_WRITE, fd, (int fd, const void *buf, size_t size), (fd, buf, size))
IO_WAIT(ssize_t, readv, WIRE_WAIT_READ, fd, (int fd, const struct iovec *parts, int count), (fd, parts, count))
IO_WAIT(ssize_t, writev, WIRE_WAIT_WRITE, fd, (int fd, const struct iovec *parts, int count), (fd, parts, count))
IO_WAIT(ssize_t, pread, WIRE_WAIT_READ, fd, (int fd, void *buf, size_t size, off_t at), (fd, buf, size, at))
IO_WAIT(ssize_t, pwrite, WIRE_WAIT_WRITE, fd, (int fd, const void *buf, size_t size, off_t at), (fd, buf, size, at))
IO_WAIT(ssize_t, pread64, WIRE_WAIT_READ, fd, (int fd, void *buf, size_t size, off64_t at), (fd, buf, size, at))
IO_WAIT(ssize_t, pwrite64, WIRE_WAIT_WRITE, fd, (int fd, const void *buf, size_t size, off64_t at), (fd, buf, size, at))
IO_WAIT(ssize_t, __read_chk, WIRE_WAIT_READ, fd, (int fd, void *buf, size_t size, size_t room), (fd, buf, size, room))
IO_WAIT(ssize_t, __pread_chk, WIRE_WAIT_READ, fd, (int fd, void *buf, size_t size, off_t at, size_t room),
	(fd, buf, size, at, room))
IO_WAIT(ssize_t, __pread64_chk, WIRE_WAIT_READ, fd, (int fd, void *buf, size_t size, off64_t at, size_t room),
	(fd, buf, size, at, room))
IO_WAIT(ssize_t, preadv, WIRE_WAIT_READ, fd, (int fd, const struct iovec *parts, int count, off_t at),
	(fd, parts, count, at))
IO_WAIT(ssize_t, pwritev, WIRE_WAIT_WRITE, fd, (int fd, const struct iovec *parts, int count, off_t at),
	(fd, parts, count, at))
IO_WAIT(ssize_t, preadv64, WIRE_WAIT_READ, fd, (int fd, const struct iovec *parts, int count, off64_t at),
	(fd, parts, count, at))
IO_WAIT(ssize_t, pwritev64, WIRE_WAIT_WRITE, fd, (int fd, const struct iovec *parts, int count, off64_t at),
	(fd, parts, count, at))
IO_WAIT(ssize_t, preadv2, WIRE_WAIT_READ, fd, (int fd, const struct iovec *parts, int count, off_t at, int flags),
	(fd, parts, count, at, flags))
IO_WAIT(ssize_t, pwritev2, WIRE_WAIT_WRITE, fd, (int fd, const struct iovec *parts, int count, off_t at, int flags),
	(fd, parts, count, at, flags))
IO_WAIT(ssize_t, preadv64v2, WIRE_WAIT_READ, fd, (int fd, const struct iovec *parts, int count, off64_t at, int flags),
	(fd, parts, count, at, flags))
IO_WAIT(ssize_t, pwritev64v2, WIRE_WAIT_WRITE, fd,
	(int fd, const struct iovec *parts, int count, off64_t at, int flags), (fd, parts, count, at, flags))
IO_WAIT_THAT(int, eventfd_read, WIRE_WAIT_READ, fd, (int fd, eventfd_t *value), (fd, value), result == 0)
IO_WAIT(int, eventfd_write, WIRE_WAIT_WRITE, fd, (int fd, eventfd_t value), (fd, value))
IO_WAIT(int, fsync, WIRE_WAIT_SYNC, fd, (int fd), (fd))
IO_WAIT(int, fdatasync, WIRE_WAIT_SYNC, fd, (int fd), (fd))
IO_WAIT(int, syncfs, WIRE_WAIT_SYNC, fd, (int fd), (fd))
IO_WAIT(int, sync_file_range, WIRE_WAIT_SYNC, fd, (int fd, off64_t from, off64_t size, unsigned flags),
	(fd, from, size, flags))
IO_WAIT(int, msync, WIRE_WAIT_SYNC, -1, (void *at, size_t size, int flags), (at, size, flags))

// From one to another: the one that it goes to has its name in the profile.
IO_WAIT(ssize_t, sendfile, WIRE_WAIT_WRITE, to, (int to, int from, off_t *at, size_t size), (to, from, at, size))
IO_WAIT(ssize_t, sendfile64, WIRE_WAIT_WRITE, to, (int to, int from, off64_t *at, size_t size), (to, from, at, size))
IO_WAIT(ssize_t, copy_file_range, WIRE_WAIT_WRITE, to,
	(int from, off64_t *from_at, int to, off64_t *to_at, size_t size, unsigned flags),
	(from, from_at, to, to_at, size, flags))
IO_WAIT(ssize_t, splice, WIRE_WAIT_WRITE, to,
	(int from, off64_t *from_at, int to, off64_t *to_at, size_t size, unsigned flags),
	(from, from_at, to, to_at, size, flags))
IO_WAIT(ssize_t, vmsplice, WIRE_WAIT_WRITE, fd, (int fd, const struct iovec *parts, size_t count, unsigned flags),
	(fd, parts, count, flags))

// ---- Locks of files ----------------------------------------------------------------------------------------------------------

IO_WAIT(int, flock, WIRE_WAIT_FILE_LOCK, fd, (int fd, int operation), (fd, operation))
IO_WAIT(int, lockf, WIRE_WAIT_FILE_LOCK, fd, (int fd, int command, off_t size), (fd, command, size))
IO_WAIT(int, lockf64, WIRE_WAIT_FILE_LOCK, fd, (int fd, int command, off64_t size), (fd, command, size))

// Declared with a variable argument list, of which there is one at the most: handed on as it came. Other commands do not wait.
#define FCNTL(name)                                                                          \
	static PROFD_NOINLINE int watched_##name(int fd, int command, long argument)         \
	{                                                                                    \
		struct profd_wait wait;                                                      \
		int result;                                                                  \
                                                                                             \
		if (command != F_SETLKW && command != F_OFD_SETLKW)                          \
			return PROFD_REAL(name)(fd, command, argument);                      \
		profd_wait_begins(&wait, WIRE_WAIT_FILE_LOCK, (uint32_t)fd, PROFD_CALLER()); \
		result = PROFD_REAL(name)(fd, command, argument);                            \
		profd_wait_ends(&wait, false);                                               \
		return result;                                                               \
	}                                                                                    \
	PROFD_EXPORT int profd_##name(int fd, int command, long argument) __asm__(#name);    \
	PROFD_EXPORT int profd_##name(int fd, int command, long argument)                    \
	{                                                                                    \
		if (!profd_waits_io_on())                                                    \
			return PROFD_FOUND(name)(fd, command, argument);                     \
		return watched_##name(fd, command, argument);                                \
	}

FCNTL(fcntl)
FCNTL(fcntl64)

// ---- Sockets -----------------------------------------------------------------------------------------------------------------

IO_WAIT(int, connect, WIRE_WAIT_CONNECT, fd, (int fd, const struct sockaddr *address, socklen_t size),
	(fd, address, size))
IO_WAIT(int, accept, WIRE_WAIT_ACCEPT, fd, (int fd, struct sockaddr *address, socklen_t *size), (fd, address, size))
IO_WAIT(int, accept4, WIRE_WAIT_ACCEPT, fd, (int fd, struct sockaddr *address, socklen_t *size, int flags),
	(fd, address, size, flags))
IO_WAIT(ssize_t, recv, WIRE_WAIT_RECEIVE, fd, (int fd, void *buf, size_t size, int flags), (fd, buf, size, flags))
IO_WAIT(ssize_t, recvfrom, WIRE_WAIT_RECEIVE, fd,
	(int fd, void *buf, size_t size, int flags, struct sockaddr *from, socklen_t *from_size),
	(fd, buf, size, flags, from, from_size))
IO_WAIT(ssize_t, recvmsg, WIRE_WAIT_RECEIVE, fd, (int fd, struct msghdr *message, int flags), (fd, message, flags))
IO_WAIT(ssize_t, __recv_chk, WIRE_WAIT_RECEIVE, fd, (int fd, void *buf, size_t size, size_t room, int flags),
	(fd, buf, size, room, flags))
IO_WAIT(ssize_t, __recvfrom_chk, WIRE_WAIT_RECEIVE, fd,
	(int fd, void *buf, size_t size, size_t room, int flags, struct sockaddr *from, socklen_t *from_size),
	(fd, buf, size, room, flags, from, from_size))
IO_WAIT(ssize_t, send, WIRE_WAIT_SEND, fd, (int fd, const void *buf, size_t size, int flags), (fd, buf, size, flags))
IO_WAIT(ssize_t, sendto, WIRE_WAIT_SEND, fd,
	(int fd, const void *buf, size_t size, int flags, const struct sockaddr *to, socklen_t to_size),
	(fd, buf, size, flags, to, to_size))
IO_WAIT(ssize_t, sendmsg, WIRE_WAIT_SEND, fd, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
IO_WAIT(int, recvmmsg, WIRE_WAIT_RECEIVE, fd,
	(int fd, struct mmsghdr *messages, unsigned count, int flags, struct timespec *timeout),
	(fd, messages, count, flags, timeout))
IO_WAIT(int, sendmmsg, WIRE_WAIT_SEND, fd, (int fd, struct mmsghdr *messages, unsigned count, int flags),
	(fd, messages, count, flags))

// ---- Whichever comes first -----------------------------------------------------------------------------------------------------

_Static_assert(sizeof(struct pollfd) == sizeof(uint64_t), "what rt_sigprocmask reads of a mask");

// What the kernel cannot read is the program's own business, and its EFAULT. There is no such way to change a mask: nothing is done.
static bool can_read(const struct pollfd *fds)
{
	return profd_raw4(SYS_rt_sigprocmask, -1, (long)fds, 0, sizeof(*fds)) != -EFAULT;
}

// Of several descriptors none is named.
static int only_one(const struct pollfd *fds, nfds_t count)
{
	return count == 1 && can_read(fds) && fds->fd >= 0 ? fds->fd : -1;
}

IO_WAIT(int, poll, WIRE_WAIT_POLL, only_one(fds, count), (struct pollfd * fds, nfds_t count, int timeout),
	(fds, count, timeout))
IO_WAIT(int, ppoll, WIRE_WAIT_POLL, only_one(fds, count),
	(struct pollfd * fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask),
	(fds, count, timeout, mask))
IO_WAIT(int, __poll_chk, WIRE_WAIT_POLL, only_one(fds, count),
	(struct pollfd * fds, nfds_t count, int timeout, size_t room), (fds, count, timeout, room))
IO_WAIT(int, __ppoll_chk, WIRE_WAIT_POLL, only_one(fds, count),
	(struct pollfd * fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask, size_t room),
	(fds, count, timeout, mask, room))
IO_WAIT(int, select, WIRE_WAIT_SELECT, -1,
	(int count, fd_set *readers, fd_set *writers, fd_set *others, struct timeval *timeout),
	(count, readers, writers, others, timeout))
IO_WAIT(int, pselect, WIRE_WAIT_SELECT, -1,
	(int count, fd_set *readers, fd_set *writers, fd_set *others, const struct timespec *timeout,
	 const sigset_t *mask),
	(count, readers, writers, others, timeout, mask))
IO_WAIT(int, epoll_wait, WIRE_WAIT_EPOLL, fd, (int fd, struct epoll_event *events, int room, int timeout),
	(fd, events, room, timeout))
IO_WAIT(int, epoll_pwait, WIRE_WAIT_EPOLL, fd,
	(int fd, struct epoll_event *events, int room, int timeout, const sigset_t *mask),
	(fd, events, room, timeout, mask))
IO_WAIT(int, epoll_pwait2, WIRE_WAIT_EPOLL, fd,
	(int fd, struct epoll_event *events, int room, const struct timespec *timeout, const sigset_t *mask),
	(fd, events, room, timeout, mask))

// ---- Time, and other processes -----------------------------------------------------------------------------------------------

IO_WAIT(int, nanosleep, WIRE_WAIT_SLEEP, -1, (const struct timespec *time, struct timespec *left), (time, left))
IO_WAIT(int, clock_nanosleep, WIRE_WAIT_SLEEP, -1,
	(clockid_t clock, int flags, const struct timespec *time, struct timespec *left), (clock, flags, time, left))
IO_WAIT(unsigned, sleep, WIRE_WAIT_SLEEP, -1, (unsigned seconds), (seconds))
IO_WAIT(int, usleep, WIRE_WAIT_SLEEP, -1, (useconds_t us), (us))
IO_WAIT(int, thrd_sleep, WIRE_WAIT_SLEEP, -1, (const struct timespec *time, struct timespec *left), (time, left))
IO_WAIT(pid_t, wait, WIRE_WAIT_CHILD, -1, (int *status), (status))
IO_WAIT(pid_t, waitpid, WIRE_WAIT_CHILD, -1, (pid_t pid, int *status, int options), (pid, status, options))
IO_WAIT(pid_t, wait3, WIRE_WAIT_CHILD, -1, (int *status, int options, struct rusage *usage), (status, options, usage))
IO_WAIT(pid_t, wait4, WIRE_WAIT_CHILD, -1, (pid_t pid, int *status, int options, struct rusage *usage),
	(pid, status, options, usage))
IO_WAIT(int, waitid, WIRE_WAIT_CHILD, -1, (idtype_t type, id_t id, siginfo_t *info, int options),
	(type, id, info, options))
IO_WAIT(int, system, WIRE_WAIT_CHILD, -1, (const char *command), (command))
IO_WAIT(int, pclose, WIRE_WAIT_CHILD, -1, (FILE * stream), (stream))

// NOLINTEND(bugprone-macro-parentheses)
