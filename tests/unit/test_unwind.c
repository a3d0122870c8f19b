// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// test_unwind.c: the walk by tables says what libunwind says, frame by frame, at every instruction of functions of every
// kind (unwind_table.c). The process steps itself: with the trap flag set, each instruction ends in our SIGTRAP handler,
// which walks its ucontext both ways. What libunwind cannot walk is held against what it must be.
// Broken stacks are test_unwind_hostile.c's, whole programs tests/e2e/unwind_oracle.c's.

#define UNW_LOCAL_ONLY
#include <libunwind.h>

#include <alloca.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>

#include <cmocka.h>

#include "profd/safe_read.h"
#include "profd/unwind_memo.h"
#include "profd/wire.h"
#include "tests/unit/unwind_modules.h"
#include "tests/unit/walk_words.h"

#define MAX_FRAMES 256
#define SEEN (1u << 16)
#define WORDS_EACH 4 // stack so many: it takes hundreds of walks
#define VISITS 2     // of a PC that are compared: where it was reached from may matter
#define TRAP_FLAG 0x100
#define NOINLINE __attribute__((noinline, noclone))

static struct unwind_modules modules;
static uint64_t stack_high;

// ---- Stepping ------------------------------------------------------------------------------------------------------

struct stack;
static void check_subject(void (*subject)(void), uint64_t least_pcs, bool (*expected)(const struct stack *stack));

struct stack {
	uint32_t count;
	uint8_t stop;
	uint64_t pcs[MAX_FRAMES];
};

static struct {
	volatile bool on;
	uint64_t steps, compared, pcs, different, theirs_wrong;
	char first[512]; // of the differences, in words
	uint64_t pc[SEEN];
	uint8_t visits[SEEN];
	// For what libunwind cannot walk: says whether a stack is what it must be, given what is below check_subject.
	bool (*expected)(const struct stack *stack);
	struct stack base; // the first one, from check_subject itself
	struct profd_walk_memo memo;
	uint64_t memo_wrong;
	uint64_t words_whole, words_wrong; // walk_words.h
} step;

// DWARF's order, from the kernel's.
static void read_context(const ucontext_t *uc, struct profd_unwind_context *context)
{
	static const uint8_t greg[] = {REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI, REG_RBP, REG_RSP, REG_R8,
				       REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP};

	for (int i = 0; i < PROFD_UNWIND_REGS; i++)
		context->regs[i] = (uint64_t)uc->uc_mcontext.gregs[greg[i]];
}

static void check_words(const struct profd_unwind_context *context, struct profd_stack_range range)
{
	uint64_t at;
	int checked = step.compared % WORDS_EACH ? 0 : walk_words_check(&modules.set, context, range, &at);

	step.words_whole += checked > 0;
	step.words_wrong += checked < 0;
}

static void walk_ours(const ucontext_t *uc, struct stack *stack)
{
	struct profd_unwind_context context;
	struct profd_stack_range range = {0, 0};
	static struct stack again;

	read_context(uc, &context);
	if (context.regs[7] < stack_high && stack_high - context.regs[7] < 8u << 20)
		range = (struct profd_stack_range){context.regs[7], stack_high};
	stack->count = profd_unwind_table(&modules.set, &context, range, stack->pcs, MAX_FRAMES, &stack->stop);
	again.count =
		profd_unwind_table_memo(&modules.set, &context, range, &step.memo, again.pcs, MAX_FRAMES, &again.stop);
	step.memo_wrong += again.count != stack->count || again.stop != stack->stop ||
			   memcmp(again.pcs, stack->pcs, stack->count * sizeof(stack->pcs[0])) != 0;
	check_words(&context, range);
}

static void walk_libunwind(ucontext_t *uc, struct stack *stack)
{
	unw_cursor_t cursor;
	unw_word_t pc;

	stack->count = 0;
	if (unw_init_local2(&cursor, uc, UNW_INIT_SIGNAL_FRAME) < 0)
		return;
	do {
		if (unw_get_reg(&cursor, UNW_REG_IP, &pc) < 0 || pc == 0)
			break;
		// It says this of the frame that a signal interrupted, and of the leaf.
		if (stack->count && unw_is_signal_frame(&cursor) > 0)
			pc |= WIRE_PC_EXACT;
		stack->pcs[stack->count++] = pc;
	} while (stack->count < MAX_FRAMES && unw_step(&cursor) > 0);
}

