// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// task_reader.h: what /proc/PID/task says of a process's threads. Nothing is stopped or woken by it. Any thread; one reader may be used by
// several at once.

#ifndef PROFD_COLLECTOR_TASK_READER_H
#define PROFD_COLLECTOR_TASK_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct task_reader {
	int task_fd; // /proc/PID/task
};

// Where a thread waits.
struct task_place {
	bool running; // on a CPU, or about to be: the rest is not known
	bool in_syscall;
	int64_t nr;
	uint64_t args[6];
	uint64_t sp, pc;
};

// When a thread ran. Equal times at two moments do not tell that it did not run in between: run_ns moves as it stops running, and until then
// at ticks only (task_reader_check_unmoved).
struct task_times {
	uint64_t run_ns;     // CPU time so far
	int64_t last_ran_ns; // on the scheduler's clock (task_reader_now_ns); −1 or 0: not known
};

int task_reader_open(pid_t pid, struct task_reader *ret_reader); // 0 or −errno
void task_reader_close(struct task_reader *reader);

// All threads' ids, some at a time, in the kernel's order: that in which they were made. take returns whether it wants more. 0 or −errno.
typedef bool task_reader_taker(void *context, const uint32_t *tids, size_t count);
int task_reader_each(const struct task_reader *reader, task_reader_taker *take, void *context);
// All of them, ascending; free them. 0 or −errno.
int task_reader_list(const struct task_reader *reader, uint32_t **ret_tids, size_t *ret_count);

// How many threads there are, without a look at each. −errno.
ssize_t task_reader_count(const struct task_reader *reader);

// Each 0 or −errno (−ESRCH, −ENOENT: the thread is gone; −EPERM, −EACCES: not ours to look at).
int task_reader_place(const struct task_reader *reader, uint32_t tid, struct task_place *ret_place);
// ret_name (16 bytes): not NULL for when it ran last, too, which takes twice as long, and comes with the name, if that is found.
int task_reader_times(const struct task_reader *reader, uint32_t tid, char *ret_name, struct task_times *ret_times);
// Has it not run since times and, after them, place were read? It waits there still: 0; otherwise −EAGAIN. Or −errno.
int task_reader_check_unmoved(const struct task_reader *reader, uint32_t tid, const struct task_times *times,
			      const struct task_place *place);
// The letter of its state: R S D T t Z X I. '\0': not known.
char task_reader_state(const struct task_reader *reader, uint32_t tid);
void task_reader_name(const struct task_reader *reader, uint32_t tid, char ret_name[16]); // "" not known
// The clock of last_ran_ns; at most as late as any CPU has it. −1: not known. Visits every CPU that this thread may run on.
int64_t task_reader_now_ns(void);

#endif
