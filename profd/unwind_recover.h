// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// unwind_recover.h: a frame pointer that nobody told us. A part of unwind_table.c: walks from outside alone (PROFD_UNWIND_OUTSIDE).
//
// Of a thread that waits, the kernel shows PC and SP. That is enough for code that keeps no frame pointer; in code that does, the CFA is
// relative to FP. But the record that FP points to (the caller's FP, the return address) lies above SP, and can be known again:
//   - where the function's prologue says how large its frame is, FP is that far above SP, but for arguments of calls on the stack;
//   - the return address in the record was left by a call; a direct one went to the beginning of this function;
//   - with that FP, the walk reaches the thread's start.
// Old records that a frame has not overwritten look alike. So one that only the last point speaks for counts only if all others that it
// speaks for are those of frames further out, or lead through calls that went elsewhere. Otherwise the walk ends here, and says so.

#ifdef PROFD_UNWIND_OUTSIDE

#include "profd/unwind_runtime.h"

#define RECOVER_REACH (64u << 10) // bytes above SP that a frame with a frame pointer may have
#define RECOVER_STEPS 8192u       // back over rows and blocks, in one function
#define MAX_LATE_PUSH 64u         // bytes from a function's entry to the instruction behind its push of FP
#define MAX_PROLOGUE 24u          // instructions
#define MAX_DOUBTLESS (64u << 10) // bytes from a function's entry to a PC in it; more is rare

// A row, and the block that it is in.
struct row_place {
	uint32_t row, block;
};

// The row of vaddr, as profd_lookup_rule.
static bool find_row(const struct wire_table *table, uint64_t vaddr, struct row_place *ret_place)
{
	if (!wire_table_find_row(table, vaddr, &ret_place->row))
		return false;
	ret_place->block = (uint32_t)((vaddr - table->text_start) >> WIRE_TABLE_BLOCK_BITS);
	while (ret_place->row < wire_table_block_start(table, ret_place->block))
		ret_place->block--;
	return true;
}

// False: there is none, or not within *steps, which is counted down.
static bool find_row_before(const struct wire_table *table, struct row_place *place, uint32_t *steps)
{
	if (place->row == 0 || *steps == 0)
		return false;
	place->row--;
	for (--*steps; *steps > 0 && place->row < wire_table_block_start(table, place->block); --*steps)
		place->block--;
	return *steps > 0;
}

static uint64_t row_vaddr(const struct wire_table *table, const struct row_place *place)
{
	return table->text_start + ((uint64_t)place->block << WIRE_TABLE_BLOCK_BITS) +
	       wire_table_rows(table)[place->row].offset;
}

static bool is_first_of_page(const struct wire_table *table, const struct row_place *place)
{
	return place->row == wire_table_pages(table)[place->block / WIRE_PAGE_BLOCKS];
}

static bool is_entry_rule(const struct wire_rule *rule)
{
	return rule->cfa == WIRE_CFA_SP && rule->off == 8;
}

// FP was pushed first.
static bool is_push_rule(const struct wire_rule *rule)
{
	return rule->cfa == WIRE_CFA_SP && rule->off == 16 && rule->fp == WIRE_SAVED_AT && rule->fp_off == -16;
}

// FP points to where it was pushed.
static bool is_record_rule(const struct wire_rule *rule)
{
	return rule->cfa == WIRE_CFA_FP && rule->off == 16 && rule->fp == WIRE_SAVED_AT && rule->fp_off == -16;
}

// What CFI says of how the function at hand got its frame. Addresses; 0: not known.
struct frame_setup {
	uint64_t push;  // behind its `push %rbp`
	uint64_t moved; // behind its `mov %rsp,%rbp`. In between, its CFA is SP + 16: nothing there moves SP
	uint64_t entry_start,
		entry_end; // the rule at hand begins at entry_end, and until there it was that of an entry
};

