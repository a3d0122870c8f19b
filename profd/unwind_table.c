// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// unwind_table.c: walks by the tables that the collector compiled from CFI (wire_table.h). Handler, but for profd_table_check.
//
// Only SP, FP and PC are carried from frame to frame: with these, all but a handful of the rules that compilers write can
// be followed. Where WIRE_BX is wanted too, the walk starts again and tracks it. A frame that the tables cannot explain is tried as hand-written leaf code and by its frame pointer, each only
// where the code itself vouches for the return address; else the walk ends and says why. Why it ends in any case: SP grows
// with each frame but signal frames, and of these there are MAX_SIGNAL_FRAMES at most.

#include "profd/unwind_cache.h"
#include "profd/unwind_code.h"
#include "profd/unwind_jit.h"
#include "profd/unwind_landing.h"
#include "profd/unwind_leaf.h"
#include "profd/unwind_lookup.h"
#include "profd/unwind_memo.h"
#include "profd/unwind_step.h"

#define MAX_SIGNAL_FRAMES 64u

enum step {
	STEP_ON,
	STEP_END,
	STEP_NO_RULE,
	STEP_UNREADABLE,
	STEP_BAD_CFA,
	STEP_NO_FRAME, // what the frame below took for its return address was none: the frame at hand is not one
	STEP_WANTS_BX, // as NO_RULE, but a walk that tracks WIRE_BX from the leaf may know
#ifdef PROFD_UNWIND_OUTSIDE
	STEP_NO_REGISTER, // the rule needs a register that is not known: no guess can stand in for it
#else
	STEP_NO_REGISTER = STEP_NO_RULE, // the rule does not hold here: all registers that it may need are known
#endif
};

static const struct wire_rule *rule_at(struct profd_walk *walk, uint64_t pc)
{
	const struct profd_module *module = profd_walk_module(walk, pc);
	const struct wire_rule *rule =
		module && module->table ? profd_lookup_rule(module->table, pc - module->bias) : NULL;

	return rule && (rule->cfa != WIRE_CFA_NONE || rule->ra == WIRE_SAVED_UNDEF) ? rule : NULL;
}

// aarch64: code that no table knows, and whose rule is always the same.
static const struct wire_rule sigreturn_rule = {.cfa = WIRE_CFA_SIGNAL, .off = PROFD_ARCH_UCONTEXT};

static bool is_sigreturn(struct profd_walk *walk, uint64_t pc)
{
	return PROFD_ARCH_SIGRETURN_BY_CODE && profd_code_is_sigreturn(walk, pc);
}

// A trampoline's address that was put on the stack without a call (makecontext, some signal restorers) is its first byte, and
// what lies before that belongs to nobody. Only for frames that need no return address: nothing vouches for one.
static const struct wire_rule *trampoline_at(struct profd_walk *walk, uint64_t pc)
{
	const struct wire_rule *rule = rule_at(walk, pc);

	if (!rule && is_sigreturn(walk, pc))
		return &sigreturn_rule;
	return rule && (rule->cfa == WIRE_CFA_SIGNAL || rule->ra == WIRE_SAVED_UNDEF) ? rule : NULL;
}

// FP is known, or was found out: unwind_recover.h. At the leaf of a walk from inside it always is.
static bool recover_fp(struct profd_walk *walk);

static inline bool knows_fp(struct profd_walk *walk)
{
	return walk->fp_known || recover_fp(walk);
}

// ---- Frames with a rule --------------------------------------------------------------------------------------------

static bool read_register(struct profd_walk *walk, uint8_t reg, uint64_t *ret_value)
{
	if (reg >= PROFD_UNWIND_REGS)
		return false;
	if (walk->leaf) {
		*ret_value = walk->leaf->regs[reg];
		return PROFD_UNWIND_KNOWS(walk->leaf, reg);
	}
	return walk->ucontext && profd_walk_load(walk, walk->ucontext + profd_arch_ucontext_offset(reg), ret_value);
}

static bool read_bx(const struct profd_walk *walk, uint8_t reg, uint64_t *ret_value)
{
	if (reg != PROFD_ARCH_KEPT || !walk->bx_known)
		return false;
	*ret_value = walk->bx;
	return true;
}