static void describe(const struct stack *ours, const struct stack *theirs)
{
	size_t used = 0, size = sizeof(step.first);

	used += (size_t)snprintf(step.first, size, "stop %u; ours:", ours->stop);
	for (uint32_t i = 0; i < ours->count && used < size / 2; i++)
		used += (size_t)snprintf(step.first + used, size - used, " %" PRIx64, ours->pcs[i]);
	used += (size_t)snprintf(step.first + used, size - used, "; libunwind's:");
	for (uint32_t i = 0; i < theirs->count && used < size - 32; i++)
		used += (size_t)snprintf(step.first + used, size - used, " %" PRIx64, theirs->pcs[i]);
}

static bool within(uint64_t pc, const void *low, uint64_t size)
{
	return pc - (uint64_t)(uintptr_t)low < size;
}

// The outermost frames are those below check_subject, which is `at` frames up from the leaf.
static bool ends_in_base(const struct stack *stack, uint32_t at)
{
	uint32_t below = step.base.count - 1;

	return stack->stop == WIRE_STOP_END && stack->count > below && stack->count == at + 1 + below &&
	       memcmp(stack->pcs + at + 1, step.base.pcs + 1, below * sizeof(stack->pcs[0])) == 0;
}

// libunwind lost check_subject itself.
static bool lost_base(const struct stack *theirs)
{
	uint32_t below = step.base.count - 1, at = theirs->count - below;

	return theirs->count <= below || !within(theirs->pcs[at - 1], (void *)(uintptr_t)check_subject, 1024);
}

static void compare(ucontext_t *uc)
{
	static struct stack ours, theirs;

	walk_ours(uc, &ours);
	step.compared++;
	if (step.compared == 1)
		step.base = ours;
	if (step.expected) {
		if (step.expected(&ours))
			return;
		theirs.count = 0;
	} else {
		walk_libunwind(uc, &theirs);
		if (ours.stop == WIRE_STOP_END && ours.count == theirs.count &&
		    memcmp(ours.pcs, theirs.pcs, ours.count * sizeof(ours.pcs[0])) == 0)
			return;
		// Whatever is stepped through was called by check_subject. Some of gcc's CFI (the end of a realigned
		// function's epilogue, under ASan) leads libunwind past it.
		if (ends_in_base(&ours, ours.count - step.base.count) && lost_base(&theirs)) {
			step.theirs_wrong++;
			return;
		}
	}
	if (!step.different++)
		describe(&ours, &theirs);
}

static bool worth_comparing(uint64_t pc)
{
	for (uint32_t i = (uint32_t)(pc * 0x9e3779b1u) % SEEN, n = 0; n < SEEN; i = (i + 1) % SEEN, n++) {
		if (!step.pc[i]) {
			step.pc[i] = pc;
			step.pcs++;
		}
		if (step.pc[i] == pc)
			return step.visits[i] < VISITS && ++step.visits[i];
	}
	return false;
}

static void on_trap(int signo, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	if (!step.on) {
		uc->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
		return;
	}
	uc->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
	step.steps++;
	if (worth_comparing((uint64_t)uc->uc_mcontext.gregs[REG_RIP]))
		compare(uc);
}

// In a signal handler the kernel starts without the trap flag: it has to say this again.
static inline void start_stepping(void)
{
	step.on = true;
	__asm__ volatile("int3");
}

// Steps through it; every stack must be whole and the same as libunwind's, or as expected.
NOINLINE static void check_subject(void (*subject)(void), uint64_t least_pcs, bool (*expected)(const struct stack *))
{
	memset(&step, 0, sizeof(step));
	step.expected = expected;
	start_stepping();
	subject();
	step.on = false;
	if (step.different)
		fail_msg("%" PRIu64 " of %" PRIu64 " differ; the first: %s", step.different, step.compared, step.first);
	assert_int_equal(step.memo_wrong, 0);
	assert_int_equal(step.words_wrong, 0);
	assert_true(step.theirs_wrong * 100 <= step.compared);
	if (step.pcs < least_pcs)
		fail_msg("only %" PRIu64 " PCs in %" PRIu64 " steps", step.pcs, step.steps);
}

