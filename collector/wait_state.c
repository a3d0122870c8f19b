// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// wait_state.c: see wait_state.h.
//
// All of glibc's locks wait in the same call, futex. Which one it is, the functions that made the call say; who holds it, the lock's own
// memory does (glibc's pthread_mutex_t: owner at 8), as far as that is a thread of the process. Nothing is said that one of these does not.

#include "collector/wait_state.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "collector/wait_object.h"

#define MUTEX_OWNER 8          // bytes from the futex word of a glibc mutex
#define FUTEX_TIDS 0x3fffffffu // of a word that holds a thread's id
#define NAMES_LOOKED_AT 8

struct wait_state_process {
	pid_t pid;
	struct wait_objects *objects;
};

struct wait_state_process *wait_state_open(pid_t pid)
{
	struct wait_state_process *process = calloc(1, sizeof(*process));

	if (!process)
		return NULL;
	process->pid = pid;
	process->objects = wait_objects_create(pid);
	if (!process->objects) {
		free(process);
		return NULL;
	}
	return process;
}

void wait_state_close(struct wait_state_process *process)
{
	if (!process)
		return;
	wait_objects_destroy(process->objects);
	free(process);
}

static void say(struct wait_state *state, const char *word, const char *object)
{
	snprintf(state->state, sizeof(state->state), "%s", word);
	snprintf(state->object, sizeof(state->object), "%s", object);
	for (char *at = state->object; *at; at++)
		if ((unsigned char)*at < ' ' || *at == ',' || *at == ']' || *at == '[' || *at == 0x7f)
			*at = *at == ',' ? ';' : *at == '[' ? '(' : *at == ']' ? ')' : '_';
}

static bool read_memory(const struct wait_state_process *process, uint64_t address, void *data, size_t size)
{
	struct iovec local = {data, size}, remote = {(void *)(uintptr_t)address, size};

	return process_vm_readv(process->pid, &local, 1, &remote, 1, 0) == (ssize_t)size;
}

// ---- futex ---------------------------------------------------------------------------------------------------------

