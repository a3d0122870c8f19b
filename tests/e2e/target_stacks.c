// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// target_stacks.c: stacks that are not what they were: coroutines', jumped out of, overwritten, lost. Each case works in a function whose
// true callers are known, and goes on afterwards as if nothing had happened; or waits there.

#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "target.h"

// ---- Coroutines -----------------------------------------------------------------------------------------------------

#define COROUTINES 3
#define COROUTINE_BYTES (256u << 10)

static ucontext_t scheduler, coroutines[COROUTINES];
static int current;

TARGET_NOINLINE static void coroutine_work(int depth)
{
	if (depth > 0)
		coroutine_work(depth - 1);
	else
		target_burn(20);
	__asm__ volatile("");
}

static void coroutine_main(void)
{
	for (;;) {
		coroutine_work(8);
		swapcontext(&coroutines[current], &scheduler);
	}
}

static void make_coroutine(ucontext_t *context)
{
	getcontext(context);
	context->uc_stack.ss_sp = malloc(COROUTINE_BYTES);
	context->uc_stack.ss_size = COROUTINE_BYTES;
	context->uc_link = &scheduler;
	TARGET_CHECK(context->uc_stack.ss_sp);
	makecontext(context, coroutine_main, 0);
}

static int run_coroutine(int argc, char **argv)
{
	for (int i = 0; i < COROUTINES; i++)
		make_coroutine(&coroutines[i]);
	for (int i = 0; i < 60; i++) {
		current = i % COROUTINES;
		TARGET_CHECK(swapcontext(&scheduler, &coroutines[current]) == 0);
	}
	for (int i = 0; i < COROUTINES; i++)
		free(coroutines[i].uc_stack.ss_sp);
	return 0;
}

// ---- Jumps ----------------------------------------------------------------------------------------------------------

static jmp_buf landing;

TARGET_NOINLINE static void jump_out(int depth)
{
	if (depth > 0)
		jump_out(depth - 1);
	__asm__ volatile("");
	if (depth == 0)
		longjmp(landing, 1);
}

static int run_jumps(int argc, char **argv)
{
	double end = target_clock_s(CLOCK_THREAD_CPUTIME_ID) + 1.5;
	volatile unsigned long jumps = 0;

	while (target_clock_s(CLOCK_THREAD_CPUTIME_ID) < end) {
		for (volatile int i = 0; i < 1000; i++) {
			if (setjmp(landing) == 0)
				jump_out(10);
			else
				jumps++;
		}
	}
	return jumps < 1000;
}

#if defined(__x86_64__)

#define LOOPS 40000000ul // some 20 ms

// ---- Overwritten ----------------------------------------------------------------------------------------------------

#define SMASHED_WORDS 256u

static uint64_t kept[SMASHED_WORDS], garbage[SMASHED_WORDS];

// Overwrites its own frame and its callers', works in registers alone, and puts all back.
TARGET_NOINLINE static void smash(uint64_t fp)
{
	register uint64_t *to __asm__("r8") = kept;
	register uint64_t *from __asm__("r9") = garbage;
	register uint64_t loops __asm__("r10") = LOOPS;
	register uint64_t wrong_fp __asm__("r11") = fp;

	__asm__ volatile("mov %%rsp, %%rsi\n\t"
			 "mov %[to], %%rdi\n\t"
			 "mov %[words], %%ecx\n\t"
			 "rep movsq\n\t"
			 "mov %[from], %%rsi\n\t"
			 "mov %%rsp, %%rdi\n\t"
			 "mov %[words], %%ecx\n\t"
			 "rep movsq\n\t"
			 "xchg %%rbp, %[fp]\n\t"
			 "1: dec %[loops]\n\t"
			 "jnz 1b\n\t"
			 "xchg %%rbp, %[fp]\n\t"
			 "mov %[to], %%rsi\n\t"
			 "mov %%rsp, %%rdi\n\t"
			 "mov %[words], %%ecx\n\t"
			 "rep movsq"
			 : [loops] "+r"(loops), [fp] "+r"(wrong_fp)
			 : [to] "r"(to), [from] "r"(from), [words] "i"(SMASHED_WORDS)
			 : "rsi", "rdi", "rcx", "memory", "cc");
}

// Far enough down that nothing but frames is overwritten.
TARGET_NOINLINE static void descend(int depth, uint64_t fp)
{
	char room[256];

	__asm__ volatile("" : : "r"(room) : "memory");
	if (depth > 0)
		descend(depth - 1, fp);
	else
		smash(fp);
	__asm__ volatile("");
}

