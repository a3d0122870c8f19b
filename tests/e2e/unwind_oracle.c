// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// unwind_oracle.c: holds our walk against libunwind's, libdw's and the truth, at every instruction that a real program executes.
//
// By single steps, from the program's first instruction or its entry point on: the truth is what was seen, each call pushed a return address, each
// return and each jump out popped it. Or as a storm (oracle_storm.c): a hundred times as many instructions, no truth.
//
// usage: unwind_oracle [-n STEPS [-e] | -b SECONDS] [-v VISITS] [-s PERCENT] [-d EXAMPLES] [-k FILE] CMD [ARG…]
//   -n  instructions to step (default 2,000,000); the program is killed after them
//   -e  steps: from the program's entry point on; before, the dynamic linker takes a million
//   -b  a storm of breakpoints, for at most so many seconds
//   -v  steps: how often the stack is compared at each PC (default 2)
//   -s  least share of PCs where ours agrees with libunwind and with libdw, wherever there is CFI, and where it is true, in
//       percent; exit status 1 below it (default 99.9)
//   -d  the stacks at the first so many examples of each kind of difference
//   -k  each PC's 8-byte key is appended to FILE: the same for the same instruction of the same file, in any process
// The first process alone is followed; of its threads, in single steps, the first. A program that switches stacks by hand makes its
// own truth: not for single steps.

#include "tests/e2e/oracle.h"

#include <elf.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "profd/wire.h"

#define MAX_SHADOW 65536u
#define MAX_SEEN (1u << 23)
#define MAX_KINDS 256u

enum oracle { LIBUNWIND, LIBDW, ORACLES };
static const char *const oracle_names[] = {"libunwind", "libdw"};

// What was found at a PC, at any of its visits.
#define UNTRUE 1u                        // ours is not the true stack
#define DIFFERS(oracle) (2u << (oracle)) // above a frame that has CFI
#define NO_CFI(oracle) (8u << (oracle))  // above a frame that has none: each may only guess

struct shadow_frame {
	uint64_t slot, return_address;
};

// A kind of difference; `example` is the PC in the frame above which it is, as a vaddr in its file.
struct kind {
	char what[128];
	uint64_t count, example;
};

static bool has_truth, modules_changed = true, from_entry;
static struct shadow_frame shadow[MAX_SHADOW];
static uint32_t shadow_count;

static struct {
	uint64_t pc;
	uint8_t visits, flags;
} seen[MAX_SEEN];
static unsigned max_visits = 2, max_examples;
static uint64_t steps, pcs, walks, frames, incomplete;
static struct kind kinds[MAX_KINDS];
static FILE *keys;
static int end = -1; // of the program: waitpid's status; −1: it was killed before

// ---- The truth -----------------------------------------------------------------------------------------------------

static void true_stack(struct oracle_stack *stack)
{
	stack->count = 0;
	stack->pcs[stack->count++] = oracle_regs.rip;
	for (uint32_t i = shadow_count; i-- > 0 && stack->count < ORACLE_MAX_FRAMES;)
		stack->pcs[stack->count++] = shadow[i].return_address;
}

// What the step from `before` to now did to the stack of return addresses. A call to the next instruction pushes too; a push of an
// address that is near by does not.
static void follow(const struct user_regs_struct *before)
{
	const struct user_regs_struct *now = &oracle_regs;
	uint64_t value;
	uint8_t opcode = 0;

	while (shadow_count && shadow[shadow_count - 1].slot < now->rsp)
		shadow_count--;
	if (now->rsp != before->rsp - 8 || !oracle_read(now->rsp, &value, 8) || value <= before->rip ||
	    value - before->rip > 15 || shadow_count == MAX_SHADOW)
		return;
	oracle_read(before->rip, &opcode, 1);
	if (now->rip != value || opcode == 0xe8)
		shadow[shadow_count++] = (struct shadow_frame){now->rsp, value};
}

// ---- Comparing -----------------------------------------------------------------------------------------------------

static bool equal(const struct oracle_stack *a, const struct oracle_stack *b)
{
	return a->count == b->count && memcmp(a->pcs, b->pcs, a->count * sizeof(a->pcs[0])) == 0;
}

