// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// wakers.c: see wakers.h.
//
// Answers. Who asks another thread for something, waits, and is woken by it, is where it was: the waker is no cause of what it does then. So a wake
// carries who gave the waker its own context, and where that chain began; a thread that finds itself there keeps what it had.
//
// Who asks and who answers is told by nothing else. So a thread that others ask, and that missed its waker (see missed), must not pass for one that
// nobody woke: whoever it answers would be taken for who answers, from then on and for ever. It says that it is unsure.

#include "profd/wakers.h"

#include <stdbool.h>

#include "profd/agent.h"
#include "profd/clock.h"
#include "profd/contexts.h"
#include "profd/known_stacks.h"
#include "profd/links.h"
#include "profd/threads.h"
#include "profd/unwind.h"

// ---- The objects that somebody woke others at -------------------------------------------------------------------------------

#define ENTRIES \
	4096u // a power of two; one for each object: what shares it with another is forgotten, which loses a link

// Words are written one after the other, by whoever comes. So the object has the others mixed in: what a reader finds in between, or what two
// writers left between them, is nobody's.
static struct wake {
	uint64_t mixed;   // atomic; the object, and mix_of the others
	uint64_t at_ns;   // atomic
	uint64_t context; // atomic
	uint64_t by;      // atomic; the waker's thread id << 32 | the id of who had woken it; 0: nobody
	uint64_t origin;  // atomic; the id of the thread that the chain began with, and UNSURE
} wakes[ENTRIES];
#define UNSURE 0x80000000u // above all ids: as far as the waker knows

static uint64_t mix_of(uint64_t at_ns, uint64_t context, uint64_t by, uint64_t origin)
{
	return at_ns * 0x9e3779b97f4a7c15u ^ by * 0xbf58476d1ce4e5b9u ^ (origin << 32 | context) * 0x94d049bb133111ebu;
}

// Whose work this thread does, by thread ids; 0: its own.
static __thread uint32_t given_by, given_origin;
// The last thread that asked this one, and that answered it; 0: none.
static __thread uint32_t asked_by, answered_by;
static __thread bool unsure; // given by somebody that it missed

static uint32_t own_tid(void)
{
	return WIRE_SLOT_TID(profd_agent.region.slots[profd_thread_slot].state_tid);
}

static uint32_t entry_of(uint64_t object)
{
	return (uint32_t)((object ^ object >> 17) * 0x9e3779b97f4a7c15u >> 50) & (ENTRIES - 1);
}

// ---- The stacks that wake others --------------------------------------------------------------------------------------------

// The context of a stack that wakes. Where the same stack is in the chain before it already, the chain goes round in a circle: it is cut there.
static uint32_t woken_by(uint32_t stack, uint32_t parent)
{
	const struct wire_pool_context *item;
	uint32_t ancestor = parent;

	for (uint32_t i = 0; i < WIRE_GENERATIONS && (item = profd_contexts_find(ancestor)) != NULL; i++) {
		if (item->kind == WIRE_CONTEXT_WOKEN && item->stack == stack)
			return ancestor;
		ancestor = item->parent;
	}
	return profd_contexts_add(WIRE_CONTEXT_WOKEN, stack, parent);
}

static uint32_t walk_and_remember(struct profd_caller caller, uint32_t parent, uint64_t tag)
{
	struct profd_walk_words words;
	uint32_t context;

	words.whole = false;
	context = woken_by(profd_contexts_stack(caller, &words), parent);
	if (context)
		profd_known_stack_keep(caller, tag, &words, context);
	return context;
}

uint32_t profd_wakers_wake(uint64_t object, struct profd_caller caller)
{
	struct wake *wake = &wakes[entry_of(object)];
	uint32_t parent, context, tid, origin;
	uint64_t tag, at_ns, by;

	if (profd_thread_slot == PROFD_NO_SLOT || !__atomic_load_n(&profd_agent.on, __ATOMIC_ACQUIRE))
		return 0;
	parent = WIRE_WORK_CONTEXT(profd_contexts_own_work());
	tag = profd_known_tag(parent);
	context = profd_known_stack(caller, tag);
	if (!context && profd_agent_is_on())
		context = walk_and_remember(caller, parent, tag);
	if (!context)
		return 0;
	tid = own_tid();
	by = (uint64_t)tid << 32 | given_by;
	origin = (given_origin ? given_origin : tid) | (unsure ? UNSURE : 0);
	at_ns = profd_clock_now_ns();
	__atomic_store_n(&wake->by, by, __ATOMIC_RELAXED);
	__atomic_store_n(&wake->origin, origin, __ATOMIC_RELAXED);
	__atomic_store_n(&wake->context, context, __ATOMIC_RELAXED);
	__atomic_store_n(&wake->at_ns, at_ns, __ATOMIC_RELAXED);
	__atomic_store_n(&wake->mixed, object ^ mix_of(at_ns, context, by, origin), __ATOMIC_RELEASE);
	return context;
}

