// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// interpose.h: the functions of libc that the agent stands in front of, and the way to the real ones.
//
// What is interposed, and why:
//   pthread_create, thrd_create, pthread_setname_np, and what joins or detaches
//                                            the thread table (interpose_thread.c)
//   sigaction, signal and their like         SIGPROF stays ours, the program sees its own (interpose_signal.c)
//   pthread_sigmask, sigprocmask             a thread that blocks everything is sampled all the same (interpose_signal.c)
//   sigwait, sigwaitinfo, sigtimedwait       never return a SIGPROF of ours (interpose_signal.c)
//   exec*, posix_spawn*                      hand on the program's own dispositions and mask (interpose_process.c)
//   set*id, setgroups, capset, prctl, unshare, setns, and some of syscall
//                                            the helper must have what the program's thread has (interpose_credentials.c)
//   locks, condition variables, semaphores…  who waits for what, and who lets others go on (interpose_sync.c, _cond.c)
//   read, recv, poll, nanosleep, wait…       how long that takes (interpose_io.c)
//   dlopen, dlmopen, dlclose                 the module set follows (interpose_dl.c); tail calls, for they look at their caller
//   malloc and its like, mmap and its like   the heap (interpose_heap.h, interpose_map.h)

#ifndef PROFD_INTERPOSE_H
#define PROFD_INTERPOSE_H

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <threads.h>
#include <time.h>

#include "profd/interpose_waits.h"

#define PROFD_EXPORT __attribute__((visibility("default")))

// Every real function, found once by dlsym(RTLD_NEXT): at the constructor, or at the first call before that.
#define PROFD_REALS(X)                                                                                          \
	X(int, pthread_create, (pthread_t *, const pthread_attr_t *, void *(*)(void *), void *))                \
	X(int, pthread_setname_np, (pthread_t, const char *))                                                   \
	X(int, sigaction, (int, const struct sigaction *, struct sigaction *))                                  \
	X(sighandler_t, signal, (int, sighandler_t))                                                            \
	X(sighandler_t, sysv_signal, (int, sighandler_t))                                                       \
	X(sighandler_t, sigset, (int, sighandler_t))                                                            \
	X(int, sigignore, (int))                                                                                \
	X(int, siginterrupt, (int, int))                                                                        \
	X(int, pthread_sigmask, (int, const sigset_t *, sigset_t *))                                            \
	X(int, sigprocmask, (int, const sigset_t *, sigset_t *))                                                \
	X(int, sigwait, (const sigset_t *, int *))                                                              \
	X(int, sigwaitinfo, (const sigset_t *, siginfo_t *))                                                    \
	X(int, sigtimedwait, (const sigset_t *, siginfo_t *, const struct timespec *))                          \
	X(int, signalfd, (int, const sigset_t *, int))                                                          \
	X(int, execve, (const char *, char *const[], char *const[]))                                            \
	X(int, execvpe, (const char *, char *const[], char *const[]))                                           \
	X(int, fexecve, (int, char *const[], char *const[]))                                                    \
	X(int, posix_spawn,                                                                                     \
	  (pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const[], \
	   char *const[]))                                                                                      \
	X(int, posix_spawnp,                                                                                    \
	  (pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *, char *const[], \
	   char *const[]))                                                                                      \
	X(int, unshare, (int))                                                                                  \
	X(int, setns, (int, int))                                                                               \
	X(void *, dlopen, (const char *, int))                                                                  \
	X(void *, dlmopen, (long, const char *, int))                                                           \
	X(int, dlclose, (void *))                                                                               \
	X(int, thrd_create, (thrd_t *, thrd_start_t, void *))                                                   \
	X(int, pthread_join, (pthread_t, void **))                                                              \
	X(int, pthread_tryjoin_np, (pthread_t, void **))                                                        \
	X(int, pthread_timedjoin_np, (pthread_t, void **, const struct timespec *))                             \
	X(int, pthread_clockjoin_np, (pthread_t, void **, clockid_t, const struct timespec *))                  \
	X(int, pthread_detach, (pthread_t))                                                                     \
	X(int, thrd_join, (thrd_t, int *))                                                                      \
	X(int, thrd_detach, (thrd_t))                                                                           \
	X(int, setuid, (uid_t))                                                                                 \
	X(int, setgid, (gid_t))                                                                                 \
	X(int, seteuid, (uid_t))                                                                                \
	X(int, setegid, (gid_t))                                                                                \
	X(int, setreuid, (uid_t, uid_t))                                                                        \
	X(int, setregid, (gid_t, gid_t))                                                                        \
	X(int, setresuid, (uid_t, uid_t, uid_t))                                                                \
	X(int, setresgid, (gid_t, gid_t, gid_t))                                                                \
	X(int, setgroups, (size_t, const gid_t *))                                                              \
	X(int, initgroups, (const char *, gid_t))                                                               \
	X(int, capset, (void *, const void *))                                                                  \
	X(int, prctl, (int, unsigned long, unsigned long, unsigned long, unsigned long))                        \
	X(long, syscall, (long, long, long, long, long, long, long))                                            \
	PROFD_WAIT_REALS(X)                                                                                     \
	PROFD_IO_REALS(X)                                                                                       \
	PROFD_PEER_REALS(X)

enum profd_real_index {
#define X(type, name, args) PROFD_REAL_##name,
	PROFD_REALS(X)
#undef X
		PROFD_REAL_COUNT
};
#define X(type, name, args) typedef type profd_real_##name##_fn args;
PROFD_REALS(X)
#undef X

extern void *profd_reals[PROFD_REAL_COUNT] __attribute__((visibility("hidden")));
void *profd_real_find(enum profd_real_index index);
void profd_reals_find_all(void);
#define PROFD_REAL(name)                                                                            \
	((profd_real_##name##_fn *)(profd_reals[PROFD_REAL_##name] ? profd_reals[PROFD_REAL_##name] \
								   : profd_real_find(PROFD_REAL_##name)))

// interpose_signal.c: takes SIGPROF over (remembering the program's disposition), gives it back.
int profd_interpose_handler_install(void);
void profd_interpose_handler_remove(void);
bool profd_interpose_handler_installed(void);
// A mask that the calling thread was born with: a blocked SIGPROF is unblocked, and remembered as the program's wish.
void profd_interpose_signal_adopt_mask(void);
// The program's own SIGPROF state put into the kernel for a call that hands it on (exec, spawn); undo after it failed.
struct profd_signal_state {
	bool mask_changed, disposition_changed;
};
void profd_interpose_signal_expose(struct profd_signal_state *state);
void profd_interpose_signal_undo(const struct profd_signal_state *state);

// interpose_thread.c: the starting thread's place in the table. The main thread's stack is found from the auxiliary vector.
void profd_interpose_thread_init(void);
void profd_interpose_thread_join_self(bool is_main);
// The calling thread gave itself another name; 15 bytes of it count.
void profd_interpose_thread_named(const char *name);

// interpose_cond.c: what syscall(SYS_futex, …) does while somebody listens to waits.
long profd_interpose_futex(long number, long word, long operation, long c, long d, long e, long f);

#endif
