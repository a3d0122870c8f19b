// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// unwind_aarch64.c: holds the walker on aarch64 against the truth, at each instruction of the functions in unwind_aarch64_code.c. Built
// by a cross compiler, run by qemu-aarch64; test_unwind_aarch64.c starts it with the tables that the collector made of its files.
//
// usage: unwind_aarch64 [NAME=TABLE]…    NAME: what the file's name ends with; empty: the program's own
//
// The truth: at a function's entry, x30 is its return address; whose function that lies in is the caller. So a breakpoint at each
// entry, first, tells the whole chain from anywhere; then one at each instruction, in turn, has the walker tell it.

#include "tests/unit/unwind_aarch64.h"

#include <fcntl.h>
#include <inttypes.h>
#include <link.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "profd/safe_read.h"
#include "profd/unwind_memo.h"
#include "profd/wire.h"
#include "tests/unit/walk_words.h"

#define BRK_0 0xd4200000u
#define WANTED_HITS 250
#if !defined(WANTED_PLT_HITS)
#define WANTED_PLT_HITS 1 // an indirect function's
#endif
#define MAX_MODULES 8
#define MAX_FRAMES 64
#define MAX_FAILURES 20
#define MAX_STRANGERS 6 // frames of libc and of this file that may lie between two of which all is known

struct stack {
	uint32_t count;
	uint8_t stop;
	uint64_t pcs[MAX_FRAMES];
};

// What a frame must be: this PC; this one, interrupted, or the next, which the signal's handler puts in its place; after some strangers,
// this PC; after some strangers, one in the function of this PC.
enum frame_kind { FRAME_IS, FRAME_INTERRUPTED, FRAME_LATER, FRAME_LATER_IN };

struct expected {
	enum frame_kind kind;
	uint64_t pc;
};

static struct profd_module modules[MAX_MODULES];
static uint64_t cache[PROFD_UNWIND_CACHE_ENTRIES];
static struct profd_module_set set = {.serial = 1, .modules = modules, .cache = cache};
static struct profd_module_set uncached = {.modules = modules};
static struct profd_module without_own[MAX_MODULES]; // the program's own table is not there
static struct profd_module_set tableless = {.modules = without_own};
static struct profd_module with_hole[MAX_MODULES + 2]; // storm_untabled has no table
static struct profd_module_set holed = {.modules = with_hole};
static char **tables; // NAME=TABLE
static uint64_t stack_low, stack_high;
static uint64_t main_return;
static int pipe_fds[2];
static uint32_t *breakpoint, held; // the instruction that is held back, and where
static bool learning;
static unsigned hits, plt_hits, signed_links, failures;
static unsigned signals_passed; // by frame pointers alone
static unsigned words_whole;    // walk_words.h

// ---- What the agent has otherwise ----------------------------------------------------------------------------------

// qemu has no process_vm_readv(2); write(2) does not fault either.
bool profd_safe_read(uint64_t address, uint64_t *ret_value)
{
	return write(pipe_fds[1], (const void *)(uintptr_t)address, 8) == 8 && read(pipe_fds[0], ret_value, 8) == 8;
}

static const struct wire_table *map_table(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	off_t size = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
	const struct wire_table *table = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0);

	if (size <= 0 || table == MAP_FAILED || profd_table_check(table, (uint64_t)size) != 0) {
		fprintf(stderr, "%s is no table for this machine\n", path);
		exit(2);
	}
	close(fd);
	return table;
}

static const struct wire_table *find_table(const char *name)
{
	for (char **argument = tables; *argument; argument++) {
		const char *equals = strchr(*argument, '=');
		size_t length = equals ? (size_t)(equals - *argument) : 0;

		if (equals &&
		    (length ? strlen(name) >= length && strncmp(name + strlen(name) - length, *argument, length) == 0
			    : !*name))
			return map_table(equals + 1);
	}
	return NULL;
}