// ---- Who goes on ------------------------------------------------------------------------------------------------------------

// What this thread worked for before anybody woke it, and the context that we gave it; 0: none.
static __thread uint32_t own_context, given_context;

// Waits in which a thread that serves others waits for work. What it did before is over; in others it goes on.
static bool waits_for_work(uint32_t kind)
{
	return kind == WIRE_WAIT_COND || kind == WIRE_WAIT_SEMAPHORE || kind == WIRE_WAIT_FUTEX ||
	       kind == WIRE_WAIT_EPOLL || kind == WIRE_WAIT_POLL || kind == WIRE_WAIT_SELECT;
}

static bool waits_for_lock(uint32_t kind)
{
	return kind == WIRE_WAIT_MUTEX || kind == WIRE_WAIT_READ_LOCK || kind == WIRE_WAIT_WRITE_LOCK;
}

bool profd_wakers_can_wake(uint32_t kind)
{
	return waits_for_work(kind) || waits_for_lock(kind) || kind == WIRE_WAIT_BARRIER || kind == WIRE_WAIT_READ ||
	       kind == WIRE_WAIT_RECEIVE;
}

static void set_context(uint32_t context)
{
	profd_contexts_set_work(WIRE_WORK(context, WIRE_WORK_LABELS(profd_contexts_work())));
}

// Contexts that the program or pthread_create gave are the thread's own.
static void note_own_context(void)
{
	uint32_t context = WIRE_WORK_CONTEXT(profd_contexts_work());

	if (given_context && context == given_context)
		return;
	own_context = context;
	given_context = given_by = given_origin = 0;
}

static void take(const struct profd_waker *waker)
{
	set_context(waker->context ? waker->context : own_context);
	given_context = waker->context;
	given_by = waker->by;
	given_origin = waker->origin;
}

__thread uint64_t profd_wakers_lock;

// The last few seams, for who has the lock should not be kept by us: what its waker's context and its own made.
#define SEAMS 4u
static __thread struct {
	uint32_t waker, parent, context;
} seams[SEAMS];

// It may work for something else by now: between profd_enter and profd_leave.
static void drop_lock(void)
{
	if (profd_wakers_lock)
		profd_contexts_drop_lock();
	profd_wakers_lock = 0;
}

void profd_wakers_wait_begins(struct profd_wait *wait)
{
	if (!profd_wakers_can_wake(wait->kind) || waits_for_lock(wait->kind))
		return;
	drop_lock();
	if (profd_links_entered())
		return;
	note_own_context();
	wait->before = (struct profd_waker){given_context, given_by, given_origin};
	if (waits_for_work(wait->kind) && given_context && profd_agent_is_on())
		take(&(struct profd_waker){0, 0, 0});
}

// What we know of a waker. A guess, where that is unsure: it goes on as before between the two; or else older threads ask younger ones.
static bool is_answer(const struct profd_waker *waker, uint32_t its_asker, bool guess)
{
	uint32_t own = own_tid();

	if (!guess)
		return its_asker == own || waker->origin == own;
	if (waker->by == asked_by || waker->by == answered_by)
		return waker->by == answered_by;
	return waker->by > own;
}

// The last waker of the object, if it came after the wait began and is not the thread itself. false: there was none. ret_answers: to what this thread
// asked of it, or of others on its behalf.
static bool find_waker(const struct profd_wait *wait, struct profd_waker *ret_waker, bool *ret_answers)
{
	const struct wake *wake = &wakes[entry_of(wait->object)];
	uint64_t mixed = __atomic_load_n(&wake->mixed, __ATOMIC_ACQUIRE);
	uint64_t at_ns = __atomic_load_n(&wake->at_ns, __ATOMIC_RELAXED);
	uint64_t context = __atomic_load_n(&wake->context, __ATOMIC_RELAXED);
	uint64_t by = __atomic_load_n(&wake->by, __ATOMIC_RELAXED);
	uint64_t origin = __atomic_load_n(&wake->origin, __ATOMIC_RELAXED);

	if ((mixed ^ mix_of(at_ns, context, by, origin)) != wait->object || at_ns < wait->began_ns || !context ||
	    by >> 32 == own_tid())
		return false;
	*ret_waker = (struct profd_waker){(uint32_t)context, (uint32_t)(by >> 32), (uint32_t)origin & ~UNSURE};
	*ret_answers = is_answer(ret_waker, (uint32_t)by, origin & UNSURE);
	return true;
}