// Frames that are the same, from the leaf.
static uint32_t common(const struct oracle_stack *a, const struct oracle_stack *b)
{
	uint32_t i = 0;

	while (i < a->count && i < b->count && a->pcs[i] == b->pcs[i])
		i++;
	return i;
}

static const char *file_name(uint64_t pc, uint64_t *ret_vaddr)
{
	struct oracle_file *file;
	const struct profd_module *module = oracle_module_at(pc, &file);
	const char *slash = module ? strrchr(file->file->path, '/') : NULL;

	*ret_vaddr = module ? pc - module->bias : pc;
	return slash ? slash + 1 : module ? file->file->path : "no file";
}

// Returns how many of its kind there are now.
static uint64_t count_kind(const char *what, uint64_t example)
{
	for (uint32_t i = 0; i < MAX_KINDS; i++) {
		if (!kinds[i].count) {
			snprintf(kinds[i].what, sizeof(kinds[i].what), "%s", what);
			kinds[i].example = example;
		}
		if (strcmp(kinds[i].what, what) == 0)
			return ++kinds[i].count;
	}
	return UINT64_MAX;
}

static void show(const char *name, const struct oracle_stack *stack)
{
	uint64_t vaddr;

	fprintf(stderr, "  %s (stop %u, no CFI %d):", name, stack->stop, stack->no_cfi);
	for (uint32_t i = 0; i < stack->count; i++) {
		const char *file = file_name(stack->pcs[i], &vaddr);

		fprintf(stderr, " %s+%#" PRIx64, file, vaddr);
	}
	fprintf(stderr, "\n");
}

static const char *relation(const struct oracle_stack *stack, const struct oracle_stack *other, uint32_t same)
{
	return same == stack->count ? "stops" : same == other->count ? "goes on" : "differs";
}

// How `stack` differs from `other`. Returns whether the frame above which they differ has CFI.
static bool explain(const char *who, const struct oracle_stack *stack, const struct oracle_stack *other,
		    const char *verdict)
{
	uint32_t same = common(stack, other);
	uint64_t at = same ? stack->pcs[same - 1] : oracle_regs.rip, vaddr;
	bool has_cfi = oracle_has_cfi(same > 1 ? at - 1 : at);
	const char *file = file_name(at, &vaddr);
	char what[128];

	snprintf(what, sizeof(what), "%s %s above %s%.40s%s%s", who, relation(stack, other, same),
		 same == 1 ? "leaf of " : "", file, has_cfi ? "" : ", no CFI", verdict);
	if (count_kind(what, vaddr) <= max_examples) {
		fprintf(stderr, "%s\n", what);
		show(who, stack);
		show("other", other);
	}
	return has_cfi;
}

static uint8_t compare_with(enum oracle oracle, const struct oracle_stack *theirs, const struct oracle_stack *ours,
			    const struct oracle_stack *truth)
{
	const char *verdict = "";

	if (equal(theirs, ours))
		return 0;
	if (has_truth)
		verdict = equal(ours, truth)     ? "; ours is true"
			  : equal(theirs, truth) ? "; theirs is true"
						 : "; neither is true";
	return explain(oracle_names[oracle], theirs, ours, verdict) ? DIFFERS(oracle) : NO_CFI(oracle);
}

static uint8_t compare(void)
{
	static struct oracle_stack ours, theirs, truth;
	uint8_t flags = 0;

	oracle_walk_ours(&ours);
	walks++;
	frames += ours.count;
	incomplete += ours.stop != WIRE_STOP_END;
	if (has_truth)
		true_stack(&truth);
	if (has_truth && !equal(&ours, &truth)) {
		flags |= UNTRUE;
		explain("ours", &ours, &truth, ", against the truth");
	}
	oracle_walk_libunwind(&theirs);
	flags |= compare_with(LIBUNWIND, &theirs, &ours, &truth);
	oracle_walk_libdw(&theirs);
	return flags | compare_with(LIBDW, &theirs, &ours, &truth);
}