// Where the rule's offsets count from. wire_table.h: off2 is the loaded words' with some rules, and with the others the offsets'.
static uint64_t saved_base(const struct wire_rule *rule, uint64_t cfa)
{
	bool loads = rule->cfa == WIRE_CFA_SP_DEREF || rule->cfa == WIRE_CFA_FP_DEREF || rule->cfa == WIRE_CFA_INDEXED;

	return loads ? cfa : cfa + (uint64_t)(int64_t)rule->off2;
}

// From the frame at hand, whose saved registers count from base, to its caller.
static void restore_bx(struct profd_walk *walk, const struct wire_rule *rule, uint64_t base)
{
	walk->bx_known = walk->bx_known || read_register(walk, PROFD_ARCH_KEPT, &walk->bx);
	if (rule->bx == WIRE_SAVED_AT)
		walk->bx_known = profd_walk_load(walk, base + (uint64_t)(int64_t)rule->bx_off, &walk->bx);
	else if (rule->bx != WIRE_SAVED_SAME)
		walk->bx_known = false;
}

static enum step signal_step(struct profd_walk *walk)
{
	uint64_t pc, sp, fp, ucontext = walk->sp + PROFD_ARCH_UCONTEXT;

	walk->leaf = NULL;
	walk->ucontext = ucontext;
	if (!read_register(walk, PROFD_ARCH_PC, &pc) || !read_register(walk, PROFD_ARCH_SP, &sp) ||
	    !read_register(walk, PROFD_ARCH_FP, &fp))
		return STEP_UNREADABLE;
	if (!profd_arch_is_pc(pc) || ++walk->signal_frames > MAX_SIGNAL_FRAMES)
		return STEP_BAD_CFA;
	profd_walk_enter(walk, pc, sp, fp);
	walk->ucontext = ucontext;
	walk->fp_known = true;
	walk->bx_known = false; // it is in the ucontext
	walk->exact = true;
	return STEP_ON;
}

// Where SP is not known, FP may still be at the frame record that the kernel puts above its signal frame: the interrupted FP and link
// register, which the ucontext has, too.
static enum step signal_by_record(struct profd_walk *walk)
{
	uint64_t sp = walk->fp - PROFD_ARCH_SIGNAL_RECORD, words[4];
	uint64_t saved = sp + PROFD_ARCH_UCONTEXT + profd_arch_ucontext_offset(PROFD_ARCH_FP);

	if (!walk->fp_known || walk->fp < walk->sp || sp < walk->sp || sp > walk->fp ||
	    !profd_walk_load(walk, walk->fp, &words[0]) || !profd_walk_load(walk, walk->fp + 8, &words[1]) ||
	    !profd_walk_load(walk, saved, &words[2]) || !profd_walk_load(walk, saved + 8, &words[3]) ||
	    words[0] != words[2] || words[1] != words[3])
		return STEP_NO_RULE;
	walk->sp = sp;
	return signal_step(walk);
}

// Only the frame pointer says where a frame is whose SP is not known: if it keeps a frame record of its own, FP points there.
// It may have a record's shape without being one, so the return address in it must be vouched for.
static bool cfa_by_record(struct profd_walk *walk, const struct wire_rule *rule, uint64_t *ret_cfa)
{
	uint64_t fp, pc;

	if (rule->fp != WIRE_SAVED_AT || rule->ra != WIRE_SAVED_AT || rule->ra_off != rule->fp_off + 8 ||
	    !profd_walk_frame_record(walk, &fp, &pc) || !profd_code_follows_call(walk, pc))
		return false;
	*ret_cfa = walk->fp - (uint64_t)(int64_t)rule->fp_off - (uint64_t)(int64_t)rule->off2;
	return true;
}

static enum step find_cfa(struct profd_walk *walk, const struct wire_rule *rule, uint64_t *ret_cfa)
{
	uint64_t off = (uint64_t)(int64_t)rule->off, base;

