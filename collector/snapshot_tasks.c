// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// snapshot_tasks.c: see snapshot_tasks.h.

#include "collector/snapshot_tasks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "collector/origins.h"
#include "collector/thread_walk.h"
#include "formats/thread_dump.h"

static int walk_one(struct thread_walker *walker, const struct origin_task *task, struct snapshot_task *ret_task)
{
	uint64_t pcs[WIRE_MAX_FRAMES];

	*ret_task = (struct snapshot_task){.task = task};
	if (task->sp < task->stack_low || task->sp >= task->stack_high)
		return 0;
	ret_task->npcs = thread_walker_walk_call(walker, task->pc, task->sp, task->fp, pcs, &ret_task->stop);
	ret_task->pcs = calloc(ret_task->npcs, sizeof(*pcs));
	if (!ret_task->pcs)
		return -ENOMEM;
	memcpy(ret_task->pcs, pcs, ret_task->npcs * sizeof(*pcs));
	return 0;
}

int snapshot_tasks_walk(pid_t pid, const struct walk_image *image, const struct origins *origins,
			struct snapshot_tasks *ret_tasks)
{
	struct snapshot_tasks tasks = {.count = 0};
	struct thread_walker *walker;
	int r = 0;

	*ret_tasks = tasks;
	if (!origins || origins->ntasks == 0)
		return 0;
	tasks.tasks = calloc(origins->ntasks, sizeof(*tasks.tasks));
	walker = thread_walker_create(pid, image);
	if (!tasks.tasks || !walker)
		r = -ENOMEM;
	for (uint32_t i = 0; i < origins->ntasks && r == 0; i++)
		r = walk_one(walker, &origins->tasks[i], &tasks.tasks[tasks.count++]);
	thread_walker_destroy(walker);
	if (r < 0)
		snapshot_tasks_finish(&tasks);
	else
		*ret_tasks = tasks;
	return r;
}

void snapshot_tasks_finish(struct snapshot_tasks *tasks)
{
	for (uint32_t i = 0; i < tasks->count; i++)
		free(tasks->tasks[i].pcs);
	free(tasks->tasks);
	*tasks = (struct snapshot_tasks){.count = 0};
}

static int by_index(const void *a, const void *b)
{
	uint32_t left = ((const struct origin_task *)a)->index, right = ((const struct origin_task *)b)->index;

	return (left > right) - (left < right);
}

static const struct origin_task *find(const struct origins *origins, uint32_t index)
{
	const struct origin_task key = {.index = index};

	return origins && origins->ntasks ? bsearch(&key, origins->tasks, origins->ntasks, sizeof(key), by_index)
					  : NULL;
}

int snapshot_tasks_confirm(struct thread_dump *dump, const struct origins *before, const struct origins *after)
{
	for (uint32_t i = 0; i < dump->nthreads; i++) {
		struct thread_dump_thread *thread = &dump->threads[i];
		const struct origin_task *then, *now;

		if (thread->tid < SNAPSHOT_TASK_BASE)
			continue;
		then = find(before, thread->tid - SNAPSHOT_TASK_BASE);
		now = find(after, thread->tid - SNAPSHOT_TASK_BASE);
		if (then && now && then->word == now->word)
			continue;
		thread->stack = thread_dump_add_stack(dump, NULL, 0, "it went on running");
		if (!thread->stack)
			return -ENOMEM;
	}
	return 0;
}
