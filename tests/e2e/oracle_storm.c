// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// oracle_storm.c: stops a program once at each instruction that it executes, and lets it run at full speed in between.
//
// What holds at all times: wherever the program may go from code that was seen, it comes upon a breakpoint, or upon code that was seen.
// At first there is one at the start of each function, by .eh_frame_hdr. When one is hit it is taken away, and the thread is single-stepped
// for as long as its instructions are new. At each new one, wherever else it could lead gets a breakpoint: both ways of a
// branch, a call's target and the instruction behind it. An indirect jump's or call's own breakpoint stays until its last TRIES targets
// were all known. Code that is not in a file (JIT) has none.

#include "tests/e2e/oracle.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

#define MAX_SITES (1u << 23)
#define MAX_TIDS 256
#define TRIES 16
#define INT3 0xcc
#define CODE 15 // the longest instruction's bytes

struct site {
	uint64_t address; // 0: free
	bool seen, planted;
	uint8_t tries; // how often the breakpoint is put back when nothing new was found
	uint8_t original;
};

static struct site sites[MAX_SITES];
static uint32_t nsites;
static int memory = -1; // /proc/PID/mem
static void (*visit_cb)(void);
static bool modules_changed;
static uint64_t planted_modules[UNWIND_MAX_MODULES];
static uint32_t nplanted_modules;
static pid_t tids[MAX_TIDS], early[MAX_TIDS];
static uint32_t ntids, nearly;
static volatile sig_atomic_t time_is_up;

// ---- Sites ---------------------------------------------------------------------------------------------------------

// NULL: there are too many.
static struct site *site_at(uint64_t address, bool make)
{
	uint32_t i = (uint32_t)(address * 0x9e3779b97f4a7c15ULL >> 41) % MAX_SITES;

	while (sites[i].address && sites[i].address != address)
		i = (i + 1) % MAX_SITES;
	if (sites[i].address)
		return &sites[i];
	if (!make || nsites >= MAX_SITES / 4 * 3)
		return NULL;
	nsites++;
	sites[i].address = address;
	return &sites[i];
}

static void write_byte(int fd, uint64_t address, uint8_t byte)
{
	if (pwrite(fd, &byte, 1, (off_t)address) != 1 && errno != EIO)
		fprintf(stderr, "unwind_oracle: cannot write to %#" PRIx64 "\n", address);
}

// Only a file's text gets breakpoints.
static void plant(uint64_t address)
{
	const struct profd_module *module = oracle_module_at(address, NULL);
	struct site *site = module && module->table ? site_at(address, true) : NULL;

	if (!site || site->planted || (site->seen && !site->tries) || !oracle_read(address, &site->original, 1))
		return;
	site->planted = true;
	write_byte(memory, address, INT3);
}

static void remove_plant(struct site *site)
{
	if (site->planted)
		write_byte(memory, site->address, site->original);
	site->planted = false;
}

// ---- Code ----------------------------------------------------------------------------------------------------------

struct code {
	uint64_t next, target; // 0: none
	bool indirect, syscall;
};

static bool is_prefix(uint8_t byte)
{
	return byte == 0x26 || byte == 0x2e || byte == 0x36 || byte == 0x3e || (byte >= 0x64 && byte <= 0x67) ||
	       byte == 0xf0 || byte == 0xf2 || byte == 0xf3;
}

// Bytes of ModR/M, SIB and displacement (Intel SDM, volume 2, 2.1.5).
static unsigned modrm_length(const uint8_t *code)
{
	unsigned mod = code[0] >> 6, rm = code[0] & 7, length = 1;

	if (mod == 3)
		return 1;
	if (rm == 4)
		length++;
	if (mod == 1)
		return length + 1;
	if (mod == 2 || (mod == 0 && (rm == 5 || (rm == 4 && (code[1] & 7) == 5))))
		return length + 4;
	return length;
}

static uint64_t relative(uint64_t next, const uint8_t *code, unsigned size)
{
	int32_t wide;

	if (size == 1)
		return next + (uint64_t)(int64_t)(int8_t)code[0];
	memcpy(&wide, code, sizeof(wide));
	return next + (uint64_t)(int64_t)wide;
}

// What an instruction may lead to, besides the next one when that is where a single step ends up.
static struct code decode(uint64_t address)
{
	uint8_t bytes[CODE + 8] = {0};
	struct code code = {0};
	unsigned i = 0;
	uint8_t op;

