// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// unwind_oracle.c: steps a program from its first instruction on, one instruction at a time, and at each PC it has not seen
// often compares three stacks: ours (unwind_table.c, reading the other process), libunwind's, and the true one. The
// truth is what was seen: each call pushed a return address, each return and each jump out popped it.
//
// usage: unwind_oracle [-n STEPS] [-v VISITS] [-s PERCENT] CMD [ARG…]
//   -n  instructions to step (default 2,000,000); the program is killed after them
//   -v  how often the stack is compared at each PC (default 2)
//   -s  least share of PCs whose stacks are true, in percent (default 99.9); exit status 1 below it
// One thread is stepped, the first. A program that switches stacks by hand, or runs signal handlers, makes its own truth:
// not for this tool.

#include <libunwind-ptrace.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "profd/safe_read.h"
#include "profd/wire.h"
#include "tests/unit/unwind_modules.h"

#define MAX_FRAMES 512
#define MAX_SHADOW 65536
#define MAX_SEEN (1u << 22)
#define MAX_KINDS 64
#define WINDOW (64u << 10)

struct stack {
	uint32_t count;
	uint8_t stop;
	uint64_t pcs[MAX_FRAMES];
};

struct shadow_frame {
	uint64_t slot, return_address;
};

// A kind of difference: who differs, and the file whose frame is the first that does.
struct kind {
	char what[96];
	uint64_t count, example;
};

static pid_t pid;
static struct user_regs_struct regs;
static struct unwind_modules modules;
static bool modules_changed = true;
static unw_addr_space_t space;
static void *upt;

// The child's memory near its SP, read once per comparison.
static uint8_t window[WINDOW];
static uint64_t window_start, window_size;

static struct shadow_frame shadow[MAX_SHADOW];
static uint32_t shadow_count;

static struct {
	uint64_t pc;
	uint8_t visits;
	bool wrong; // ours, at any visit
} seen[MAX_SEEN];
static uint64_t steps, pcs, wrong_pcs, walks, ours_true, theirs_true, same, incomplete;
static struct kind kinds[MAX_KINDS];

// ---- The child's memory --------------------------------------------------------------------------------------------

static bool read_child(uint64_t address, void *data, size_t size)
{
	struct iovec local = {data, size}, remote = {(void *)(uintptr_t)address, size};

	return process_vm_readv(pid, &local, 1, &remote, 1, 0) == (ssize_t)size;
}

// In place of safe_read.c: what the walker reads is the child's.
void profd_safe_read_init(void) {}

bool profd_safe_read(uint64_t address, uint64_t *ret_value)
{
	if (address >= window_start && address - window_start + 8 <= window_size) {
		memcpy(ret_value, window + (address - window_start), 8);
		return true;
	}
	return read_child(address, ret_value, 8);
}

static void load_window(void)
{
	struct iovec local = {window, WINDOW}, remote = {(void *)(uintptr_t)(regs.rsp & ~7ULL), WINDOW};
	ssize_t size = process_vm_readv(pid, &local, 1, &remote, 1, 0);

	window_start = regs.rsp & ~7ULL;
	window_size = size > 0 ? (uint64_t)size : 0;
}

// ---- Three stacks --------------------------------------------------------------------------------------------------

static void walk_ours(struct stack *stack)
{
	struct profd_unwind_context context = {.regs = {regs.rax, regs.rdx, regs.rcx, regs.rbx, regs.rsi, regs.rdi,
							regs.rbp, regs.rsp, regs.r8, regs.r9, regs.r10, regs.r11,
							regs.r12, regs.r13, regs.r14, regs.r15, regs.rip}};
	struct profd_stack_range none = {0, 0};

	stack->count = profd_unwind_table(&modules.set, &context, none, stack->pcs, MAX_FRAMES, &stack->stop);
	for (uint32_t i = 0; i < stack->count; i++)
		stack->pcs[i] &= ~WIRE_PC_EXACT;
}

static int access_memory(unw_addr_space_t as, unw_word_t address, unw_word_t *value, int write, void *argument)
{
	return write || !profd_safe_read(address, value) ? -UNW_EINVAL : 0;
}

static int access_register(unw_addr_space_t as, unw_regnum_t reg, unw_word_t *value, int write, void *argument)
{
	const uint64_t all[] = {regs.rax, regs.rdx, regs.rcx, regs.rbx, regs.rsi, regs.rdi, regs.rbp, regs.rsp, regs.r8,
				regs.r9,  regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15, regs.rip};

	if (write || reg < 0 || reg > UNW_X86_64_RIP)
		return -UNW_EBADREG;
	*value = all[reg];
	return 0;
}

