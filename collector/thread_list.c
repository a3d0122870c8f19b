// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// thread_list.c: see thread_list.h.
//
// Records stay where they are while others read them, so there is room from the start for twice as many threads as there were then, and
// some: what nobody writes to is no memory. The kernel lists a process's threads in the order in which they were made: what there is no
// room for was made since.

#include "collector/thread_list.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "collector/thread_scan.h"

#define SPARE 4096u

static int allocate(struct thread_list *list, struct thread_scan *scan, size_t capacity)
{
	*list = (struct thread_list){.scan = scan, .capacity = capacity};
	pthread_mutex_init(&list->lock, NULL);
	pthread_cond_init(&list->more, NULL);
	scan->records = calloc(capacity, sizeof(*scan->records));
	return scan->records ? 0 : -ENOMEM;
}

int thread_list_begin(struct thread_list *list, struct thread_scan *scan, const struct task_reader *reader)
{
	ssize_t count = task_reader_count(reader);
	int r = allocate(list, scan, (count > 0 ? (size_t)count : 0) * 2 + SPARE);

	list->reader = reader;
	return r;
}

int thread_list_begin_with(struct thread_list *list, struct thread_scan *scan, const uint32_t *tids, size_t count)
{
	int r = allocate(list, scan, count);

	for (; r == 0 && scan->count < count; scan->count++)
		scan->records[scan->count].tid = tids[scan->count];
	list->complete = true;
	return r;
}

static bool add(void *context, const uint32_t *tids, size_t n)
{
	struct thread_list *list = context;
	struct thread_scan *scan = list->scan;

	pthread_mutex_lock(&list->lock);
	for (size_t i = 0; i < n && scan->count < list->capacity; i++)
		scan->records[scan->count++].tid = tids[i];
	pthread_cond_broadcast(&list->more);
	pthread_mutex_unlock(&list->lock);
	return scan->count < list->capacity;
}

int thread_list_fill(struct thread_list *list)
{
	int r = list->complete ? 0 : task_reader_each(list->reader, add, list);

	pthread_mutex_lock(&list->lock);
	list->complete = true;
	pthread_cond_broadcast(&list->more);
	pthread_mutex_unlock(&list->lock);
	return r;
}

size_t thread_list_take(struct thread_list *list, struct thread_scan_record **ret_records, size_t max)
{
	const struct thread_scan *scan = list->scan;
	size_t n;

	pthread_mutex_lock(&list->lock);
	while (list->next == scan->count && !list->complete)
		pthread_cond_wait(&list->more, &list->lock);
	n = scan->count - list->next < max ? scan->count - list->next : max;
	*ret_records = &scan->records[list->next];
	list->next += n;
	pthread_mutex_unlock(&list->lock);
	return n;
}

void thread_list_rewind(struct thread_list *list)
{
	list->next = 0;
}

static int compare_tids(const void *a, const void *b)
{
	const struct thread_scan_record *left = a, *right = b;

	return (left->tid > right->tid) - (left->tid < right->tid);
}

void thread_list_end(struct thread_list *list)
{
	struct thread_scan *scan = list->scan;
	bool sorted = true;
	size_t kept = 0;

	for (size_t i = 0; i < scan->count; i++) {
		if (scan->records[i].tid == 0)
			continue;
		sorted &= kept == 0 || scan->records[kept - 1].tid < scan->records[i].tid;
		scan->records[kept++] = scan->records[i];
	}
	scan->count = kept;
	if (!sorted)
		qsort(scan->records, kept, sizeof(*scan->records), compare_tids);
	pthread_cond_destroy(&list->more);
	pthread_mutex_destroy(&list->lock);
}