// By its rows, back to the push.
static void find_push(const struct wire_table *table, struct row_place place, struct frame_setup *ret_setup)
{
	uint32_t steps = RECOVER_STEPS;
	uint64_t address = 0, behind;

	for (;;) {
		behind = address;
		address = row_vaddr(table, &place);
		if (is_push_rule(wire_table_row_rule(table, place.row))) {
			// Pages begin with a row of their own.
			bool continues = is_first_of_page(table, &place) && place.row > 0 &&
					 is_push_rule(wire_table_row_rule(table, place.row - 1));

			if (!ret_setup->moved && is_record_rule(wire_table_row_rule(table, place.row + 1)))
				ret_setup->moved = behind;
			ret_setup->push = address;
			if (!continues)
				return;
		}
		// Between functions there may be a hole; in front of one, it was another function.
		if (!find_row_before(table, &place, &steps) ||
		    wire_table_row_rule(table, place.row)->cfa == WIRE_CFA_NONE)
			return;
	}
}

static struct frame_setup find_setup(struct profd_walk *walk)
{
	const struct profd_module *module = profd_walk_module(walk, walk->pc);
	struct frame_setup setup = {0};
	struct row_place place;

	if (!module || !module->table ||
	    !find_row(module->table, walk->pc - (walk->exact ? 0 : 1) - module->bias, &place))
		return setup;
	if (is_record_rule(wire_table_row_rule(module->table, place.row)))
		find_push(module->table, place, &setup);
	if (!is_first_of_page(module->table, &place) &&
	    is_entry_rule(wire_table_row_rule(module->table, place.row - 1))) {
		uint64_t entry_end = row_vaddr(module->table, &place) + module->bias;
		uint32_t steps = WIRE_PAGE_BLOCKS + 2; // it is in the same page

		if (find_row_before(module->table, &place, &steps)) {
			setup.entry_start = row_vaddr(module->table, &place) + module->bias;
			setup.entry_end = entry_end;
		}
	}
	if (setup.push)
		setup.push += module->bias;
	if (setup.moved)
		setup.moved += module->bias;
	return setup;
}

static uint8_t code_byte(struct profd_walk *walk, uint64_t address)
{
	uint64_t word;

	return profd_walk_load_far(walk, address & ~7ULL, &word) ? (uint8_t)(word >> (address & 7) * 8) : 0;
}

// Bytes of a ModRM operand: SIB, displacement.
static uint32_t operand_size(struct profd_walk *walk, uint64_t address)
{
	uint8_t modrm = code_byte(walk, address), mode = modrm >> 6;
	bool has_sib = mode != 3 && (modrm & 7) == 4;
	bool absolute = mode == 0 && ((modrm & 7) == 5 || (has_sib && (code_byte(walk, address + 1) & 7) == 5));

	return 1 + has_sib + (mode == 1) + 4 * (mode == 2 || absolute);
}

// Bytes of a push, or of an instruction that compilers put between the pushes and that leaves SP alone; 0: of any other.
static uint32_t skip_instruction(struct profd_walk *walk, uint64_t address, uint32_t *pushes)
{
	uint8_t opcode = code_byte(walk, address), prefix = 0, modrm;
	uint32_t size = 1;

	if ((opcode & 0xf0) == 0x40) {
		prefix = opcode;
		opcode = code_byte(walk, address + size++);
	}
	if ((opcode & 0xf8) == 0x50 && !(prefix & ~0x41)) {
		++*pushes;
		return size;
	}
	if ((opcode & 0xf8) == 0xb8 && !(prefix & 8)) // mov $constant, register
		return size + 4;
	modrm = code_byte(walk, address + size);
	// mov, lea, xor, test: not where the result goes to SP
	if (opcode == 0x8b || opcode == 0x8d || opcode == 0x33)
		return (modrm >> 3 & 7) == 4 && !(prefix & 4) ? 0 : size + operand_size(walk, address + size);
	if (opcode == 0x89 || opcode == 0x31 || opcode == 0x85)
		return modrm >> 6 == 3 && (modrm & 7) == 4 && !(prefix & 1) ? 0
									    : size + operand_size(walk, address + size);
	return 0;
}

