// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// unwind_guess.h: frames without a rule. A part of unwind_table.c, which says so by PROFD_UNWIND_TABLE. Handler.
//
// Hand-written code without CFI, code of modules whose table is not there yet, and code that a runtime made are stepped over as leaf code, or by the
// frame pointer. What is taken for a return address must be vouched for by the code itself: a call right before it, if possible one to where the walk
// is. Where nothing vouches, the walk ends.

#ifdef PROFD_UNWIND_TABLE

#define MAX_ASM_FUNCTION (1u << 14) // bytes from the entry of a function without CFI to a PC in it
#define MAX_ASM_PUSHES 12u          // words that it pushed

// Is it one that a call left, or a trampoline?
static bool is_return_address(struct profd_walk *walk, uint64_t pc)
{
	return profd_code_follows_call(walk, pc) || trampoline_at(walk, pc - 1) || trampoline_at(walk, pc);
}

// Did the call before pc go to the code at hand?
static bool was_called_from(struct profd_walk *walk, uint64_t pc, uint64_t *ret_target)
{
	return profd_code_call_target(walk, pc, ret_target) && *ret_target <= walk->pc &&
	       walk->pc - *ret_target < MAX_ASM_FUNCTION;
}

// May fp be FP in the code at pc, whose SP is sp? Where that code has its frame there, what was called to get into the frame is that very code.
static bool may_be_fp(struct profd_walk *walk, uint64_t fp, uint64_t pc, uint64_t sp)
{
	uint64_t kept = walk->fp, unused, return_address, target;
	const struct wire_rule *rule = rule_at(walk, pc - 1);
	bool plausible;

	walk->fp = fp;
	plausible = fp >= sp && profd_walk_frame_record(walk, &unused, &return_address) &&
		    is_return_address(walk, return_address);
	walk->fp = kept;
	if (plausible && rule && (rule->cfa == WIRE_CFA_FP || rule->cfa == WIRE_CFA_FP_DEREF) &&
	    profd_code_call_target(walk, return_address, &target))
		plausible = target < pc && pc - target < PROFD_MAX_FUNCTION;
	return plausible;
}

// Code without CFI pushed some registers, those first that are its caller's. In the code at pc, the caller, FP is what it is now, or
// one of them: for certain the first, when FP points there.
static bool find_pushed_fp(struct profd_walk *walk, uint32_t pushed, uint64_t pc)
{
	uint64_t fp, sp = walk->sp + 8 * (pushed + 1);

	if (walk->fp_known && may_be_fp(walk, walk->fp, pc, sp))
		return true;
	for (uint32_t i = pushed; i-- > 0;) {
		bool is_record = i + 1 == pushed && walk->fp == sp - 16;

		if (!profd_walk_load(walk, walk->sp + 8 * i, &fp) || !(is_record || may_be_fp(walk, fp, pc, sp)))
			continue;
		walk->fp = fp;
		return true;
	}
	return false;
}

// Hand-written leaf code without CFI leaves SP alone, or pushes a few registers: one of the words at SP is then its return address
// (or the link register is). But it may as well be an old one that a frame without CFI has not overwritten. So the call before it
// must have gone to code right here; and, behind pushes, to code that has no CFI at its entry either (glibc's clone3 has).
static bool leaf_step(struct profd_walk *walk)
{
	uint64_t pc, target;

	if (PROFD_ARCH_LINK) {
		if (!read_register(walk, PROFD_ARCH_LINK, &pc))
			return false;
		pc = profd_arch_strip(pc);
		if (!was_called_from(walk, pc, &target))
			return false;
		profd_walk_enter(walk, pc, walk->sp, walk->fp);
		return true;
	}
	for (uint32_t pushed = 0; pushed <= MAX_ASM_PUSHES; pushed++) {
		if (!profd_walk_load(walk, walk->sp + 8 * pushed, &pc))
			return false;
		if (!profd_walk_module(walk, pc) || !was_called_from(walk, pc, &target) ||
		    (pushed && rule_at(walk, target)))
			continue;
		if (pushed)
			walk->fp_known = find_pushed_fp(walk, pushed, pc);
		profd_walk_enter(walk, pc, walk->sp + 8 * (pushed + 1), walk->fp);
		return true;
	}
	return false;
}

// On a function's first and last instructions the frame at FP is its caller's, and would be one too far up.
static bool edge_step(struct profd_walk *walk)
{
	uint64_t pc, fp = walk->fp;
	uint32_t offset;
	bool fp_saved;

	if (!profd_code_return_slot(walk, walk->pc, &offset, &fp_saved) ||
	    !profd_walk_load(walk, walk->sp + offset, &pc) || !is_return_address(walk, pc) ||
	    (fp_saved && !profd_walk_load(walk, walk->sp + offset - 8, &fp)))
		return false;
	walk->fp_known |= fp_saved;
	profd_walk_enter(walk, pc, walk->sp + offset + 8, fp);
	return true;
}

// FP may be anything in code that does not keep it; or its caller's. Then what the call before the return address went to is the
// caller, and has CFI as a rule.
static bool record_step(struct profd_walk *walk)
{
	uint64_t pc, fp, target;
	bool called;

	if (!knows_fp(walk) || !profd_walk_frame_record(walk, &fp, &pc))
		return false;
	if (profd_code_call_target(walk, pc, &target) && rule_at(walk, target))
		return false;
	called = !pc || is_return_address(walk, pc);
	if (!called && !profd_jit_vouches(walk, fp, pc))
		return false;
	// What else was looked at is code, or (of an interrupted frame, and in a chain that vouches) not noted.
	if (called && !walk->exact)
		note_words(walk, true, walk->fp + 8, walk->fp);
	profd_walk_enter_by_record(walk, pc, fp);
	return true;
}

// aarch64: the link register points into code that has a rule, and this code has none: so it has called nobody yet, for that would have
// left an address in here, and the register still has its return address. Where SP was then, nobody says. With a frame record of its
// own, which has the same address, it is as good as any.
static bool link_step(struct profd_walk *walk)
{
	uint64_t pc, fp, recorded;

	if (!read_register(walk, PROFD_ARCH_LINK, &pc))
		return false;
	pc = profd_arch_strip(pc);
	if (!profd_code_follows_call(walk, pc) || !rule_at(walk, pc - 1) ||
	    (profd_walk_frame_record(walk, &fp, &recorded) && recorded == pc))
		return false;
	profd_walk_enter(walk, pc, walk->sp, walk->fp);
	walk->sp_known = false;
	return true;
}

static enum step guess_step(struct profd_walk *walk)
{
	const struct profd_module *module = profd_walk_module(walk, walk->pc);
	bool has_table = module && module->table, interrupted = walk->exact;

	walk->bx_known = false;
	if (!interrupted && profd_code_leaves_stack(walk, walk->pc))
		return STEP_END;
	if (interrupted && edge_step(walk))
		return STEP_ON;
	// Where a table has a hole, the code is hand-written or data; where there is no table, it may be of any kind.
	if (interrupted && has_table && leaf_step(walk))
		return STEP_ON;
	if (PROFD_ARCH_LINK && interrupted && link_step(walk))
		return STEP_ON;
	if (record_step(walk) || (interrupted && !has_table && leaf_step(walk)))
		return STEP_ON;
	return STEP_NO_RULE;
}

#endif
