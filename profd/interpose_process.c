// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// interpose_process.c: calls that hand the process on to another image. Any thread of the target; exec also in a vfork's child,
// whose memory is its parent's: nothing here writes to ours.

#include <alloca.h>
#include <stdarg.h>
#include <unistd.h>

#include "profd/agent.h"
#include "profd/interpose.h"
#include "profd/raw.h"
#include "profd/threads.h"
#include "profd/timer.h"

// What is due of this thread's CPU time must be sampled before the image is gone. Nothing in a vfork's child.
static void flush(void)
{
	if (profd_thread_slot != PROFD_NO_SLOT && profd_agent_is_on())
		profd_timer_flush(profd_thread_slot, 0);
}

// And no perf event's signal may meet the next image, whose disposition is not ours.
static bool suspend(void)
{
	if (profd_thread_slot == PROFD_NO_SLOT || !profd_agent_is_on())
		return false;
	profd_timer_suspend(profd_thread_slot);
	return true;
}

__attribute__((destructor)) static void flush_at_exit(void)
{
	flush();
}

PROFD_EXPORT void _exit(int status)
{
	flush();
	for (;;)
		profd_raw1(SYS_exit_group, status);
}

void _Exit(int status) __attribute__((alias("_exit"))) PROFD_EXPORT;

// The program's own SIGPROF disposition and mask are what the next image inherits.
#define EXPOSED(call)                                          \
	({                                                     \
		struct profd_signal_state state_;              \
		int result_;                                   \
		bool suspended_ = suspend();                   \
		profd_interpose_signal_expose(&state_);        \
		result_ = (call);                              \
		profd_interpose_signal_undo(&state_);          \
		if (suspended_)                                \
			profd_timer_resume(profd_thread_slot); \
		result_;                                       \
	})

PROFD_EXPORT int execve(const char *path, char *const argv[], char *const envp[])
{
	return EXPOSED(PROFD_REAL(execve)(path, argv, envp));
}

PROFD_EXPORT int execv(const char *path, char *const argv[])
{
	return EXPOSED(PROFD_REAL(execve)(path, argv, environ));
}

PROFD_EXPORT int execvpe(const char *file, char *const argv[], char *const envp[])
{
	return EXPOSED(PROFD_REAL(execvpe)(file, argv, envp));
}

PROFD_EXPORT int execvp(const char *file, char *const argv[])
{
	return EXPOSED(PROFD_REAL(execvpe)(file, argv, environ));
}

PROFD_EXPORT int fexecve(int fd, char *const argv[], char *const envp[])
{
	return EXPOSED(PROFD_REAL(fexecve)(fd, argv, envp));
}

// Counts the arguments after the first, up to and without the NULL.
static size_t count_arguments(va_list list)
{
	size_t count = 0;

	while (va_arg(list, char *))
		count++;
	return count;
}

// Makes argv out of a variable argument list; on the caller's stack, for exec must not allocate.
#define COLLECT(argv, first, list)                              \
	do {                                                    \
		va_list counter_;                               \
		size_t count_;                                  \
		va_start(counter_, first);                      \
		count_ = count_arguments(counter_);             \
		va_end(counter_);                               \
		(argv) = alloca((count_ + 2) * sizeof(char *)); \
		(argv)[0] = (char *)(first);                    \
		va_start(list, first);                          \
		for (size_t i_ = 1; i_ <= count_ + 1; i_++)     \
			(argv)[i_] = va_arg(list, char *);      \
	} while (0)

PROFD_EXPORT int execl(const char *path, const char *first, ...)
{
	char **argv;
	va_list list;

	COLLECT(argv, first, list);
	va_end(list);
	return EXPOSED(PROFD_REAL(execve)(path, argv, environ));
}

PROFD_EXPORT int execlp(const char *file, const char *first, ...)
{
	char **argv;
	va_list list;

	COLLECT(argv, first, list);
	va_end(list);
	return EXPOSED(PROFD_REAL(execvpe)(file, argv, environ));
}

PROFD_EXPORT int execle(const char *path, const char *first, ...)
{
	char **argv, **envp;
	va_list list;

	COLLECT(argv, first, list);
	envp = va_arg(list, char **);
	va_end(list);
	return EXPOSED(PROFD_REAL(execve)(path, argv, envp));
}

PROFD_EXPORT int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
			     const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
	return EXPOSED(PROFD_REAL(posix_spawn)(pid, path, actions, attr, argv, envp));
}

PROFD_EXPORT int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
			      const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
	return EXPOSED(PROFD_REAL(posix_spawnp)(pid, file, actions, attr, argv, envp));
}