// A post that comes while nobody waits leaves no stack; and nobody waits yet between the look at a semaphore that finds it empty and libc's own.
// Such a wait is over at once, as one that finds a post there is, of which nobody tells: what its thread did before goes on.
#define AT_ONCE_NS 10000000u // it may have lost its CPU

static void missed(const struct profd_wait *wait)
{
	bool keeps = wait->before.context && profd_clock_now_ns() - wait->began_ns < AT_ONCE_NS;

	if (keeps)
		take(&wait->before);
	unsure = !keeps && asked_by;
}

static void found(const struct profd_wait *wait, const struct profd_waker *waker, bool answers)
{
	take(answers ? &wait->before : waker);
	*(answers ? &answered_by : &asked_by) = waker->by;
	unsure &= answers; // who answers has not said for whom we asked
}

void profd_wakers_wait_ends(const struct profd_wait *wait, struct profd_waker *ret_waker)
{
	bool answers, is_found;

	if (!profd_wakers_can_wake(wait->kind))
		return;
	is_found = find_waker(wait, ret_waker, &answers);
	if (!is_found && wait->kind != WIRE_WAIT_SEMAPHORE) {
		unsure &= !waits_for_work(wait->kind); // from elsewhere
		return;
	}
	if (profd_links_entered() || !profd_agent_is_on())
		return;
	if (is_found)
		found(wait, ret_waker, answers);
	else
		missed(wait);
}

// ---- Locks ------------------------------------------------------------------------------------------------------------------

// Seams are this thread's alone, but a signal handler of the program's may come in between any two statements. It finds this set and changes
// nothing: what is half written names nothing. Where a handler is left by longjmp it may stay so; then nothing new is remembered.
static __thread bool remembering;

// false: somebody is at it.
static bool begin_remembering(void)
{
	bool free = !remembering;

	remembering = true;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	return free;
}

static void end_remembering(bool began)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (began)
		remembering = false;
}

static uint32_t seam_of(uint32_t waker, uint32_t parent)
{
	const struct wire_pool_context *item = profd_contexts_find(waker);
	uint32_t i = waker / 8 % SEAMS, context = 0;
	bool began = begin_remembering(),
	     known_one = seams[i].context && seams[i].waker == waker && seams[i].parent == parent;

	if (known_one)
		context = seams[i].context;
	else if (item)
		context = profd_contexts_add_lock(item->stack, parent);
	if (began && !known_one) {
		seams[i].context = 0;
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
		seams[i].waker = waker;
		seams[i].parent = parent;
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
		seams[i].context = context;
	}
	end_remembering(began);
	return context;
}

// Another thread of this process has woken this one: it is no child that nobody told of, and need not be asked for (profd_agent_is_on).
void profd_wakers_lock_taken(const struct profd_wait *wait, bool told, struct profd_waker *ret_waker)
{
	uint32_t context;
	bool answers;

	if (!waits_for_lock(wait->kind) || !find_waker(wait, ret_waker, &answers) || !told ||
	    !__atomic_load_n(&profd_agent.on, __ATOMIC_ACQUIRE))
		return;
	drop_lock();
	context = seam_of(ret_waker->context, WIRE_WORK_CONTEXT(profd_contexts_own_work()));
	if (!context)
		return;
	profd_wakers_lock = wait->object;
	set_context(context);
}

void profd_wakers_lock_given_back(uint64_t lock)
{
	if (profd_wakers_lock == lock)
		drop_lock();
}

void profd_wakers_forget(void)
{
	for (uint32_t i = 0; i < ENTRIES; i++)
		if (wakes[i].context)
			wakes[i].context = 0;
	for (uint32_t i = 0; i < SEAMS; i++)
		seams[i].context = 0;
	remembering = false;
	own_context = given_context = given_by = given_origin = asked_by = answered_by = 0;
	unsure = false;
	profd_wakers_lock = 0;
}
