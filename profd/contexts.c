// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// contexts.c: see contexts.h.

#include "profd/contexts.h"

#include <stddef.h>
#include <string.h>

struct stack_item {
	struct wire_pool_stack stack;
	uint64_t pcs[WIRE_STACK_FRAMES];
};

#define BODY(item) ((const uint64_t *)(item) + 1)
#define STACK_BODY_WORDS(npcs) ((uint32_t)(sizeof(struct wire_pool_stack) / 8 - 1 + (npcs)))
#define CONTEXT_BODY_WORDS ((uint32_t)(offsetof(struct wire_pool_context, created) / 8 - 1))
#define CONTEXT_COUNTS 2u

static void count_lost(void)
{
	__atomic_fetch_add(&profd_agent.region.header->contexts_lost, 1, __ATOMIC_RELAXED);
}

static uint32_t add_stack(const struct stack_item *item)
{
	const struct profd_pool pool = profd_contexts_pool();
	uint32_t number = profd_pool_add(&pool, WIRE_ITEM_STACK, BODY(item), STACK_BODY_WORDS(item->stack.npcs), 0);

	if (!number)
		count_lost();
	return number;
}

uint32_t profd_contexts_stack(struct profd_caller caller, struct profd_walk_words *words)
{
	struct stack_item item;

	if (profd_thread_slot == PROFD_NO_SLOT)
		return 0;
	item.stack = (struct wire_pool_stack){0};
	item.stack.npcs =
		(uint16_t)profd_caller_walk_words(caller, words, item.pcs, WIRE_STACK_FRAMES, &item.stack.stop);
	return add_stack(&item);
}

struct wire_pool_context *profd_contexts_find(uint32_t context)
{
	const struct profd_pool pool = profd_contexts_pool();

	return (struct wire_pool_context *)profd_pool_item(&pool, WIRE_ITEM_CONTEXT, context);
}

static uint64_t without_lock(uint64_t work)
{
	const struct wire_pool_context *item = profd_contexts_find(WIRE_WORK_CONTEXT(work));

	return item && item->lock ? WIRE_WORK(item->parent, WIRE_WORK_LABELS(work)) : work;
}

uint64_t profd_contexts_own_work(void)
{
	return without_lock(profd_contexts_work());
}

