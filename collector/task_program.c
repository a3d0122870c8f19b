// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// SPDX-FileCopyrightText: The profd authors
//
// task_program.c: see task_program.h.
//
// The program only reads, members of the kernel's structures, whose offsets the running kernel says (kernel_types.h); a wrong one would make
// wrong numbers, but the verifier lets no program read outside of them. Written for it by hand: there is no compiler for BPF where we run.
// What may call bpf_seq_write() has to be under the GPL as well: the instructions that make_program() puts together are, at your choice.
//
// A thread that waits is not on a run queue. It may be woken while it is looked at: whether it was is asked again behind its registers,
// and how often it has begun to wait is then still the same.

#include "collector/task_program.h"

#include <assert.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "collector/kernel_types.h"

#if TASK_PROGRAM_HAS_PLACES
#define NREGS 9
// In the order of task_program_row, from number on.
static const char *const reg_names[NREGS] = {"orig_ax", "di", "si", "dx", "r10", "r8", "r9", "sp", "ip"};
#else
#define NREGS 0
static const char *const reg_names[1] = {""};
#endif

enum { TID, NAME, ENTITY, ON_RQ, ON_CPU, STATE, EXIT_STATE, SWITCHES, NMEMBERS };
enum { EXEC_START, SUM_EXEC, NTIMES };

static const char *const member_names[NMEMBERS] = {"pid",    "comm",    "se",         "on_rq",
						   "on_cpu", "__state", "exit_state", "nvcsw"};
static const char *const time_names[NTIMES] = {"exec_start", "sum_exec_runtime"};

struct offsets {
	int16_t members[NMEMBERS], times[NTIMES], regs[NREGS + 1];
	uint32_t iterator; // the function that the program is called by
};

#define WAITS 3 // TASK_INTERRUPTIBLE | TASK_UNINTERRUPTIBLE: the rest is stopped, traced or ends
#define MAX_INSNS 96

struct program {
	struct bpf_insn insns[MAX_INSNS];
	unsigned count;
	unsigned jumps[MAX_INSNS], njumps; // that wait for their target
};

static void put(struct program *program, uint8_t code, uint8_t dst, uint8_t src, int16_t off, int32_t imm)
{
	assert(program->count < MAX_INSNS);
	program->insns[program->count++] =
		(struct bpf_insn){.code = code, .dst_reg = dst, .src_reg = src, .off = off, .imm = imm};
}

static void load(struct program *program, uint8_t size, uint8_t dst, uint8_t src, int16_t offset)
{
	put(program, BPF_LDX | BPF_MEM | size, dst, src, offset, 0);
}

// The row is at the end of the program's stack.
static int16_t row_at(size_t offset)
{
	return (int16_t)((int)offset - (int)sizeof(struct task_program_row));
}

static void store(struct program *program, uint8_t size, uint8_t src, size_t offset)
{
	put(program, BPF_STX | BPF_MEM | size, BPF_REG_10, src, row_at(offset), 0);
}

static void copy(struct program *program, uint8_t size, uint8_t from, int16_t at, size_t to)
{
	load(program, size, BPF_REG_2, from, at);
	store(program, size, BPF_REG_2, to);
}

// Further on, to where land() is, if condition (BPF_JEQ…) holds between a register and another (BPF_X) or a number (BPF_K).
static void jump(struct program *program, uint8_t condition, uint8_t reg, uint8_t other, int32_t number)
{
	program->jumps[program->njumps++] = program->count;
	put(program, BPF_JMP | condition, reg, other, 0, number);
}

static void land(struct program *program)
{
	while (program->njumps > 0) {
		unsigned from = program->jumps[--program->njumps];

		program->insns[from].off = (int16_t)(program->count - from - 1);
	}
}

#define TASK BPF_REG_6
#define OUTPUT BPF_REG_7
#define SWITCHED BPF_REG_8
#define ROW(member) offsetof(struct task_program_row, member)

static void put_times(struct program *program, const struct offsets *offsets)
{
	int16_t entity = offsets->members[ENTITY];

	copy(program, BPF_W, TASK, offsets->members[TID], ROW(tid));
	copy(program, BPF_DW, TASK, (int16_t)(entity + offsets->times[EXEC_START]), ROW(exec_start_ns));
	copy(program, BPF_DW, TASK, (int16_t)(entity + offsets->times[SUM_EXEC]), ROW(sum_exec_ns));
	copy(program, BPF_DW, TASK, offsets->members[NAME], ROW(name));
	copy(program, BPF_DW, TASK, (int16_t)(offsets->members[NAME] + 8), ROW(name) + 8);
	load(program, BPF_DW, SWITCHED, TASK, offsets->members[SWITCHES]);
	store(program, BPF_DW, SWITCHED, ROW(switches));
}

