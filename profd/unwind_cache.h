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
//   63         29 28 27   26   25       18 17      3 2 0
//   address >> 12  kind  saved  −fp_off/8    off/8     0
//
// The address's low 12 bits follow from the entry's index, which is a bijection of them for a given upper part. Rules that do
// not fit (few; none that is common) are looked up each time. Kind 0 is an empty entry.

#ifndef PROFD_UNWIND_CACHE_H
#define PROFD_UNWIND_CACHE_H

#include <stdint.h>

#include "profd/unwind.h"
#include "profd/wire.h"

enum profd_cache_kind { PROFD_CACHE_EMPTY, PROFD_CACHE_SP, PROFD_CACHE_FP, PROFD_CACHE_OUTERMOST };

#define PROFD_CACHE_KIND(entry) ((enum profd_cache_kind)((entry) >> 27 & 3))
#define PROFD_CACHE_FP_SAVED(entry) ((entry) >> 26 & 1)
#define PROFD_CACHE_FP_BELOW(entry) (((entry) >> 18 & 0xff) << 3) // bytes below the CFA
#define PROFD_CACHE_OFF(entry) (((entry) >> 3 & 0x7fff) << 3)

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
	return entry >> 29 == address >> 12 && PROFD_CACHE_KIND(entry) != PROFD_CACHE_EMPTY ? entry : 0;
}

// 0: does not fit.
static inline uint64_t profd_cache_pack(uint64_t address, const struct wire_rule *rule)
{
	uint64_t entry = (address >> 12) << 29;
	int32_t below = -(int32_t)rule->fp_off;

	if (rule->ra == WIRE_SAVED_UNDEF)
		return entry | (uint64_t)PROFD_CACHE_OUTERMOST << 27;
	if (rule->ra != WIRE_SAVED_AT || rule->ra_off != -8 || (rule->cfa != WIRE_CFA_SP && rule->cfa != WIRE_CFA_FP) ||
	    rule->off < 0 || rule->off >> 18 || (rule->off & 7))
		return 0;
	entry |= (uint64_t)(rule->cfa == WIRE_CFA_SP ? PROFD_CACHE_SP : PROFD_CACHE_FP) << 27 | (uint64_t)rule->off;
	if (rule->fp == WIRE_SAVED_SAME)
		return entry;
	if (rule->fp != WIRE_SAVED_AT || below < 0 || below >> 11 || (below & 7))
		return 0;
	return entry | 1ULL << 26 | (uint64_t)below << 15;
}

static inline void profd_cache_put(const struct profd_module_set *set, uint64_t address, const struct wire_rule *rule)
{
	uint64_t entry = set->cache ? profd_cache_pack(address, rule) : 0;

	if (entry)
		__atomic_store_n(&set->cache[profd_cache_index(address)], entry, __ATOMIC_RELAXED);
}

#endif
