// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// thread_watch.h: where the threads of a process were at one moment, to be compared with a later one: who did not run in between, in places
// where nobody was woken, is idle, or forgotten. Immutable: any thread.

#ifndef PROFD_COLLECTOR_THREAD_WATCH_H
#define PROFD_COLLECTOR_THREAD_WATCH_H

struct thread_dump;
struct thread_scan;
struct thread_watch;

struct thread_watch *thread_watch_create(const struct thread_scan *scan); // NULL: no memory
void thread_watch_destroy(struct thread_watch *watch);                    // accepts NULL
// For zombies.h: groups of one thread count, too, and waits that end by themselves do not.
void thread_watch_be_strict(struct thread_watch *watch);
// Adds a verdict to dump, made of scan, for each group of threads (stack, creator's stack, state) that have not run since: same PC, same
// SP, no CPU time; if no thread that was there with the same stack has run or ended since, either. 0 or −ENOMEM.
#define THREAD_WATCH_LEAST 2 // threads of a group
int thread_watch_judge(const struct thread_watch *watch, const struct thread_scan *scan, struct thread_dump *dump);

#endif