// Leaves the rest out when the thread does not wait.
static void check_waits(struct program *program, const struct offsets *offsets)
{
	load(program, BPF_W, BPF_REG_2, TASK, offsets->members[ON_RQ]);
	jump(program, BPF_JNE | BPF_K, BPF_REG_2, 0, 0);
	load(program, BPF_W, BPF_REG_2, TASK, offsets->members[ON_CPU]);
	jump(program, BPF_JNE | BPF_K, BPF_REG_2, 0, 0);
}

// What follows the thread's times is kept when it waits, and waits still when all of it was read.
static void put_wait(struct program *program, const struct offsets *offsets)
{
	check_waits(program, offsets);
	load(program, BPF_W, BPF_REG_2, TASK, offsets->members[EXIT_STATE]);
	jump(program, BPF_JNE | BPF_K, BPF_REG_2, 0, 0);
	load(program, BPF_W, BPF_REG_2, TASK, offsets->members[STATE]);
	put(program, BPF_ALU64 | BPF_AND | BPF_K, BPF_REG_2, 0, 0, WAITS);
	jump(program, BPF_JEQ | BPF_K, BPF_REG_2, 0, 0);
	if (TASK_PROGRAM_HAS_PLACES) {
		put(program, BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_1, TASK, 0, 0);
		put(program, BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_task_pt_regs);
	}
	for (int i = 0; i < NREGS; i++)
		copy(program, BPF_DW, BPF_REG_0, offsets->regs[i], ROW(number) + (size_t)i * sizeof(uint64_t));
	check_waits(program, offsets);
	load(program, BPF_DW, BPF_REG_2, TASK, offsets->members[SWITCHES]);
	jump(program, BPF_JNE | BPF_X, BPF_REG_2, SWITCHED, 0);
	put(program, BPF_ST | BPF_MEM | BPF_W, BPF_REG_10, 0, row_at(ROW(waits)), 1);
}

static void put_end(struct program *program)
{
	put(program, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 0);
	put(program, BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
}

// struct bpf_iter__task: meta, whose first member is the output; and the thread, which is NULL at the end.
static void make_program(const struct offsets *offsets, struct program *program)
{
	load(program, BPF_DW, TASK, BPF_REG_1, 8);
	load(program, BPF_DW, OUTPUT, BPF_REG_1, 0);
	load(program, BPF_DW, OUTPUT, OUTPUT, 0);
	put(program, BPF_JMP | BPF_K | BPF_JNE, TASK, 0, 2, 0);
	put_end(program);
	for (size_t at = 0; at < sizeof(struct task_program_row); at += 8)
		put(program, BPF_ST | BPF_MEM | BPF_DW, BPF_REG_10, 0, row_at(at), 0);
	put_times(program, offsets);
	put_wait(program, offsets);
	land(program);
	put(program, BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_1, OUTPUT, 0, 0);
	put(program, BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_2, BPF_REG_10, 0, 0);
	put(program, BPF_ALU64 | BPF_ADD, BPF_REG_2, 0, 0, row_at(0)); // BPF_K: both are 0
	put(program, BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_3, 0, 0, sizeof(struct task_program_row));
	put(program, BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_seq_write);
	put_end(program);
}

static int find_offsets(struct offsets *offsets)
{
	struct kernel_types types;
	int r = kernel_types_open(&types);

	if (r < 0)
		return r;
	offsets->iterator = kernel_types_function(&types, "bpf_iter_task");
	r = offsets->iterator ? 0 : -ENOENT;
	if (r == 0)
		r = kernel_types_members(&types, "task_struct", member_names, offsets->members, NMEMBERS);
	if (r == 0)
		r = kernel_types_members(&types, "sched_entity", time_names, offsets->times, NTIMES);
	if (r == 0)
		r = kernel_types_members(&types, "pt_regs", reg_names, offsets->regs, NREGS);
	kernel_types_close(&types);
	return r;
}

int task_program_load(void)
{
	struct offsets offsets;
	struct program program = {.count = 0};
	union bpf_attr attr;
	int r = find_offsets(&offsets);

	if (r < 0)
		return r;
	make_program(&offsets, &program);
	memset(&attr, 0, sizeof(attr));
	attr.prog_type = BPF_PROG_TYPE_TRACING;
	attr.expected_attach_type = BPF_TRACE_ITER;
	attr.attach_btf_id = offsets.iterator;
	attr.insns = (uintptr_t)program.insns;
	attr.insn_cnt = program.count;
	attr.license = (uintptr_t) "GPL";
	memcpy(attr.prog_name, "profd_threads", sizeof("profd_threads"));
	r = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));
	return r < 0 ? -errno : r;
}
