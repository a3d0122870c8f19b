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

static struct wire_pool_context *find_in(const struct profd_pool *pool, uint32_t context)
{
	return (struct wire_pool_context *)profd_pool_item(pool, WIRE_ITEM_CONTEXT, context);
}

struct wire_pool_context *profd_contexts_find(uint32_t context)
{
	const struct profd_pool pool = profd_contexts_pool();

	return find_in(&pool, context);
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
void profd_contexts_drop_lock(void)
{
	struct wire_slot *slot = profd_contexts_slot();
	uint64_t work = slot ? __atomic_load_n(&slot->work, __ATOMIC_RELAXED) : 0, own = without_lock(work);

	if (own == work)
		return;
	__atomic_compare_exchange_n(&slot->work, &work, own, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
	profd_contexts_look_at_own();
}

// ---- Who was woken -------------------------------------------------------------------------------------------------

uint32_t profd_contexts_woken;

// Only wakers.c gives contexts of that kind, and only to a thread that has entered no link: below it is what it was born with.
static uint64_t without_woken(uint64_t work, uint32_t born_with)
{
	uint64_t own = without_lock(work);
	const struct wire_pool_context *item = profd_contexts_find(WIRE_WORK_CONTEXT(own));

	return item && item->kind == WIRE_CONTEXT_WOKEN ? WIRE_WORK(born_with, WIRE_WORK_LABELS(own)) : own;
}

// Once: who has changed it since it was read will look for himself.
void profd_contexts_drop_woken_of(uint64_t *word, uint32_t born_with)
{
	uint64_t work = __atomic_load_n(word, __ATOMIC_SEQ_CST), own = without_woken(work, born_with);

	if (own != work)
		__atomic_compare_exchange_n(word, &work, own, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

void profd_contexts_look_at_own(void)
{
	struct wire_slot *slot = profd_contexts_slot();

	if (slot && __atomic_load_n(&profd_contexts_woken, __ATOMIC_SEQ_CST) == PROFD_WOKEN_DROPPED)
		profd_contexts_drop_woken_of(&slot->work, slot->creator);
}

void profd_contexts_keep_woken(void)
{
	__atomic_store_n(&profd_contexts_woken, PROFD_WOKEN_KEPT, __ATOMIC_SEQ_CST);
}

// Slots that were never used have no memory, and are to get none. A fork's child has its parent's region until it has its own, in which
// nobody was woken.
void profd_contexts_drop_woken(void)
{
	const struct profd_region *region = &profd_agent.region;
	bool is_ours = profd_agent_is_on();
	uint32_t used;

	__atomic_store_n(&profd_contexts_woken, is_ours ? PROFD_WOKEN_DROPPED : PROFD_WOKEN_NEVER, __ATOMIC_SEQ_CST);
	if (!is_ours)
		return;
	used = __atomic_load_n(&region->header->slots_used, __ATOMIC_ACQUIRE);
	for (uint32_t i = 0; i < used && i < region->nslots; i++)
		profd_contexts_drop_woken_of(&region->slots[i].work, region->slots[i].creator);
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

static __thread uint32_t forking; // in the parent's region
static struct profd_pool parents; // in its place, in the child; no words: there is none

// The caller is what runs handlers in libc's fork: nobody's business.
void profd_contexts_before_fork(struct profd_caller caller)
{
	struct stack_item item = {.stack.npcs = 0};
	uint32_t npcs;

	forking = 0;
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

// The parent may go on adding to its pool: what is named in it already does not change.
void profd_contexts_keep_parents(struct profd_region *region)
{
	parents = (struct profd_pool){.index = region->pool_index, .words = region->pool_words};
	profd_region_keep_pool(region);
}

void profd_contexts_release_parents(void)
{
	if (parents.words)
		profd_region_release_pool(parents.index);
	parents = (struct profd_pool){.words = NULL};
}

static uint32_t carry_item(enum wire_item_type type, uint32_t number)
{
	const struct profd_pool pool = profd_contexts_pool();
	const uint64_t *item = profd_pool_item(&parents, type, number);
	uint32_t words = item ? WIRE_ITEM_WORDS(item[0]) : 0;

	return words > 1 ? profd_pool_add(&pool, type, item + 1, words - 1, 0) : 0;
}

static uint32_t carry_stack(uint32_t number)
{
	uint32_t carried = carry_item(WIRE_ITEM_STACK, number);

	if (!carried)
		count_lost();
	return carried;
}

static uint32_t carry_labels(uint32_t number)
{
	uint32_t carried = number ? carry_item(WIRE_ITEM_LABELS, number) : 0;

	if (number && !carried)
		__atomic_fetch_add(&profd_agent.region.header->labels_lost, 1, __ATOMIC_RELAXED);
	return carried;
}

// The oldest first: each is the next one's parent. A stack that finds no room is left out of the chain.
static uint32_t carry_context(uint32_t number)
{
	const struct wire_pool_context *chain[WIRE_GENERATIONS];
	uint32_t n = 0, carried = 0;

	while (n < WIRE_GENERATIONS && (chain[n] = find_in(&parents, number)) != NULL)
		number = chain[n++]->parent;
	while (n-- > 0) {
		uint32_t stack = carry_stack(chain[n]->stack);

		if (stack)
			carried = profd_contexts_add((enum wire_context_kind)chain[n]->kind, stack, carried);
	}
	return carried;
}

uint64_t profd_contexts_carry(uint64_t work)
{
	if (!parents.words)
		return 0;
	return WIRE_WORK(carry_context(WIRE_WORK_CONTEXT(work)), carry_labels(WIRE_WORK_LABELS(work)));
}

uint32_t profd_contexts_restore(void)
{
	uint32_t context = WIRE_WORK_CONTEXT(profd_contexts_carry(WIRE_WORK(forking, 0)));

	forking = 0;
	return context;
}
