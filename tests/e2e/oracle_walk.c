// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// oracle_walk.c: one stack, walked three ways. Ours is the agent's own code. libunwind walks by itself; we find .eh_frame_hdr for it.
// libdw reads the CFI and says for each register of a frame by which expression it is found; what follows from that is worked out
// here, with all seventeen registers: none of our walker's shortcuts is shared.

#include "tests/e2e/oracle.h"

#include <dwarf.h>
#include <stdio.h>
#include <string.h>

#include "profd/wire.h"

#define RBP 6
#define RSP 7
#define RIP 16
#define REGS 17
#define FRAMES (1u << 18)
#define MAX_VALUES 64

// Exported for programs like this one; in no header.
int _Ux86_64_dwarf_search_unwind_table(unw_addr_space_t, unw_word_t, unw_dyn_info_t *, unw_proc_info_t *, int, void *);

static unw_addr_space_t space;
static bool no_info; // libunwind's last question found no CFI

// libdw's answers for return addresses; each is asked for often.
static struct {
	uint64_t address;
	Dwarf_Frame *frame;
} frames[FRAMES];

static void registers(uint64_t *regs)
{
	const uint64_t all[REGS] = {oracle_regs.rax, oracle_regs.rdx, oracle_regs.rcx, oracle_regs.rbx, oracle_regs.rsi,
				    oracle_regs.rdi, oracle_regs.rbp, oracle_regs.rsp, oracle_regs.r8,  oracle_regs.r9,
				    oracle_regs.r10, oracle_regs.r11, oracle_regs.r12, oracle_regs.r13, oracle_regs.r14,
				    oracle_regs.r15, oracle_regs.rip};

	memcpy(regs, all, sizeof(all));
}

// ---- Ours ----------------------------------------------------------------------------------------------------------

void oracle_walk_ours(struct oracle_stack *stack)
{
	struct profd_unwind_context context;
	struct profd_stack_range none = {0, 0};

	registers(context.regs);
	stack->count =
		profd_unwind_table(&oracle_modules.set, &context, none, stack->pcs, ORACLE_MAX_FRAMES, &stack->stop);
	for (uint32_t i = 0; i < stack->count; i++)
		stack->pcs[i] &= ~WIRE_PC_EXACT;
}

// ---- libunwind's ---------------------------------------------------------------------------------------------------

static int access_memory(unw_addr_space_t as, unw_word_t address, unw_word_t *value, int write, void *argument)
{
	return write || !oracle_read(address, value, sizeof(*value)) ? -UNW_EINVAL : 0;
}

static int access_register(unw_addr_space_t as, unw_regnum_t reg, unw_word_t *value, int write, void *argument)
{
	uint64_t regs[REGS];

	if (write || reg < 0 || reg > UNW_X86_64_RIP)
		return -UNW_EBADREG;
	registers(regs);
	*value = regs[reg];
	return 0;
}

static int access_fp_register(unw_addr_space_t as, unw_regnum_t reg, unw_fpreg_t *value, int write, void *argument)
{
	return -UNW_EBADREG;
}

static int no_dynamic_info(unw_addr_space_t as, unw_word_t *value, void *argument)
{
	return -UNW_ENOINFO;
}

static void put_nothing(unw_addr_space_t as, unw_proc_info_t *info, void *argument) {}

static int resume_nothing(unw_addr_space_t as, unw_cursor_t *cursor, void *argument)
{
	return -UNW_EINVAL;
}

static int no_name(unw_addr_space_t as, unw_word_t address, char *name, size_t size, unw_word_t *offset, void *argument)
{
	return -UNW_ENOINFO;
}

// The sorted table behind .eh_frame_hdr, in the one form that linkers write: version 1, pointers of 4 bytes, relative to the section.
static bool header_info(const struct profd_module *module, const struct oracle_file *file, unw_dyn_info_t *info)
{
	uint64_t header = file->table + module->bias;
	uint8_t bytes[12];
	uint32_t count;

	if (!file->table || !oracle_read(header, bytes, sizeof(bytes)) || bytes[0] != 1 || bytes[1] != 0x1b ||
	    bytes[2] != 0x03 || bytes[3] != 0x3b)
		return false;
	memcpy(&count, bytes + 8, sizeof(count));
	*info = (unw_dyn_info_t){
		.format = UNW_INFO_FORMAT_REMOTE_TABLE, .start_ip = module->start, .end_ip = module->end};
	info->u.rti.segbase = header;
	info->u.rti.table_data = header + sizeof(bytes);
	info->u.rti.table_len = count;
	return count > 0;
}

