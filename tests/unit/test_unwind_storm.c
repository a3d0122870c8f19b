// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_unwind_storm.c: threads that do what programs do are interrupted thousands of times, at whatever instruction it may be, and each
// time the walk by tables is held against libunwind's, frame by frame, and against itself without the rule cache, which all
// of them share, and with a memo of the thread's walks before (unwind_table.c, unwind_cache.h, unwind_memo.h).

#define UNW_LOCAL_ONLY
#include <libunwind.h>

#include <dlfcn.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <regex.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include <cmocka.h>

#include "profd/safe_read.h"
#include "profd/unwind_memo.h"
#include "profd/wire.h"
#include "tests/unit/unwind_modules.h"

#define THREADS 3
#define WANTED_SAMPLES 6000 // of all threads
#define MAX_FRAMES 256
#define MAX_SECONDS 40
#define RESTORER_SIZE 9 // mov $15, %rax; syscall

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

static struct unwind_modules modules;
static struct profd_module_set uncached;

static uint64_t restorer; // of signals: libc's trampoline
static atomic_uint samples, different, incomplete, oracle_lost, cache_different, memo_different, frames;
static atomic_flag told = ATOMIC_FLAG_INIT;
static uint64_t first_pc;
static char first[1024]; // of the differences, in words; whoever takes told's

struct stack {
	uint32_t count;
	uint8_t stop;
	uint64_t pcs[MAX_FRAMES];
};

struct worker {
	pthread_t thread;
	timer_t timer;
	uint64_t high, outermost; // the stack's end, the PC of its first frame
	uint64_t random;
	volatile uint64_t sink;
	struct stack ours, again, theirs; // of its handler
	struct profd_walk_memo memo;
};

static __thread struct worker *self;

// ---- The handler ---------------------------------------------------------------------------------------------------

static void read_context(const ucontext_t *uc, struct profd_unwind_context *context)
{
	static const uint8_t greg[] = {REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI, REG_RBP, REG_RSP, REG_R8,
				       REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP};

	for (int i = 0; i < PROFD_UNWIND_REGS; i++)
		context->regs[i] = (uint64_t)uc->uc_mcontext.gregs[greg[i]];
}

// What libunwind says of signal frames is not asked: what the kernel returns to is one, and the PC behind it is exact.
static void walk_libunwind(ucontext_t *uc, struct stack *stack)
{
	bool exact = false;
	unw_cursor_t cursor;
	unw_word_t pc;

	stack->count = 0;
	if (unw_init_local2(&cursor, uc, UNW_INIT_SIGNAL_FRAME) < 0)
		return;
	do {
		if (unw_get_reg(&cursor, UNW_REG_IP, &pc) < 0 || pc == 0)
			break;
		stack->pcs[stack->count++] = pc | (exact ? WIRE_PC_EXACT : 0);
		exact = pc - restorer < RESTORER_SIZE;
	} while (stack->count < MAX_FRAMES && unw_step(&cursor) > 0);
}

static bool equal(const struct stack *a, const struct stack *b)
{
	return a->count == b->count && memcmp(a->pcs, b->pcs, a->count * sizeof(a->pcs[0])) == 0;
}

static void describe(const struct stack *ours, const struct stack *theirs)
{
	size_t used = 0, size = sizeof(first);

	first_pc = ours->pcs[0] & ~WIRE_PC_EXACT;
	used += (size_t)snprintf(first, size, "stop %u; ours:", ours->stop);
	for (uint32_t i = 0; i < ours->count && used < size / 2; i++)
		used += (size_t)snprintf(first + used, size - used, " %" PRIx64, ours->pcs[i]);
	used += (size_t)snprintf(first + used, size - used, "; theirs:");
	for (uint32_t i = 0; i < theirs->count && used < size - 32; i++)
		used += (size_t)snprintf(first + used, size - used, " %" PRIx64, theirs->pcs[i]);
}

// Again at a random moment. One shot at a time: the walks of a sanitizer's build may take longer than any period.
static void arm(struct worker *worker)
{
	struct itimerspec when = {.it_value = {0, 0}};

	worker->random = worker->random * 6364136223846793005ULL + 1442695040888963407ULL;
	when.it_value.tv_nsec = 5000 + (long)(worker->random >> 33) % 60000;
	timer_settime(worker->timer, 0, &when, NULL);
}

