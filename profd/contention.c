// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// contention.c: see contention.h.
//
// An entry is two words, changed by one compare-and-swap of 16 bytes:
//
//   key      lock address << 16 | number of threads that wait; 0: free
//   balance  what they have waited at the time t is number × t + balance (modulo 2^64)
//
// One who begins at t0: number + 1, balance − t0. One who ends at t1: number − 1, balance + t1: what it waited stays in the sum. A charge at
// t takes it all out: balance = −number × t. What is left when the last one ends (from the unlock to its going on) is nobody's. Where the last one
// gives up (a time-out), it is left for the next charge, in an entry without waiters, which another lock may take if it finds no free one.
//
// Two threads that begin at once may make two entries for one lock; a charge takes from both, and an end may be booked in the other's, with
// the other's beginning: the sums stay right but for that difference, and both entries are free in the end.

#include "profd/contention.h"

#include <string.h>

#define ENTRIES 8192u // a power of two
#define PROBES 8u
#define WAITERS 0xffffu

typedef unsigned __int128 both_words;

union entry {
	struct {
		uint64_t key, balance;
	};
	both_words both;
};

static union entry entries[ENTRIES] __attribute__((aligned(16)));
static bool any; // atomic; ever used: a program that never waits need not have the memory

// A torn read is found out by the exchange.
static union entry peek(const union entry *entry)
{
	union entry seen;

	seen.key = __atomic_load_n(&entry->key, __ATOMIC_ACQUIRE);
	seen.balance = __atomic_load_n(&entry->balance, __ATOMIC_RELAXED);
	return seen;
}

#if defined(__x86_64__)
__attribute__((target("cx16")))
#endif
static bool
exchange(union entry *entry, const union entry *seen, const union entry *wanted)
{
	return __sync_bool_compare_and_swap(&entry->both, seen->both, wanted->both);
}

static union entry *probe(uint64_t lock, uint32_t i)
{
	return &entries[((uint32_t)((lock >> 3) * 0x9e3779b97f4a7c15u >> 40) + i) & (ENTRIES - 1)];
}

static uint64_t waiters(const union entry *entry)
{
	return entry->key & WAITERS;
}

// Of the entries for the lock, the first that can have `number` more (or, negative, less); it must not be full, or run out of 16 bits. keeps: the
// balance, if nobody waits any more.
static bool change(uint64_t lock, int64_t number, uint64_t balance, bool keeps)
{
	for (uint32_t i = 0; i < PROBES; i++) {
		union entry *entry = probe(lock, i);
		union entry seen = peek(entry), wanted;

		while (seen.key >> 16 == lock && waiters(&seen) != (number > 0 ? WAITERS : 0)) {
			wanted.key = seen.key + (uint64_t)number;
			wanted.balance = seen.balance + balance;
			if (waiters(&wanted) == 0 && !keeps)
				wanted.both = 0;
			if (exchange(entry, &seen, &wanted))
				return true;
			seen = peek(entry);
		}
	}
	return false;
}

// In a free entry, or in one where nobody waits.
static bool add(uint64_t lock, uint64_t now_ns, bool only_free)
{
	for (uint32_t i = 0; i < PROBES; i++) {
		union entry *entry = probe(lock, i);
		union entry seen = peek(entry), wanted = {{lock << 16 | 1, -now_ns}};

		if ((only_free ? seen.key : waiters(&seen)) == 0 && exchange(entry, &seen, &wanted))
			return true;
	}
	return false;
}

bool profd_contention_begin(uint64_t lock, uint64_t now_ns)
{
	__atomic_store_n(&any, true, __ATOMIC_RELAXED);
	return change(lock, 1, -now_ns, false) || add(lock, now_ns, true) || add(lock, now_ns, false);
}

void profd_contention_end(uint64_t lock, uint64_t now_ns)
{
	change(lock, -1, now_ns, false);
}

void profd_contention_give_up(uint64_t lock, uint64_t now_ns)
{
	change(lock, -1, now_ns, true);
}

uint64_t profd_contention_charge(uint64_t lock, uint64_t now_ns)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < PROBES; i++) {
		union entry *entry = probe(lock, i);
		union entry seen = peek(entry), wanted;

		while (seen.key >> 16 == lock) {
			wanted = seen;
			wanted.balance = -(waiters(&seen) * now_ns);
			if (waiters(&seen) == 0)
				wanted.both = 0;
			if (exchange(entry, &seen, &wanted)) {
				int64_t waited = (int64_t)(waiters(&seen) * now_ns + seen.balance);

				// Who began after `now` was read has waited less than nothing.
				sum += waited > 0 ? (uint64_t)waited : 0;
				break;
			}
			seen = peek(entry);
		}
	}
	return sum;
}

void profd_contention_reset(void)
{
	if (__atomic_load_n(&any, __ATOMIC_RELAXED))
		memset(entries, 0, sizeof(entries));
	any = false;
}
