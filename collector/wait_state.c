// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// wait_state.c: see wait_state.h.
//
// All of glibc's locks wait in the same call, futex. Which one it is, the functions that made the call say (wait_names.c); where it is and who
// holds it, the lock's own memory does (wait_lock.c), as far as that is a thread of the process (wait_thread.c). Nothing is said that one of
// these does not.

#include "collector/wait_state.h"

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "collector/process.h"
#include "collector/wait_lock.h"
#include "collector/wait_memory.h"
#include "collector/wait_names.h"
#include "collector/wait_object.h"
#include "collector/wait_thread.h"

#define SELECT_FDS 1024u // that are looked at

struct wait_state_process {
	struct wait_memory *memory;
	struct wait_objects *objects;
	struct wait_threads *threads;
};

struct wait_state_process *wait_state_open(pid_t pid, uint32_t helper_tid)
{
	struct wait_state_process *process = calloc(1, sizeof(*process));

	if (!process)
		return NULL;
	process->memory = wait_memory_create(pid);
	process->objects = wait_objects_create(process_living_task(pid, helper_tid));
	process->threads = wait_threads_create(pid);
	if (!process->memory || !process->objects || !process->threads) {
		wait_state_close(process);
		return NULL;
	}
	return process;
}

void wait_state_close(struct wait_state_process *process)
{
	if (!process)
		return;
	wait_memory_destroy(process->memory);
	wait_objects_destroy(process->objects);
	wait_threads_destroy(process->threads);
	free(process);
}

static void copy(char *to, const char *text, size_t size)
{
	size_t length = strnlen(text, size - 1);

	memcpy(to, text, length);
	to[length] = '\0';
}

static void say(struct wait_state *state, const char *word, const char *object)
{
	copy(state->state, word, sizeof(state->state));
	copy(state->object, object, sizeof(state->object));
	for (char *at = state->object; *at; at++)
		if ((unsigned char)*at < ' ' || *at == ',' || *at == ']' || *at == '[' || *at == 0x7f)
			*at = *at == ',' ? ';' : *at == '[' ? '(' : *at == ']' ? ')' : '_';
}

// ---- futex ---------------------------------------------------------------------------------------------------------

static void find_futex(const struct wait_state_process *process, const struct wait_state_input *input,
		       struct wait_state *state)
{
	struct wait_lock lock;
	const char *word;
	char object[32];

	wait_lock_find(process->memory, input, &lock);
	word = wait_names_state(lock.kind);
	state->address = lock.address;
	state->owner_tid = wait_threads_find(process->threads, lock.owner_tid);
	if (state->owner_tid && lock.listed_at &&
	    !wait_lock_is_listed(process->memory, state->owner_tid, lock.listed_at))
		state->owner_tid = 0;
	snprintf(object, sizeof(object), "0x%" PRIx64, state->address);
	say(state, word ? word : "futex", lock.kind == WAIT_JOIN && state->owner_tid ? "" : object);
}

// ---- Other calls ---------------------------------------------------------------------------------------------------

// What the first argument of a call is.
enum argument { NOTHING, FD, EPOLL, SLEEP, CLOCK_SLEEP, CHILD, CHILD_BY_KIND, VFORK, CLONE, CLONE3, POLL, SELECT, ID };

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
	{SYS_ppoll, "poll", POLL},
	{SYS_pselect6, "select", SELECT},
	{SYS_epoll_pwait, "epoll", EPOLL},
	{SYS_epoll_pwait2, "epoll", EPOLL},
	{SYS_nanosleep, "sleep", SLEEP},
	{SYS_clock_nanosleep, "sleep", CLOCK_SLEEP},
	{SYS_wait4, "wait child", CHILD},
	{SYS_waitid, "wait child", CHILD_BY_KIND},
	{SYS_clone, "clone", CLONE},
	{SYS_clone3, "clone", CLONE3},
	{SYS_rt_sigtimedwait, "sigwait", NOTHING},
	{SYS_rt_sigsuspend, "sigsuspend", NOTHING},
	{SYS_msgrcv, "msgrcv", ID},
	{SYS_msgsnd, "msgsnd", ID},
	{SYS_semop, "semop", ID},
	{SYS_semtimedop, "semop", ID},
	{SYS_mq_timedreceive, "mq receive", FD},
	{SYS_mq_timedsend, "mq send", FD},
	{SYS_io_uring_enter, "io_uring", FD},
	{SYS_io_uring_setup, "io_uring worker", NOTHING}, // it waits for nothing: this is a kernel thread that it made
	{SYS_io_getevents, "aio", NOTHING},
	{SYS_flock, "flock", FD},
	{SYS_fcntl, "file lock", FD},
	{SYS_fsync, "fsync", FD},
	{SYS_fdatasync, "fsync", FD},
	{SYS_openat, "open", NOTHING},
	{SYS_splice, "splice", FD},
	{SYS_sendfile, "sendfile", FD},
#ifdef SYS_poll
	{SYS_poll, "poll", POLL},
	{SYS_select, "select", SELECT},
	{SYS_epoll_wait, "epoll", EPOLL},
	{SYS_pause, "pause", NOTHING},
	{SYS_vfork, "wait child", VFORK},
	{SYS_open, "open", NOTHING},
#endif
};

