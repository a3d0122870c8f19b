// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// wake_history.c: see wake_history.h.

#include "collector/wake_history.h"

#include <stdlib.h>
#include <string.h>

#include "collector/intern.h"
#include "collector/trace.h"

#define MAX_BYTES (64u << 20)

struct object_wake {
	uint64_t object;
	uint64_t time_ns;
	uint32_t tid;
};

struct wake_history {
	struct intern_budget budget;
	struct intern lives;   // struct wake_life
	struct intern objects; // struct object_wake
	uint64_t begin_ns, forgotten;
};

struct wake_history *wake_history_create(void)
{
	struct wake_history *history = calloc(1, sizeof(*history));

	if (!history)
		return NULL;
	history->budget.max = MAX_BYTES;
	intern_init(&history->lives, sizeof(struct wake_life), sizeof(uint32_t), &history->budget);
	intern_init(&history->objects, sizeof(struct object_wake), sizeof(uint64_t), &history->budget);
	return history;
}

void wake_history_destroy(struct wake_history *history)
{
	if (!history)
		return;
	intern_finish(&history->lives);
	intern_finish(&history->objects);
	free(history);
}

static const struct object_wake *find_wake(const struct wake_history *history, uint64_t object)
{
	uint32_t index = object ? intern_find(&history->objects, &object) : INTERN_NONE;

	return index == INTERN_NONE ? NULL : intern_item(&history->objects, index);
}

static void note_wake(struct wake_history *history, const struct trace_item *item)
{
	uint32_t index = item->object ? intern_add(&history->objects, &item->object, NULL) : INTERN_NONE;
	struct object_wake *wake = index == INTERN_NONE ? NULL : intern_item(&history->objects, index);

	if (!wake) {
		history->forgotten += item->object != 0;
		return;
	}
	wake->time_ns = item->time_ns;
	wake->tid = item->tid;
}

static void end_wait(const struct wake_history *history, struct wake_life *life, const struct trace_item *item)
{
	const struct object_wake *wake = find_wake(history, item->object);

	life->parked_ns = life->object = 0;
	if (item->other == WIRE_EVENT_NOBODY) // time did: that is no waking
		return;
	if (life->last_woken_ns && item->time_ns - life->last_woken_ns > life->longest_ns)
		life->longest_ns = item->time_ns - life->last_woken_ns;
	life->woken++;
	life->last_woken_ns = item->time_ns;
	life->waker_tid = item->other ? item->other : wake && wake->tid != life->tid ? wake->tid : 0;
}

void wake_history_add(struct wake_history *history, const struct trace_item *item)
{
	struct wake_life *life;
	uint32_t index;

	if (item->kind == TRACE_ITEM_GONE || item->kind == TRACE_ITEM_STOP)
		return;
	index = intern_add(&history->lives, &item->tid, NULL);
	life = index == INTERN_NONE ? NULL : intern_item(&history->lives, index);
	if (history->begin_ns == 0)
		history->begin_ns = item->time_ns;
	if (!life) {
		history->forgotten++;
		return;
	}
	switch (item->kind) {
	case WIRE_EVENT_START: // another thread had this id before
		*life = (struct wake_life){.tid = item->tid, .started_ns = item->time_ns};
		break;
	case WIRE_EVENT_PARK:
		life->parked_ns = item->time_ns;
		life->object = item->object;
		break;
	case WIRE_EVENT_UNPARK:
		end_wait(history, life, item);
		break;
	case WIRE_EVENT_WAKE:
	case WIRE_EVENT_EXIT:
		note_wake(history, item);
		break;
	default:
		break;
	}
	life->last_ns = item->time_ns;
}

bool wake_history_find(const struct wake_history *history, uint32_t tid, struct wake_life *ret_life)
{
	uint32_t index = intern_find(&history->lives, &tid);
	const struct object_wake *wake;

	if (index == INTERN_NONE)
		return false;
	*ret_life = *(const struct wake_life *)intern_item(&history->lives, index);
	wake = find_wake(history, ret_life->object);
	if (wake) {
		ret_life->object_woken_ns = wake->time_ns;
		if (wake->time_ns > ret_life->last_woken_ns)
			ret_life->waker_tid = wake->tid;
	}
	return true;
}

uint64_t wake_history_begin_ns(const struct wake_history *history)
{
	return history->begin_ns;
}

uint64_t wake_history_forgotten(const struct wake_history *history)
{
	return history->forgotten;
}