// ---- Subjects ------------------------------------------------------------------------------------------------------

static volatile uint64_t sink;

#define OPAQUE(x) __asm__ volatile("" : "+r"(x)::"memory")

NOINLINE static uint64_t leaf(uint64_t x)
{
	return x * 3 + sink;
}

NOINLINE static uint64_t deep(unsigned depth, uint64_t x)
{
	uint64_t result;

	if (!depth)
		return leaf(x);
	result = deep(depth - 1, x + depth) + 1;
	OPAQUE(result);
	return result;
}

static void subject_deep(void)
{
	sink += deep(60, 1);
}

NOINLINE static uint64_t with_alloca(size_t size)
{
	char *space = alloca(size);

	memset(space, 1, size);
	OPAQUE(space);
	return leaf((uint64_t)space[size / 2]) + (uint64_t)space[0];
}

static void subject_alloca(void)
{
	for (size_t size = 16; size < 5000; size *= 3)
		sink += with_alloca(size);
}

// Realigned with arguments on the stack: gcc keeps a DRAP.
NOINLINE static uint64_t realigned(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f, uint64_t g,
				   uint64_t h, size_t size)
{
	_Alignas(64) volatile char aligned[128];
	char *space = alloca(size);

	memset(space, 2, size);
	OPAQUE(space);
	aligned[3] = (char)a;
	return leaf(a + b + c + d + e + f + g + h) + (uint64_t)aligned[3] + (uint64_t)space[1];
}

NOINLINE static uint64_t realigned_only(uint64_t a)
{
	_Alignas(128) volatile char aligned[256];

	aligned[7] = (char)a;
	return leaf(a) + (uint64_t)aligned[7];
}

static void subject_realigned(void)
{
	sink += realigned(1, 2, 3, 4, 5, 6, 7, 8, 100) + realigned_only(9);
}

NOINLINE static uint64_t tail_b(uint64_t x)
{
	return x & 1 ? leaf(x) : leaf(x + 1);
}

NOINLINE static uint64_t tail_a(uint64_t x)
{
	OPAQUE(x);
	return tail_b(x + sink);
}

static void subject_tail_call(void)
{
	sink += tail_a(1) + tail_a(2);
}

__attribute__((noinline, noclone, optimize("no-omit-frame-pointer"))) static uint64_t with_frame_pointer(uint64_t x)
{
	uint64_t result = deep(5, x);

	OPAQUE(result);
	return result + with_alloca(33);
}

static void subject_frame_pointer(void)
{
	sink += with_frame_pointer(4);
}