static int find_proc_info(unw_addr_space_t as, unw_word_t address, unw_proc_info_t *ret_info, int need, void *argument)
{
	struct oracle_file *file;
	const struct profd_module *module = oracle_module_at(address, &file);
	unw_dyn_info_t info;
	int result = -UNW_ENOINFO;

	if (module && header_info(module, file, &info))
		result = _Ux86_64_dwarf_search_unwind_table(as, address, &info, ret_info, need, argument);
	no_info = result < 0;
	return result;
}

void oracle_walk_libunwind(struct oracle_stack *stack)
{
	unw_cursor_t cursor;
	unw_word_t pc;
	int result = 1;

	stack->count = 0;
	stack->no_cfi = false;
	if (unw_init_remote(&cursor, space, NULL) < 0)
		return;
	while (stack->count < ORACLE_MAX_FRAMES && unw_get_reg(&cursor, UNW_REG_IP, &pc) == 0 && pc != 0) {
		stack->pcs[stack->count++] = pc;
		if (result <= 0)
			break;
		no_info = false;
		result = unw_step(&cursor);
		if (no_info && !stack->no_cfi) {
			stack->no_cfi = true;
		}
		if (result <= 0)
			break;
	}
}

// ---- libdw's -------------------------------------------------------------------------------------------------------

struct machine {
	uint64_t regs[REGS];
	bool known[REGS];
	uint64_t values[MAX_VALUES];
	unsigned count;
	uint64_t cfa;
};

static bool push(struct machine *machine, uint64_t value)
{
	if (machine->count == MAX_VALUES)
		return false;
	machine->values[machine->count++] = value;
	return true;
}

static bool push_register(struct machine *machine, uint64_t reg, uint64_t offset)
{
	return reg < REGS && machine->known[reg] && push(machine, machine->regs[reg] + offset);
}

// DWARF 5, 2.5.1.4: two operands.
static bool binary(struct machine *machine, uint8_t atom)
{
	uint64_t a, b, result;

	if (machine->count < 2)
		return false;
	b = machine->values[--machine->count];
	a = machine->values[--machine->count];
	switch (atom) {
	case DW_OP_and:
		result = a & b;
		break;
	case DW_OP_or:
		result = a | b;
		break;
	case DW_OP_plus:
		result = a + b;
		break;
	case DW_OP_minus:
		result = a - b;
		break;
	case DW_OP_mul:
		result = a * b;
		break;
	case DW_OP_shl:
		result = b < 64 ? a << b : 0;
		break;
	case DW_OP_ge:
		result = (int64_t)a >= (int64_t)b;
		break;
	case DW_OP_lt:
		result = (int64_t)a < (int64_t)b;
		break;
	default:
		return false;
	}
	return push(machine, result);
}

static bool constant(struct machine *machine, const Dwarf_Op *op)
{
	if (op->atom >= DW_OP_lit0 && op->atom <= DW_OP_lit31)
		return push(machine, (uint64_t)(op->atom - DW_OP_lit0));
	if (op->atom >= DW_OP_const1u && op->atom <= DW_OP_consts)
		return push(machine, op->number);
	return false;
}

static bool execute(struct machine *machine, const Dwarf_Op *op, bool *is_value)
{
	uint64_t *top = machine->count ? &machine->values[machine->count - 1] : NULL;

	if (op->atom >= DW_OP_breg0 && op->atom <= DW_OP_breg31)
		return push_register(machine, (uint64_t)(op->atom - DW_OP_breg0), op->number);
	if (op->atom >= DW_OP_reg0 && op->atom <= DW_OP_reg31) {
		*is_value = true;
		return push_register(machine, (uint64_t)(op->atom - DW_OP_reg0), 0);
	}
	switch (op->atom) {
	case DW_OP_bregx:
		return push_register(machine, op->number, op->number2);
	case DW_OP_regx:
		*is_value = true;
		return push_register(machine, op->number, 0);
	case DW_OP_call_frame_cfa:
		return push(machine, machine->cfa);
	case DW_OP_stack_value:
		*is_value = true;
		return true;
	case DW_OP_deref:
		return top && oracle_read(*top, top, sizeof(*top));
	case DW_OP_plus_uconst:
		if (top)
			*top += op->number;
		return top != NULL;
	case DW_OP_dup:
		return top && push(machine, *top);
	default:
		return constant(machine, op) || binary(machine, op->atom);
	}
}

