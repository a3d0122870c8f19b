// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// context_pool.c: see context_pool.h.

#include "collector/context_pool.h"

#include <string.h>

static uint64_t load(const struct context_pool *pool, uint32_t number)
{
	return __atomic_load_n(&pool->words[number], __ATOMIC_ACQUIRE);
}

// Copies the first `size` bytes (whole words) of the item, of that type and at least so long.
static bool read_item(const struct context_pool *pool, enum wire_item_type type, uint32_t number, void *ret_item,
		      uint32_t size)
{
	uint64_t head;

	if (number == 0 || number >= pool->nwords)
		return false;
	head = load(pool, number);
	if (WIRE_ITEM_TYPE(head) != type || WIRE_ITEM_WORDS(head) < size / 8 ||
	    WIRE_ITEM_WORDS(head) > pool->nwords - number)
		return false;
	memcpy(ret_item, &head, sizeof(head));
	for (uint32_t i = 1; i < size / 8; i++) {
		uint64_t word = load(pool, number + i);

		memcpy((char *)ret_item + i * sizeof(word), &word, sizeof(word));
	}
	return true;
}

enum wire_item_type context_pool_type(const struct context_pool *pool, uint32_t number)
{
	uint32_t type = number > 0 && number < pool->nwords ? WIRE_ITEM_TYPE(load(pool, number)) : 0;

	return type <= WIRE_ITEM_LABELS ? (enum wire_item_type)type : WIRE_ITEM_NONE;
}

static bool read_stack(const struct context_pool *pool, uint32_t number, struct context_item *item)
{
	struct wire_pool_stack stack = {0};
	const uint32_t words = sizeof(stack) / 8;

	if (!read_item(pool, WIRE_ITEM_STACK, number, &stack, sizeof(stack)) || stack.npcs < 1 ||
	    stack.npcs > WIRE_STACK_FRAMES || stack.stop >= WIRE_STOP_COUNT ||
	    WIRE_ITEM_WORDS(stack.head) != words + stack.npcs)
		return false;
	item->stop = stack.stop;
	item->npcs = stack.npcs;
	for (uint32_t i = 0; i < item->npcs; i++)
		item->pcs[i] = load(pool, number + words + i);
	return true;
}

// More than any process has made; and the counts of all contexts that there may be do not overflow when they are added up.
#define MAX_COUNT (INT64_MAX / WIRE_POOL_WORDS)

static uint64_t at_most(uint64_t count)
{
	return count < MAX_COUNT ? count : MAX_COUNT;
}

bool context_pool_context(const struct context_pool *pool, uint32_t number, struct context_item *ret_item)
{
	struct wire_pool_context context = {0};

	if (!read_item(pool, WIRE_ITEM_CONTEXT, number, &context, sizeof(context)) ||
	    context.kind >= WIRE_CONTEXT_KINDS || !read_stack(pool, context.stack, ret_item))
		return false;
	ret_item->kind = (enum wire_context_kind)context.kind;
	ret_item->stack = context.stack;
	ret_item->parent = context.parent < number ? context.parent : 0;
	ret_item->created = at_most(context.created);
	ret_item->unjoined = at_most(context.unjoined);
	return true;
}

// The next text of *at, which is moved behind its NUL. NULL: there is none within the limit.
static const char *next_text(const char **at, const char *end, size_t limit)
{
	const char *text = *at;
	size_t room = (size_t)(end - text), length = strnlen(text, room < limit ? room : limit);

	if (length == room || length == limit)
		return NULL;
	*at = text + length + 1;
	return text;
}

bool context_pool_labels(const struct context_pool *pool, uint32_t number, struct context_labels *ret_labels)
{
	struct wire_pool_labels head = {0};
	const uint32_t words = sizeof(head) / 8;
	const char *at = ret_labels->text, *end;

	ret_labels->count = 0;
	if (!read_item(pool, WIRE_ITEM_LABELS, number, &head, sizeof(head)) || head.nlabels > WIRE_LABELS ||
	    head.bytes > CONTEXT_LABELS_BYTES || WIRE_ITEM_WORDS(head.head) != words + (head.bytes + 7) / 8)
		return false;
	for (uint32_t i = 0; i < (head.bytes + 7) / 8; i++) {
		uint64_t word = load(pool, number + words + i);

		memcpy(ret_labels->text + i * 8ULL, &word, sizeof(word));
	}
	end = ret_labels->text + head.bytes;
	for (uint32_t i = 0; i < head.nlabels; i++) {
		struct context_label *label = &ret_labels->labels[i];

		label->key = next_text(&at, end, WIRE_LABEL_KEY_BYTES);
		label->value = label->key ? next_text(&at, end, WIRE_LABEL_VALUE_BYTES) : NULL;
		if (!label->value || !label->key[0])
			return false;
		ret_labels->count++;
	}
	return true;
}

const char *context_kind_name(enum wire_context_kind kind)
{
	static const char *const names[WIRE_CONTEXT_KINDS] = {
		[WIRE_CONTEXT_CREATED] = "created",
		[WIRE_CONTEXT_WOKEN] = "woken",
		[WIRE_CONTEXT_QUEUED] = "queued",
	};

	return kind < WIRE_CONTEXT_KINDS ? names[kind] : "";
}