	if ((rule->cfa == WIRE_CFA_FP || rule->cfa == WIRE_CFA_FP_DEREF) && !knows_fp(walk))
		return STEP_NO_REGISTER;
	base = walk->fp;
	if (!profd_walk_sp_known(walk) && (rule->cfa == WIRE_CFA_SP || rule->cfa == WIRE_CFA_SP_DEREF))
		return rule->cfa == WIRE_CFA_SP && cfa_by_record(walk, rule, ret_cfa) ? STEP_ON : STEP_NO_RULE;
	switch (rule->cfa) {
	case WIRE_CFA_SP:
		*ret_cfa = walk->sp + off;
		return STEP_ON;
	case WIRE_CFA_FP:
		*ret_cfa = walk->fp + off;
		return STEP_ON;
	case WIRE_CFA_REG:
		if (read_register(walk, rule->reg, &base) || read_bx(walk, rule->reg, &base)) {
			*ret_cfa = base + off;
			return STEP_ON;
		}
		if (profd_leaf_kept_cfa(walk, rule, ret_cfa))
			return STEP_ON;
		return rule->reg == PROFD_ARCH_KEPT && !walk->tracks_bx ? STEP_WANTS_BX : STEP_NO_REGISTER;
	case WIRE_CFA_SP_DEREF:
		base = walk->sp;
		__attribute__((fallthrough));
	case WIRE_CFA_FP_DEREF:
		if (!profd_walk_load(walk, base + off, &base))
			return STEP_UNREADABLE;
		*ret_cfa = base + (uint64_t)(int64_t)rule->off2;
		return STEP_ON;
	case WIRE_CFA_INDEXED:
		if (!read_register(walk, rule->reg, &base))
			return STEP_NO_REGISTER;
		if (!profd_walk_load(walk, walk->sp + 8 * base + off, &base))
			return STEP_UNREADABLE;
		*ret_cfa = base + (uint64_t)(int64_t)rule->off2;
		return STEP_ON;
	case WIRE_CFA_PLT:
		*ret_cfa = walk->sp + 8 + ((walk->pc & 15) >= (uint32_t)rule->off ? 8 : 0);
		return STEP_ON;
	default:
		return STEP_NO_RULE;
	}
}

// The caller's FP; false: not known. What cannot be read is not worth losing the frame for: most callers do without it.
// WIRE_SAVED_AT_FP: gcc says in a realigned function's epilogue that FP is saved at FP when it was popped already. It is then
// the caller's, and as such not in this frame.
static bool restore_fp(struct profd_walk *walk, const struct wire_rule *rule, uint64_t cfa, uint64_t *ret_fp)
{
	uint64_t base = rule->fp == WIRE_SAVED_AT_FP ? walk->fp : saved_base(rule, cfa);
	bool popped = rule->fp == WIRE_SAVED_AT_FP && (walk->fp < walk->sp || walk->fp >= cfa);

	*ret_fp = walk->fp;
	if (rule->fp == WIRE_SAVED_AT || (rule->fp == WIRE_SAVED_AT_FP && walk->fp_known && !popped))
		return profd_walk_load(walk, base + (uint64_t)(int64_t)rule->fp_off, ret_fp);
	return walk->fp_known && rule->fp != WIRE_SAVED_UNDEF;
}

static inline void note_words(struct profd_walk *walk, bool by_fp, uint64_t pc_at, uint64_t fp_at)
{
#ifndef PROFD_UNWIND_OUTSIDE
	if (walk->words)
		profd_words_step(walk->words, by_fp, pc_at, fp_at);
#else
	(void)walk, (void)by_fp, (void)pc_at, (void)fp_at;
#endif
}

static inline uint32_t words_noted(const struct profd_walk *walk)
{
#ifndef PROFD_UNWIND_OUTSIDE
	return walk->words ? walk->words->steps : 0;
#else
	(void)walk;
	return 0;
#endif
}

// A frame was left by what is not noted. (Where a walk ends is told by code alone.)
static inline void words_miss(struct profd_walk *walk)
{
#ifndef PROFD_UNWIND_OUTSIDE
	if (walk->words)
		walk->words->whole = false;
#else
	(void)walk;
#endif
}

