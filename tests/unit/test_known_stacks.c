// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_known_stacks.c: known_stacks.c never says of a stack that it is another one, whatever changes and whoever interrupts.

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>

#include <cmocka.h>

#include "profd/agent.h"
#include "profd/known_stacks.h"
#include "profd/modules.h"
#include "profd/threads.h"

#define THREADS 4u
#define WORDS 4096u

struct profd_agent profd_agent;
__thread uint32_t profd_thread_slot;
uint64_t profd_modules_serial;

static struct wire_slot slots[THREADS];
static uint64_t stacks[THREADS][WORDS]; // of each thread, as known_stacks.c sees it

static uint64_t at(uint32_t word)
{
	return (uint64_t)(uintptr_t)&stacks[profd_thread_slot][word];
}

static struct profd_caller caller_at(uint32_t word)
{
	return (struct profd_caller){.pc = 0x401000, .sp = at(word), .fp = at(word + 64)};
}

static uint64_t tag_of(uint64_t whose)
{
	return profd_known_tag(whose);
}

// Frames of 16 words each, from a word on.
static struct profd_walk_words words_of(uint32_t word, uint32_t count)
{
	struct profd_walk_words words = {.count = count, .serial = profd_modules_serial, .whole = true};

	for (uint32_t i = 0; i < count; i++)
		words.at[i] = at(word + 16 * i);
	return words;
}

static int set_up(void **state)
{
	profd_agent.region.slots = slots;
	for (uint32_t i = 0; i < THREADS; i++) {
		struct profd_slot_private *private = profd_slot_private(&slots[i]);

		private->stack_low = (uint64_t)(uintptr_t)stacks[i];
		private->stack_high = (uint64_t)(uintptr_t)(stacks[i] + WORDS);
		for (uint32_t k = 0; k < WORDS; k++)
			stacks[i][k] = k * 0x12345u;
	}
	profd_thread_slot = 0;
	profd_modules_serial = 7;
	profd_known_stacks_forget();
	return 0;
}

static void test_the_same_is_known(void **state)
{
	struct profd_walk_words words = words_of(100, 30);

	assert_int_equal(profd_known_stack(caller_at(100), tag_of(5)), 0);
	profd_known_stack_keep(caller_at(100), tag_of(5), &words, 77);
	assert_int_equal(profd_known_stack(caller_at(100), tag_of(5)), 77);
	stacks[0][101] ^= 1; // nothing follows from that
	assert_int_equal(profd_known_stack(caller_at(100), tag_of(5)), 77);
}

static void test_what_differs_is_not(void **state)
{
	struct profd_walk_words words = words_of(100, 30);
	struct profd_caller other = caller_at(100);

	profd_known_stack_keep(caller_at(100), tag_of(5), &words, 77);
	for (uint32_t i = 0; i < 30; i++) {
		stacks[0][100 + 16 * i] ^= 1ull << i;
		assert_int_equal(profd_known_stack(caller_at(100), tag_of(5)), 0);
		stacks[0][100 + 16 * i] ^= 1ull << i;
	}
	assert_int_equal(profd_known_stack(caller_at(100), tag_of(6)), 0);
	assert_int_equal(profd_known_stack(caller_at(108), tag_of(5)), 0);
	other.pc++;
	assert_int_equal(profd_known_stack(other, tag_of(5)), 0);
	profd_modules_serial++; // other unwind tables
	assert_int_equal(profd_known_stack(caller_at(100), tag_of(5)), 0);
	profd_modules_serial--;
	assert_int_equal(profd_known_stack(caller_at(100), tag_of(5)), 77);
	profd_known_stacks_forget();
	assert_int_equal(profd_known_stack(caller_at(100), tag_of(5)), 0);
}

static void test_fp_where_it_matters(void **state)
{
	struct profd_walk_words words = words_of(100, 3);
	struct profd_caller other = caller_at(100);

	other.fp += 8;
	profd_known_stack_keep(caller_at(100), tag_of(5), &words, 77);
	assert_int_equal(profd_known_stack(other, tag_of(5)), 77);
	words = words_of(200, 3);
	words.by_first_fp = true;
	other = caller_at(200);
	other.fp += 8;
	profd_known_stack_keep(caller_at(200), tag_of(5), &words, 78);
	assert_int_equal(profd_known_stack(other, tag_of(5)), 0);
	assert_int_equal(profd_known_stack(caller_at(200), tag_of(5)), 78);
}