	if (!oracle_read(address, bytes, CODE))
		return code;
	while (i < 8 && is_prefix(bytes[i]))
		i++;
	if ((bytes[i] & 0xf0) == 0x40)
		i++;
	op = bytes[i++];
	address += i;
	if (op == 0xe8 || op == 0xe9) {
		code.target = relative(address + 4, bytes + i, 4);
		code.next = op == 0xe8 ? address + 4 : 0;
	} else if (op == 0xeb || (op & 0xf0) == 0x70 || (op >= 0xe0 && op <= 0xe3)) {
		code.target = relative(address + 1, bytes + i, 1);
		code.next = op == 0xeb ? 0 : address + 1;
		if (bytes[i] == 1 && bytes[i + 1] == 0xf0) // over a lock prefix: no breakpoint inside the instruction
			code.target = 0;
	} else if (op == 0x0f && (bytes[i] & 0xf0) == 0x80) {
		code.target = relative(address + 5, bytes + i + 1, 4);
		code.next = address + 5;
	} else if (op == 0x0f && bytes[i] == 0x05) {
		code.next = address + 1;
		code.syscall = true;
	} else if (op == 0xff && ((bytes[i] >> 3) & 7) == 2) {
		code.next = address + modrm_length(bytes + i);
		code.indirect = true;
	} else if (op == 0xff && ((bytes[i] >> 3) & 7) == 4) {
		code.indirect = bytes[i] != 0x25; // through a fixed slot: a PLT entry, whose targets are functions
	} else if (i > 1 && ((op >= 0xa4 && op <= 0xa7) || (op >= 0xaa && op <= 0xaf))) {
		code.next = address; // a step of a repeated string instruction may not leave it
	}
	return code;
}

// ---- Modules -------------------------------------------------------------------------------------------------------

static void plant_functions(const struct profd_module *module, const struct oracle_file *file)
{
	uint64_t header = file->table + module->bias;
	uint32_t count = 0;
	int32_t start;

	if (!file->table || !oracle_read(header + 8, &count, sizeof(count)))
		return;
	for (uint32_t i = 0; i < count && oracle_read(header + 12 + 8ULL * i, &start, sizeof(start)); i++)
		plant(header + (uint64_t)(int64_t)start);
}

static bool was_planted(uint64_t start)
{
	for (uint32_t i = 0; i < nplanted_modules; i++)
		if (planted_modules[i] == start)
			return true;
	return false;
}

// Of what is mapped no more, nothing is known.
static void forget_unmapped(void)
{
	for (uint32_t i = 0; i < MAX_SITES; i++)
		if (sites[i].address && !oracle_module_at(sites[i].address, NULL))
			sites[i] = (struct site){.address = sites[i].address};
	for (uint32_t i = 0; i < nplanted_modules; i++)
		if (!oracle_module_at(planted_modules[i], NULL))
			planted_modules[i--] = planted_modules[--nplanted_modules];
}

static void renew_modules(void)
{
	uint32_t before = oracle_modules.set.count;

	oracle_modules_renew();
	if (oracle_modules.set.count < before)
		forget_unmapped();
	for (uint32_t i = 0; i < oracle_modules.set.count; i++) {
		const struct profd_module *module = &oracle_modules.modules[i];
		struct oracle_file *file;

		if (was_planted(module->start))
			continue;
		oracle_module_at(module->start, &file);
		planted_modules[nplanted_modules++] = module->start;
		plant_functions(module, file);
	}
}

// ---- Threads -------------------------------------------------------------------------------------------------------

static bool take(pid_t *list, uint32_t *count, pid_t tid)
{
	for (uint32_t i = 0; i < *count; i++) {
		if (list[i] != tid)
			continue;
		list[i] = list[--*count];
		return true;
	}
	return false;
}

static bool add(pid_t *list, uint32_t *count, pid_t tid)
{
	if (*count < MAX_TIDS)
		list[(*count)++] = tid;
	return true;
}

static bool is_known(pid_t tid)
{
	return take(tids, &ntids, tid) && add(tids, &ntids, tid);
}

// A forked child has copies of all breakpoints: it gets its text back and runs free.
static void free_child(pid_t child)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", child);
	fd = open(path, O_RDWR | O_CLOEXEC);
	for (uint32_t i = 0; fd >= 0 && i < MAX_SITES; i++)
		if (sites[i].planted)
			write_byte(fd, sites[i].address, sites[i].original);
	if (fd >= 0)
		close(fd);
	ptrace(PTRACE_DETACH, child, NULL, NULL);
}

// A new thread (or a vfork's child, which is as good as one until it execs), or a fork's child. Each begins stopped.
static void on_birth(pid_t parent, int event)
{
	unsigned long child;
	int status;

	if (ptrace(PTRACE_GETEVENTMSG, parent, NULL, &child) < 0)
		return;
	if (!take(early, &nearly, (pid_t)child) && waitpid((pid_t)child, &status, __WALL) < 0)
		return;
	if (event == PTRACE_EVENT_FORK) {
		free_child((pid_t)child);
		return;
	}
	add(tids, &ntids, (pid_t)child);
	ptrace(PTRACE_SYSCALL, (pid_t)child, NULL, NULL);
}

// ---- Following one thread through new code ---------------------------------------------------------------------------

// Returns the signal that ended it; 0: a step was made; −1: the thread is no more, or was stopped otherwise and goes on by itself.
static int step(void)
{
	int status;

	if (ptrace(PTRACE_SINGLESTEP, oracle_tid, NULL, NULL) < 0 || waitpid(oracle_tid, &status, __WALL) < 0 ||
	    !WIFSTOPPED(status) || status >> 16)
		return -1;
	ptrace(PTRACE_GETREGS, oracle_tid, NULL, &oracle_regs);
	oracle_memory_forget();
	return WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
}

