// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_wakers.c: who woke a thread is never another than who did: whatever signal handler of the program's comes in between any two instructions,
// and whoever wakes others at the same time, at objects that share a place. Stacks are made up: each has one frame, and follows from two words.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "profd/agent.h"
#include "profd/clock.h"
#include "profd/contexts.h"
#include "profd/known_stacks.h"
#include "profd/links.h"
#include "profd/modules.h"
#include "profd/threads.h"
#include "profd/unwind.h"
#include "profd/wakers.h"

#define STACK_BYTES 65536u
#define SLOTS 4u

struct profd_agent profd_agent;
uint64_t profd_modules_serial = 1;
__thread uint32_t profd_thread_slot;
static struct wire_header header;
static struct wire_slot slots[SLOTS];
static char *stack; // a guard page is above it

bool profd_agent_is_on(void)
{
	return true;
}

void profd_region_keep_pool(struct profd_region *region)
{
	(void)region;
}

void profd_region_release_pool(void *pool)
{
	(void)pool;
}

bool profd_links_entered(void)
{
	return false;
}

uint32_t profd_caller_walk_words(struct profd_caller caller, struct profd_walk_words *words, uint64_t *pcs,
				 uint32_t max, uint8_t *ret_stop)
{
	(void)max;
	pcs[0] = caller.pc;
	*ret_stop = WIRE_STOP_END;
	if (words) {
		words->at[0] = caller.sp;
		words->at[1] = (uint64_t)(uintptr_t)stack + STACK_BYTES - 8;
		words->count = 2;
		words->whole = true;
		words->serial = profd_modules_serial;
		words->by_first_fp = false;
	}
	return 1;
}

uint32_t profd_caller_walk(struct profd_caller caller, uint64_t *pcs, uint32_t max, uint8_t *ret_stop)
{
	return profd_caller_walk_words(caller, NULL, pcs, max, ret_stop);
}

static void forget(void)
{
	profd_wakers_forget();
	profd_known_stacks_forget();
}

