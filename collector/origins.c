// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// origins.c: see origins.h. Each value of the region is read once; what does not fit together is left out.

#include "collector/origins.h"

#include <stdlib.h>
#include <string.h>

#include "collector/region.h"

static int by_tid(const void *a, const void *b)
{
	uint32_t left = ((const struct origin *)a)->tid, right = ((const struct origin *)b)->tid;

	return (left > right) - (left < right);
}

// ---- The pool's items ----------------------------------------------------------------------------------------------

static int by_number(const void *a, const void *b)
{
	uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;

	return (left > right) - (left < right);
}

// The index of contexts or of labels + 1: both begin with their number, and are sorted by it. 0: there is none.
static uint32_t find_number(const void *items, size_t count, size_t size, uint32_t number)
{
	const char *found = number && count ? bsearch(&number, items, count, size, by_number) : NULL;

	return found ? (uint32_t)((size_t)(found - (const char *)items) / size) + 1 : 0;
}

uint32_t origins_find_context(const struct origins *origins, uint32_t number)
{
	return !origins ? 0 : find_number(origins->contexts, origins->ncontexts, sizeof(*origins->contexts), number);
}

uint32_t origins_find_labels(const struct origins *origins, uint32_t number)
{
	return !origins ? 0 : find_number(origins->labels, origins->nlabels, sizeof(*origins->labels), number);
}

static int add_context(struct origins *origins, const struct context_pool *pool, uint32_t number)
{
	struct origin_context *context = &origins->contexts[origins->ncontexts];
	struct context_item item;

	if (!context_pool_context(pool, number, &item))
		return 0;
	*context = (struct origin_context){
		.number = number,
		.stack = item.stack,
		.parent = item.parent,
		.kind = item.kind,
		.npcs = item.npcs,
		.stop = item.stop,
		.created = item.created,
		.unjoined = item.unjoined,
		.pcs = calloc(item.npcs, sizeof(*context->pcs)),
	};
	if (!context->pcs)
		return -1;
	memcpy(context->pcs, item.pcs, item.npcs * sizeof(*context->pcs));
	origins->ncontexts++;
	return 0;
}

static int add_labels(struct origins *origins, const struct context_pool *pool, uint32_t number)
{
	struct origin_labels *item = &origins->labels[origins->nlabels];

	item->labels = calloc(1, sizeof(*item->labels));
	if (!item->labels)
		return -1;
	item->number = number;
	if (context_pool_labels(pool, number, item->labels))
		origins->nlabels++;
	else
		free(item->labels);
	return 0;
}

// The numbers in the index, sorted, each once. *ret_counts: how many are of each type.
static uint32_t *list_numbers(const struct context_pool *pool, uint32_t *ret_count,
			      uint32_t ret_counts[WIRE_ITEM_LABELS + 1])
{
	uint32_t *numbers = calloc(WIRE_POOL_INDEX, sizeof(*numbers)), found = 0, count = 0;

	if (!numbers)
		return NULL;
	for (uint32_t i = 0; i < WIRE_POOL_INDEX; i++) {
		uint32_t number = __atomic_load_n(&pool->index[i], __ATOMIC_ACQUIRE);

		if (number)
			numbers[found++] = number;
	}
	qsort(numbers, found, sizeof(*numbers), by_number);
	for (uint32_t i = 0; i < found; i++) {
		if (count > 0 && numbers[count - 1] == numbers[i])
			continue;
		numbers[count++] = numbers[i];
		ret_counts[context_pool_type(pool, numbers[i])]++;
	}
	*ret_count = count;
	return numbers;
}

// One whose parent was left out has none: the chain ends there.
static void link_parents(struct origins *origins)
{
	for (uint32_t i = 0; i < origins->ncontexts; i++)
		origins->contexts[i].parent = origins_find_context(origins, origins->contexts[i].parent);
}