static void compare(struct worker *worker, ucontext_t *uc)
{
	struct profd_stack_range range = {(uint64_t)uc->uc_mcontext.gregs[REG_RSP], worker->high};
	struct profd_unwind_context context;

	read_context(uc, &context);
	worker->ours.count =
		profd_unwind_table(&modules.set, &context, range, worker->ours.pcs, MAX_FRAMES, &worker->ours.stop);
	worker->again.count =
		profd_unwind_table(&uncached, &context, range, worker->again.pcs, MAX_FRAMES, &worker->again.stop);
	cache_different += !equal(&worker->ours, &worker->again) || worker->ours.stop != worker->again.stop;
	worker->again.count = profd_unwind_table_memo(&modules.set, &context, range, &worker->memo, worker->again.pcs,
						      MAX_FRAMES, &worker->again.stop);
	memo_different += !equal(&worker->ours, &worker->again) || worker->ours.stop != worker->again.stop;
	walk_libunwind(uc, &worker->theirs);
	samples++;
	frames += worker->ours.count;
	incomplete += worker->ours.stop != WIRE_STOP_END;
	if (!worker->theirs.count || worker->theirs.pcs[worker->theirs.count - 1] != worker->outermost) {
		oracle_lost++;
	} else if (!equal(&worker->ours, &worker->theirs)) {
		different++;
		if (!atomic_flag_test_and_set(&told))
			describe(&worker->ours, &worker->theirs);
	}
}

static void on_timer(int signo, siginfo_t *info, void *context)
{
	struct worker *worker = self;

	if (!worker || samples >= WANTED_SAMPLES)
		return;
	compare(worker, context);
	arm(worker);
}

// ---- The work ------------------------------------------------------------------------------------------------------

#define NOINLINE __attribute__((noinline))

static int compare_ints(const void *a, const void *b)
{
	int x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return (x > y) - (x < y);
}

static void sort(struct worker *worker)
{
	int numbers[500];

	for (int i = 0; i < 500; i++)
		numbers[i] = (i * 7919) % 503;
	qsort(numbers, 500, sizeof(numbers[0]), compare_ints);
	worker->sink += (uint64_t)numbers[7];
}

static void print(struct worker *worker)
{
	FILE *null = fopen("/dev/null", "we");

	if (!null)
		return;
	for (int i = 0; i < 20; i++)
		fprintf(null, "%s %d %.17g %#lx %c\n", "a line of text", i, i * 1.1, (unsigned long)i << 40, 'x');
	fclose(null);
}

static void match(struct worker *worker)
{
	regmatch_t found[3];
	regex_t regex;

	if (regcomp(&regex, "^([a-z]+[0-9]*)+ (foo|ba[rz]) .*end$", REG_EXTENDED))
		return;
	worker->sink += (uint64_t)regexec(&regex, "abc12def345 baz and what follows, to the end", 3, found, 0);
	regfree(&regex);
}

static void move(struct worker *worker)
{
	static const size_t sizes[] = {3, 17, 100, 300, 1500, 9000};
	char from[9000], to[9000];

	memset(from, 'x', sizeof(from));
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		memcpy(to, from, sizes[i]);
		memmove(from + 1, from, sizes[i] - 1);
		worker->sink += (uint64_t)memcmp(from, to, sizes[i]) + strnlen(from, sizes[i]);
		worker->sink += memchr(to, 'y', sizes[i]) != NULL;
	}
}

static void allocate(struct worker *worker)
{
	void *blocks[40];

	for (size_t i = 0; i < 40; i++)
		blocks[i] = malloc(16 + (i * i * 977) % 70000);
	for (size_t i = 0; i < 40; i += 2)
		blocks[i] = realloc(blocks[i], 5000 + i);
	for (size_t i = 0; i < 40; i++)
		free(blocks[i]);
}

static void compute(struct worker *worker)
{
	double sum = 0;

	for (int i = 1; i < 60; i++)
		sum += sin(i) * pow(i, 0.3) + strtod("3.14159265358979e-7", NULL) + log(i);
	worker->sink += (uint64_t)sum;
}

NOINLINE static uint64_t deep(struct worker *worker, unsigned depth)
{
	uint64_t result;

	if (!depth)
		return worker->sink;
	result = deep(worker, depth - 1) + depth;
	__asm__ volatile("" : "+r"(result)::"memory");
	return result;
}