static int compare_ints(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

// The library's own code: string functions, stdio, qsort with a callback, malloc, and the PLT on the way there.
static void subject_libc(void)
{
	char text[256], *copy;
	int numbers[64];

	for (int i = 0; i < 64; i++)
		numbers[i] = (i * 37) % 64;
	qsort(numbers, 64, sizeof(numbers[0]), compare_ints);
	snprintf(text, sizeof(text), "%s %d %5.3f %#lx", "text", numbers[3], 3.14159, 0x123456789abcUL);
	copy = strdup(text);
	sink += (uint64_t)strtol("123456", NULL, 10) + strlen(copy) + (uint64_t)(strstr(copy, "0x") - copy);
	free(copy);
	free(malloc(1 << 20));
}

// setjmp and longjmp themselves have CFI, but for longjmp's last instructions.
static void subject_setjmp(void)
{
	jmp_buf buffer;

	if (setjmp(buffer) == 0)
		sink += deep(3, 1);
}

static void subject_clock(void)
{
	struct timespec now;

	for (int i = 0; i < 3; i++)
		clock_gettime(CLOCK_MONOTONIC, &now);
	sink += (uint64_t)now.tv_nsec;
}

static void on_user(int signo, siginfo_t *info, void *context)
{
	start_stepping();
	sink += deep(3, (uint64_t)signo);
	if (signo == SIGUSR1)
		raise(SIGUSR2); // and one on top of it
}

static void raise_with(int flags)
{
	struct sigaction action = {.sa_flags = SA_SIGINFO | flags};

	action.sa_sigaction = on_user;
	sigaction(SIGUSR1, &action, NULL);
	sigaction(SIGUSR2, &action, NULL);
	sink += with_alloca(40);
	raise(SIGUSR1);
}

static void subject_signal(void)
{
	raise_with(0);
}

static void subject_altstack(void)
{
	raise_with(SA_ONSTACK);
}

static void *in_thread(void *argument)
{
	pthread_attr_t attributes;
	uint64_t mine = stack_high;
	size_t size;
	void *low;

	pthread_getattr_np(pthread_self(), &attributes);
	pthread_attr_getstack(&attributes, &low, &size);
	pthread_attr_destroy(&attributes);
	stack_high = (uint64_t)(uintptr_t)low + size;
	check_subject(subject_deep, 20, NULL);
	assert_true(step.words_whole > 5);
	check_subject(subject_signal, 100, NULL);
	stack_high = mine;
	return argument;
}

// ---- Subjects that libunwind cannot walk ---------------------------------------------------------------------------

// Hand-written code without CFI: a leaf that leaves the stack alone; a function that keeps a frame pointer and calls.
__asm__(".text\n"
	".type bare_leaf, @function\n"
	"bare_leaf:\n"
	"	mov %rdi, %rax\n"
	"	add $7, %rax\n"
	"	imul %rax, %rax\n"
	"	ret\n"
	".type bare_frame, @function\n"
	"bare_frame:\n"
	"	push %rbp\n"
	"	mov %rsp, %rbp\n"
	"	sub $48, %rsp\n"
	"	movq $0, 8(%rsp)\n"
	"	call *%rsi\n"
	"	leave\n"
	"	ret\n"
	"bare_end:\n"
	"	nop\n");
extern uint64_t bare_leaf(uint64_t);
extern uint64_t bare_frame(uint64_t, uint64_t (*)(uint64_t));
extern char bare_end;

static void subject_bare_leaf(void)
{
	sink += bare_leaf(4);
}

static bool bare_leaf_expected(const struct stack *stack)
{
	if (!within(stack->pcs[0], (void *)(uintptr_t)bare_leaf, 12))
		return stack->stop == WIRE_STOP_END;
	return within(stack->pcs[1], (void *)(uintptr_t)subject_bare_leaf, 256) && ends_in_base(stack, 2);
}

NOINLINE static uint64_t under_bare_frame(uint64_t x)
{
	start_stepping();
	x = deep(4, x) + 1;
	step.on = false;
	return x;
}

static void subject_bare_frame(void)
{
	step.on = false;
	sink += bare_frame(4, under_bare_frame);
}

// From the outside in: base, check_subject, subject_bare_frame, bare_frame, under_bare_frame, deep.
static bool bare_frame_expected(const struct stack *stack)
{
	uint32_t at = stack->count - step.base.count;

	if (stack->count <= step.base.count + 1) // not under it
		return stack->stop == WIRE_STOP_END;
	return ends_in_base(stack, at) && at >= 2 &&
	       within(stack->pcs[at - 1], (void *)(uintptr_t)subject_bare_frame, 256) &&
	       within(stack->pcs[at - 2], (void *)(uintptr_t)bare_frame, 64);
}

static ucontext_t coroutine, back;

static void in_coroutine(void)
{
	start_stepping();
	sink += deep(6, 2);
	step.on = false;
}

// On a stack that nobody told us of, and that ends in libc's trampoline.
static void subject_coroutine(void)
{
	void *stack = malloc(65536);

	step.on = false;
	getcontext(&coroutine);
	coroutine.uc_stack.ss_sp = stack;
	coroutine.uc_stack.ss_size = 65536;
	coroutine.uc_link = &back;
	makecontext(&coroutine, in_coroutine, 0);
	swapcontext(&back, &coroutine);
	free(stack);
}

// in_coroutine's caller is the trampoline: its address was put there, not called from, and it has no caller.
static bool coroutine_expected(const struct stack *stack)
{
	if (stack->stop != WIRE_STOP_END || step.compared <= 1)
		return stack->stop == WIRE_STOP_END;
	return ends_in_base(stack, stack->count - step.base.count) ||
	       within(stack->pcs[stack->count - 2], (void *)(uintptr_t)in_coroutine, 256);
}

// ---- Tests ---------------------------------------------------------------------------------------------------------

#define STEPPED(name, least)                                \
	static void test_##name(void **state)               \
	{                                                   \
		check_subject(subject_##name, least, NULL); \
	}
STEPPED(deep, 20)
STEPPED(alloca, 40)
STEPPED(realigned, 60)
STEPPED(tail_call, 20)
STEPPED(frame_pointer, 60)
STEPPED(libc, 1000)
STEPPED(setjmp, 30)
STEPPED(clock, 20)
STEPPED(signal, 150)
STEPPED(altstack, 150)

static void test_thread(void **state)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, in_thread, NULL), 0);
	pthread_join(thread, NULL);
}