static int compare_modules(const void *a, const void *b)
{
	const struct profd_module *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

static int add_module(struct dl_phdr_info *info, size_t size, void *context)
{
	const struct wire_table *table = find_table(info->dlpi_name);

	for (int i = 0; i < info->dlpi_phnum && set.count < MAX_MODULES; i++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
		uint64_t start = info->dlpi_addr + segment->p_vaddr;

		if (segment->p_type == PT_LOAD && (segment->p_flags & PF_X))
			modules[set.count++] =
				(struct profd_module){start, start + segment->p_memsz, info->dlpi_addr, table};
	}
	return 0;
}

static void load_modules(void)
{
	dl_iterate_phdr(add_module, NULL);
	qsort(modules, set.count, sizeof(*modules), compare_modules);
	uncached.count = tableless.count = set.count;
	for (uint32_t i = 0; i < set.count; i++) {
		without_own[i] = modules[i];
		if (modules[i].start <= (uintptr_t)__start_storm && modules[i].end > (uintptr_t)__start_storm)
			without_own[i].table = NULL;
	}
}

// ---- The truth -----------------------------------------------------------------------------------------------------

static bool in_storm(uint64_t pc)
{
	return pc >= (uintptr_t)__start_storm && pc < (uintptr_t)__stop_storm;
}

static struct storm_function *function_at(uint64_t pc)
{
	struct storm_function *found = NULL;

	for (struct storm_function *function = storm_functions; function->entry; function++)
		if ((uintptr_t)function->entry <= pc && (!found || function->entry > found->entry))
			found = function;
	return found;
}

// Returns the number of frames; in *ret_open, whether there may be strangers below the last. A PC that is not in the section is in
// the PLT, whose code leaves x30 alone.
static uint32_t expect(uint64_t pc, uint64_t x30, struct expected *frames, bool *ret_open)
{
	struct storm_function *function = function_at(in_storm(pc) ? pc : x30 - 1);
	uint32_t count = 0;

	*ret_open = false;
	frames[count++] = (struct expected){FRAME_IS, pc};
	if (!in_storm(pc))
		frames[count++] = (struct expected){FRAME_IS, x30};
	while (count < MAX_FRAMES - 2) {
		pc = function->return_address;
		frames[count++] = (struct expected){FRAME_IS, pc};
		if (function->called_by == CALLED_BY_NOBODY)
			return count;
		if (function->called_by == CALLED_BY_CODE && !in_storm(pc - 1))
			break;
		if (function->called_by == CALLED_BY_LIBC)
			frames[count++] = (struct expected){FRAME_LATER_IN, (uintptr_t)function->from};
		else if (function->called_by == CALLED_BY_KERNEL)
			frames[count++] =
				(struct expected){FRAME_INTERRUPTED, (uintptr_t)function->from | WIRE_PC_EXACT};
		function = function_at(function->called_by == CALLED_BY_CODE ? pc - 1 : (uintptr_t)function->from);
	}
	frames[count++] = (struct expected){FRAME_LATER, main_return};
	*ret_open = true;
	return count;
}

// The program's module in three parts, that in the middle without a table.
static void make_hole(void)
{
	uint64_t start = (uintptr_t)storm_untabled, end = (uintptr_t)__stop_storm;

	for (const struct storm_function *function = storm_functions; function->entry; function++)
		if ((uintptr_t)function->entry > start && (uintptr_t)function->entry < end)
			end = (uintptr_t)function->entry;
	for (uint32_t i = 0; i < set.count; i++) {
		struct profd_module *module = &with_hole[holed.count++];

		*module = modules[i];
		if (module->start > start || module->end <= start)
			continue;
		module->end = start;
		*++module = (struct profd_module){start, end, modules[i].bias, NULL};
		*++module = modules[i];
		module->start = end;
		holed.count += 2;
	}
}

static bool fits(const struct expected *frame, uint64_t pc)
{
	if (frame->kind == FRAME_LATER_IN)
		return in_storm(pc - 1) && function_at(pc - 1) == function_at(frame->pc);
	return pc == frame->pc || (frame->kind == FRAME_INTERRUPTED && pc == frame->pc + 4);
}

static bool is_true(const struct stack *stack, const struct expected *frames, uint32_t count, bool open)
{
	uint32_t at = 0;

	for (uint32_t i = 0; i < count; i++, at++) {
		uint32_t last = frames[i].kind < FRAME_LATER ? at : at + MAX_STRANGERS;

		while (at < last && at < stack->count && !fits(&frames[i], stack->pcs[at]))
			at++;
		if (at >= stack->count || !fits(&frames[i], stack->pcs[at]))
			return false;
	}
	return stack->stop == WIRE_STOP_END && (open ? stack->count - at <= MAX_STRANGERS : stack->count == at);
}

// ---- Walks ---------------------------------------------------------------------------------------------------------

static void check_words(const struct profd_module_set *with, const struct profd_unwind_context *context,
			struct profd_stack_range range)
{
	uint64_t at;
	int checked = walk_words_check(with, context, range, &at);

	words_whole += checked > 0;
	if (checked < 0 && ++failures <= MAX_FAILURES)
		printf("%#" PRIx64 ": the walk follows from the word at SP + %#" PRIx64 ", too\n",
		       context->regs[PROFD_ARCH_PC], at - range.low);
}

static struct stack walk(const struct profd_module_set *with, const struct profd_unwind_context *context, bool bounded)
{
	uint64_t sp = context->regs[PROFD_ARCH_SP];
	struct profd_stack_range range = {0, 0};
	static struct profd_walk_memo memo;
	struct stack stack, again;

	if (bounded && sp >= stack_low && sp < stack_high)
		range = (struct profd_stack_range){sp, stack_high};
	memset(&stack, 0, sizeof(stack));
	stack.count = profd_unwind_table(with, context, range, stack.pcs, MAX_FRAMES, &stack.stop);
	memset(&again, 0, sizeof(again));
	again.count = profd_unwind_table_memo(with, context, range, &memo, again.pcs, MAX_FRAMES, &again.stop);
	if (memcmp(&stack, &again, sizeof(stack)) != 0 && ++failures <= MAX_FAILURES)
		printf("%#" PRIx64 ": not the same with a memo\n", context->regs[PROFD_ARCH_PC]);
	if (bounded && (with == &set || with == &holed))
		check_words(with, context, range);
	return stack;
}

static void complain(uint64_t pc, const struct stack *stack, const struct expected *frames, uint32_t count)
{
	struct storm_function *function = function_at(pc);

	if (++failures > MAX_FAILURES)
		return;
	printf("%s+%" PRIu64 ": stop %u\n", function->name, pc - (uintptr_t)function->entry, stack->stop);
	for (uint32_t i = 0; i < stack->count || i < count; i++)
		printf("  %#18" PRIx64 "  %#18" PRIx64 "\n", i < stack->count ? stack->pcs[i] : 0,
		       i < count ? frames[i].pc : 0);
}

// ---- Frame pointers ------------------------------------------------------------------------------------------------

// What walks by frame pointers misses the caller of what has no frame record (yet, or any more): right behind the first PC, and behind
// one that a signal interrupted. What it has must be there, in order. False: it did not reach the outermost frame.
static bool check_by_records(uint64_t pc, const struct stack *whole, const struct stack *stack)
{
	struct expected frames[MAX_FRAMES];
	uint32_t at = 0;

	for (uint32_t i = 0; i < whole->count; i++) {
		frames[i] = (struct expected){FRAME_IS, whole->pcs[i]};
		if (at < stack->count && ((stack->pcs[at] ^ whole->pcs[i]) & ~WIRE_PC_EXACT) == 0)
			at++;
	}
	if (at != stack->count)
		complain(pc, stack, frames, whole->count);
	return at == stack->count && stack->pcs[at - 1] == whole->pcs[whole->count - 1] && at + 2 >= whole->count;
}

// Behind a signal, a handler that has no frame record (yet) loses the rest, and the kernel's own record has x30 for the PC.
__attribute__((unused)) static void check_frame_pointers(uint64_t pc, const struct profd_unwind_context *context,
							 const struct stack *whole)
{
	struct profd_stack_range range = {0, 0};
	struct stack guessed = walk(&tableless, context, true), by_fp;
	bool interrupted = false, reached = check_by_records(pc, whole, &guessed);

	for (uint32_t i = 0; i < whole->count; i++)
		interrupted = interrupted || (whole->pcs[i] & WIRE_PC_EXACT);
	if (interrupted) {
		signals_passed += reached;
		return;
	}
	memset(&by_fp, 0, sizeof(by_fp));
	by_fp.count = profd_unwind_fp(&set, context, range, by_fp.pcs, MAX_FRAMES, &by_fp.stop);
	reached = check_by_records(pc, whole, &by_fp) && reached;
	if (!reached)
		complain(pc, &guessed, NULL, 0);
}

// Behind a frame that is walked by its record, SP is known again where a frame of its own record says so.
__attribute__((unused)) static void check_hole(uint64_t pc, const struct profd_unwind_context *context,
					       const struct stack *whole)
{
	struct expected frames[MAX_FRAMES];
	struct stack stack = walk(&holed, context, true);

	if (function_at(pc)->entry != storm_leaf_of_untabled)
		return;
	for (uint32_t i = 0; i < whole->count; i++)
		frames[i] = (struct expected){FRAME_IS, whole->pcs[i]};
	if (memcmp(&stack, whole, sizeof(stack)) != 0)
		complain(pc, &stack, frames, whole->count);
}

static void check(uint64_t pc, const struct profd_unwind_context *context)
{
	struct expected frames[MAX_FRAMES];
	bool open;
	uint32_t count = expect(pc, profd_arch_strip(context->regs[30]), frames, &open);
	struct stack stack = walk(&set, context, true), filled = walk(&set, context, true);
	struct stack unbounded = walk(&set, context, false), bare = walk(&uncached, context, true);

	if (!is_true(&stack, frames, count, open))
		complain(pc, &stack, frames, count);
	else if (memcmp(&stack, &filled, sizeof(stack)) || memcmp(&stack, &unbounded, sizeof(stack)) ||
		 memcmp(&stack, &bare, sizeof(stack)))
		complain(pc, &filled, frames, count);
#if defined(KEEPS_FRAME_POINTERS)
	if (open) {
		check_frame_pointers(pc, context, &stack);
		check_hole(pc, context, &stack);
	}
#endif
}

static void put_code(uint32_t *place, uint32_t code)
{
	*place = code;
	__builtin___clear_cache((char *)place, (char *)(place + 1));
}

static void on_trap(int signo, siginfo_t *info, void *context)
{
	const ucontext_t *uc = context;
	struct profd_unwind_context registers;

	if (!breakpoint || uc->uc_mcontext.pc != (uintptr_t)breakpoint)
		abort();
	put_code(breakpoint, held);
	breakpoint = NULL;
	for (int i = 0; i < 31; i++)
		registers.regs[i] = uc->uc_mcontext.regs[i];
	registers.regs[PROFD_ARCH_SP] = uc->uc_mcontext.sp;
	registers.regs[PROFD_ARCH_PC] = uc->uc_mcontext.pc;
	if (learning) {
		function_at(uc->uc_mcontext.pc)->return_address = registers.regs[30];
		return;
	}
	hits++;
	signed_links += registers.regs[30] >> 48 != 0;
	check(uc->uc_mcontext.pc, &registers);
}

// Runs all of it once. False: the instruction is not on its way.
static bool stop_at(uint32_t *place, int lazy)
{
	held = *place;
	put_code(place, BRK_0);
	breakpoint = place;
	unwind_scenario(lazy);
	if (!breakpoint)
		return true;
	put_code(place, held);
	breakpoint = NULL;
	return false;
}

static void storm(void)
{
	learning = true;
	for (struct storm_function *function = storm_functions; function->entry; function++)
		if (!stop_at((uint32_t *)(uintptr_t)function->entry, -1)) {
			printf("%s was not called\n", function->name);
			exit(1);
		}
	learning = false;
	for (uint32_t *place = __start_storm; place < __stop_storm; place++)
		stop_at(place, -1);
}

static void make_writable(const void *from, const void *to)
{
	uintptr_t start = (uintptr_t)from & ~0xfffUL, end = ((uintptr_t)to + 0xfff) & ~0xfffUL;

	if (mprotect((void *)start, end - start, PROT_READ | PROT_WRITE | PROT_EXEC) != 0) {
		perror("mprotect");
		exit(2);
	}
}

// ---- The PLT -------------------------------------------------------------------------------------------------------

#define PLT_ENTRY 4u     // instructions
#define PUSH 0xa9bf7bf0u // stp x16, x30, [sp, #-16]!, what its head begins with

// The PLT entry that the instruction calls; NULL: it does not.
static uint32_t *plt_entry(uint32_t *place)
{
	int32_t words = (int32_t)(*place << 6) >> 6;

	if ((*place & 0xfc000000) != 0x94000000 || in_storm((uintptr_t)(place + words)))
		return NULL;
	place += words;
	return (*place & 0x9f00001f) == 0x90000010 ? place : NULL; // adrp x16
}

// Its entries, and then its head, which runs when a function is called for the first time: as often as we have such functions.
static void storm_plt(void)
{
	uint32_t *first = NULL, *limit;

	for (uint32_t *place = __start_storm; place < __stop_storm; place++) {
		uint32_t *entry = plt_entry(place);

		if (!entry)
			continue;
		make_writable(entry, entry + PLT_ENTRY);
		for (unsigned i = 0; i < PLT_ENTRY; i++)
			plt_hits += stop_at(entry + i, -1);
		first = !first || entry < first ? entry : first;
	}
	if (!first)
		return;
	limit = (uint32_t *)((uintptr_t)first & ~0xfffUL);
	while (first > limit && *first != PUSH)
		first--;
	if (*first != PUSH)
		return; // linked statically: its PLT is for indirect functions only
	make_writable(first, first + UNWIND_LAZY_CALLS);
	for (int i = 0; i < UNWIND_LAZY_CALLS; i++)
		plt_hits += stop_at(first + i, i);
}

// ---- Hostile stacks ------------------------------------------------------------------------------------------------

#define HOSTILE_WALKS 4000
#define HOSTILE_WORDS 512

static uint64_t hostile_words[HOSTILE_WORDS];

static uint64_t next_random(void)
{
	static uint64_t state = 0x61617263683634;

	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static uint64_t hostile_word(void)
{
	const struct profd_module *module = &modules[next_random() % set.count];
	uint64_t signature = next_random() % 4 ? 0 : next_random() << 48;

	switch (next_random() % 4) {
	case 0:
		return (module->start + next_random() % (module->end - module->start)) & ~3ULL;
	case 1:
		return ((module->start + next_random() % (module->end - module->start)) & ~3ULL) | signature;
	case 2:
		return (uintptr_t)&hostile_words[next_random() % HOSTILE_WORDS];
	default:
		return next_random() >> next_random() % 64;
	}
}

// Of a frame record: one further up, and a return address.
static uint64_t record_word(int index)
{
	if (index % 2)
		return __builtin_ctzll(next_random()) > 3 ? hostile_word()
							  : storm_functions[next_random() % 8].return_address;
	return (uintptr_t)&hostile_words[(index + 2 + (int)(next_random() % 4) * 2) % HOSTILE_WORDS];
}

// Registers and stacks of made-up words lead nowhere: no PC is no address, and SP goes up until the words are used up or a safe read
// fails. (A signal frame may put SP back, 64 times.)
static void walk_hostile(void)
{
	static uint64_t pcs[HOSTILE_WORDS * 80];
	struct profd_unwind_context context;
	uint32_t longest = 0;

	for (int round = 0; round < HOSTILE_WALKS; round++) {
		struct profd_stack_range range = {0, (uintptr_t)(hostile_words + HOSTILE_WORDS)};
		uint32_t count;
		uint8_t stop = WIRE_STOP_COUNT;

		for (int i = 0; i < HOSTILE_WORDS; i++)
			hostile_words[i] = next_random() % 8 == 0 ? hostile_word() : record_word(i);
		for (int i = 0; i < PROFD_UNWIND_REGS; i++)
			context.regs[i] = hostile_word();
		context.regs[PROFD_ARCH_SP] = range.low = (uintptr_t)&hostile_words[next_random() % 64 * 2];
		context.regs[PROFD_ARCH_PC] = modules[next_random() % set.count].start + (next_random() & 0xfffc);
		count = profd_unwind_table(&set, &context, range, pcs, HOSTILE_WORDS * 80, &stop);
		longest = count > longest ? count : longest;
		failures += count == 0 || stop >= WIRE_STOP_COUNT || stop == WIRE_STOP_DEPTH;
		for (uint32_t i = 1; i < count; i++)
			failures += !profd_arch_is_pc(pcs[i] & ~WIRE_PC_EXACT);
	}
	printf("%d hostile stacks, the longest of %u frames\n", HOSTILE_WALKS, longest);
	failures += longest < 5; // then they led nowhere at once
}

// ---- All of it -----------------------------------------------------------------------------------------------------

static void prepare(char *top)
{
	struct sigaction action;

	memset(&action, 0, sizeof(action));
	action.sa_sigaction = on_trap;
	action.sa_flags = SA_SIGINFO;
	sigaction(SIGTRAP, &action, NULL);
	unwind_scenario_prepare();
	stack_high = ((uintptr_t)top + 0xfff) & ~0xfffUL;
	stack_low = stack_high - (1 << 20);
	make_writable(__start_storm, __stop_storm);
	if (pipe(pipe_fds) != 0) {
		perror("pipe");
		exit(2);
	}
}

int main(int argc, char **argv)
{
	main_return = (uintptr_t)__builtin_extract_return_addr(__builtin_return_address(0));
	tables = argv + 1;
	prepare((char *)argv);
	load_modules();
	make_hole();
	storm();
	storm_plt();
	walk_hostile();
	printf("%u instructions of %td, %u in the PLT, %u with a signed x30, %u behind a signal by frame pointers, %u "
	       "whose words are known, %u wrong\n",
	       hits, __stop_storm - __start_storm, plt_hits, signed_links, signals_passed, words_whole, failures);
	failures += words_whole == 0;
#if defined(KEEPS_FRAME_POINTERS)
	failures += signals_passed == 0;
#endif
#if defined(__ARM_FEATURE_PAC_DEFAULT)
	failures += signed_links == 0;
#endif
	return hits < WANTED_HITS || plt_hits < WANTED_PLT_HITS || failures;
}