static bool evaluate(struct machine *machine, const Dwarf_Op *ops, size_t count, bool is_address, uint64_t *ret_value)
{
	bool is_value = !is_address;

	machine->count = 0;
	for (size_t i = 0; i < count; i++)
		if (!execute(machine, &ops[i], &is_value))
			return false;
	if (!machine->count)
		return false;
	*ret_value = machine->values[machine->count - 1];
	return is_value || oracle_read(*ret_value, ret_value, sizeof(*ret_value));
}

static Dwarf_Frame *ask_frame(uint64_t address)
{
	struct oracle_file *file;
	const struct profd_module *module = oracle_module_at(address, &file);
	Dwarf_Frame *frame = NULL;

	if (!module || !file->cfi || dwarf_cfi_addrframe(file->cfi, address - module->bias, &frame) != 0)
		return NULL;
	return frame;
}

static Dwarf_Frame *known_frame(uint64_t address)
{
	size_t i = (size_t)(address * 0x9e3779b97f4a7c15ULL >> 46);

	if (frames[i].address != address) {
		free(frames[i].frame);
		frames[i].frame = ask_frame(address);
		frames[i].address = address;
	}
	return frames[i].frame;
}

bool oracle_has_cfi(uint64_t address)
{
	Dwarf_Frame *frame = ask_frame(address);

	free(frame);
	return frame != NULL;
}

// A register of the caller; false: not known, and of the return address: there is none.
static bool caller_register(struct machine *machine, Dwarf_Frame *frame, int reg, uint64_t *ret_value)
{
	Dwarf_Op memory[3], *ops;
	size_t count;

	if (dwarf_frame_register(frame, reg, memory, &ops, &count) != 0)
		return false;
	if (count == 0 && !ops) { // the same value
		*ret_value = machine->regs[reg];
		return machine->known[reg];
	}
	return count > 0 && evaluate(machine, ops, count, true, ret_value);
}

// Returns whether there is a caller. is_signal: the caller was interrupted, not called.
static bool libdw_step(struct machine *machine, Dwarf_Frame *frame, bool *is_signal)
{
	struct machine caller = {.count = 0};
	Dwarf_Op *ops;
	size_t count;
	int return_register = dwarf_frame_info(frame, NULL, NULL, is_signal);

	if (return_register != RIP || dwarf_frame_cfa(frame, &ops, &count) != 0 ||
	    !evaluate(machine, ops, count, false, &machine->cfa))
		return false;
	for (int reg = 0; reg < REGS; reg++)
		caller.known[reg] = caller_register(machine, frame, reg, &caller.regs[reg]);
	if (!caller.known[RSP]) {
		caller.known[RSP] = true;
		caller.regs[RSP] = machine->cfa;
	}
	if (!caller.known[RIP])
		return false;
	*machine = caller;
	return true;
}

void oracle_walk_libdw(struct oracle_stack *stack)
{
	struct machine machine;
	bool exact = true, is_signal;

	stack->count = 0;
	stack->no_cfi = false;
	registers(machine.regs);
	memset(machine.known, true, sizeof(machine.known));
	while (stack->count < ORACLE_MAX_FRAMES && machine.regs[RIP]) {
		uint64_t pc = machine.regs[RIP];
		bool more;
		Dwarf_Frame *frame = exact ? ask_frame(pc) : known_frame(pc - 1);

		stack->pcs[stack->count++] = pc;
		stack->no_cfi = !frame;
		more = frame && libdw_step(&machine, frame, &is_signal);
		if (exact)
			free(frame);
		if (!more)
			break;
		exact = is_signal;
	}
}

// ---- All -----------------------------------------------------------------------------------------------------------

void oracle_walk_forget(void)
{
	unw_flush_cache(space, 0, 0);
	for (size_t i = 0; i < FRAMES; i++) {
		free(frames[i].frame);
		frames[i].frame = NULL;
		frames[i].address = 0;
	}
}

void oracle_walk_init(void)
{
	unw_accessors_t accessors = {.find_proc_info = find_proc_info,
				     .put_unwind_info = put_nothing,
				     .get_dyn_info_list_addr = no_dynamic_info,
				     .access_mem = access_memory,
				     .access_reg = access_register,
				     .access_fpreg = access_fp_register,
				     .resume = resume_nothing,
				     .get_proc_name = no_name};

	elf_version(EV_CURRENT);
	space = unw_create_addr_space(&accessors, 0);
	unw_set_caching_policy(space, UNW_CACHE_GLOBAL);
	unw_set_cache_size(space, 1u << 14, 0);
}