static bool is_move_before(struct profd_walk *walk, uint64_t address)
{
	uint32_t code = code_byte(walk, address - 3) | (uint32_t)code_byte(walk, address - 2) << 8 |
			(uint32_t)code_byte(walk, address - 1) << 16;

	return code == 0xe58948 || code == 0xec8b48; // mov %rsp,%rbp in its two encodings
}

static uint32_t code_word(struct profd_walk *walk, uint64_t address)
{
	uint32_t word = 0;

	for (uint32_t i = 0; i < 4; i++)
		word |= (uint32_t)code_byte(walk, address + i) << 8 * i;
	return word;
}

static bool is_epilogue(struct profd_walk *walk, uint64_t address)
{
	uint8_t opcode = code_byte(walk, address);

	if (opcode == 0x41)
		opcode = code_byte(walk, address + 1);
	return (opcode & 0xf8) == 0x58 || opcode == 0xc3; // pop, ret
}

#define ADD_TO_SP 0xc4   // the ModRM bytes of what adds a constant to SP
#define SUB_FROM_SP 0xec // and of what subtracts one

// The constant of such an instruction at address, and the instruction's size; size 0: it is another one.
static uint64_t sp_constant(struct profd_walk *walk, uint64_t address, uint8_t modrm, uint32_t *ret_size)
{
	uint8_t opcode = code_byte(walk, address) == 0x48 ? code_byte(walk, address + 1) : 0; // REX.W

	*ret_size = 0;
	if ((opcode != 0x83 && opcode != 0x81) || code_byte(walk, address + 2) != modrm)
		return 0;
	*ret_size = opcode == 0x83 ? 4 : 7;
	return opcode == 0x83 ? code_byte(walk, address + 3) : code_word(walk, address + 3);
}

// By how much code at address raises SP, other than to leave a function with such a frame. 0: it does not.
static uint64_t raise_at(struct profd_walk *walk, uint64_t address, uint64_t frame_size)
{
	uint32_t size;
	uint64_t raise = sp_constant(walk, address, ADD_TO_SP, &size);

	if (raise >= (size == 4 ? 0x80 : 0x80000000)) // a lowering
		return 0;
	return raise == frame_size && is_epilogue(walk, address + size) ? 0 : raise;
}

#define PROLOGUE_FPS 2u
#define RAISE_REACH 8192u // bytes behind a prologue that are gone through: the first call is near

// What FP can be where the prologue, up to `end`, has lowered SP by frame_size. Who calls with arguments on the stack raises SP afterwards: by what the prologue has
// lowered it too much, or by what was pushed before the call.
static void find_fps(struct profd_walk *walk, uint64_t end, uint64_t frame_size, uint64_t fp,
		     uint64_t ret_fps[PROLOGUE_FPS])
{
	uint64_t raise = 0;

	for (uint64_t pc = end; pc < walk->pc && pc - end < RAISE_REACH && !raise; pc++)
		raise = raise_at(walk, pc, frame_size);
	ret_fps[0] = fp - raise;
	if (!raise)
		raise = raise_at(walk, walk->pc, frame_size);
	ret_fps[1] = raise ? ret_fps[0] + raise : 0;
}

// FP as the prologue has it: between the move to FP and the lowering of SP, nothing but pushes moves SP. Nearest first; 0: not known.
static void fps_by_prologue(struct profd_walk *walk, const struct frame_setup *setup, uint64_t ret_fps[PROLOGUE_FPS])
{
	uint32_t pushes = 0, size;
	uint64_t pc = setup->moved, frame_size;

	ret_fps[0] = ret_fps[1] = 0;
	if (!pc || !is_move_before(walk, pc))
		return;
	for (uint32_t n = 0; n < MAX_PROLOGUE && pc < walk->pc; n++) {
		frame_size = sp_constant(walk, pc, SUB_FROM_SP, &size);
		if (size) {
			find_fps(walk, pc + size, frame_size, walk->sp + frame_size + 8 * (uint64_t)pushes, ret_fps);
			return;
		}
		size = skip_instruction(walk, pc, &pushes);
		if (!size)
			return;
		pc += size;
	}
}