static int read_pool(struct origins *origins, const struct context_pool *pool)
{
	uint32_t count = 0, counts[WIRE_ITEM_LABELS + 1] = {0};
	uint32_t *numbers = list_numbers(pool, &count, counts);
	int r = numbers ? 0 : -1;

	origins->contexts = calloc((size_t)counts[WIRE_ITEM_CONTEXT] + 1, sizeof(*origins->contexts));
	origins->labels = calloc((size_t)counts[WIRE_ITEM_LABELS] + 1, sizeof(*origins->labels));
	if (!origins->contexts || !origins->labels)
		r = -1;
	for (uint32_t i = 0; i < count && r == 0; i++) {
		enum wire_item_type type = context_pool_type(pool, numbers[i]);

		// Whatever the target has written since they were counted.
		if (counts[type]-- == 0)
			break;
		if (type == WIRE_ITEM_CONTEXT)
			r = add_context(origins, pool, numbers[i]);
		else if (type == WIRE_ITEM_LABELS)
			r = add_labels(origins, pool, numbers[i]);
	}
	free(numbers);
	if (r == 0)
		link_parents(origins);
	return r;
}

// ---- Threads -------------------------------------------------------------------------------------------------------

static bool read_trace(const struct wire_slot *slot, struct wire_trace *ret_trace)
{
	uint32_t turn = __atomic_load_n(&slot->trace_turn, __ATOMIC_ACQUIRE);
	uint64_t words[WIRE_TRACE_WORDS];

	if (!__atomic_load_n(&slot->has_trace, __ATOMIC_ACQUIRE) || (turn & 1))
		return false;
	for (uint32_t i = 0; i < WIRE_TRACE_WORDS; i++)
		words[i] = __atomic_load_n((const uint64_t *)&slot->trace + i, __ATOMIC_ACQUIRE);
	memcpy(ret_trace, words, sizeof(*ret_trace));
	return __atomic_load_n(&slot->trace_turn, __ATOMIC_ACQUIRE) == turn;
}

static void read_threads(struct origins *origins, const struct region *region, uint32_t used)
{
	for (uint32_t i = 0; i < used; i++) {
		const struct wire_slot *slot = &region->slots[i];
		uint64_t state = __atomic_load_n(&slot->state_tid, __ATOMIC_ACQUIRE);
		uint32_t creator = __atomic_load_n(&slot->creator, __ATOMIC_ACQUIRE);
		uint64_t work = __atomic_load_n(&slot->work, __ATOMIC_ACQUIRE);
		struct origin origin = {
			.tid = WIRE_SLOT_TID(state),
			.creator_tid = __atomic_load_n(&slot->creator_tid, __ATOMIC_ACQUIRE),
			.creator = origins_find_context(origins, creator),
			.context = origins_find_context(origins, WIRE_WORK_CONTEXT(work)),
			.labels = origins_find_labels(origins, WIRE_WORK_LABELS(work)),
			.slot = i,
			.state_tid = state,
			.otel_at = __atomic_load_n(&slot->otel_at, __ATOMIC_ACQUIRE),
		};

		origin.has_trace = read_trace(slot, &origin.trace);
		if (!origin.tid ||
		    (!origin.creator && !origin.context && !origin.labels && !origin.has_trace && !origin.otel_at) ||
		    __atomic_load_n(&slot->state_tid, __ATOMIC_ACQUIRE) != state)
			continue;
		origins->threads[origins->count++] = origin;
	}
	qsort(origins->threads, origins->count, sizeof(*origins->threads), by_tid);
}

// What an OpenTelemetry SDK says goes before what the thread told the agent.
void origins_confirm_spans(struct origins *origins, const struct region *region)
{
	for (size_t i = 0; i < origins->count; i++) {
		struct origin *origin = &origins->threads[i];

		if (!origin->has_span || !region || origin->slot >= region->nslots ||
		    __atomic_load_n(&region->slots[origin->slot].state_tid, __ATOMIC_ACQUIRE) != origin->state_tid)
			continue;
		origin->has_trace = true;
		origin->trace = origin->span;
	}
}

// ---- Tasks ---------------------------------------------------------------------------------------------------------

static void copy_text(char *to, const char *shared, size_t size)
{
	for (size_t i = 0; i < size; i += 8) {
		uint64_t word = __atomic_load_n((const uint64_t *)(const void *)(shared + i), __ATOMIC_ACQUIRE);

		memcpy(to + i, &word, 8);
	}
	to[size - 1] = '\0';
}