static void write_key(uint64_t pc)
{
	uint64_t vaddr, key = 0xcbf29ce484222325ULL;

	for (const char *name = file_name(pc, &vaddr); *name; name++)
		key = (key ^ (uint8_t)*name) * 0x100000001b3ULL;
	key = (key ^ vaddr) * 0x9e3779b97f4a7c15ULL;
	key ^= key >> 29;
	fwrite(&key, sizeof(key), 1, keys);
}

static void visit(void)
{
	uint64_t pc = oracle_regs.rip;
	uint32_t i = (uint32_t)(pc * 0x9e3779b97f4a7c15ULL >> 41) % MAX_SEEN;

	while (seen[i].pc && seen[i].pc != pc)
		i = (i + 1) % MAX_SEEN;
	if (!seen[i].pc) {
		if (pcs >= MAX_SEEN / 4 * 3)
			return;
		pcs++;
		seen[i].pc = pc;
		if (keys)
			write_key(pc);
	}
	if (seen[i].visits >= max_visits)
		return;
	seen[i].visits++;
	seen[i].flags |= compare();
}

// ---- Single steps --------------------------------------------------------------------------------------------------

// mmap, mprotect, munmap, mremap: modules may come and go.
static void watch_system_calls(void)
{
	uint16_t code = 0;

	if (oracle_regs.rax != SYS_mmap && oracle_regs.rax != SYS_mprotect && oracle_regs.rax != SYS_munmap &&
	    oracle_regs.rax != SYS_mremap)
		return;
	if (oracle_read(oracle_regs.rip, &code, 2) && code == 0x050f)
		modules_changed = true;
}

static uint64_t entry_point(void)
{
	uint64_t pair[2], entry = 0;
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/auxv", oracle_pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && read(fd, pair, sizeof(pair)) == (ssize_t)sizeof(pair) && pair[0] != AT_NULL)
		if (pair[0] == AT_ENTRY)
			entry = pair[1];
	if (fd >= 0)
		close(fd);
	return entry;
}

// At full speed, to a breakpoint at its entry point.
static bool run_to_entry(void)
{
	uint64_t entry = entry_point();
	long word = ptrace(PTRACE_PEEKTEXT, oracle_pid, (void *)(uintptr_t)entry, NULL);
	int status;

	if (!entry ||
	    ptrace(PTRACE_POKETEXT, oracle_pid, (void *)(uintptr_t)entry, (void *)((word & ~0xffL) | 0xcc)) < 0 ||
	    ptrace(PTRACE_CONT, oracle_pid, NULL, NULL) < 0 || waitpid(oracle_pid, &status, __WALL) < 0 ||
	    !WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP)
		return false;
	ptrace(PTRACE_POKETEXT, oracle_pid, (void *)(uintptr_t)entry, (void *)word);
	return ptrace(PTRACE_POKEUSER, oracle_pid, offsetof(struct user_regs_struct, rip), entry) == 0;
}

static void step_through(uint64_t limit)
{
	struct user_regs_struct before;
	int status, signo = 0;

	has_truth = true;
	ptrace(PTRACE_SETOPTIONS, oracle_pid, NULL, (void *)(intptr_t)(PTRACE_O_EXITKILL | PTRACE_O_TRACEEXEC));
	if (from_entry && !run_to_entry()) {
		fprintf(stderr, "unwind_oracle: the program's entry point was not reached\n");
		exit(2);
	}
	ptrace(PTRACE_GETREGS, oracle_pid, NULL, &oracle_regs);
	while (steps < limit) {
		if (modules_changed)
			oracle_modules_renew();
		modules_changed = false;
		visit();
		watch_system_calls();
		before = oracle_regs;
		if (ptrace(PTRACE_SINGLESTEP, oracle_pid, NULL, (void *)(intptr_t)signo) < 0 ||
		    waitpid(oracle_pid, &status, __WALL) < 0 || !WIFSTOPPED(status))
			return;
		if (status >> 16 == PTRACE_EVENT_EXEC) {
			shadow_count = 0;
			modules_changed = true;
		}
		signo = WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
		ptrace(PTRACE_GETREGS, oracle_pid, NULL, &oracle_regs);
		oracle_memory_forget();
		follow(&before);
		steps++;
	}
}