// Where the frame at hand has its return address, if FP is fp. Code without a rule has it next to FP.
static bool find_slot(struct profd_walk *walk, const struct wire_rule *rule, uint64_t fp, uint64_t *ret_slot)
{
	uint64_t cfa;

	if (!rule || rule->ra != WIRE_SAVED_AT || (rule->cfa != WIRE_CFA_FP && rule->cfa != WIRE_CFA_FP_DEREF)) {
		*ret_slot = fp + 8;
		return true;
	}
	cfa = fp + (uint64_t)(int64_t)rule->off;
	if (rule->cfa == WIRE_CFA_FP_DEREF) {
		if (!profd_walk_load(walk, cfa, &cfa))
			return false;
		cfa += (uint64_t)(int64_t)rule->off2;
	}
	*ret_slot = saved_base(rule, cfa) + (uint64_t)(int64_t)rule->ra_off;
	return *ret_slot >= walk->sp && *ret_slot - walk->sp < 2 * RECOVER_REACH;
}

static bool is_code(struct profd_walk *walk, uint64_t address)
{
	uint32_t low = 0, high = walk->set->nranges;

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (address < walk->set->ranges[middle].start)
			high = middle;
		else if (address >= walk->set->ranges[middle].end)
			low = middle + 1;
		else
			return true;
	}
	return profd_walk_module(walk, address);
}

enum vouched {
	VOUCHED_NOT,
	VOUCHED_ELSEWHERE, // a return address, but of a call of another function: one that jumped here at its end, or none of this frame's
	VOUCHED_BY_RECORD,
	VOUCHED_BY_CALL
};

// May the return address of the function at hand be at slot?
static enum vouched vouch(struct profd_walk *walk, uint64_t slot, const struct frame_setup *setup)
{
	const struct profd_module *module = profd_walk_module(walk, walk->pc), *other;
	const struct wire_rule *rule;
	uint64_t return_address, target;

	if (!profd_walk_load(walk, slot, &return_address) || return_address < WIRE_PAGE ||
	    !profd_arch_is_pc(return_address) || !is_code(walk, return_address - 1) ||
	    !is_return_address(walk, return_address))
		return VOUCHED_NOT;
	if (!profd_code_call_target(walk, return_address, &target))
		return VOUCHED_BY_RECORD;
	other = profd_walk_module(walk, target);
	rule = rule_at(walk, target);
	// By way of a procedure linkage table it may have gone anywhere.
	if (other != module || (rule && rule->cfa == WIRE_CFA_PLT))
		return VOUCHED_BY_RECORD;
	if (target >= setup->entry_start && target < setup->entry_end)
		return VOUCHED_BY_CALL;
	if (!setup->push)
		return target < walk->pc && walk->pc - target < PROFD_MAX_FUNCTION ? VOUCHED_BY_RECORD
										   : VOUCHED_ELSEWHERE;
	return target < setup->push && setup->push - target <= MAX_LATE_PUSH ? VOUCHED_BY_CALL : VOUCHED_ELSEWHERE;
}

// A walk with the record at fp: the frames' CFAs.
struct recovery {
	uint64_t fp; // 0: none
	uint32_t count;
	uint32_t doubts; // calls that did not go to the frame that they left: tail calls, or leftovers
	uint64_t cfas[WIRE_MAX_FRAMES];
};