static int set_up(void **state)
{
	(void)state;
	stack = mmap(NULL, STACK_BYTES + WIRE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (stack == MAP_FAILED || mprotect(stack, STACK_BYTES, PROT_READ | PROT_WRITE) < 0)
		return -1;
	profd_clock_init();
	memset(&header, 0, sizeof(header));
	memset(slots, 0, sizeof(slots));
	for (uint32_t i = 0; i < SLOTS; i++) {
		slots[i].state_tid = 100 + i;
		profd_slot_private(&slots[i])->stack_low = (uint64_t)(uintptr_t)stack;
		profd_slot_private(&slots[i])->stack_high = (uint64_t)(uintptr_t)stack + STACK_BYTES;
	}
	profd_agent.on = 1;
	profd_agent.region.header = &header;
	profd_agent.region.slots = slots;
	profd_agent.region.nslots = SLOTS;
	profd_agent.region.pool_index = calloc(WIRE_POOL_INDEX, sizeof(uint32_t));
	profd_agent.region.pool_words = calloc(WIRE_POOL_WORDS, sizeof(uint64_t));
	forget();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	free(profd_agent.region.pool_index);
	free(profd_agent.region.pool_words);
	munmap(stack, STACK_BYTES + WIRE_PAGE);
	return 0;
}

// A call with that return address, so many bytes below the stack's end.
static struct profd_caller call(uint64_t pc, uint64_t depth)
{
	return (struct profd_caller){.pc = pc, .sp = (uint64_t)(uintptr_t)stack + STACK_BYTES - depth};
}

static uint64_t first_pc(uint32_t context)
{
	const struct profd_pool pool = profd_contexts_pool();
	const struct wire_pool_context *item = profd_contexts_find(context);
	const uint64_t *words = item ? profd_pool_item(&pool, WIRE_ITEM_STACK, item->stack) : NULL;

	return words ? words[sizeof(struct wire_pool_stack) / 8] : 0;
}

// ---- Signal handlers ------------------------------------------------------------------------------------------------

// The processor's own way to be interrupted after each instruction.
#define TRAP_FLAG 0x100
#define CHANGE_FLAGS(how) \
	__asm__ volatile("subq $128, %%rsp\n\tpushfq\n\t" how "\n\tpopfq\n\taddq $128, %%rsp" ::: "memory", "cc")

#define POINTS 100u
static uint64_t instructions, interrupted_at;
static void (*interruption)(void);

static void trapped(int signo, siginfo_t *info, void *context)
{
	(void)signo;
	(void)info;
	if (++instructions != interrupted_at)
		return;
	interruption();
	((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
}

#define STEP_THROUGH(statement)                        \
	do {                                           \
		instructions = 0;                      \
		CHANGE_FLAGS("orq $0x100, (%%rsp)");   \
		statement;                             \
		CHANGE_FLAGS("andq $~0x100, (%%rsp)"); \
	} while (0)

// In `once`, after each instruction in turn (or POINTS of them), `handler` runs.
static void interrupt_everywhere(void (*once)(void), void (*handler)(void))
{
	struct sigaction action = {.sa_sigaction = trapped, .sa_flags = SA_SIGINFO};
	uint64_t all, stride;

	sigaction(SIGTRAP, &action, NULL);
	interruption = handler;
	interrupted_at = 0;
	once();
	all = instructions;
	assert_true(all > 20);
	stride = all / POINTS + 1;
	for (uint64_t at = 1; at < all; at += stride) {
		interrupted_at = at;
		once();
	}
	signal(SIGTRAP, SIG_DFL);
}

// Deep in the stack: its words are far above its SP.
static void wake_others(void)
{
	for (uint64_t i = 0; i < 8; i++)
		profd_wakers_wake(0x9000 + 64 * i, call(0x2000 + i, STACK_BYTES - 64 * i));
}

static void wake_once(void)
{
	const struct profd_caller caller = call(0x1000, 16);
	uint32_t context;

	forget();
	profd_wakers_wake(0x8000, caller); // is known from now on
	STEP_THROUGH(context = profd_wakers_wake(0x8000, caller));
	assert_int_equal(first_pc(context), 0x1000);
	// What it remembers now is true as well.
	assert_int_equal(first_pc(profd_wakers_wake(0x8000, caller)), 0x1000);
	for (uint64_t i = 0; i < 8; i++)
		assert_int_equal(first_pc(profd_wakers_wake(0x8000, call(0x2000 + i, STACK_BYTES - 64 * i))),
				 0x2000 + i);
}

static void test_wakes_of_handlers(void **state)
{
	(void)state;
	interrupt_everywhere(wake_once, wake_others);
}

static void wake_first(void)
{
	const struct profd_caller caller = call(0x1000, 16);
	uint32_t context;

	forget();
	STEP_THROUGH(context = profd_wakers_wake(0x8000, caller));
	assert_int_equal(first_pc(context), 0x1000);
	for (uint64_t i = 0; i < 8; i++)
		assert_int_equal(first_pc(profd_wakers_wake(0x8000, call(0x2000 + i, STACK_BYTES - 64 * i))),
				 0x2000 + i);
	assert_int_equal(first_pc(profd_wakers_wake(0x8000, caller)), 0x1000);
}

static void test_wakes_while_one_is_remembered(void **state)
{
	(void)state;
	interrupt_everywhere(wake_first, wake_others);
}

// The lock is got from who gave it back at that pc.
static void get_lock(uint64_t lock, uint64_t pc)
{
	struct profd_wait wait = {.kind = WIRE_WAIT_MUTEX, .object = lock};
	struct profd_waker waker = {0};

	profd_thread_slot = 1;
	profd_wakers_wake(lock, call(pc, 16));
	profd_thread_slot = 0;
	profd_wakers_lock_taken(&wait, true, &waker);
}

static void lock_others(void)
{
	uint64_t work = profd_contexts_work();

	for (uint64_t i = 0; i < 8; i++) {
		get_lock(0x9000 + 64 * i, 0x2000 + i);
		profd_wakers_lock_given_back(0x9000 + 64 * i);
	}
	profd_contexts_set_work(work);
}

static void lock_once(void)
{
	uint64_t pc;

	forget();
	profd_contexts_set_work(0);
	get_lock(0x8000, 0x1000);
	profd_wakers_lock_given_back(0x8000);
	STEP_THROUGH(get_lock(0x8000, 0x1000));
	pc = first_pc(WIRE_WORK_CONTEXT(profd_contexts_work()));
	assert_true(pc == 0x1000 || pc == 0); // the handler may have taken it away: one seam at a time
	profd_wakers_lock_given_back(0x8000);
}

static void test_locks_of_handlers(void **state)
{
	(void)state;
	interrupt_everywhere(lock_once, lock_others);
}

// ---- Other threads --------------------------------------------------------------------------------------------------

#define ENOUGH 2000000
#define PATIENCE_NS 5000000000u

static uint32_t woken_by(uint64_t object)
{
	struct profd_wait wait = {.kind = WIRE_WAIT_SEMAPHORE, .object = object};
	struct profd_waker waker = {0};

	profd_wakers_wait_ends(&wait, &waker);
	return waker.context;
}

struct waking {
	uint32_t slot;
	uint64_t object, pc;
};

static uint32_t stop; // atomic

static void *wake_often(void *argument)
{
	const struct waking *waking = argument;

	profd_thread_slot = waking->slot;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		profd_wakers_wake(waking->object, call(waking->pc, 16));
	return NULL;
}

// One that takes the place of another's wake.
static uint64_t neighbour_of(uint64_t object)
{
	for (uint64_t other = object + 8;; other += 8) {
		profd_thread_slot = 1;
		profd_wakers_wake(object, call(0x1000, 16));
		profd_wakers_wake(other, call(0x2000, 32));
		profd_thread_slot = 0;
		if (!woken_by(object))
			return other;
	}
}

static void test_wakes_at_once(void **state)
{
	struct waking wakings[] = {{1, 0x8000, 0x1000}, {2, 0, 0x2000}};
	pthread_t threads[2];
	uint64_t found = 0, wrong = 0, began_ns;

	(void)state;
	wakings[1].object = neighbour_of(0x8000);
	stop = 0;
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, wake_often, &wakings[i]), 0);
	profd_thread_slot = 0;
	began_ns = profd_clock_now_ns();
	while (found < ENOUGH && profd_clock_now_ns() - began_ns < PATIENCE_NS) {
		uint32_t context = woken_by(0x8000);

		found += context != 0;
		wrong += context && first_pc(context) != 0x1000;
	}
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_true(found > 0);
	assert_int_equal(wrong, 0);
}

// ---- Waits that nobody was seen to end ------------------------------------------------------------------------------------

#define LONG_AGO_NS 1000000000000u

static uint32_t works_for(void)
{
	return WIRE_WORK_CONTEXT(profd_contexts_work());
}

// This thread is in slot 0, and is woken by slot 1's.
static struct profd_wait begin_wait(uint32_t kind, uint64_t object)
{
	struct profd_wait wait = {.kind = (uint8_t)kind, .object = object, .began_ns = profd_clock_now_ns()};

	profd_wakers_wait_begins(&wait);
	return wait;
}

static void end_wait(const struct profd_wait *wait)
{
	struct profd_waker waker = {0};

	profd_wakers_wait_ends(wait, &waker);
}

static uint32_t be_asked(void)
{
	struct profd_wait wait = begin_wait(WIRE_WAIT_SEMAPHORE, 0x8000);

	profd_thread_slot = 1;
	profd_wakers_wake(0x8000, call(0x1000, 16));
	profd_thread_slot = 0;
	end_wait(&wait);
	assert_int_equal(first_pc(works_for()), 0x1000);
	return works_for();
}

static void test_post_that_nobody_saw(void **state)
{
	struct profd_wait wait;
	uint32_t asked;

	(void)state;
	profd_thread_slot = 0;
	asked = be_asked();
	wait = begin_wait(WIRE_WAIT_SEMAPHORE, 0x9000);
	assert_int_equal(works_for(), 0);
	end_wait(&wait);
	assert_int_equal(works_for(), asked); // at once: it was no wait

	wait = begin_wait(WIRE_WAIT_SEMAPHORE, 0x9000);
	wait.began_ns -= LONG_AGO_NS;
	end_wait(&wait);
	assert_int_equal(works_for(), 0); // somebody from elsewhere has something new for it
}

static void test_other_waits_that_nobody_saw(void **state)
{
	static const uint32_t kinds[] = {WIRE_WAIT_COND, WIRE_WAIT_FUTEX, WIRE_WAIT_EPOLL, WIRE_WAIT_POLL};

	(void)state;
	profd_thread_slot = 0;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		struct profd_wait wait;

		be_asked();
		wait = begin_wait(kinds[i], 0x9000);
		end_wait(&wait);
		assert_int_equal(works_for(), 0);
	}
}

