// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// interpose_waits.h: the functions of libc in which threads wait, or let others go on, and how an interposed one is put together.
//
// Off, such a function is one test and a jump to the real one: these files are compiled without frame pointers, so that it needs no frame. On, it is
// a jump as well as long as nobody has to wait, which the lock's own memory tells. Only else does it come to the part that takes the time,
// whose caller is, by that jump, the program.
//
// Each calls the real function once, with what the program gave, and returns what that returned: semantics, errno, EINTR and cancellation
// are libc's. A thread that is cancelled in a wait is unwound through our frame, which has nothing to clean up.

#ifndef PROFD_INTERPOSE_WAITS_H
#define PROFD_INTERPOSE_WAITS_H

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#define PROFD_WAIT_REALS(X)                                                                                       \
	X(int, pthread_mutex_lock, (pthread_mutex_t *))                                                           \
	X(int, pthread_mutex_timedlock, (pthread_mutex_t *, const struct timespec *))                             \
	X(int, pthread_mutex_clocklock, (pthread_mutex_t *, clockid_t, const struct timespec *))                  \
	X(int, pthread_mutex_unlock, (pthread_mutex_t *))                                                         \
	X(int, pthread_rwlock_rdlock, (pthread_rwlock_t *))                                                       \
	X(int, pthread_rwlock_wrlock, (pthread_rwlock_t *))                                                       \
	X(int, pthread_rwlock_timedrdlock, (pthread_rwlock_t *, const struct timespec *))                         \
	X(int, pthread_rwlock_timedwrlock, (pthread_rwlock_t *, const struct timespec *))                         \
	X(int, pthread_rwlock_clockrdlock, (pthread_rwlock_t *, clockid_t, const struct timespec *))              \
	X(int, pthread_rwlock_clockwrlock, (pthread_rwlock_t *, clockid_t, const struct timespec *))              \
	X(int, pthread_rwlock_unlock, (pthread_rwlock_t *))                                                       \
	X(int, pthread_spin_lock, (pthread_spinlock_t *))                                                         \
	X(int, pthread_spin_unlock, (pthread_spinlock_t *))                                                       \
	X(int, mtx_lock, (mtx_t *))                                                                               \
	X(int, mtx_timedlock, (mtx_t *, const struct timespec *))                                                 \
	X(int, mtx_unlock, (mtx_t *))                                                                             \
	X(int, pthread_cond_wait, (pthread_cond_t *, pthread_mutex_t *))                                          \
	X(int, pthread_cond_timedwait, (pthread_cond_t *, pthread_mutex_t *, const struct timespec *))            \
	X(int, pthread_cond_clockwait, (pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *)) \
	X(int, pthread_cond_signal, (pthread_cond_t *))                                                           \
	X(int, pthread_cond_broadcast, (pthread_cond_t *))                                                        \
	X(int, cnd_wait, (cnd_t *, mtx_t *))                                                                      \
	X(int, cnd_timedwait, (cnd_t *, mtx_t *, const struct timespec *))                                        \
	X(int, cnd_signal, (cnd_t *))                                                                             \
	X(int, cnd_broadcast, (cnd_t *))                                                                          \
	X(int, sem_wait, (sem_t *))                                                                               \
	X(int, sem_timedwait, (sem_t *, const struct timespec *))                                                 \
	X(int, sem_clockwait, (sem_t *, clockid_t, const struct timespec *))                                      \
	X(int, sem_post, (sem_t *))                                                                               \
	X(int, pthread_barrier_wait, (pthread_barrier_t *))

#define PROFD_FORTIFIED_REALS(X)                                                                       \
	X(ssize_t, __read_chk, (int, void *, size_t, size_t))                                          \
	X(ssize_t, __pread_chk, (int, void *, size_t, off_t, size_t))                                  \
	X(ssize_t, __pread64_chk, (int, void *, size_t, off64_t, size_t))                              \
	X(ssize_t, __recv_chk, (int, void *, size_t, size_t, int))                                     \
	X(ssize_t, __recvfrom_chk, (int, void *, size_t, size_t, int, struct sockaddr *, socklen_t *)) \
	X(int, __poll_chk, (struct pollfd *, nfds_t, int, size_t))                                     \
	X(int, __ppoll_chk, (struct pollfd *, nfds_t, const struct timespec *, const sigset_t *, size_t))

