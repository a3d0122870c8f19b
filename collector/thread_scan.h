// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// thread_scan.h: one pass over all threads of a process: where each waits, its stack as PCs, when it ran last. Raw: nothing is named.

#ifndef PROFD_COLLECTOR_THREAD_SCAN_H
#define PROFD_COLLECTOR_THREAD_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "collector/stillness.h"
#include "collector/task_reader.h"

struct walk_image;

#define THREAD_OPERAND_BYTES 16u

struct thread_scan_record {
	uint32_t tid;
	char name[16];
	char run_state; // as task_reader_state; '\0' not read
	struct task_times times;
	struct task_place place;
	uint64_t switches;                     // how often it had begun to wait (task_table.h); 0: not known
	uint64_t operand_at;                   // of a call's arguments, the first that points into the stack; 0: none
	uint8_t operand[THREAD_OPERAND_BYTES]; // what is there
	int64_t waiting_ns;                    // it has not run for so long; 0: not known, or it runs
	int64_t since_ns;                      // CLOCK_MONOTONIC: the first scan that saw it with these times
	bool walked;                           // by this scan; otherwise it is what the last one found
	uint8_t stop;                          // enum wire_stop
	bool starved;                          // it was to run, and got no CPU while this scan looked
	uint32_t npcs;                         // 0: it runs, and could not be captured; or it has ended
	uint64_t *pcs;                         // leaf first, WIRE_PC_EXACT as in thread_walk.h; the scan's
};

struct thread_scan {
	size_t count;
	struct thread_scan_record *records; // by tid
	int64_t start_ns, end_ns;           // CLOCK_MONOTONIC
	struct stillness still;             // as it began
	struct stillness next;              // the movers to be expected from now on
	int capture_error;                // why threads that run have no stack: −errno of perf_event_open(2); 0: none
	struct thread_scan_chunk *chunks; // of pcs
};

// last: the scan before, or NULL; what did not run since is taken from it. image: of the process's mappings. helper_tid: a thread of the
// process that is known to run now and then; 0: none. 0, −ESRCH, −EPERM, −EACCES (nothing of the process can be read), −ENOMEM. The
// caller destroys it.
int thread_scan_take(pid_t pid, const struct walk_image *image, const struct thread_scan *last, uint32_t helper_tid,
		     struct thread_scan **ret_scan);
void thread_scan_destroy(struct thread_scan *scan); // accepts NULL
// NULL: it has none of that thread. Accepts NULL.
const struct thread_scan_record *thread_scan_find(const struct thread_scan *scan, uint32_t tid);

#endif