// Of rules that need no more than SP and FP; a frame left in another way is not among the steps. by_record: FP stood in for SP (cfa_by_record).
static inline void note_rule(struct profd_walk *walk, const struct wire_rule *rule, uint64_t base, bool by_record)
{
	bool fp_saved = rule->fp == WIRE_SAVED_AT;

	if ((rule->cfa == WIRE_CFA_SP || rule->cfa == WIRE_CFA_FP) && rule->ra == WIRE_SAVED_AT &&
	    (fp_saved || rule->fp == WIRE_SAVED_SAME))
		note_words(walk, by_record || rule->cfa == WIRE_CFA_FP, base + (uint64_t)(int64_t)rule->ra_off,
			   fp_saved ? base + (uint64_t)(int64_t)rule->fp_off : 0);
}

static enum step frame_step(struct profd_walk *walk, const struct wire_rule *rule)
{
	bool in_link = PROFD_ARCH_LINK && rule->ra == WIRE_SAVED_SAME;
	bool in_register = in_link || rule->ra == WIRE_SAVED_REG, by_record = !profd_walk_sp_known(walk), fp_known;
	uint64_t cfa, base, fp, pc;
	enum step step = find_cfa(walk, rule, &cfa);

	if (step != STEP_ON)
		return step;
	// A leaf whose return address is in a register may have nothing on the stack.
	if (cfa < walk->sp || (cfa == walk->sp && !in_register) || (cfa & 7))
		return STEP_BAD_CFA;
	base = saved_base(rule, cfa);
	if (in_register) {
		if (!read_register(walk, in_link ? PROFD_ARCH_LINK : rule->reg, &pc))
			return in_link ? STEP_NO_RULE : STEP_NO_REGISTER;
	} else if (!profd_walk_load(walk, base + (uint64_t)(int64_t)rule->ra_off, &pc)) {
		return STEP_UNREADABLE;
	}
	pc = profd_arch_strip(pc);
	if (!profd_landing_may_return_to(walk, pc) || (rule->lands && !profd_landing_may_be_caller(walk, pc)))
		return STEP_BAD_CFA;
	fp_known = restore_fp(walk, rule, cfa, &fp);
	if (walk->tracks_bx)
		restore_bx(walk, rule, base);
	profd_walk_enter(walk, pc, cfa, fp);
	walk->fp_known = fp_known;
	walk->by_rule = true;
	note_rule(walk, rule, base, by_record);
	return STEP_ON;
}

static enum step rule_step(struct profd_walk *walk, const struct wire_rule *rule)
{
	if (rule->ra == WIRE_SAVED_UNDEF)
		return STEP_END;
	if (rule->cfa != WIRE_CFA_SIGNAL)
		return frame_step(walk, rule);
	return profd_walk_sp_known(walk) ? signal_step(walk) : signal_by_record(walk);
}

// frame_step for what the cache can hold. STEP_NO_RULE only where the FP is wanted and not known.
static inline enum step cached_step(struct profd_walk *walk, uint64_t entry)
{
	enum profd_cache_kind kind = PROFD_CACHE_KIND(entry);
	uint64_t cfa, at, pc_at, pc, fp;

	if (kind == PROFD_CACHE_OUTERMOST) {
		profd_memo_keep(walk, 0);
		return STEP_END;
	}
	if (kind == PROFD_CACHE_FP && !knows_fp(walk))
		return STEP_NO_RULE;
	fp = walk->fp;
	cfa = (kind == PROFD_CACHE_SP ? walk->sp : fp) + PROFD_CACHE_OFF(entry);
	if (cfa <= walk->sp || (cfa & 7))
		return STEP_BAD_CFA;
	at = cfa - PROFD_CACHE_BELOW(entry);
	pc_at = PROFD_ARCH_LINK ? at + PROFD_CACHE_FP_SAVED(entry) * 8 : cfa - 8;
	if (!profd_walk_load(walk, pc_at, &pc))
		return STEP_UNREADABLE;
	if (PROFD_CACHE_FP_SAVED(entry)) {
		if (!profd_walk_load(walk, at, &fp))
			return STEP_UNREADABLE;
		walk->fp_known = true;
	}
	pc = profd_arch_strip(pc);
	if (!profd_landing_may_return_to(walk, pc))
		return STEP_BAD_CFA;
	profd_walk_enter(walk, pc, cfa, fp);
	walk->by_rule = true;
	profd_memo_reach(walk, pc_at, PROFD_CACHE_FP_SAVED(entry) ? at : 0);
	note_words(walk, kind == PROFD_CACHE_FP, pc_at, PROFD_CACHE_FP_SAVED(entry) ? at : 0);
	return STEP_ON;
}