static void test_bare_leaf(void **state)
{
	check_subject(subject_bare_leaf, 8, bare_leaf_expected);
}

static void test_bare_frame(void **state)
{
	check_subject(subject_bare_frame, 20, bare_frame_expected);
}

static void test_coroutine(void **state)
{
	check_subject(subject_coroutine, 20, coroutine_expected);
}

// Of the best of some passes.
static double walk_ns(const struct profd_unwind_context *context, struct profd_stack_range range, uint32_t *ret_count)
{
	enum { ROUNDS = 20000 };
	uint64_t pcs[MAX_FRAMES];
	struct timespec start, end;
	double best = 1e9, ns;
	uint8_t stop;

	for (int pass = 0; pass < 5; pass++) {
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start);
		for (int i = 0; i < ROUNDS; i++)
			*ret_count = profd_unwind_table(&modules.set, context, range, pcs, MAX_FRAMES, &stop);
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
		ns = (double)(end.tv_sec - start.tv_sec) * 1e9 + (double)(end.tv_nsec - start.tv_nsec);
		best = ns / ROUNDS < best ? ns / ROUNDS : best;
	}
	return best;
}

static void print_times(ucontext_t *uc)
{
	struct profd_unwind_context context;
	struct profd_stack_range range;
	uint32_t count = 0;
	double with, without;

	read_context(uc, &context);
	range = (struct profd_stack_range){context.regs[7], stack_high};
	with = walk_ns(&context, range, &count);
	modules.set.cache = NULL;
	without = walk_ns(&context, range, &count);
	modules.set.cache = modules.cache;
	printf("%3u frames: %5.0f ns with the cache, %5.0f without\n", count, with, without);
	assert_true(without > 0);
}

// Not judged here: figures for docs/unwinding.md.
NOINLINE static uint64_t time_at_depth(unsigned depth)
{
	ucontext_t uc;
	uint64_t result;

	if (!depth) {
		getcontext(&uc);
		print_times(&uc);
		return 1;
	}
	result = time_at_depth(depth - 1) + 1;
	OPAQUE(result);
	return result;
}

static void test_times(void **state)
{
	time_at_depth(3);
	time_at_depth(20);
	time_at_depth(90);
}

static void set_up(void)
{
	static char alternate[1 << 18];
	stack_t stack = {.ss_sp = alternate, .ss_size = sizeof(alternate)};
	struct sigaction action = {.sa_flags = SA_SIGINFO | SA_ONSTACK};
	pthread_attr_t attributes;
	size_t size;
	void *low;

	elf_version(EV_CURRENT);
	profd_safe_read_init();
	sigaltstack(&stack, NULL);
	action.sa_sigaction = on_trap;
	sigaction(SIGTRAP, &action, NULL);
	pthread_getattr_np(pthread_self(), &attributes);
	pthread_attr_getstack(&attributes, &low, &size);
	pthread_attr_destroy(&attributes);
	stack_high = (uint64_t)(uintptr_t)low + size;
	unwind_read_modules(&modules, getpid());
	modules.set.serial = 1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_deep),          cmocka_unit_test(test_alloca),
		cmocka_unit_test(test_realigned),     cmocka_unit_test(test_tail_call),
		cmocka_unit_test(test_frame_pointer), cmocka_unit_test(test_libc),
		cmocka_unit_test(test_setjmp),        cmocka_unit_test(test_clock),
		cmocka_unit_test(test_signal),        cmocka_unit_test(test_altstack),
		cmocka_unit_test(test_thread),        cmocka_unit_test(test_bare_leaf),
		cmocka_unit_test(test_bare_frame),    cmocka_unit_test(test_coroutine),
		cmocka_unit_test(test_times),
	};
	int failed;

	set_up();
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	unwind_forget_modules(&modules);
	return failed;
}