static void walk_libunwind(struct stack *stack)
{
	unw_cursor_t cursor;
	unw_word_t pc;

	stack->count = 0;
	if (unw_init_remote(&cursor, space, upt) < 0)
		return;
	do {
		if (unw_get_reg(&cursor, UNW_REG_IP, &pc) < 0 || pc == 0)
			break;
		stack->pcs[stack->count++] = pc;
	} while (stack->count < MAX_FRAMES && unw_step(&cursor) > 0);
}

static void true_stack(struct stack *stack)
{
	stack->count = 0;
	stack->pcs[stack->count++] = regs.rip;
	for (uint32_t i = shadow_count; i-- > 0 && stack->count < MAX_FRAMES;)
		stack->pcs[stack->count++] = shadow[i].return_address;
}

static bool equal(const struct stack *a, const struct stack *b)
{
	return a->count == b->count && memcmp(a->pcs, b->pcs, a->count * sizeof(a->pcs[0])) == 0;
}

// ---- The truth -----------------------------------------------------------------------------------------------------

// What the step from `before` to now did to the stack of return addresses.
static void follow(const struct user_regs_struct *before)
{
	uint64_t value;

	while (shadow_count && shadow[shadow_count - 1].slot < regs.rsp)
		shadow_count--;
	if (regs.rsp != before->rsp - 8 || !read_child(regs.rsp, &value, 8))
		return;
	if (value > before->rip && value - before->rip <= 15 && shadow_count < MAX_SHADOW &&
	    (regs.rip != value ||
	     regs.rip - before->rip == 5)) { // call; push only if it is a call to the next instruction
		uint8_t opcode = 0;

		read_child(before->rip, &opcode, 1);
		if (regs.rip != value || opcode == 0xe8)
			shadow[shadow_count++] = (struct shadow_frame){regs.rsp, value};
	}
}

// ---- Comparing -----------------------------------------------------------------------------------------------------

static const char *file_at(uint64_t pc)
{
	for (uint32_t i = 0; i < modules.set.count; i++) {
		const struct profd_module *module = &modules.modules[i];

		if (pc < module->start || pc >= module->end)
			continue;
		for (size_t j = 0; j < modules.nfiles; j++)
			if (modules.files[j].table == module->table)
				return strrchr(modules.files[j].path, '/') ? strrchr(modules.files[j].path, '/') + 1
									   : modules.files[j].path;
	}
	return "?";
}

static uint64_t vaddr_at(uint64_t pc)
{
	for (uint32_t i = 0; i < modules.set.count; i++)
		if (pc >= modules.modules[i].start && pc < modules.modules[i].end)
			return pc - modules.modules[i].bias;
	return pc;
}

static void count_kind(const char *who, const struct stack *stack, const struct stack *truth)
{
	uint32_t i = 0;
	uint64_t at;
	char what[96];

	while (i < stack->count && i < truth->count && stack->pcs[i] == truth->pcs[i])
		i++;
	at = i ? truth->pcs[i - 1] : regs.rip;
	snprintf(what, sizeof(what), "%s %s, above a frame of %.40s%s", who,
		 i == stack->count   ? "stops short"
		 : i == truth->count ? "goes on beyond the end"
				     : "is wrong",
		 file_at(at), i == 1 ? " (the leaf)" : "");
	for (i = 0; i < MAX_KINDS; i++) {
		if (!kinds[i].count) {
			memcpy(kinds[i].what, what, sizeof(what));
			kinds[i].example = vaddr_at(at);
		}
		if (strcmp(kinds[i].what, what) == 0) {
			kinds[i].count++;
			return;
		}
	}
}

static void renew_modules(void)
{
	unwind_read_modules(&modules, pid);
	unw_flush_cache(space, 0, 0);
	if (upt)
		_UPT_destroy(upt);
	upt = _UPT_create(pid);
	modules_changed = false;
}

// Returns whether ours is true.
static bool compare(void)
{
	static struct stack ours, theirs, truth;
	bool right;

	if (modules_changed)
		renew_modules();
	load_window();
	walk_ours(&ours);
	walk_libunwind(&theirs);
	true_stack(&truth);
	walks++;
	right = equal(&ours, &truth);
	ours_true += right;
	incomplete += ours.stop != WIRE_STOP_END;
	same += equal(&ours, &theirs);
	if (equal(&theirs, &truth))
		theirs_true++;
	else
		count_kind("libunwind", &theirs, &truth);
	if (!right)
		count_kind("ours", &ours, &truth);
	return right;
}