#define PROFD_UNWIND_TABLE
#include "profd/unwind_guess.h"

// ---- The walk ------------------------------------------------------------------------------------------------------

// A function's address that was put on the stack without a call (a coroutine's first one): what lies before it is another's, or
// padding, which has the function's own first rule. A return address hardly ever has such a rule: who calls has pushed or aligned.
static bool is_first_byte(struct profd_walk *walk, const struct wire_rule *rule)
{
	uint64_t code;

	return rule->cfa == WIRE_CFA_SP && rule->off == 8 && rule->ra == WIRE_SAVED_AT && !(walk->pc & 15) &&
	       profd_walk_load_far(walk, walk->pc - 8, &code) && !profd_code_follows_call(walk, walk->pc);
}

// Code outside of every module is a runtime's own, or of a library that was loaded just now. What a rule took for a return address there
// may as well point to data.
static bool is_frame(struct profd_walk *walk)
{
	return !walk->by_rule || profd_walk_module(walk, walk->pc - 1) || profd_walk_module(walk, walk->pc) ||
	       profd_code_follows_call(walk, walk->pc);
}

// Code that a runtime made, where that runtime says what its frames are like: unwind_recover.h. STEP_NO_RULE: it does not.
#ifdef PROFD_UNWIND_OUTSIDE
static enum step runtime_step(struct profd_walk *walk);
#else
static inline enum step runtime_step(struct profd_walk *walk)
{
	(void)walk;
	return STEP_NO_RULE;
}
#endif

// The rule that was found right before a return address is not its code's.
static bool is_anothers(struct profd_walk *walk, const struct wire_rule *rule)
{
	return is_first_byte(walk, rule) ||
	       (PROFD_ARCH_SIGRETURN_BY_CODE && !rule_at(walk, walk->pc) && is_sigreturn(walk, walk->pc));
}

// NULL: there is none that fits.
static const struct wire_rule *own_rule(struct profd_walk *walk)
{
	const struct wire_rule *rule = rule_at(walk, walk->exact ? walk->pc : walk->pc - 1);

	return rule && !walk->exact && is_anothers(walk, rule) ? NULL : rule;
}

// rule: its own.
static enum step slow_step(struct profd_walk *walk, const struct wire_rule *rule)
{
	enum step step;

	if (!rule && (!walk->exact || PROFD_ARCH_SIGRETURN_BY_CODE))
		rule = trampoline_at(walk, walk->pc);
	if (!rule && !is_frame(walk))
		return STEP_NO_FRAME;
	step = rule ? rule_step(walk, rule) : runtime_step(walk);
	return step == STEP_NO_RULE ? guess_step(walk) : step;
}

static enum step step_up(struct profd_walk *walk)
{
	bool cacheable = !walk->exact && !walk->tracks_bx && profd_walk_sp_known(walk);
	uint64_t entry = cacheable ? profd_cache_get(walk->set, walk->pc - 1) : 0;
	const struct wire_rule *rule = entry ? NULL : own_rule(walk);
	uint32_t noted;
	enum step step;

	// Interrupted PCs are as many as there are instructions: they would only push return addresses out.
	if (rule && cacheable && walk->set->cache)
		entry = profd_cache_put(walk->set, walk->pc - 1, rule);
	step = entry ? cached_step(walk, entry) : STEP_NO_RULE;
	if (step != STEP_NO_RULE)
		return step;
	noted = words_noted(walk);
	step = entry ? guess_step(walk) : slow_step(walk, rule);
	profd_memo_restart(walk);
	if (step == STEP_ON && words_noted(walk) == noted)
		words_miss(walk);
	return step;
}

static uint8_t stop_reason(struct profd_walk *walk, enum step step)
{
	const struct profd_module *module;

	if (step != STEP_END && walk->safe_reads > PROFD_MAX_SAFE_READS)
		return WIRE_STOP_READS;
	switch (step) {
	case STEP_END:
		return WIRE_STOP_END;
	case STEP_UNREADABLE:
		return WIRE_STOP_UNREADABLE;
	case STEP_BAD_CFA:
	case STEP_NO_FRAME:
		return WIRE_STOP_BAD_CFA;
	default:
		module = profd_walk_module(walk, walk->exact ? walk->pc : walk->pc - 1);
		return module && module->table ? WIRE_STOP_NO_RULE : WIRE_STOP_NO_TABLE;
	}
}