// Two threads that take turns: the test's, which works for the other; and a third, which may help it.
enum { WORKER, ASKER, HELPER };
static sem_t turns[2];
static uint32_t asker_works_for[2]; // after each answer
#define ASKED 0x8000
#define DONE 0x9000
#define HELP_WANTED 0xb000
#define HELPED 0xc000

static sem_t helper_waits, helper_may_go;

static void *help_once(void *unused)
{
	struct profd_wait wait;

	profd_thread_slot = HELPER;
	wait = begin_wait(WIRE_WAIT_SEMAPHORE, HELP_WANTED);
	sem_post(&helper_waits);
	while (sem_wait(&helper_may_go) < 0)
		;
	end_wait(&wait);
	profd_wakers_wake(HELPED, call(0x3000, 48));
	return unused;
}

static void be_helped(void)
{
	struct profd_wait wait;
	pthread_t helper;

	sem_init(&helper_waits, 0, 0);
	sem_init(&helper_may_go, 0, 0);
	assert_int_equal(pthread_create(&helper, NULL, help_once, NULL), 0);
	while (sem_wait(&helper_waits) < 0)
		;
	profd_wakers_wake(HELP_WANTED, call(0x4000, 64));
	wait = begin_wait(WIRE_WAIT_SEMAPHORE, HELPED);
	sem_post(&helper_may_go);
	pthread_join(helper, NULL);
	end_wait(&wait);
}

