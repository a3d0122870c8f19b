// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// unwind_cache.h: return address → rule, shared by all threads, without locks. Handler.
//
// An entry is one 64-bit word that holds both the whole address and the whole rule, read and written by relaxed atomics: it is
// right, or it is another address's and does not match; there is nothing to tear, and nothing to order. The table it came
// from is not touched. A cache belongs to one module set, which never changes: dlclose and dlopen make a new set, and with
// it an empty cache.
//
//   x86-64    63         29 28 27   26   25       18 17      3 2 0    return address at CFA − 8; FP saved, or not touched
//             address >> 12  kind  saved  −fp_off/8    off/8     0
//   aarch64   63         28 27 26   25   24       13 12         0     saved: FP there and the return address 8 above it;
//             address >> 12  kind  saved   below/8      off/16        else the return address there, FP not touched
//
// The address's low 12 bits follow from the entry's index, which is a bijection of them for a given upper part. Rules that do
// not fit (few; none that is common) are looked up each time. Kind 0 is an empty entry.

#ifndef PROFD_UNWIND_CACHE_H
#define PROFD_UNWIND_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "profd/unwind.h"
#include "profd/wire.h"

enum profd_cache_kind { PROFD_CACHE_EMPTY, PROFD_CACHE_SP, PROFD_CACHE_FP, PROFD_CACHE_OUTERMOST };

#define PROFD_CACHE_KIND_SHIFT (PROFD_CACHE_ADDRESS_SHIFT - 2)
#define PROFD_CACHE_SAVED_SHIFT (PROFD_CACHE_ADDRESS_SHIFT - 3)
#define PROFD_CACHE_BELOW_SHIFT (PROFD_CACHE_OFF_SHIFT + PROFD_CACHE_OFF_BITS)

#define PROFD_CACHE_KIND(entry) ((enum profd_cache_kind)((entry) >> PROFD_CACHE_KIND_SHIFT & 3))
#define PROFD_CACHE_FP_SAVED(entry) ((entry) >> PROFD_CACHE_SAVED_SHIFT & 1)
#define PROFD_CACHE_BELOW(entry) \
	(((entry) >> PROFD_CACHE_BELOW_SHIFT & ((1u << PROFD_CACHE_BELOW_BITS) - 1)) * 8) // the CFA
#define PROFD_CACHE_OFF(entry) \
	(((entry) >> PROFD_CACHE_OFF_SHIFT & ((1u << PROFD_CACHE_OFF_BITS) - 1)) * PROFD_CACHE_OFF_UNIT)

_Static_assert(PROFD_CACHE_BELOW_SHIFT + PROFD_CACHE_BELOW_BITS == PROFD_CACHE_SAVED_SHIFT, "no bit is used twice");
_Static_assert(PROFD_ARCH_USER_TOP >> 12 == 1ULL << (64 - PROFD_CACHE_ADDRESS_SHIFT), "every address fits");

_Static_assert(PROFD_UNWIND_CACHE_ENTRIES == 1u << 12, "the index is the address's low 12 bits, mixed");

static inline uint32_t profd_cache_index(uint64_t address)
{
	uint32_t high = (uint32_t)(address >> 12);

	return ((uint32_t)address ^ (high * 0x9e3779b1u) >> 20) & (PROFD_UNWIND_CACHE_ENTRIES - 1);
}

// 0: not there.
static inline uint64_t profd_cache_get(const struct profd_module_set *set, uint64_t address)
{
	uint64_t entry;

	if (!set->cache)
		return 0;
	entry = __atomic_load_n(&set->cache[profd_cache_index(address)], __ATOMIC_RELAXED);
	return entry >> PROFD_CACHE_ADDRESS_SHIFT == address >> 12 && PROFD_CACHE_KIND(entry) != PROFD_CACHE_EMPTY
		       ? entry
		       : 0;
}

// The one distance below the CFA that an entry has room for, and whether FP is saved there. False: the rule does not fit.
static inline bool profd_cache_saves(const struct wire_rule *rule, int32_t *ret_below, bool *ret_saved)
{
	int32_t below = -(int32_t)rule->fp_off;

	if (rule->lands || rule->ra != WIRE_SAVED_AT || (rule->fp != WIRE_SAVED_AT && rule->fp != WIRE_SAVED_SAME))
		return false;
	*ret_saved = rule->fp == WIRE_SAVED_AT;
	if (!PROFD_ARCH_LINK) {
		*ret_below = *ret_saved ? below : 0;
		return rule->ra_off == -8;
	}
	*ret_below = *ret_saved ? below : -(int32_t)rule->ra_off;
	return rule->off2 == 0 && (!*ret_saved || rule->ra_off == rule->fp_off + 8);
}

// 0: does not fit.
static inline uint64_t profd_cache_pack(uint64_t address, const struct wire_rule *rule)
{
	uint64_t entry = (address >> 12) << PROFD_CACHE_ADDRESS_SHIFT;
	enum profd_cache_kind kind = rule->cfa == WIRE_CFA_SP ? PROFD_CACHE_SP : PROFD_CACHE_FP;
	int32_t below;
	bool saved;

	if (rule->ra == WIRE_SAVED_UNDEF)
		return entry | (uint64_t)PROFD_CACHE_OUTERMOST << PROFD_CACHE_KIND_SHIFT;
	if ((rule->cfa != WIRE_CFA_SP && rule->cfa != WIRE_CFA_FP) || !profd_cache_saves(rule, &below, &saved))
		return 0;
	if (rule->off < 0 || rule->off % PROFD_CACHE_OFF_UNIT ||
	    rule->off / PROFD_CACHE_OFF_UNIT >> PROFD_CACHE_OFF_BITS || below < 0 || below % 8 ||
	    below / 8 >> PROFD_CACHE_BELOW_BITS)
		return 0;
	return entry | (uint64_t)kind << PROFD_CACHE_KIND_SHIFT | (uint64_t)saved << PROFD_CACHE_SAVED_SHIFT |
	       (uint64_t)(below / 8) << PROFD_CACHE_BELOW_SHIFT |
	       (uint64_t)(rule->off / PROFD_CACHE_OFF_UNIT) << PROFD_CACHE_OFF_SHIFT;
}

// The entry; 0: does not fit.
static inline uint64_t profd_cache_put(const struct profd_module_set *set, uint64_t address,
				       const struct wire_rule *rule)
{
	uint64_t entry = profd_cache_pack(address, rule);

	if (entry && set->cache)
		__atomic_store_n(&set->cache[profd_cache_index(address)], entry, __ATOMIC_RELAXED);
	return entry;
}

#endif