static uint32_t thread_in(const struct wait_state_process *process, uint64_t address)
{
	uint32_t tid = 0;
	char path[64];

	if (!read_memory(process, address, &tid, sizeof(tid)))
		return 0;
	tid &= FUTEX_TIDS;
	if (tid == 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/task/%" PRIu32, (int)process->pid, tid);
	return access(path, F_OK) == 0 ? tid : 0;
}

// Without what glibc puts before the names of its own versions.
static const char *plain_name(const char *name)
{
	while (*name == '_' || strncmp(name, "GI_", 3) == 0)
		name += *name == '_' ? 1 : 3;
	return name;
}

// What the function nearest to the leaf that is known waits for. NULL: none is known.
static const char *state_by_names(const struct wait_state_input *input)
{
	static const struct {
		const char *function, *state; // what its name begins with
	} kinds[] = {
		{"pthread_mutex_lock", "mutex lock"},
		{"pthread_mutex_timedlock", "mutex lock"},
		{"pthread_mutex_clocklock", "mutex lock"},
		{"mtx_lock", "mutex lock"},
		{"mtx_timedlock", "mutex lock"},
		{"pthread_rwlock_rdlock", "rwlock read"},
		{"pthread_rwlock_clockrdlock", "rwlock read"},
		{"pthread_rwlock_timedrdlock", "rwlock read"},
		{"pthread_rwlock_wrlock", "rwlock write"},
		{"pthread_rwlock_clockwrlock", "rwlock write"},
		{"pthread_rwlock_timedwrlock", "rwlock write"},
		{"pthread_cond_", "cond wait"},
		{"cnd_", "cond wait"},
		{"sem_", "sem wait"},
		{"new_sem_", "sem wait"},
		{"pthread_barrier_wait", "barrier wait"},
		{"pthread_once", "once"},
		{"pthread_join", "join"},
		{"pthread_clockjoin", "join"},
		{"pthread_timedjoin", "join"},
		{"thrd_join", "join"},
		{"clock_nanosleep", "sleep"},
		{"nanosleep", "sleep"},
		{"poll", "poll"},
	};

	for (size_t i = 0; i < input->nnames && i < NAMES_LOOKED_AT; i++) {
		const char *name = plain_name(input->names[i]);

		for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
			if (strncmp(name, kinds[k].function, strlen(kinds[k].function)) == 0)
				return kinds[k].state;
	}
	return NULL;
}

// glibc's own locks (of malloc, of stdio) wait here as well, and have no owner.
static const char *futex_state(const struct wait_state_input *input)
{
	const char *state = state_by_names(input);

	for (size_t i = 0; !state && i < input->nnames && i < NAMES_LOOKED_AT; i++)
		if (strncmp(plain_name(input->names[i]), "lll_lock_wait", strlen("lll_lock_wait")) == 0)
			state = "lock";
	return state ? state : "futex";
}

static void find_futex(const struct wait_state_process *process, const struct wait_state_input *input,
		       struct wait_state *state)
{
	const char *word = futex_state(input);
	bool join = strcmp(word, "join") == 0;
	char object[32];

	state->address = input->args[0];
	if (strcmp(word, "mutex lock") == 0)
		state->owner_tid = thread_in(process, state->address + MUTEX_OWNER);
	else if (join)
		state->owner_tid = thread_in(process, state->address);
	snprintf(object, sizeof(object), "0x%" PRIx64, state->address);
	say(state, word, join && state->owner_tid ? "" : object);
}

// ---- Other calls ---------------------------------------------------------------------------------------------------

// What the first argument of a call is.
enum argument { NOTHING, FD, EPOLL, SLEEP, CLOCK_SLEEP, CHILD };

struct call {
	int64_t nr;
	const char *state;
	enum argument argument;
};

static const struct call calls[] = {
	{SYS_read, "read", FD},
	{SYS_readv, "read", FD},
	{SYS_pread64, "read", FD},
	{SYS_write, "write", FD},
	{SYS_writev, "write", FD},
	{SYS_pwrite64, "write", FD},
	{SYS_recvfrom, "recv", FD},
	{SYS_recvmsg, "recv", FD},
	{SYS_recvmmsg, "recv", FD},
	{SYS_sendto, "send", FD},
	{SYS_sendmsg, "send", FD},
	{SYS_sendmmsg, "send", FD},
	{SYS_accept, "accept", FD},
	{SYS_accept4, "accept", FD},
	{SYS_connect, "connect", FD},
	{SYS_ppoll, "poll", NOTHING},
	{SYS_pselect6, "select", NOTHING},
	{SYS_epoll_pwait, "epoll", EPOLL},
	{SYS_epoll_pwait2, "epoll", EPOLL},
	{SYS_nanosleep, "sleep", SLEEP},
	{SYS_clock_nanosleep, "sleep", CLOCK_SLEEP},
	{SYS_wait4, "wait child", CHILD},
	{SYS_waitid, "wait child", NOTHING},
	{SYS_rt_sigtimedwait, "sigwait", NOTHING},
	{SYS_rt_sigsuspend, "sigsuspend", NOTHING},
	{SYS_msgrcv, "msgrcv", NOTHING},
	{SYS_msgsnd, "msgsnd", NOTHING},
	{SYS_semop, "semop", NOTHING},
	{SYS_semtimedop, "semop", NOTHING},
	{SYS_mq_timedreceive, "mq receive", FD},
	{SYS_mq_timedsend, "mq send", FD},
	{SYS_io_uring_enter, "io_uring", FD},
	{SYS_io_getevents, "aio", NOTHING},
	{SYS_flock, "flock", FD},
	{SYS_fcntl, "file lock", FD},
	{SYS_fsync, "fsync", FD},
	{SYS_fdatasync, "fsync", FD},
	{SYS_openat, "open", NOTHING},
	{SYS_splice, "splice", FD},
	{SYS_sendfile, "sendfile", FD},
#ifdef SYS_poll
	{SYS_poll, "poll", NOTHING},
	{SYS_select, "select", NOTHING},
	{SYS_epoll_wait, "epoll", EPOLL},
	{SYS_pause, "pause", NOTHING},
	{SYS_open, "open", NOTHING},
#endif
};

static void find_sleep(const struct wait_state_process *process, uint64_t address, bool absolute,
		       struct wait_state *state)
{
	struct timespec time;
	char object[48] = "";

	if (!absolute && read_memory(process, address, &time, sizeof(time)) && time.tv_sec >= 0 && time.tv_nsec >= 0 &&
	    time.tv_nsec < 1000000000)
		snprintf(object, sizeof(object), "of %g s", (double)time.tv_sec + (double)time.tv_nsec / 1e9);
	say(state, "sleep", object);
}

// The first descriptor and how many there are.
static void find_poll(const struct wait_state_process *process, const struct wait_state_input *input,
		      struct wait_state *state)
{
	int32_t fd;
	char object[WAIT_OBJECT_SIZE + 32];

	if (input->args[1] == 0 || !read_memory(process, input->args[0], &fd, sizeof(fd)) || fd < 0) {
		say(state, "poll", "");
		return;
	}
	if (input->args[1] == 1)
		snprintf(object, sizeof(object), "%s", wait_objects_fd(process->objects, fd));
	else
		snprintf(object, sizeof(object), "%u fds: %s…", (unsigned)input->args[1],
			 wait_objects_fd(process->objects, fd));
	say(state, "poll", object);
}

static void find_call(const struct wait_state_process *process, const struct wait_state_input *input,
		      const struct call *call, struct wait_state *state)
{
	char object[32] = "";

	switch (call->argument) {
	case FD:
		say(state, call->state, wait_objects_fd(process->objects, (int)input->args[0]));
		return;
	case EPOLL:
		say(state, call->state, wait_objects_epoll(process->objects, (int)input->args[0]));
		return;
	case SLEEP:
		find_sleep(process, input->args[0], false, state);
		return;
	case CLOCK_SLEEP:
		find_sleep(process, input->args[2], input->args[1] & TIMER_ABSTIME, state);
		return;
	case CHILD:
		if ((int32_t)input->args[0] > 0)
			snprintf(object, sizeof(object), "%d", (int32_t)input->args[0]);
		say(state, call->state, object);
		return;
	default:
		if (strcmp(call->state, "poll") == 0)
			find_poll(process, input, state);
		else
			say(state, call->state, "");
	}
}

static bool find_without_call(const struct wait_state_input *input, struct wait_state *state)
{
	switch (input->run_state) {
	case 'T':
		say(state, "stopped", "");
		return true;
	case 't':
		say(state, "traced", "");
		return true;
	case 'Z':
	case 'X':
		say(state, "zombie", "");
		return true;
	case 'R':
		say(state, "running", "");
		return true;
	default:
		if (input->in_syscall)
			return false;
		say(state, input->run_state == 'D' ? "page fault" : "waiting", "");
		return true;
	}
}

void wait_state_find(struct wait_state_process *process, const struct wait_state_input *input,
		     struct wait_state *ret_state)
{
	char object[32];

	*ret_state = (struct wait_state){0};
	if (find_without_call(input, ret_state))
		return;
	if (input->nr == SYS_futex) {
		find_futex(process, input, ret_state);
		return;
	}
	// After a stop: which call goes on, and on what, the kernel does not say.
	if (input->nr == SYS_restart_syscall) {
		const char *state = state_by_names(input);

		say(ret_state, state ? state : "restarted call", "");
		return;
	}
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		if (calls[i].nr == input->nr) {
			find_call(process, input, &calls[i], ret_state);
			return;
		}
	}
	snprintf(object, sizeof(object), "%" PRId64, input->nr);
	say(ret_state, "system call", object);
}