// interpose_io.c
#define PROFD_IO_REALS(X)                                                                                 \
	X(ssize_t, read, (int, void *, size_t))                                                           \
	X(ssize_t, write, (int, const void *, size_t))                                                    \
	X(ssize_t, readv, (int, const struct iovec *, int))                                               \
	X(ssize_t, writev, (int, const struct iovec *, int))                                              \
	X(ssize_t, pread, (int, void *, size_t, off_t))                                                   \
	X(ssize_t, pwrite, (int, const void *, size_t, off_t))                                            \
	X(ssize_t, pread64, (int, void *, size_t, off64_t))                                               \
	X(ssize_t, pwrite64, (int, const void *, size_t, off64_t))                                        \
	X(ssize_t, preadv, (int, const struct iovec *, int, off_t))                                       \
	X(ssize_t, pwritev, (int, const struct iovec *, int, off_t))                                      \
	X(ssize_t, preadv64, (int, const struct iovec *, int, off64_t))                                   \
	X(ssize_t, pwritev64, (int, const struct iovec *, int, off64_t))                                  \
	X(ssize_t, preadv2, (int, const struct iovec *, int, off_t, int))                                 \
	X(ssize_t, pwritev2, (int, const struct iovec *, int, off_t, int))                                \
	X(ssize_t, preadv64v2, (int, const struct iovec *, int, off64_t, int))                            \
	X(ssize_t, pwritev64v2, (int, const struct iovec *, int, off64_t, int))                           \
	X(ssize_t, sendfile, (int, int, off_t *, size_t))                                                 \
	X(ssize_t, sendfile64, (int, int, off64_t *, size_t))                                             \
	X(ssize_t, copy_file_range, (int, off64_t *, int, off64_t *, size_t, unsigned))                   \
	X(ssize_t, splice, (int, off64_t *, int, off64_t *, size_t, unsigned))                            \
	X(ssize_t, vmsplice, (int, const struct iovec *, size_t, unsigned))                               \
	X(int, eventfd_read, (int, eventfd_t *))                                                          \
	X(int, eventfd_write, (int, eventfd_t))                                                           \
	X(int, fsync, (int))                                                                              \
	X(int, fdatasync, (int))                                                                          \
	X(int, syncfs, (int))                                                                             \
	X(int, sync_file_range, (int, off64_t, off64_t, unsigned))                                        \
	X(int, msync, (void *, size_t, int))                                                              \
	X(int, flock, (int, int))                                                                         \
	X(int, lockf, (int, int, off_t))                                                                  \
	X(int, lockf64, (int, int, off64_t))                                                              \
	X(int, fcntl, (int, int, long))                                                                   \
	X(int, fcntl64, (int, int, long))                                                                 \
	X(int, connect, (int, const struct sockaddr *, socklen_t))                                        \
	X(int, accept, (int, struct sockaddr *, socklen_t *))                                             \
	X(int, accept4, (int, struct sockaddr *, socklen_t *, int))                                       \
	X(ssize_t, recv, (int, void *, size_t, int))                                                      \
	X(ssize_t, recvfrom, (int, void *, size_t, int, struct sockaddr *, socklen_t *))                  \
	X(ssize_t, recvmsg, (int, struct msghdr *, int))                                                  \
	X(ssize_t, send, (int, const void *, size_t, int))                                                \
	X(ssize_t, sendto, (int, const void *, size_t, int, const struct sockaddr *, socklen_t))          \
	X(ssize_t, sendmsg, (int, const struct msghdr *, int))                                            \
	X(int, recvmmsg, (int, struct mmsghdr *, unsigned, int, struct timespec *))                       \
	X(int, sendmmsg, (int, struct mmsghdr *, unsigned, int))                                          \
	X(int, poll, (struct pollfd *, nfds_t, int))                                                      \
	X(int, ppoll, (struct pollfd *, nfds_t, const struct timespec *, const sigset_t *))               \
	X(int, select, (int, fd_set *, fd_set *, fd_set *, struct timeval *))                             \
	X(int, pselect, (int, fd_set *, fd_set *, fd_set *, const struct timespec *, const sigset_t *))   \
	X(int, epoll_wait, (int, struct epoll_event *, int, int))                                         \
	X(int, epoll_pwait, (int, struct epoll_event *, int, int, const sigset_t *))                      \
	X(int, epoll_pwait2, (int, struct epoll_event *, int, const struct timespec *, const sigset_t *)) \
	X(int, nanosleep, (const struct timespec *, struct timespec *))                                   \
	X(int, clock_nanosleep, (clockid_t, int, const struct timespec *, struct timespec *))             \
	X(unsigned, sleep, (unsigned))                                                                    \
	X(int, usleep, (useconds_t))                                                                      \
	X(int, thrd_sleep, (const struct timespec *, struct timespec *))                                  \
	X(pid_t, wait, (int *))                                                                           \
	X(pid_t, waitpid, (pid_t, int *, int))                                                            \
	X(pid_t, wait3, (int *, int, struct rusage *))                                                    \
	X(pid_t, wait4, (pid_t, int *, int, struct rusage *))                                             \
	X(int, waitid, (idtype_t, id_t, siginfo_t *, int))                                                \
	X(int, system, (const char *))                                                                    \
	X(int, pclose, (FILE *))                                                                          \
	PROFD_FORTIFIED_REALS(X)