// What an argument points to: as it was when the thread's place was read, or else as it is now.
static bool read_operand(const struct wait_state_process *process, const struct wait_state_input *input,
			 uint64_t address, void *data, size_t size)
{
	if (!input->operand_at || address != input->operand_at || size > sizeof(input->operand))
		return wait_memory_read(process->memory, address, data, size);
	memcpy(data, input->operand, size);
	return true;
}

static void find_sleep(const struct wait_state_process *process, const struct wait_state_input *input, uint64_t address,
		       bool absolute, struct wait_state *state)
{
	struct timespec time;
	char object[48] = "";

	if (!absolute && read_operand(process, input, address, &time, sizeof(time)) && time.tv_sec >= 0 &&
	    time.tv_nsec >= 0 && time.tv_nsec < 1000000000)
		snprintf(object, sizeof(object), "of %g s", (double)time.tv_sec + (double)time.tv_nsec / 1e9);
	say(state, "sleep", object);
}

// The first descriptor and how many there are.
static void find_poll(const struct wait_state_process *process, const struct wait_state_input *input,
		      struct wait_state *state)
{
	int32_t fd;
	char object[WAIT_OBJECT_SIZE + 32];

	if (input->args[1] == 0 || !read_operand(process, input, input->args[0], &fd, sizeof(fd)) || fd < 0) {
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

// The first descriptor and how many there are, of the three sets together.
static void find_select(const struct wait_state_process *process, const struct wait_state_input *input,
			struct wait_state *state)
{
	uint64_t sets[SELECT_FDS / 64] = {0};
	uint32_t end = (uint32_t)input->args[0] < SELECT_FDS ? (uint32_t)input->args[0] : SELECT_FDS;
	size_t size = (end + 63) / 64 * 8;
	char object[WAIT_OBJECT_SIZE + 32] = "";
	unsigned count = 0;
	int first = -1;

	for (int k = 1; k <= 3; k++) {
		uint64_t set[SELECT_FDS / 64];

		if (input->args[k] == 0 || !wait_memory_read(process->memory, input->args[k], set, size))
			continue;
		for (size_t i = 0; i < size / 8; i++)
			sets[i] |= set[i];
	}
	for (int fd = 0; fd < (int)end; fd++) {
		if (!(sets[fd / 64] >> (fd % 64) & 1))
			continue;
		first = first < 0 ? fd : first;
		count++;
	}
	if (count == 1)
		snprintf(object, sizeof(object), "%s", wait_objects_fd(process->objects, first));
	else if (count > 1)
		snprintf(object, sizeof(object), "%u fds: %s…", count, wait_objects_fd(process->objects, first));
	say(state, "select", object);
}

// By the process's own numbers: not said when we would take them for others.
static void find_child(const struct wait_state_process *process, int32_t pid, struct wait_state *state)
{
	char object[32] = "";

	if (pid > 0 && wait_threads_same_ids(process->threads))
		snprintf(object, sizeof(object), "%d", pid);
	say(state, "wait child", object);
}

// With CLONE_VFORK (vfork, posix_spawn, system, popen) until the child has called exec or has ended.
static void find_clone(const struct wait_state_process *process, const struct wait_state_input *input, bool by_address,
		       struct wait_state *state)
{
	uint64_t flags = by_address ? 0 : input->args[0];

	if (by_address)
		wait_memory_read(process->memory, input->args[0], &flags, sizeof(flags));
	if (flags & CLONE_VFORK)
		say(state, "wait child", "vfork");
	else
		say(state, "clone", "");
}

static void find_call(const struct wait_state_process *process, const struct wait_state_input *input,
		      const struct call *call, struct wait_state *state)
{
	char object[32];

	switch (call->argument) {
	case FD:
		say(state, call->state, wait_objects_fd(process->objects, (int)input->args[0]));
		return;
	case EPOLL:
		say(state, call->state, wait_objects_epoll(process->objects, (int)input->args[0]));
		return;
	case SLEEP:
		find_sleep(process, input, input->args[0], false, state);
		return;
	case CLOCK_SLEEP:
		find_sleep(process, input, input->args[2], input->args[1] & TIMER_ABSTIME, state);
		return;
	case CHILD:
		find_child(process, (int32_t)input->args[0], state);
		return;
	case CHILD_BY_KIND:
		find_child(process, (int32_t)input->args[0] == P_PID ? (int32_t)input->args[1] : 0, state);
		return;
	case VFORK:
		say(state, call->state, "vfork");
		return;
	case CLONE:
	case CLONE3:
		find_clone(process, input, call->argument == CLONE3, state);
		return;
	case POLL:
		find_poll(process, input, state);
		return;
	case SELECT:
		find_select(process, input, state);
		return;
	case ID:
		snprintf(object, sizeof(object), "id %d", (int)input->args[0]);
		say(state, call->state, object);
		return;
	case NOTHING:
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
		say(state, input->starved ? "runnable" : "running", "");
		return true;
	default:
		if (input->in_syscall)
			return false;
		// 'S': for userfaultfd. Nothing else waits outside of a system call but what is stopped or ends.
		say(state, input->run_state == 'D' || input->run_state == 'S' ? "page fault" : "waiting", "");
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
		const char *state = wait_names_state(wait_names_find(input));

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