// false: it is not suspended, or changed under our eyes.
static bool read_task(const struct origins *origins, const struct wire_task *task, struct origin_task *ret_task)
{
	uint64_t work;

	ret_task->word = __atomic_load_n(&task->turn_state, __ATOMIC_ACQUIRE);
	if (WIRE_TASK_STATE(ret_task->word) != WIRE_TASK_SUSPENDED || (WIRE_TASK_TURN(ret_task->word) & 1))
		return false;
	ret_task->stack_low = __atomic_load_n(&task->stack_low, __ATOMIC_ACQUIRE);
	ret_task->stack_high = __atomic_load_n(&task->stack_high, __ATOMIC_ACQUIRE);
	ret_task->pc = __atomic_load_n(&task->pc, __ATOMIC_ACQUIRE);
	ret_task->sp = __atomic_load_n(&task->sp, __ATOMIC_ACQUIRE);
	ret_task->fp = __atomic_load_n(&task->fp, __ATOMIC_ACQUIRE);
	ret_task->since_ns = __atomic_load_n(&task->since_ns, __ATOMIC_ACQUIRE);
	work = __atomic_load_n(&task->work, __ATOMIC_ACQUIRE);
	ret_task->context = origins_find_context(origins, WIRE_WORK_CONTEXT(work));
	ret_task->labels = origins_find_labels(origins, WIRE_WORK_LABELS(work));
	copy_text(ret_task->name, task->name, sizeof(ret_task->name));
	copy_text(ret_task->waits_for, task->waits_for, sizeof(ret_task->waits_for));
	return __atomic_load_n(&task->turn_state, __ATOMIC_ACQUIRE) == ret_task->word;
}

static int read_tasks(struct origins *origins, const struct region *region)
{
	uint32_t used = __atomic_load_n(&region->header->tasks_used, __ATOMIC_ACQUIRE);

	if (used > WIRE_TASKS)
		used = WIRE_TASKS;
	if (used == 0 || !region->tasks)
		return 0;
	origins->tasks = calloc(used, sizeof(*origins->tasks));
	if (!origins->tasks)
		return -1;
	for (uint32_t i = 0; i < used; i++) {
		struct origin_task *task = &origins->tasks[origins->ntasks];

		task->index = i;
		origins->ntasks += read_task(origins, &region->tasks[i], task);
	}
	return 0;
}

struct origins *origins_read(const struct region *region)
{
	uint32_t used = __atomic_load_n(&region->header->slots_used, __ATOMIC_ACQUIRE);
	struct origins *origins = calloc(1, sizeof(*origins));

	if (!origins)
		return NULL;
	origins->helper_tid = __atomic_load_n(&region->header->helper_tid, __ATOMIC_RELAXED);
	origins->contexts_lost = __atomic_load_n(&region->header->contexts_lost, __ATOMIC_RELAXED);
	origins->tasks_lost = __atomic_load_n(&region->header->tasks_lost, __ATOMIC_RELAXED);
	origins->labels_lost = __atomic_load_n(&region->header->labels_lost, __ATOMIC_RELAXED);
	if (used > region->nslots)
		used = region->nslots;
	origins->threads = calloc((size_t)used + 1, sizeof(*origins->threads));
	if (!origins->threads || read_pool(origins, &region->pool) < 0 || read_tasks(origins, region) < 0) {
		origins_destroy(origins);
		return NULL;
	}
	read_threads(origins, region, used);
	return origins;
}

void origins_destroy(struct origins *origins)
{
	if (!origins)
		return;
	for (uint32_t i = 0; i < origins->ncontexts; i++)
		free(origins->contexts[i].pcs);
	for (uint32_t i = 0; i < origins->nlabels; i++)
		free(origins->labels[i].labels);
	free(origins->contexts);
	free(origins->labels);
	free(origins->tasks);
	free(origins->threads);
	free(origins);
}

const struct origin *origins_find(const struct origins *origins, uint32_t tid)
{
	const struct origin key = {.tid = tid};

	return origins && origins->count ? bsearch(&key, origins->threads, origins->count, sizeof(key), by_tid) : NULL;
}