// interpose_peers.c
#define PROFD_PEER_REALS(X)                        \
	X(int, pipe, (int *))                      \
	X(int, pipe2, (int *, int))                \
	X(int, socketpair, (int, int, int, int *)) \
	X(int, eventfd, (unsigned, int))           \
	X(int, close, (int))                       \
	X(int, epoll_ctl, (int, int, int, struct epoll_event *))

// Those of more than one version: the one that a program linked today means. The older condition variables (GLIBC_2.2.5), another layout
// behind the same names, are left to libc: libprofd.map gives ours the newer version alone.
#define PROFD_WAIT_VERSIONS(X)                   \
	X(pthread_cond_wait, "GLIBC_2.3.2")      \
	X(pthread_cond_timedwait, "GLIBC_2.3.2") \
	X(pthread_cond_signal, "GLIBC_2.3.2")    \
	X(pthread_cond_broadcast, "GLIBC_2.3.2")

// The real function, once profd_waits_wanted says that all were found.
#define PROFD_FOUND(name) ((profd_real_##name##_fn *)profd_reals[PROFD_REAL_##name])
#define PROFD_NOINLINE __attribute__((noinline))
#define PROFD_ADDRESS(pointer) ((uint64_t)(uintptr_t)(pointer))

// NOLINTBEGIN(bugprone-macro-parentheses): lists of parameters and of arguments

// A wait for something that may not have to be waited for: `is_free` is asked at once, `will_not_wait` when it said no. `ends` tells of `wait`'s
// end, for which there is `result`.
#define PROFD_LOCK_WAIT(name, kind, object, is_free, will_not_wait, ends, parameters, arguments) \
	static PROFD_NOINLINE int contended_##name parameters                                    \
	{                                                                                        \
		struct profd_wait wait;                                                          \
		int result;                                                                      \
                                                                                                 \
		if (will_not_wait)                                                               \
			return PROFD_REAL(name) arguments;                                       \
		profd_wait_begins(&wait, kind, PROFD_ADDRESS(object), PROFD_CALLER());           \
		result = PROFD_REAL(name) arguments;                                             \
		ends;                                                                            \
		return result;                                                                   \
	}                                                                                        \
	PROFD_EXPORT int name parameters                                                         \
	{                                                                                        \
		if (!profd_waits_on() || ((is_free) && PROFD_FOUND(name)))                       \
			return PROFD_FOUND(name) arguments;                                      \
		return contended_##name arguments;                                               \
	}

// A lock is given back. `may_have_waiters` is asked at once, and `has_seam`, where such a lock does not tell by the former that this thread works
// under its seam (wakers.h); when either said yes, `effect`.
#define PROFD_LOCK_RELEASE(name, kind, type, may_have_waiters, has_seam, effect)                    \
	static PROFD_NOINLINE int contended_##name(type *lock)                                      \
	{                                                                                           \
		struct profd_release release;                                                       \
		enum profd_release_effect found = effect;                                           \
		int result;                                                                         \
                                                                                                    \
		if (found == PROFD_GIVES_BACK)                                                      \
			profd_wakers_lock_given_back(PROFD_ADDRESS(lock));                          \
		if (found != PROFD_LETS_GO)                                                         \
			return PROFD_REAL(name)(lock);                                              \
		profd_release_begins(&release, kind, PROFD_ADDRESS(lock), PROFD_CALLER());          \
		result = PROFD_REAL(name)(lock);                                                    \
		profd_release_ends(&release);                                                       \
		return result;                                                                      \
	}                                                                                           \
	PROFD_EXPORT int name(type *lock)                                                           \
	{                                                                                           \
		if (!profd_waits_on() || (!(may_have_waiters) && !(has_seam) && PROFD_FOUND(name))) \
			return PROFD_FOUND(name)(lock);                                             \
		return contended_##name(lock);                                                      \
	}

// NOLINTEND(bugprone-macro-parentheses)

#endif
