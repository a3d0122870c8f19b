// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// unwind_table.c: walks by the tables that the collector compiled from CFI (wire.h). Handler, but for profd_table_check.
//
// Only SP, FP and PC are carried from frame to frame: with these, all but a handful of the rules that compilers write can
// be followed. A frame that the tables cannot explain is tried by its frame pointer; else the walk ends and says why.

#include "profd/unwind_step.h"

// x86-64: offsets in the kernel's signal frame, from SP at the trampoline, i.e. from the ucontext (asm/sigcontext.h).
#define SIGNAL_FP 120
#define SIGNAL_SP 160
#define SIGNAL_PC 168

enum step { STEP_ON, STEP_END, STEP_NO_RULE, STEP_UNREADABLE, STEP_BAD_CFA };

static const struct wire_rule *table_rules(const struct wire_table *table)
{
	return (const struct wire_rule *)(table + 1);
}

static const uint32_t *table_pages(const struct wire_table *table)
{
	return (const uint32_t *)(table_rules(table) + table->nrules);
}

static const struct wire_row *table_rows(const struct wire_table *table)
{
	return (const struct wire_row *)(table_pages(table) + table->npages + 1);
}

// The indices were checked when the table was mapped.
static const struct wire_rule *find_rule(const struct wire_table *table, uint64_t vaddr)
{
	const struct wire_row *rows = table_rows(table);
	const uint32_t *pages = table_pages(table);
	uint32_t page, low, high;
	uint16_t offset;

	if (vaddr < table->text_start || vaddr >= table->text_end)
		return NULL;
	page = (uint32_t)((vaddr - table->text_start) >> WIRE_TABLE_PAGE_BITS);
	offset = (uint16_t)vaddr;
	low = pages[page];
	high = pages[page + 1];
	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;

		if (rows[middle].off <= offset)
			low = middle;
		else
			high = middle;
	}
	return low < high ? &table_rules(table)[rows[low].rule] : NULL;
}

static enum step signal_step(struct profd_walk *walk)
{
	uint64_t pc, sp, fp;

	if (!profd_walk_load(walk, walk->sp + SIGNAL_PC, &pc) || !profd_walk_load(walk, walk->sp + SIGNAL_SP, &sp) ||
	    !profd_walk_load(walk, walk->sp + SIGNAL_FP, &fp))
		return STEP_UNREADABLE;
	if (pc >= PROFD_USER_TOP)
		return STEP_BAD_CFA;
	walk->pc = pc;
	walk->sp = sp;
	walk->fp = fp;
	walk->fp_known = true;
	return STEP_ON;
}

static enum step find_cfa(struct profd_walk *walk, const struct wire_rule *rule,
			  const struct profd_unwind_context *leaf, uint64_t *ret_cfa)
{
	uint64_t value;

	switch (rule->cfa) {
	case WIRE_CFA_SP:
		*ret_cfa = walk->sp + (uint64_t)(int64_t)rule->off;
		return STEP_ON;
	case WIRE_CFA_FP:
		if (!walk->fp_known)
			return STEP_NO_RULE;
		*ret_cfa = walk->fp + (uint64_t)(int64_t)rule->off;
		return STEP_ON;
	case WIRE_CFA_REG:
		if (!leaf || rule->reg >= PROFD_UNWIND_REGS)
			return STEP_NO_RULE;
		*ret_cfa = leaf->regs[rule->reg] + (uint64_t)(int64_t)rule->off;
		return STEP_ON;
	case WIRE_CFA_FP_DEREF:
	case WIRE_CFA_SP_DEREF:
		if (rule->cfa == WIRE_CFA_FP_DEREF && !walk->fp_known)
			return STEP_NO_RULE;
		value = rule->cfa == WIRE_CFA_FP_DEREF ? walk->fp : walk->sp;
		if (!profd_walk_load(walk, value + (uint64_t)(int64_t)rule->off, &value))
			return STEP_UNREADABLE;
		*ret_cfa = value + (uint64_t)(int64_t)rule->off2;
		return STEP_ON;
	case WIRE_CFA_PLT:
		*ret_cfa = walk->sp + 8 + ((walk->pc & 15) >= (uint32_t)rule->off ? 8 : 0);
		return STEP_ON;
	default:
		return STEP_NO_RULE;
	}
}

static bool restore_fp(struct profd_walk *walk, const struct wire_rule *rule, uint64_t cfa, uint64_t *ret_fp)
{
	switch (rule->fp) {
	case WIRE_SAVED_SAME:
		*ret_fp = walk->fp;
		return true;
	case WIRE_SAVED_AT:
		return profd_walk_load(walk, cfa + (uint64_t)(int64_t)rule->fp_off, ret_fp);
	case WIRE_SAVED_AT_FP:
		return profd_walk_load(walk, walk->fp + (uint64_t)(int64_t)rule->fp_off, ret_fp);
	default:
		*ret_fp = 0;
		walk->fp_known = false;
		return true;
	}
}