// Why it ended; STEP_ON: the stack is longer than max.
static enum step walk_all(struct profd_walk *walk, uint64_t *pcs, uint32_t max, uint32_t *ret_count)
{
	uint32_t count = 0;

	for (;;) {
		enum step step;

		pcs[count] = walk->pc | (walk->exact && count > 0 ? WIRE_PC_EXACT : 0);
		count++;
		if (profd_memo_knows(walk) && profd_memo_follow(walk, pcs, &count, max)) {
			*ret_count = count;
			return STEP_END;
		}
		step = step_up(walk);
		if (step == STEP_ON && walk->pc == 0)
			step = STEP_END;
		if (step != STEP_ON || count == max) {
			*ret_count = count - (step == STEP_NO_FRAME);
			return step;
		}
	}
}

#ifdef PROFD_UNWIND_OUTSIDE
#include "profd/unwind_recover.h"
#else
static bool recover_fp(struct profd_walk *walk)
{
	(void)walk;
	return false;
}
#endif

static void words_begin(struct profd_walk *walk, struct profd_walk_words *words)
{
#ifndef PROFD_UNWIND_OUTSIDE
	walk->words = words;
	if (!words)
		return;
	words->serial = walk->set->serial;
	words->count = words->steps = 0;
	words->fp_at = 0;
	words->by_first_fp = false;
	words->whole = true;
#else
	(void)walk, (void)words;
#endif
}

static uint32_t unwind(const struct profd_module_set *set, const struct profd_unwind_context *context,
		       struct profd_stack_range stack, struct profd_walk_memo *memo, struct profd_walk_words *words,
		       uint64_t *pcs, uint32_t max, uint8_t *ret_stop)
{
	struct profd_walk walk;
	uint32_t count;
	enum step step;

	profd_walk_init(&walk, set, context, stack);
	profd_memo_begin(&walk, memo);
	words_begin(&walk, words);
	step = walk_all(&walk, pcs, max, &count);
	if (step == STEP_WANTS_BX) {
		profd_walk_init(&walk, set, context, stack);
		if (words)
			words->whole = false;
		walk.tracks_bx = true;
		step = walk_all(&walk, pcs, max, &count);
	}
	*ret_stop = step == STEP_ON ? (uint8_t)WIRE_STOP_DEPTH : stop_reason(&walk, step);
	if (words)
		words->whole &= step == STEP_END;
	return count;
}

uint32_t profd_unwind_table(const struct profd_module_set *set, const struct profd_unwind_context *context,
			    struct profd_stack_range stack, uint64_t *pcs, uint32_t max, uint8_t *ret_stop)
{
	return unwind(set, context, stack, NULL, NULL, pcs, max, ret_stop);
}

#ifndef PROFD_UNWIND_OUTSIDE
uint32_t profd_unwind_table_memo(const struct profd_module_set *set, const struct profd_unwind_context *context,
				 struct profd_stack_range stack, struct profd_walk_memo *memo, uint64_t *pcs,
				 uint32_t max, uint8_t *ret_stop)
{
	return unwind(set, context, stack, memo, NULL, pcs, max, ret_stop);
}

uint32_t profd_unwind_table_words(const struct profd_module_set *set, const struct profd_unwind_context *context,
				  struct profd_stack_range stack, struct profd_walk_words *words, uint64_t *pcs,
				  uint32_t max, uint8_t *ret_stop)
{
	return unwind(set, context, stack, NULL, words, pcs, max, ret_stop);
}
#endif

// ---- A table that comes in -----------------------------------------------------------------------------------------

int profd_table_check(const struct wire_table *table, uint64_t size)
{
	bool good = size >= sizeof(*table) && table->magic == WIRE_TABLE_MAGIC &&
		    table->version == WIRE_TABLE_VERSION && table->machine == PROFD_ARCH_MACHINE &&
		    wire_table_has_its_size(table, size) && wire_table_has_its_pages(table) &&
		    wire_table_has_good_indices(table);

	return good ? 0 : -1;
}
