// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// worker.h: a few threads for what the loop must not wait for: reading /proc, opening files, building unwind tables.
// Jobs run in the order they were submitted, several at once. Any thread may submit.

#ifndef PROFD_COLLECTOR_WORKER_H
#define PROFD_COLLECTOR_WORKER_H

struct worker_pool;

// Embedded in what it works on, which must live until run has been entered; run may free it.
struct worker_job {
	void (*run)(struct worker_job *job);
	struct worker_job *next; // the pool's
};

// 0 or −errno.
int worker_pool_create(unsigned threads, struct worker_pool **ret_pool);
void worker_pool_submit(struct worker_pool *pool, struct worker_job *job);
// Runs what was submitted, then joins the threads; nothing may be submitted from outside of jobs any more. Accepts NULL.
void worker_pool_destroy(struct worker_pool *pool);

#endif
