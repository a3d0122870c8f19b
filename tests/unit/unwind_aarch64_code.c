// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// unwind_aarch64_code.c: see unwind_aarch64.h. One function for each way of keeping a frame and a return address. Built for aarch64,
// several times, with options that make gcc keep them differently.

#include "tests/unit/unwind_aarch64.h"

#include <alloca.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

// noipa: neither inlined, nor cloned, nor known by what it does.
#define STORM __attribute__((noipa, section("storm")))
#define BIG 100000
#define ALTERNATE_STACK 65536

static volatile long sink;
static char alternate_stack[ALTERNATE_STACK] __attribute__((aligned(16)));
static char coroutine_stack[ALTERNATE_STACK] __attribute__((aligned(16)));
static ucontext_t main_context, coroutine_context;

#define LEAF(name)                               \
	STORM static long name(long value)       \
	{                                        \
		return value * 3 + (value >> 2); \
	}
LEAF(leaf)
LEAF(leaf_of_alloca)
LEAF(leaf_of_big)
LEAF(leaf_of_shrunk)
LEAF(leaf_of_variadic)
LEAF(leaf_of_many)
LEAF(leaf_of_handler)
LEAF(leaf_of_coroutine)
LEAF(leaf_of_untabled)

STORM static long plain(long value)
{
	return leaf(value) + 1;
}

STORM static long with_alloca(long size)
{
	char *block = alloca((size_t)size);

	memset(block, 1, (size_t)size);
	return leaf_of_alloca(block[size / 2]) + 1;
}

// The frame record lies further below the CFA than an int16_t can say.
STORM static long with_big_frame(long index)
{
	volatile char block[BIG];

	block[index] = 2;
	return leaf_of_big(block[index]) + 1;
}

// Its frame is made on one path only.
STORM static long shrunk(const long *value)
{
	if (__builtin_expect(!value, 0))
		return -1;
	if (*value < 3)
		return *value;
	return leaf_of_shrunk(*value) + *value;
}

STORM static long tail_target(long value)
{
	return value ^ 5;
}

STORM static long tail(long value)
{
	return tail_target(value + 1);
}

STORM static long variadic(int count, ...)
{
	va_list list;
	long sum = 0;

	va_start(list, count);
	for (int i = 0; i < count; i++)
		sum += va_arg(list, long);
	va_end(list);
	return leaf_of_variadic(sum) + 1;
}

// More values than there are registers that a call leaves alone.
STORM static long many(const long *v)
{
	long a = v[0], b = v[1], c = v[2], d = v[3], e = v[4], f = v[5], g = v[6], h = v[7], i = v[8], j = v[9];
	double x = (double)a, y = (double)b;
	long k = leaf_of_many(a + b);

	return k + a * b + c * d + e * f + g * h + i * j + (long)(x * y);
}

// For a walk that has no table for untabled: see unwind_aarch64.h.
STORM static long under_untabled(long value)
{
	return leaf_of_untabled(value) + 1;
}

STORM static long untabled(long value)
{
	return under_untabled(value) + 1;
}

STORM static long calls_untabled(long value)
{
	return untabled(value) + 1;
}

// Keeps no frame record.
STORM __attribute__((optimize("omit-frame-pointer"))) static long recordless(long value)
{
	return calls_untabled(value) + 1;
}

// ---- Written by hand -----------------------------------------------------------------------------------------------

long storm_moved(long value);   // its return address goes to x9
long storm_unknown(long value); // no CFI; leaves SP and x30 alone
void storm_raise_ill(void);
void storm_raise_segv(void);
extern const char storm_ill_pc[], storm_segv_pc[];

__asm__(".pushsection storm, \"ax\", %progbits\n"
	".balign 16\n"
	".global storm_moved\n"
	".type storm_moved, %function\n"
	"storm_moved:\n"
	"	.cfi_startproc\n"
	"	add	x0, x0, #1\n"
	"	mov	x9, x30\n"
	"	.cfi_register x30, x9\n"
	"	mov	x30, xzr\n"
	"	add	x0, x0, #2\n"
	"	ret	x9\n"
	"	.cfi_endproc\n"
	".size storm_moved, . - storm_moved\n"
	".balign 16\n"
	".global storm_unknown\n"
	".type storm_unknown, %function\n"
	"storm_unknown:\n"
	"	add	x0, x0, #1\n"
	"	cbz	x0, 1f\n"
	"	add	x0, x0, #2\n"
	"1:	ret\n"
	".size storm_unknown, . - storm_unknown\n"
	".balign 16\n"
	".global storm_raise_ill\n"
	".type storm_raise_ill, %function\n"
	"storm_raise_ill:\n"
	"	.cfi_startproc\n"
	"	str	x30, [sp, #-32]!\n"
	"	.cfi_def_cfa_offset 32\n"
	"	.cfi_offset x30, -32\n"
	"	mov	x30, #3\n"
	".global storm_ill_pc\n"
	"storm_ill_pc:\n"
	"	.inst	0\n"
	"	ldr	x30, [sp], #32\n"
	"	.cfi_restore x30\n"
	"	.cfi_def_cfa_offset 0\n"
	"	ret\n"
	"	.cfi_endproc\n"
	".size storm_raise_ill, . - storm_raise_ill\n"
	".balign 16\n"
	".global storm_raise_segv\n"
	".type storm_raise_segv, %function\n"
	"storm_raise_segv:\n" // a leaf: its return address is in the interrupted x30
	"	.cfi_startproc\n"
	"	mov	x0, #8\n"
	".global storm_segv_pc\n"
	"storm_segv_pc:\n"
	"	ldr	x0, [x0]\n"
	"	ret\n"
	"	.cfi_endproc\n"
	".size storm_raise_segv, . - storm_raise_segv\n"
	".popsection\n");