static void visit(unsigned visits)
{
	uint64_t pc = regs.rip;

	for (uint32_t i = (uint32_t)(pc * 0x9e3779b97f4a7c15ULL >> 40) % MAX_SEEN, n = 0; n < MAX_SEEN;
	     i = (i + 1) % MAX_SEEN, n++) {
		if (seen[i].pc && seen[i].pc != pc)
			continue;
		pcs += !seen[i].pc;
		seen[i].pc = pc;
		if (seen[i].visits >= visits)
			return;
		seen[i].visits++;
		if (!compare() && !seen[i].wrong) {
			seen[i].wrong = true;
			wrong_pcs++;
		}
		return;
	}
}

// ---- Stepping ------------------------------------------------------------------------------------------------------

// mmap, mprotect, munmap, mremap: modules may come and go.
static void watch_system_calls(void)
{
	uint16_t code = 0;

	if (regs.rax != SYS_mmap && regs.rax != SYS_mprotect && regs.rax != SYS_munmap && regs.rax != SYS_mremap)
		return;
	if (read_child(regs.rip, &code, 2) && code == 0x050f)
		modules_changed = true;
}

static void step_through(uint64_t limit, unsigned visits)
{
	struct user_regs_struct before;
	int status, signo = 0;

	ptrace(PTRACE_GETREGS, pid, NULL, &regs);
	while (steps < limit) {
		visit(visits);
		watch_system_calls();
		before = regs;
		if (ptrace(PTRACE_SINGLESTEP, pid, NULL, (void *)(intptr_t)signo) < 0 ||
		    waitpid(pid, &status, __WALL) < 0 || !WIFSTOPPED(status))
			return;
		signo = WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
		ptrace(PTRACE_GETREGS, pid, NULL, &regs);
		follow(&before);
		steps++;
	}
}

static void start(char **command)
{
	int status, null;

	pid = fork();
	if (pid == 0) {
		null = open("/dev/null", O_RDWR);
		dup2(null, 1);
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		setenv("LD_BIND_NOW", "", 0);
		unsetenv("LD_BIND_NOW"); // lazy binding is what programs do
		execvp(command[0], command);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || !WIFSTOPPED(status)) {
		fprintf(stderr, "unwind_oracle: cannot start %s\n", command[0]);
		exit(2);
	}
	ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)(intptr_t)PTRACE_O_EXITKILL);
}

static int compare_kinds(const void *a, const void *b)
{
	const struct kind *x = a, *y = b;

	return (x->count < y->count) - (x->count > y->count);
}

static double percent(uint64_t part, uint64_t whole)
{
	return whole ? 100.0 * (double)part / (double)whole : 0;
}

static void report(const char *name)
{
	printf("%s: %" PRIu64 " steps, %" PRIu64 " PCs, %" PRIu64 " walks\n", name, steps, pcs, walks);
	printf("  true stacks: ours %.3f%% of walks, %.3f%% of PCs; libunwind's %.3f%% of walks; ours = libunwind's "
	       "%.3f%%; "
	       "ours incomplete %.3f%%\n",
	       percent(ours_true, walks), percent(pcs - wrong_pcs, pcs), percent(theirs_true, walks),
	       percent(same, walks), percent(incomplete, walks));
	qsort(kinds, MAX_KINDS, sizeof(kinds[0]), compare_kinds);
	for (int i = 0; i < MAX_KINDS && kinds[i].count; i++)
		printf("  %8" PRIu64 "  %s, e.g. %#" PRIx64 "\n", kinds[i].count, kinds[i].what, kinds[i].example);
}

int main(int argc, char **argv)
{
	unw_accessors_t accessors = _UPT_accessors;
	uint64_t limit = 2000000;
	unsigned visits = 2;
	double least = 99.9;
	int option;

	while ((option = getopt(argc, argv, "+n:v:s:")) != -1) {
		if (option == 'n')
			limit = strtoull(optarg, NULL, 10);
		else if (option == 'v')
			visits = (unsigned)strtoul(optarg, NULL, 10);
		else if (option == 's')
			least = strtod(optarg, NULL);
		else
			return 2;
	}
	if (optind >= argc)
		return 2;
	elf_version(EV_CURRENT);
	accessors.access_mem = access_memory;
	accessors.access_reg = access_register;
	space = unw_create_addr_space(&accessors, 0);
	unw_set_caching_policy(space, UNW_CACHE_GLOBAL);
	start(argv + optind);
	step_through(limit, visits);
	kill(pid, SIGKILL);
	report(argv[optind]);
	return percent(pcs - wrong_pcs, pcs) >= least ? 0 : 1;
}
