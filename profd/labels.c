// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// labels.c: see labels.h.

#include "profd/labels.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "profd/contexts.h"

#define TEXT_BYTES (WIRE_LABELS * (WIRE_LABEL_KEY_BYTES + WIRE_LABEL_VALUE_BYTES))

struct set {
	struct wire_pool_labels head;
	char text[TEXT_BYTES];
};

// ---- The pool's labels ---------------------------------------------------------------------------------------------

static void load(uint32_t number, struct set *set)
{
	const struct profd_pool pool = profd_contexts_pool();
	const struct wire_pool_labels *item =
		(const struct wire_pool_labels *)profd_pool_item(&pool, WIRE_ITEM_LABELS, number);

	set->head = (struct wire_pool_labels){0};
	if (!item || item->bytes > TEXT_BYTES || item->nlabels > WIRE_LABELS)
		return;
	set->head = *item;
	memcpy(set->text, item + 1, item->bytes);
}

static void append(struct set *set, const char *text, size_t bytes)
{
	memcpy(set->text + set->head.bytes, text, bytes);
	set->text[set->head.bytes + bytes] = '\0';
	set->head.bytes += (uint32_t)bytes + 1;
}

// Not cut within a character of UTF-8.
static size_t value_bytes(const char *value)
{
	size_t n = strnlen(value, WIRE_LABEL_VALUE_BYTES);

	if (n < WIRE_LABEL_VALUE_BYTES)
		return n;
	n = WIRE_LABEL_VALUE_BYTES - 1;
	while (n > 0 && ((unsigned char)value[n] & 0xc0) == 0x80)
		n--;
	return n;
}

static bool add(struct set *set, const char *key, const char *value)
{
	if (set->head.nlabels == WIRE_LABELS)
		return false;
	append(set, key, strlen(key));
	append(set, value, value_bytes(value));
	set->head.nlabels++;
	return true;
}

// The same labels with that key's value; NULL: without it. In order, so that equal sets are one item. false: too many.
static bool change(const struct set *from, const char *key, const char *value, struct set *to)
{
	const char *at = from->text;
	bool fits = true;

	to->head = (struct wire_pool_labels){0};
	for (uint32_t i = 0; i < from->head.nlabels; i++) {
		const char *old_key = at, *old_value = at + strlen(at) + 1;
		int order = strcmp(key, old_key);

		at = old_value + strlen(old_value) + 1;
		if (order <= 0 && value) {
			fits &= add(to, key, value);
			value = NULL;
		}
		if (order != 0)
			fits &= add(to, old_key, old_value);
	}
	return value ? fits & add(to, key, value) : fits;
}

static void count_lost(void)
{
	__atomic_fetch_add(&profd_agent.region.header->labels_lost, 1, __ATOMIC_RELAXED);
}

// 0: there is no room.
static uint32_t store(struct set *set, bool stand_in)
{
	const struct profd_pool pool = profd_contexts_pool();
	uint32_t words = (uint32_t)(sizeof(set->head) + set->head.bytes + 7) / 8;
	const uint64_t *body = &set->head.head + 1;

	memset(set->text + set->head.bytes, 0, words * 8 - sizeof(set->head) - set->head.bytes);
	return stand_in ? profd_pool_add_stand_in(&pool, body, words - 1)
			: profd_pool_add(&pool, WIRE_ITEM_LABELS, body, words - 1, 0);
}

// The value that the key had before must not stay: it would be another request's, another user's. Where there is no room even for what says so,
// the thread has no labels at all.
static uint32_t stand_in_for(const struct set *before, const char *key, const char *value)
{
	struct set after;

	return change(before, key, value ? WIRE_LABEL_NO_ROOM : NULL, &after) ? store(&after, true) : 0;
}

static int change_own(const char *key, const char *value)
{
	uint64_t work = profd_contexts_work();
	struct set before, after;
	uint32_t number = 0;
	bool fits;

	load(WIRE_WORK_LABELS(work), &before);
	if (!change(&before, key, value, &after)) { // one more than may be
		count_lost();
		return -1;
	}
	if (after.head.nlabels > 0)
		number = store(&after, false);
	fits = number || after.head.nlabels == 0;
	if (!fits) {
		count_lost();
		number = stand_in_for(&before, key, value);
	}
	profd_contexts_set_work(WIRE_WORK(WIRE_WORK_CONTEXT(work), number));
	return fits ? 0 : -1;
}

// ---- The trace -----------------------------------------------------------------------------------------------------

bool profd_labels_trace(struct wire_trace *ret_trace)
{
	const struct wire_slot *slot = profd_contexts_slot();

	*ret_trace = slot ? slot->trace : (struct wire_trace){.flags = 0};
	return slot && __atomic_load_n(&slot->has_trace, __ATOMIC_RELAXED);
}

// A handler of the program's may come in between and do the same: it leaves an even turn, and so does this in the end. It also puts back
// all that it found, so that what is half written then is still so, and is written to its end here.
void profd_labels_set_trace(bool has, const struct wire_trace *trace)
{
	struct wire_slot *slot = profd_contexts_slot();
	uint32_t turn;

	if (!slot)
		return;
	turn = __atomic_load_n(&slot->trace_turn, __ATOMIC_RELAXED) | 1;
	__atomic_store_n(&slot->trace_turn, turn, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	slot->trace = *trace;
	__atomic_store_n(&slot->has_trace, has, __ATOMIC_RELAXED);
	__atomic_store_n(&slot->trace_turn, turn + 1, __ATOMIC_RELEASE);
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= ' ';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool parse_hex(const char *text, uint8_t *bytes, size_t n)
{
	if (strnlen(text, 2 * n + 1) != 2 * n)
		return false;
	for (size_t i = 0; i < n; i++) {
		int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		bytes[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

// value NULL: cleared. 1: the key is none of a trace's.
static int set_trace_label(const char *key, const char *value)
{
	struct wire_trace trace;
	bool fine = true, has = false;

	if (!profd_labels_trace(&trace))
		trace = (struct wire_trace){.flags = 0};
	else
		has = true;
	if (strcmp(key, "trace_id") == 0) {
		memset(trace.trace_id, 0, sizeof(trace.trace_id));
		fine = !value || parse_hex(value, trace.trace_id, sizeof(trace.trace_id));
	} else if (strcmp(key, "span_id") == 0) {
		memset(trace.span_id, 0, sizeof(trace.span_id));
		fine = !value || parse_hex(value, trace.span_id, sizeof(trace.span_id));
	} else if (strcmp(key, "trace_sampled") == 0) {
		trace.flags = value && strcmp(value, "1") == 0 ? WIRE_TRACE_SAMPLED : 0;
	} else {
		return 1;
	}
	if (!fine)
		return -1;
	// What clears makes no trace where there was none.
	if (value || has)
		profd_labels_set_trace(value || strcmp(key, "trace_id") != 0, &trace);
	return 0;
}

int profd_labels_set(const char *key, const char *value)
{
	size_t length = key ? strnlen(key, WIRE_LABEL_KEY_BYTES) : 0;
	int r;

	if (length == 0 || length == WIRE_LABEL_KEY_BYTES)
		return -1;
	r = set_trace_label(key, value);
	return r <= 0 ? r : change_own(key, value);
}

void profd_labels_clear(const char *key)
{
	if (key && set_trace_label(key, NULL) > 0)
		change_own(key, NULL);
}