// leaf: all registers, when walk is at the leaf; NULL otherwise.
static enum step table_step(struct profd_walk *walk, const struct wire_rule *rule,
			    const struct profd_unwind_context *leaf, bool *ret_exact)
{
	uint64_t cfa, fp, pc;
	enum step step;

	*ret_exact = false;
	if (rule->ra == WIRE_SAVED_UNDEF)
		return STEP_END;
	if (rule->cfa == WIRE_CFA_SIGNAL) {
		*ret_exact = true;
		return signal_step(walk);
	}
	step = find_cfa(walk, rule, leaf, &cfa);
	if (step != STEP_ON)
		return step;
	if (cfa <= walk->sp || (cfa & 7))
		return STEP_BAD_CFA;
	if (!profd_walk_load(walk, cfa + (uint64_t)(int64_t)rule->ra_off, &pc) || !restore_fp(walk, rule, cfa, &fp))
		return STEP_UNREADABLE;
	if (pc >= PROFD_USER_TOP)
		return STEP_BAD_CFA;
	walk->sp = cfa;
	walk->fp = fp;
	walk->pc = pc;
	return STEP_ON;
}

// Does address follow a call instruction? Its code is read safely: the module may be gone by now.
static bool follows_call(uint64_t address)
{
	uint64_t before;

	if (address < 8 || !profd_safe_read(address - 8, &before))
		return false;
	if (((before >> 24) & 0xff) == 0xe8) // call rel32
		return true;
	// call r/m: FF /2, 2, 3, 6 or 7 bytes long
	return (((before >> 48) & 0x38ff) == 0x10ff) || (((before >> 40) & 0x38ff) == 0x10ff) ||
	       (((before >> 16) & 0x38ff) == 0x10ff) || (((before >> 8) & 0x38ff) == 0x10ff);
}

// Hand-written leaf code without CFI mostly leaves SP alone: the word at SP is then its return address.
static bool leaf_step(struct profd_walk *walk)
{
	uint64_t pc;

	if (!profd_walk_load(walk, walk->sp, &pc) || !profd_walk_module(walk, pc) || !follows_call(pc))
		return false;
	walk->pc = pc;
	walk->sp += 8;
	return true;
}

static uint8_t stop_reason(enum step step, const struct profd_module *module)
{
	switch (step) {
	case STEP_END:
		return WIRE_STOP_END;
	case STEP_UNREADABLE:
		return WIRE_STOP_UNREADABLE;
	case STEP_BAD_CFA:
		return WIRE_STOP_BAD_CFA;
	default:
		return module ? WIRE_STOP_NO_RULE : WIRE_STOP_NO_TABLE;
	}
}

// One frame up. `exact` says of walk->pc whether it is an interrupted PC (in) and of the new one (out).
static enum step step_up(struct profd_walk *walk, const struct profd_unwind_context *leaf, bool *exact,
			 const struct profd_module **ret_module)
{
	uint64_t lookup = *exact ? walk->pc : walk->pc - 1;
	const struct profd_module *module = profd_walk_module(walk, lookup);
	const struct wire_rule *rule = module && module->table ? find_rule(module->table, lookup - module->bias) : NULL;
	enum step step = STEP_NO_RULE;

	*ret_module = module;
	if (rule && rule->cfa != WIRE_CFA_NONE)
		step = table_step(walk, rule, leaf, exact);
	if (step != STEP_NO_RULE)
		return step;
	*exact = false;
	if (leaf && module && leaf_step(walk))
		return STEP_ON;
	return profd_walk_fp_step(walk) ? STEP_ON : STEP_NO_RULE;
}

uint32_t profd_unwind_table(const struct profd_module_set *set, const struct profd_unwind_context *context,
			    struct profd_stack_range stack, uint64_t *pcs, uint32_t max, uint8_t *ret_stop)
{
	struct profd_walk walk;
	uint32_t count = 0;
	bool exact = true;

	profd_walk_init(&walk, set, context, stack);
	pcs[count++] = walk.pc;
	*ret_stop = WIRE_STOP_DEPTH;
	for (;;) {
		const struct profd_module *module;
		enum step step = step_up(&walk, count == 1 ? context : NULL, &exact, &module);

		if (step == STEP_ON && walk.pc == 0)
			step = STEP_END;
		if (step != STEP_ON) {
			*ret_stop = stop_reason(step, module);
			return count;
		}
		if (count == max)
			return count;
		pcs[count++] = walk.pc | (exact ? WIRE_PC_EXACT : 0);
	}
}

int profd_table_check(const struct wire_table *table, uint64_t size)
{
	const struct wire_row *rows;
	const uint32_t *pages;

	if (size < sizeof(*table) || table->magic != WIRE_TABLE_MAGIC || table->version != WIRE_TABLE_VERSION ||
	    table->machine != WIRE_MACHINE_X86_64 || table->size != size || !table->nrules ||
	    table->nrules > WIRE_MAX_RULES || (table->text_start & 0xffff) || table->text_end <= table->text_start ||
	    table->npages != ((table->text_end - table->text_start + 0xffff) >> WIRE_TABLE_PAGE_BITS) ||
	    size != sizeof(*table) + (uint64_t)table->nrules * sizeof(struct wire_rule) +
			    ((uint64_t)table->npages + 1) * sizeof(uint32_t) +
			    (uint64_t)table->nrows * sizeof(struct wire_row))
		return -1;
	pages = table_pages(table);
	rows = table_rows(table);
	if (pages[0] != 0 || pages[table->npages] != table->nrows)
		return -1;
	for (uint32_t i = 0; i < table->npages; i++)
		if (pages[i] >= table->nrows || pages[i] >= pages[i + 1] || rows[pages[i]].off != 0)
			return -1;
	for (uint32_t i = 0; i < table->nrows; i++)
		if (rows[i].rule >= table->nrules)
			return -1;
	return 0;
}