static void pass_turn(int from)
{
	sem_post(&turns[!from]);
	while (sem_wait(&turns[from]) < 0)
		;
}

static void *ask_and_wait(void *unused)
{
	struct profd_wait wait;

	profd_thread_slot = ASKER;
	sem_wait(&turns[ASKER]);
	profd_wakers_wake(ASKED, call(0x1000, 16));
	wait = begin_wait(WIRE_WAIT_SEMAPHORE, DONE);
	pass_turn(ASKER);
	end_wait(&wait);
	asker_works_for[0] = works_for();
	wait = begin_wait(WIRE_WAIT_SEMAPHORE, DONE);
	pass_turn(ASKER);
	end_wait(&wait);
	asker_works_for[1] = works_for();
	sem_post(&turns[WORKER]);
	return unused;
}

static void miss_the_asker(bool is_helped)
{
	struct profd_wait wait;
	pthread_t asker;

	sem_init(&turns[WORKER], 0, 0);
	sem_init(&turns[ASKER], 0, 0);
	profd_thread_slot = WORKER;
	assert_int_equal(pthread_create(&asker, NULL, ask_and_wait, NULL), 0);
	wait = begin_wait(WIRE_WAIT_SEMAPHORE, ASKED);
	pass_turn(WORKER);
	end_wait(&wait);
	assert_int_equal(first_pc(works_for()), 0x1000);
	profd_wakers_wake(DONE, call(0x2000, 32));
	pass_turn(WORKER);

	wait = begin_wait(WIRE_WAIT_SEMAPHORE, 0xa000); // where nobody left a stack
	wait.began_ns -= LONG_AGO_NS;
	end_wait(&wait);
	assert_int_equal(works_for(), 0);
	if (is_helped)
		be_helped();
	profd_wakers_wake(DONE, call(0x2000, 32));
	pass_turn(WORKER);
	pthread_join(asker, NULL);
	assert_int_equal(asker_works_for[0], 0);
	assert_int_equal(asker_works_for[1], 0);
}

static void test_who_missed_its_asker_asks_nobody(void **state)
{
	(void)state;
	miss_the_asker(false);
}

// Nor when others have answered it meanwhile.
static void test_who_missed_its_asker_is_helped(void **state)
{
	(void)state;
	miss_the_asker(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_wakes_of_handlers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_wakes_while_one_is_remembered, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_locks_of_handlers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_wakes_at_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_post_that_nobody_saw, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_other_waits_that_nobody_saw, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_who_missed_its_asker_asks_nobody, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_who_missed_its_asker_is_helped, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