static int run_smashed(int argc, char **argv)
{
	uint64_t here = (uint64_t)(uintptr_t)__builtin_frame_address(0), x = 88172645463325252ull;

	for (int round = 0; round < 100; round++) {
		for (uint32_t i = 0; i < SMASHED_WORDS; i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			garbage[i] = (const uint64_t[]){0, 0x4141414141414141, x, here - (x & 0xfff8),
							here - 8192}[round % 5];
		}
		descend(20, (const uint64_t[]){0, 0x4141414141414141, x, here - 4096, here + 8}[round / 5 % 5]);
	}
	return 0;
}

// ---- Lost -----------------------------------------------------------------------------------------------------------

TARGET_NOINLINE static void lose(uint64_t sp)
{
	register uint64_t loops __asm__("r10") = LOOPS;
	register uint64_t true_sp __asm__("r11");

	__asm__ volatile("mov %%rsp, %[true_sp]\n\t"
			 "mov %[sp], %%rsp\n\t"
			 "1: dec %[loops]\n\t"
			 "jnz 1b\n\t"
			 "mov %[true_sp], %%rsp"
			 : [loops] "+r"(loops), [true_sp] "=&r"(true_sp)
			 : [sp] "r"(sp)
			 : "memory", "cc");
}

static void on_prof(int signo)
{
	(void)signo;
}

// Signals can be taken at all there only on another stack: the program's handler of SIGPROF wants one, so ours has it, too.
static int run_lost(int argc, char **argv)
{
	const struct sigaction action = {.sa_handler = on_prof, .sa_flags = SA_ONSTACK | SA_RESTART};
	const stack_t stack = {.ss_sp = malloc(256 << 10), .ss_size = 256 << 10};
	char *page = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t places[] = {0,
			     8,
			     4095,
			     (uint64_t)(uintptr_t)page,
			     (uint64_t)(uintptr_t)page + 4096 - 3,
			     0x7ffffffff000,
			     0x8000000000000000,
			     UINT64_MAX,
			     UINT64_MAX - 15};

	TARGET_CHECK(page != MAP_FAILED && munmap(page + 4096, 4096) == 0);
	TARGET_CHECK(stack.ss_sp && sigaltstack(&stack, NULL) == 0 && sigaction(SIGPROF, &action, NULL) == 0);
	for (int round = 0; round < 99; round++)
		lose(places[(size_t)round % (sizeof(places) / sizeof(places[0]))]);
	return 0;
}

// ---- Raised ---------------------------------------------------------------------------------------------------------

// `raised` has made room on its stack for a call's arguments together with its frame, and has given it back, as compilers do: where it calls
// `wait`, its frame is smaller than its prologue says. What one would find by that is the return address of `around`, its caller, as if it were its own.
__asm__("\t.pushsection .text\n"
	"raised:\n"
	"\t.cfi_startproc\n"
	"\tpush %rbp\n"
	"\t.cfi_def_cfa_offset 16\n"
	"\t.cfi_offset rbp, -16\n"
	"\tmov %rsp, %rbp\n"
	"\t.cfi_def_cfa_register rbp\n"
	"\tsub $0x40, %rsp\n"
	"\tadd $0x20, %rsp\n"
	"\tcall *%rdi\n"
	"\tleave\n"
	"\t.cfi_def_cfa rsp, 8\n"
	"\tret\n"
	"\t.cfi_endproc\n"
	"\t.type raised, @function\n"
	"\t.size raised, . - raised\n"
	"around:\n"
	"\t.cfi_startproc\n"
	"\tsub $0x18, %rsp\n"
	"\t.cfi_def_cfa_offset 32\n"
	"\tlea raised(%rip), %rax\n"
	"\tcall *%rax\n"
	"\tadd $0x18, %rsp\n"
	"\t.cfi_def_cfa_offset 8\n"
	"\tret\n"
	"\t.cfi_endproc\n"
	"\t.type around, @function\n"
	"\t.size around, . - around\n"
	"\t.popsection\n");
void around(int (*wait)(void));

static int wait_for_end(void)
{
	char byte;

	return read(STDIN_FILENO, &byte, 1) != 0;
}

static int run_raised(int argc, char **argv)
{
	around(wait_for_end);
	return 0;
}

#endif

static const struct target_case cases[] = {
	{"coroutine", run_coroutine}, {"jumps", run_jumps},
#if defined(__x86_64__)
	{"smashed", run_smashed},     {"lost", run_lost},   {"raised", run_raised},
#endif
};

TARGET_MAIN(cases)