static struct code expand(struct site *site)
{
	struct code code = decode(site->address);

	site->tries = code.indirect ? TRIES : 0;
	if (code.next)
		plant(code.next);
	if (code.target)
		plant(code.target);
	return code;
}

// After a step from where the thread may come again with another target.
static void put_back(struct site *site, const struct site *next)
{
	if (!next || next->seen)
		site->tries--;
	else
		site->tries = TRIES;
	plant(site->address);
}

// Until the thread is in known code. Returns the signal to go on with.
static int follow(void)
{
	struct site *site = site_at(oracle_regs.rip, true), *next;
	struct code code;
	int signo;

	while (site && (!site->seen || site->tries)) {
		remove_plant(site);
		code = (struct code){0};
		if (!site->seen) {
			site->seen = true;
			visit_cb();
			code = expand(site);
		}
		if (code.syscall) // it may wait for a thread that waits for us
			return 0;
		signo = step();
		if (signo) {
			site->tries += !site->tries;
			plant(site->address);
			return signo;
		}
		next = oracle_module_at(oracle_regs.rip, NULL) ? site_at(oracle_regs.rip, true) : NULL;
		if (site->tries)
			put_back(site, next);
		site = next;
	}
	if (site)
		remove_plant(site);
	return 0;
}

// Code may come or go: PROT_EXEC, or a module is hit. At the stop before the system call and at the one after it.
static void on_syscall(pid_t tid)
{
	const struct user_regs_struct *regs = &oracle_regs;
	uint64_t call;

	if (ptrace(PTRACE_GETREGS, tid, NULL, &oracle_regs) < 0)
		return;
	call = regs->orig_rax;
	if (call == SYS_mmap || call == SYS_mprotect)
		modules_changed |= (regs->rdx & PROT_EXEC) != 0;
	else if (call == SYS_munmap || call == SYS_mremap)
		modules_changed |= oracle_module_at(regs->rdi, NULL) != NULL;
}

static int on_trap(pid_t tid)
{
	struct site *site;

	oracle_tid = tid;
	if (ptrace(PTRACE_GETREGS, tid, NULL, &oracle_regs) < 0)
		return 0;
	site = site_at(oracle_regs.rip - 1, false);
	if (!site)
		return 0;
	oracle_memory_forget();
	if (modules_changed)
		renew_modules();
	modules_changed = false;
	oracle_regs.rip--;
	ptrace(PTRACE_POKEUSER, tid, offsetof(struct user_regs_struct, rip), oracle_regs.rip);
	return follow();
}

// ---- The run -------------------------------------------------------------------------------------------------------

// Returns false when the process is no more, or another.
static bool on_stop(pid_t tid, int status)
{
	int event = status >> 16, signo = WSTOPSIG(status);

	if (!is_known(tid))
		return add(early, &nearly, tid); // until its parent tells of it
	if (event == PTRACE_EVENT_EXEC) {
		if (tid == oracle_pid)
			return false;
		take(tids, &ntids, tid);
		ptrace(PTRACE_DETACH, tid, NULL, NULL);
		return true;
	}
	if (event)
		on_birth(tid, event);
	if (signo == (SIGTRAP | 0x80))
		on_syscall(tid);
	signo = event || signo == SIGSTOP || signo == (SIGTRAP | 0x80) ? 0 : signo == SIGTRAP ? on_trap(tid) : signo;
	if (signo >= 0)
		ptrace(PTRACE_SYSCALL, tid, NULL, (void *)(intptr_t)signo);
	return true;
}

static void on_alarm(int signo)
{
	time_is_up = 1;
}

static void start(unsigned seconds)
{
	struct sigaction action = {.sa_handler = on_alarm}; // no SA_RESTART: waitpid ends
	struct itimerval timer = {{1, 0}, {seconds, 0}};
	char path[32];

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	snprintf(path, sizeof(path), "/proc/%d/mem", oracle_pid);
	memory = open(path, O_RDWR | O_CLOEXEC);
	ptrace(PTRACE_SETOPTIONS, oracle_pid, NULL,
	       (void *)(intptr_t)(PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK |
				  PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC));
	add(tids, &ntids, oracle_pid);
	ptrace(PTRACE_GETREGS, oracle_pid, NULL, &oracle_regs);
	renew_modules();
	plant(oracle_regs.rip);
	ptrace(PTRACE_SYSCALL, oracle_pid, NULL, NULL);
}

int oracle_storm(void (*visit)(void), unsigned seconds)
{
	pid_t tid;
	int status, end = -1;

	visit_cb = visit;
	start(seconds);
	while (!time_is_up) {
		tid = waitpid(-1, &status, __WALL);
		if (tid < 0)
			break;
		if (WIFSTOPPED(status) && !on_stop(tid, status))
			break;
		if (!WIFSTOPPED(status) && tid == oracle_pid) {
			end = status;
			break;
		}
		if (!WIFSTOPPED(status))
			take(tids, &ntids, tid);
	}
	close(memory);
	return end;
}