// Did the direct call before return_address go where the code at pc can be?
static bool is_doubtful(struct profd_walk *walk, uint64_t pc, uint64_t return_address)
{
	const struct wire_rule *rule;
	uint64_t target;

	// Runtimes call their code through pieces of code.
	if (!profd_code_call_target(walk, return_address, &target) || !profd_walk_module(walk, target))
		return false;
	rule = rule_at(walk, target);
	if (rule && rule->cfa == WIRE_CFA_PLT)
		return false;
	return target > pc || pc - target > MAX_DOUBTLESS;
}

// Does it reach the thread's start?
static bool try_record(const struct profd_walk *walk, uint64_t fp, struct recovery *ret_recovery)
{
	struct profd_walk trial = *walk;
	enum step step = STEP_ON;
	uint32_t count = 0;

	trial.fp = fp;
	trial.fp_known = true;
	trial.trial = true;
	ret_recovery->doubts = 0;
	while (step == STEP_ON && count < WIRE_MAX_FRAMES) {
		uint64_t pc = trial.pc;

		step = step_up(&trial);
		if (step == STEP_ON && !trial.exact && trial.pc)
			ret_recovery->doubts += is_doubtful(&trial, pc, trial.pc);
		if (step == STEP_ON && trial.pc == 0)
			step = STEP_END;
		if (step == STEP_ON)
			ret_recovery->cfas[count++] = trial.sp;
	}
	if (step != STEP_END)
		return false;
	ret_recovery->fp = fp;
	ret_recovery->count = count;
	return true;
}

// The return address at slot is that of a frame further out.
static bool explains(const struct recovery *recovery, uint64_t slot)
{
	for (uint32_t i = 0; recovery->fp && i < recovery->count; i++)
		if (recovery->cfas[i] == slot + 8)
			return true;
	return false;
}

static bool search_record(struct profd_walk *walk, const struct wire_rule *frame, const struct frame_setup *setup,
			  struct recovery *ret_recovery)
{
	struct recovery other;
	uint64_t word, slot;

	for (uint64_t fp = walk->sp; fp - walk->sp < RECOVER_REACH && profd_walk_load(walk, fp, &word); fp += 8) {
		enum vouched vouched = find_slot(walk, frame, fp, &slot) ? vouch(walk, slot, setup) : VOUCHED_NOT;

		if (vouched <= VOUCHED_ELSEWHERE || explains(ret_recovery, slot))
			continue;
		if (!ret_recovery->fp) {
			if (try_record(walk, fp, ret_recovery) && vouched == VOUCHED_BY_CALL)
				return true;
		} else if (try_record(walk, fp, &other)) {
			if (!ret_recovery->doubts == !other.doubts)
				return false;
			if (ret_recovery->doubts)
				*ret_recovery = other;
		}
	}
	return ret_recovery->fp != 0;
}

static bool recover_fp(struct profd_walk *walk)
{
	const struct wire_rule *frame;
	struct recovery recovery = {0};
	struct frame_setup setup;
	enum vouched vouched[PROLOGUE_FPS];
	uint64_t fps[PROLOGUE_FPS], slot;

	// Code made at run time may keep no frame pointer at all (LuaJIT, HotSpot): a record of anyone's further out would do.
	if (walk->trial || PROFD_ARCH_LINK || !profd_walk_module(walk, walk->pc))
		return false;
	frame = rule_at(walk, walk->pc - (walk->exact ? 0 : 1));
	setup = find_setup(walk);
	fps_by_prologue(walk, &setup, fps);
	for (uint32_t i = 0; i < PROLOGUE_FPS; i++)
		vouched[i] = fps[i] >= walk->sp && find_slot(walk, frame, fps[i], &slot) ? vouch(walk, slot, &setup)
											 : VOUCHED_NOT;
	// The nearest: what is further out may be its caller's. But a call of this function is better.
	if (vouched[1] == VOUCHED_BY_CALL && vouched[0] != VOUCHED_BY_CALL)
		vouched[0] = VOUCHED_NOT;
	for (uint32_t i = 0; i < PROLOGUE_FPS && !recovery.fp; i++)
		if (vouched[i] != VOUCHED_NOT)
			(void)try_record(walk, fps[i], &recovery);
	if (!recovery.fp && !search_record(walk, frame, &setup, &recovery))
		return false;
	walk->fp = recovery.fp;
	walk->fp_known = true;
	return true;
}