// ---- The run -------------------------------------------------------------------------------------------------------

// Tracer and traced take turns: on one CPU, none of them is woken across to another, which takes several times as long.
static void stay_here(void)
{
	int cpu = sched_getcpu();
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu < 0 ? 0 : cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void start(char **command)
{
	int status, null;

	oracle_pid = fork();
	if (oracle_pid == 0) {
		null = open("/dev/null", O_RDWR);
		dup2(null, 0);
		dup2(null, 1);
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		unsetenv("LD_BIND_NOW"); // lazy binding is what programs do
		execvp(command[0], command);
		_exit(127);
	}
	if (oracle_pid < 0 || waitpid(oracle_pid, &status, 0) < 0 || !WIFSTOPPED(status)) {
		fprintf(stderr, "unwind_oracle: cannot start %s\n", command[0]);
		exit(2);
	}
	oracle_tid = oracle_pid;
}

static int compare_kinds(const void *a, const void *b)
{
	const struct kind *x = a, *y = b;

	return (x->count < y->count) - (x->count > y->count);
}

static uint64_t count_flagged(uint8_t flags)
{
	uint64_t count = 0;

	for (uint32_t i = 0; i < MAX_SEEN; i++)
		count += seen[i].pc && (seen[i].flags & flags);
	return count;
}

static double percent(uint64_t part, uint64_t whole)
{
	return whole ? 100.0 * (double)part / (double)whole : 0;
}

// One line of name=value, then a line for each kind. Returns the lowest share of PCs without a difference.
static double report(void)
{
	uint64_t untrue = count_flagged(UNTRUE), worst = untrue;

	printf("steps=%" PRIu64 " pcs=%" PRIu64 " walks=%" PRIu64 " frames=%" PRIu64 " incomplete=%" PRIu64
	       " ended=%d truth=%d untrue=%" PRIu64,
	       steps, pcs, walks, frames, incomplete, end, has_truth, untrue);
	for (enum oracle i = 0; i < ORACLES; i++) {
		uint64_t differs = count_flagged(DIFFERS(i));

		printf(" %s_differs=%" PRIu64 " %s_no_cfi=%" PRIu64, oracle_names[i], differs, oracle_names[i],
		       count_flagged(NO_CFI(i)));
		worst = differs > worst ? differs : worst;
	}
	printf("\n");
	qsort(kinds, MAX_KINDS, sizeof(kinds[0]), compare_kinds);
	for (uint32_t i = 0; i < MAX_KINDS && kinds[i].count; i++)
		printf("%8" PRIu64 "  %s (%#" PRIx64 ")\n", kinds[i].count, kinds[i].what, kinds[i].example);
	return percent(pcs - worst, pcs);
}

int main(int argc, char **argv)
{
	uint64_t limit = 2000000;
	unsigned seconds = 0;
	double least = 99.9;
	int option;

	while ((option = getopt(argc, argv, "+n:b:v:s:k:d:e")) != -1) {
		if (option == 'n')
			limit = strtoull(optarg, NULL, 10);
		else if (option == 'b')
			seconds = (unsigned)strtoul(optarg, NULL, 10);
		else if (option == 'v')
			max_visits = (unsigned)strtoul(optarg, NULL, 10);
		else if (option == 's')
			least = strtod(optarg, NULL);
		else if (option == 'e')
			from_entry = true;
		else if (option == 'd')
			max_examples = (unsigned)strtoul(optarg, NULL, 10);
		else if (option != 'k' || !(keys = fopen(optarg, "ae")))
			return 2;
	}
	if (optind >= argc)
		return 2;
	oracle_walk_init();
	stay_here();
	start(argv + optind);
	if (seconds)
		end = oracle_storm(visit, seconds);
	else
		step_through(limit);
	kill(oracle_pid, SIGKILL);
	if (keys && fclose(keys) != 0)
		return 2;
	return report() >= least ? 0 : 1;
}