// ---- Called by others ----------------------------------------------------------------------------------------------

STORM static void on_ill(int signo, siginfo_t *info, void *context)
{
	((ucontext_t *)context)->uc_mcontext.pc += 4;
	sink += leaf_of_handler(signo);
}

STORM static void on_segv(int signo, siginfo_t *info, void *context)
{
	((ucontext_t *)context)->uc_mcontext.pc += 4;
	sink += signo;
}

STORM static int compare(const void *a, const void *b)
{
	long x = *(const long *)a, y = *(const long *)b;

	return (x > y) - (x < y);
}

STORM static long sorts(long value)
{
	long values[2] = {value, value - 1};

	qsort(values, 2, sizeof(*values), compare); // two values: one call
	return values[0];
}

STORM static long lazily(int which)
{
	switch (which) {
	case 0:
		return getpid() + 1;
	case 1:
		return getppid() + 1;
	case 2:
		return getuid() + 1;
	case 3:
		return geteuid() + 1;
	case 4:
		return getgid() + 1;
	default:
		return 0;
	}
}

STORM static void coroutine(void)
{
	sink += leaf_of_coroutine(7);
}

static void run_coroutine(void)
{
	getcontext(&coroutine_context);
	coroutine_context.uc_stack.ss_sp = coroutine_stack;
	coroutine_context.uc_stack.ss_size = sizeof(coroutine_stack);
	coroutine_context.uc_link = &main_context;
	makecontext(&coroutine_context, coroutine, 0);
	swapcontext(&main_context, &coroutine_context);
}

STORM static long root(long value, int lazy)
{
	long values[10] = {1, 2, 3, 4, 5, 6, 7, 8, 9, value};
	long sum = plain(value);

	sum += with_alloca(200 + value);
	sum += with_big_frame(value);
	sum += shrunk(&values[9]);
	sum += tail(value);
	sum += variadic(3, value, value, value);
	sum += many(values);
	sum += storm_moved(value);
	sum += storm_unknown(value);
	sum += sorts(value);
	sum += lazily(lazy);
	sum += recordless(value);
	storm_raise_ill();
	storm_raise_segv();
	return sum;
}

void unwind_scenario(int lazy)
{
	sink += root(40, lazy);
	run_coroutine();
}

void unwind_scenario_prepare(void)
{
	struct sigaction action;
	stack_t stack = {.ss_sp = alternate_stack, .ss_size = sizeof(alternate_stack)};

	memset(&action, 0, sizeof(action));
	action.sa_sigaction = on_ill;
	action.sa_flags = SA_SIGINFO;
	sigaction(SIGILL, &action, NULL);
	sigaltstack(&stack, NULL);
	action.sa_sigaction = on_segv;
	action.sa_flags = SA_SIGINFO | SA_ONSTACK;
	sigaction(SIGSEGV, &action, NULL);
}

#define BY_CODE(function)                                                    \
	{                                                                    \
#function, (const void *)(function), CALLED_BY_CODE, NULL, 0 \
	}

const void *const storm_untabled = (const void *)untabled, *const storm_leaf_of_untabled =
								   (const void *)leaf_of_untabled;

struct storm_function storm_functions[] = {
	BY_CODE(root),
	BY_CODE(plain),
	BY_CODE(leaf),
	BY_CODE(with_alloca),
	BY_CODE(leaf_of_alloca),
	BY_CODE(with_big_frame),
	BY_CODE(leaf_of_big),
	BY_CODE(shrunk),
	BY_CODE(leaf_of_shrunk),
	BY_CODE(tail),
	BY_CODE(tail_target),
	BY_CODE(variadic),
	BY_CODE(leaf_of_variadic),
	BY_CODE(many),
	BY_CODE(leaf_of_many),
	BY_CODE(storm_moved),
	BY_CODE(storm_unknown),
	BY_CODE(sorts),
	BY_CODE(lazily),
	BY_CODE(storm_raise_ill),
	BY_CODE(storm_raise_segv),
	BY_CODE(leaf_of_handler),
	BY_CODE(leaf_of_coroutine),
	BY_CODE(recordless),
	BY_CODE(calls_untabled),
	BY_CODE(untabled),
	BY_CODE(under_untabled),
	BY_CODE(leaf_of_untabled),
	{"compare", (const void *)compare, CALLED_BY_LIBC, (const void *)sorts, 0},
	{"on_ill", (const void *)on_ill, CALLED_BY_KERNEL, storm_ill_pc, 0},
	{"on_segv", (const void *)on_segv, CALLED_BY_KERNEL, storm_segv_pc, 0},
	{"coroutine", (const void *)coroutine, CALLED_BY_NOBODY, NULL, 0},
	{NULL, NULL, CALLED_BY_CODE, NULL, 0},
};