// A thread that changes its work meanwhile knows better.
static void drop_lock_of(struct wire_slot *slot)
{
	uint64_t work = __atomic_load_n(&slot->work, __ATOMIC_RELAXED), own = without_lock(work);

	if (own != work)
		__atomic_compare_exchange_n(&slot->work, &work, own, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
}

// Slots that were never used have no memory, and are to get none.
void profd_contexts_drop_locks(void)
{
	uint32_t used = __atomic_load_n(&profd_agent.region.header->slots_used, __ATOMIC_ACQUIRE);

	for (uint32_t i = 0; i < used && i < profd_agent.region.nslots; i++)
		drop_lock_of(&profd_agent.region.slots[i]);
}

void profd_contexts_drop_lock(void)
{
	struct wire_slot *slot = profd_contexts_slot();

	if (slot)
		drop_lock_of(slot);
}

static uint32_t add_item(const struct wire_pool_context *item)
{
	const struct profd_pool pool = profd_contexts_pool();
	uint32_t number = profd_pool_add(&pool, WIRE_ITEM_CONTEXT, BODY(item), CONTEXT_BODY_WORDS, CONTEXT_COUNTS);

	if (!number)
		count_lost();
	return number;
}

static uint32_t add_context(enum wire_context_kind kind, uint32_t stack, uint32_t parent, uint8_t generation)
{
	return add_item(&(struct wire_pool_context){
		.stack = stack, .parent = parent, .kind = (uint8_t)kind, .generation = generation});
}

// Its parent is told apart by number (profd_contexts_own_work gives it back), so nothing is left out; and nothing has it as a parent.
uint32_t profd_contexts_add_lock(uint32_t stack, uint32_t parent)
{
	const struct wire_pool_context *item = profd_contexts_find(parent);

	if (!stack)
		return 0;
	return add_item(&(struct wire_pool_context){.stack = stack,
						    .parent = item ? parent : 0,
						    .kind = WIRE_CONTEXT_WOKEN,
						    .generation = item ? item->generation : 1,
						    .lock = 1});
}

// The same chain without its oldest context. With nobody before it the next one is another context, and so on.
static uint32_t without_oldest(uint32_t newest, uint8_t *ret_generation)
{
	const struct wire_pool_context *chain[WIRE_GENERATIONS];
	uint32_t n = 0, number = newest, kept = 0;

	while (n < WIRE_GENERATIONS && (chain[n] = profd_contexts_find(number)) != NULL) {
		number = chain[n]->parent;
		n++;
	}
	*ret_generation = 0;
	for (uint32_t i = n > 0 ? n - 1 : 0; i-- > 0;) {
		kept = add_context((enum wire_context_kind)chain[i]->kind, chain[i]->stack, kept,
				   (uint8_t)(*ret_generation + 1));
		*ret_generation = kept ? (uint8_t)(*ret_generation + 1) : 0;
	}
	return kept;
}

uint32_t profd_contexts_add(enum wire_context_kind kind, uint32_t stack, uint32_t parent)
{
	const struct wire_pool_context *item = profd_contexts_find(parent);
	uint8_t generation = item ? item->generation : 0;

	if (!stack)
		return 0;
	if (generation >= WIRE_GENERATIONS)
		parent = without_oldest(parent, &generation);
	return add_context(kind, stack, item ? parent : 0, (uint8_t)(generation + 1));
}

uint32_t profd_contexts_note(enum wire_context_kind kind, struct profd_caller caller)
{
	return profd_contexts_add(kind, profd_contexts_stack(caller, NULL),
				  WIRE_WORK_CONTEXT(profd_contexts_own_work()));
}

// ---- fork ----------------------------------------------------------------------------------------------------------

// A fork's child has one thread, and what it copies out of its parent's region is its own from then on.
static __thread uint32_t forking;
static uint32_t nsaved; // of these; the oldest first
static struct saved {
	enum wire_context_kind kind;
	struct stack_item item;
} saved[WIRE_GENERATIONS];

// The caller is what runs handlers in libc's fork: nobody's business.
void profd_contexts_before_fork(struct profd_caller caller)
{
	struct stack_item item = {.stack.npcs = 0};
	uint32_t npcs;

	if (profd_thread_slot == PROFD_NO_SLOT)
		return;
	npcs = profd_caller_walk(caller, item.pcs, WIRE_STACK_FRAMES, &item.stack.stop);
	if (npcs < 2)
		return;
	item.stack.npcs = (uint16_t)(npcs - 1);
	memmove(item.pcs, item.pcs + 1, (npcs - 1) * sizeof(*item.pcs));
	forking = profd_contexts_add(WIRE_CONTEXT_CREATED, add_stack(&item),
				     WIRE_WORK_CONTEXT(profd_contexts_own_work()));
}

static uint32_t save_one(const struct wire_pool_context *context, struct saved *to)
{
	const struct profd_pool pool = profd_contexts_pool();
	const uint64_t *stack = profd_pool_item(&pool, WIRE_ITEM_STACK, context->stack);

	if (!stack || WIRE_ITEM_WORDS(stack[0]) * sizeof(uint64_t) > sizeof(to->item))
		return 0;
	memcpy(&to->item, stack, WIRE_ITEM_WORDS(stack[0]) * sizeof(uint64_t));
	to->kind = (enum wire_context_kind)context->kind;
	return context->parent;
}

void profd_contexts_save(void)
{
	const struct wire_pool_context *context = profd_contexts_find(forking);
	uint32_t next;

	memset(saved, 0, sizeof(saved));
	nsaved = context && context->generation <= WIRE_GENERATIONS ? context->generation : 0;
	for (uint32_t i = nsaved; i-- > 0 && context; context = profd_contexts_find(next))
		next = save_one(context, &saved[i]);
	forking = 0;
}

uint32_t profd_contexts_restore(void)
{
	uint32_t context = 0;

	for (uint32_t i = 0; i < nsaved; i++)
		if (saved[i].item.stack.npcs > 0)
			context = profd_contexts_add(saved[i].kind, add_stack(&saved[i].item), context);
	nsaved = 0;
	return context;
}