NOINLINE static void realigned(struct worker *worker, size_t size)
{
	_Alignas(64) volatile char aligned[192];
	char *space = __builtin_alloca(size);

	memset(space, 1, size);
	aligned[size % 192] = space[size / 2];
	worker->sink += deep(worker, 30) + (uint64_t)aligned[size % 192];
}

static void jump(struct worker *worker)
{
	jmp_buf buffer;
	volatile int round = 0;

	if (setjmp(buffer) < 5) {
		round++;
		longjmp(buffer, round);
	}
	worker->sink += (uint64_t)round;
}

static void on_user(int signo)
{
	restorer = (uint64_t)(uintptr_t)__builtin_return_address(0);
	if (self)
		sort(self);
}

static void raise_signal(struct worker *worker)
{
	raise(SIGUSR1);
}

static void clocks(struct worker *worker)
{
	struct timespec now = {0, 0};

	for (int i = 0; i < 200; i++)
		clock_gettime(CLOCK_MONOTONIC, &now);
	worker->sink += (uint64_t)now.tv_nsec + (uint64_t)getppid();
}

static void work(struct worker *worker)
{
	static void (*const kinds[])(struct worker *) = {sort,    print, match,  move,        allocate,
							 compute, jump,  clocks, raise_signal};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		kinds[i](worker);
	for (size_t size = 10; size < 4000; size = size * 5 + 3)
		realigned(worker, size);
}

// ---- The test ------------------------------------------------------------------------------------------------------

static uint64_t stack_high(void)
{
	pthread_attr_t attributes;
	size_t size;
	void *low;

	pthread_getattr_np(pthread_self(), &attributes);
	pthread_attr_getstack(&attributes, &low, &size);
	pthread_attr_destroy(&attributes);
	return (uint64_t)(uintptr_t)low + size;
}

static void *run(void *argument)
{
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGPROF};
	struct worker *worker = argument;
	ucontext_t here;
	time_t end = time(NULL) + MAX_SECONDS;

	worker->high = stack_high();
	getcontext(&here);
	walk_libunwind(&here, &worker->theirs);
	worker->outermost = worker->theirs.pcs[worker->theirs.count - 1];
	event.sigev_notify_thread_id = gettid();
	if (timer_create(CLOCK_MONOTONIC, &event, &worker->timer))
		return NULL;
	self = worker;
	arm(worker);
	while (samples < WANTED_SAMPLES && time(NULL) < end)
		work(worker);
	self = NULL;
	timer_delete(worker->timer);
	return NULL;
}

static void tell_first(void)
{
	Dl_info info = {NULL, NULL, NULL, NULL};

	dladdr((void *)(uintptr_t)first_pc, &info);
	printf("the first, in %s of %s at %#" PRIx64 ": %s\n", info.dli_sname ? info.dli_sname : "?",
	       info.dli_fname ? info.dli_fname : "?", first_pc - (uint64_t)(uintptr_t)info.dli_fbase, first);
}

static void test_storm(void **state)
{
	static struct worker workers[THREADS];

	for (unsigned i = 0; i < THREADS; i++)
		workers[i].random = i + 1;
	for (unsigned i = 1; i < THREADS; i++)
		assert_int_equal(pthread_create(&workers[i].thread, NULL, run, &workers[i]), 0);
	run(&workers[0]);
	for (unsigned i = 1; i < THREADS; i++)
		pthread_join(workers[i].thread, NULL);
	printf("%u samples, %.1f frames each: %u differ from libunwind, %u are incomplete, %u differ without the "
	       "cache\n",
	       samples, (double)frames / samples, different, incomplete, cache_different);
	if (different)
		tell_first();
	assert_true(samples >= WANTED_SAMPLES);
	assert_true(different * 1000 <= samples);
	assert_true(oracle_lost * 500 <= samples); // in __longjmp, whose CFI speaks of the frame that it goes to
	assert_true(incomplete * 1000 <= samples);
	assert_int_equal(cache_different, 0);
	assert_int_equal(memo_different, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_storm)};
	struct sigaction action = {.sa_flags = SA_SIGINFO | SA_RESTART};
	int failed;

	elf_version(EV_CURRENT);
	profd_safe_read_init();
	unwind_read_modules(&modules, getpid());
	uncached = modules.set;
	uncached.cache = NULL;
	action.sa_sigaction = on_timer;
	sigaction(SIGPROF, &action, NULL);
	signal(SIGUSR1, on_user);
	raise(SIGUSR1);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	unwind_forget_modules(&modules);
	return failed;
}