static void test_what_is_not_kept(void **state)
{
	struct profd_walk_words words = words_of(100, 3);

	words.whole = false;
	profd_known_stack_keep(caller_at(100), tag_of(5), &words, 77);
	words = words_of(100, 3);
	words.serial = 0;
	profd_known_stack_keep(caller_at(100), tag_of(5), &words, 77);
	words = words_of(100, 3);
	words.at[1] = at(99); // below SP
	profd_known_stack_keep(caller_at(100), tag_of(5), &words, 77);
	words.at[1] = at(WORDS); // another's memory
	profd_known_stack_keep(caller_at(100), tag_of(5), &words, 77);
	words.at[1] = at(110) + 1;
	profd_known_stack_keep(caller_at(100), tag_of(5), &words, 77);
	assert_int_equal(profd_known_stack(caller_at(100), tag_of(5)), 0);
	profd_thread_slot = PROFD_NO_SLOT;
	words = words_of(0, 0);
	profd_known_stack_keep((struct profd_caller){1, (uint64_t)(uintptr_t)stacks[0], 0}, tag_of(5), &words, 77);
	assert_int_equal(profd_known_stack((struct profd_caller){1, (uint64_t)(uintptr_t)stacks[0], 0}, tag_of(5)), 0);
	profd_thread_slot = 0;
}

// A handler that forks, between the walk and what is kept of it.
static void test_forgotten_meanwhile(void **state)
{
	struct profd_walk_words words = words_of(100, 3);
	uint64_t tag = tag_of(5);

	profd_known_stacks_forget();
	profd_known_stack_keep(caller_at(100), tag, &words, 77);
	assert_int_equal(profd_known_stack(caller_at(100), tag_of(5)), 0);
	profd_known_stack_keep(caller_at(100), tag_of(5), &words, 78);
	assert_int_equal(profd_known_stack(caller_at(100), tag_of(5)), 78);
}

// What lies where another stack had its words may not be there: guard pages of coroutines that live in the thread's own stack.
static void test_what_is_not_there_is_not_read(void **state)
{
	struct profd_slot_private *private = profd_slot_private(&slots[0]);
	uint64_t *stack = mmap(NULL, 3ul * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct profd_walk_words words = {.count = 3, .serial = profd_modules_serial, .whole = true};
	const struct profd_caller caller = {.pc = 0x401000, .sp = (uint64_t)(uintptr_t)stack};

	assert_ptr_not_equal(stack, MAP_FAILED);
	private->stack_low = caller.sp;
	private->stack_high = caller.sp + 3ul * 4096;
	for (uint64_t i = 0; i < 3; i++)
		words.at[i] = caller.sp + 4096 * i;
	profd_known_stack_keep(caller, tag_of(5), &words, 77);
	assert_int_equal(profd_known_stack(caller, tag_of(5)), 77);
	stack[0] ^= 1;
	assert_int_equal(mprotect((char *)stack + 4096, 2ul * 4096, PROT_NONE), 0);
	assert_int_equal(profd_known_stack(caller, tag_of(5)), 0);
	assert_int_equal(munmap(stack, 3ul * 4096), 0);
}

// The number tells what the word said when it was kept: at the end of whatever race, that must be so still.
static volatile sig_atomic_t wrong, found;

static void keep_and_look(uint32_t word, uint32_t value)
{
	struct profd_walk_words words = words_of(word, 20);
	uint32_t what;

	stacks[profd_thread_slot][word + 16] = value;
	what = profd_known_stack(caller_at(word), tag_of(5));
	wrong += what != 0 && what != value + 1;
	found += what != 0;
	if (!what)
		profd_known_stack_keep(caller_at(word), tag_of(5), &words, value + 1);
}

static void on_alarm(int signal)
{
	uint64_t kept = stacks[profd_thread_slot][64 + 16];

	keep_and_look(64, (uint32_t)kept + 1); // the very stack that may be in the middle of it
	stacks[profd_thread_slot][64 + 16] = kept;
}

static void test_interrupted(void **state)
{
	const struct itimerval often = {{0, 50}, {0, 50}}, never = {{0, 0}, {0, 0}};

	signal(SIGALRM, on_alarm);
	setitimer(ITIMER_REAL, &often, NULL);
	for (uint32_t i = 0; i < 2000000; i++)
		keep_and_look(64, i / 16 % 7);
	setitimer(ITIMER_REAL, &never, NULL);
	assert_int_equal(wrong, 0);
	assert_true(found > 1000000);
}

static void *keep_many(void *slot)
{
	static __thread uint64_t random_state;

	profd_thread_slot = (uint32_t)(uintptr_t)slot;
	random_state = profd_thread_slot + 1;
	for (uint32_t i = 0; i < 500000; i++) {
		random_state = random_state * 6364136223846793005u + 1442695040888963407u;
		keep_and_look(8 * ((uint32_t)(random_state >> 33) % 400), (uint32_t)(random_state >> 60));
	}
	return NULL;
}

// More stacks than there is room for, by several threads.
static void test_many(void **state)
{
	pthread_t threads[THREADS];

	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, keep_many, (void *)i), 0);
	for (uint32_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(wrong, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_the_same_is_known, set_up),
		cmocka_unit_test_setup(test_what_differs_is_not, set_up),
		cmocka_unit_test_setup(test_fp_where_it_matters, set_up),
		cmocka_unit_test_setup(test_what_is_not_kept, set_up),
		cmocka_unit_test_setup(test_forgotten_meanwhile, set_up),
		cmocka_unit_test_setup(test_what_is_not_there_is_not_read, set_up),
		cmocka_unit_test_setup(test_interrupted, set_up),
		cmocka_unit_test_setup(test_many, set_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