// ---- Frames that a runtime knows (unwind_runtime.h) -------------------------------------------------------------------

static bool is_runtimes(uint64_t pc)
{
	struct profd_runtime_frame frame;

	profd_runtime_find(pc, &frame);
	return frame.kind != PROFD_RUNTIME_NONE;
}

// HotSpot's last instructions of a frame, after SP was raised: pop FP, poll the safepoint, return.
static bool is_frame_gone(struct profd_walk *walk)
{
	uint8_t first = code_byte(walk, walk->pc), second = code_byte(walk, walk->pc + 1);

	return first == 0x5d || first == 0xc3 || first == 0xc2 ||                      // pop %rbp; ret
	       (first == 0x49 && second == 0x3b) ||                                    // cmp n(%r15), %rsp
	       (first == 0x0f && second == 0x87) ||                                    // ja
	       (first == 0x41 && second == 0x85) || (first == 0x85 && second == 0x05); // test %eax, (%r10) or n(%rip)
}

// Where a thread waits, the frame is whole; where it was interrupted, it may have been about to begin or to end.
static enum step sized_step(struct profd_walk *walk, const struct profd_runtime_frame *frame)
{
	uint64_t cfa = walk->sp + frame->size, pc, fp;

	if (walk->exact && edge_step(walk))
		return STEP_ON;
	if (walk->exact && (walk->pc < frame->complete || is_frame_gone(walk)))
		return STEP_NO_REGISTER;
	if (!profd_walk_load(walk, cfa - 8, &pc) || !profd_walk_load(walk, cfa - 16, &fp))
		return STEP_UNREADABLE;
	if (!is_code(walk, pc - 1) || !(is_runtimes(pc - 1) || profd_code_follows_call(walk, pc)))
		return STEP_BAD_CFA;
	profd_walk_enter(walk, pc, cfa, fp);
	walk->fp_known = true;
	return STEP_ON;
}

static enum step interpreter_step(struct profd_walk *walk)
{
	uint64_t pc, sp, fp;

	if (!walk->fp_known)
		return STEP_NO_REGISTER;
	if (!profd_walk_frame_record(walk, &fp, &pc) || !profd_walk_load(walk, walk->fp - 8, &sp))
		return STEP_UNREADABLE;
	if (sp < walk->fp + 16 || sp - walk->fp > PROFD_MAX_FRAME || !is_code(walk, pc - 1) ||
	    !(is_runtimes(pc - 1) || profd_code_follows_call(walk, pc)))
		return STEP_BAD_CFA;
	profd_walk_enter(walk, pc, sp, fp);
	walk->fp_known = true;
	return STEP_ON;
}

static enum step runtime_step(struct profd_walk *walk)
{
	uint64_t lookup = walk->exact ? walk->pc : walk->pc - 1;
	struct profd_runtime_frame frame = {.kind = PROFD_RUNTIME_NONE};

	if (!profd_walk_module(walk, lookup))
		profd_runtime_find(lookup, &frame);
	switch (frame.kind) {
	case PROFD_RUNTIME_SIZED:
		return sized_step(walk, &frame);
	case PROFD_RUNTIME_INTERPRETER:
		return interpreter_step(walk);
	case PROFD_RUNTIME_RECORD:
		return walk->fp_known ? STEP_NO_RULE : STEP_NO_REGISTER;
	case PROFD_RUNTIME_LOST:
		return STEP_NO_REGISTER;
	default:
		return STEP_NO_RULE;
	}
}

#endif
