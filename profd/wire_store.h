// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// wire_store.h: the profile store: what heap, mutex and block profiles are made of. A part of wire.h, which includes it.
//
// Nothing is streamed: as in Go's runtime, there are buckets that only count up, and the collector reads them whenever it is asked. The
// store is a memfd of its own, made by the agent when a rate is first switched on (WIRE_MSG_STORE), sparse: what is not used costs nothing.
//
//   0            struct wire_store
//   arena_off    uint64_t [arena_words]            stacks, one after the other: struct wire_stack, then its PCs
//   buckets_off  struct wire_bucket [nbuckets]     [0, buckets_used) were taken
//   live_off     struct wire_live_group [ngroups]  sampled objects that are not freed yet
//   traced_off   struct wire_traced [WIRE_TRACED]  the last samples whose threads had a trace
//
//   live object ──bucket──► wire_bucket ──stack──► wire_stack, PCs
//       └──traced──► wire_traced ──bucket──► the same
//
// A bucket is one (kind, stack, key, rate, work). Whoever finds none reserves one (buckets_used), fills it, and stores `kind` last (release): a
// reader that sees a kind sees the rest. Stacks are complete before a bucket names them. None of it changes any more, but for the counts.
//
// Counts never go down. A writer counts what comes (allocated) before what goes (freed), a reader loads what goes before what comes: so
// what is in use, their difference, is never less than nothing, and exact whenever nobody is in the middle of it.
//
// Traces are without number, so a bucket knows nothing of them. A sample of a thread that has one is counted in its bucket as any other, and has an
// entry besides: its trace, and what of the bucket's counts is its own. Entries are used in turn; where one is overwritten, its sample is one without
// a trace from then on. A writer takes a sequence number, then counts in the bucket, then publishes the entry. So of an entry that a reader sees,
// the counts are in what he reads of the bucket afterwards; and who reads buckets, and traced_next after them, has in these buckets nothing of the
// sequence numbers from there on.

#ifndef PROFD_WIRE_STORE_H
#define PROFD_WIRE_STORE_H

#include <stdint.h>

#define WIRE_STORE_MAGIC 0x6f747364666f7270ULL // "profdsto"
#define WIRE_STORE_VERSION 2u
#define WIRE_STORE_FRAMES 256u // kept of one stack, from the leaf; deeper ones are marked WIRE_STOP_DEPTH
#define WIRE_STORE_MAX_BUCKETS (1u << 20)
#define WIRE_STORE_MAX_ARENA_WORDS (1u << 26)
#define WIRE_STORE_MAX_GROUPS (1u << 22)

enum wire_bucket_kind {
	WIRE_BUCKET_NONE, // not filled yet
	// key: bytes of one object; above WIRE_STORE_EXACT_BYTES, when buckets run short, of the largest that it may count. WIRE_HEAP_KEY
	WIRE_BUCKET_HEAP,
	WIRE_BUCKET_MUTEX, // key: WIRE_WAIT_KEY (wire_waits.h); the stack is the holder's, who gives it back
	WIRE_BUCKET_BLOCK, // key: WIRE_WAIT_KEY; the stack is the waiter's
	// What a descriptor was. It counts nothing; its stack is no stack, but text: 8 bytes a word, padded with NUL. A bucket of a block profile
	// whose key has a kind above WIRE_WAIT_LAST_ADDRESS names it by its number + 1; 0: not known.
	WIRE_BUCKET_OBJECT,
	WIRE_BUCKET_KINDS
};

// How an object came to be. What the program maps itself is all counted, at rate 1; it may go piece by piece: objects are freed with their last.
enum wire_heap_by { WIRE_HEAP_BY_ALLOCATOR, WIRE_HEAP_BY_MMAP, WIRE_HEAP_BY_MREMAP, WIRE_HEAP_BY_MPROTECT };
#define WIRE_HEAP_KEY(by, bytes) ((uint64_t)(by) << 62 | (bytes))
#define WIRE_HEAP_BY(key) ((uint32_t)((key) >> 62))
#define WIRE_HEAP_BYTES(key) ((key) & ((1ULL << 62) - 1))

// What a bucket's counts mean: as sampled, not scaled.
enum wire_heap_count {
	WIRE_HEAP_ALLOC_OBJECTS,
	WIRE_HEAP_ALLOC_BYTES,
	WIRE_HEAP_FREE_OBJECTS,
	WIRE_HEAP_FREE_BYTES,
};
enum wire_wait_count {
	WIRE_WAIT_CONTENTIONS,
	WIRE_WAIT_DELAY_NS
}; // scaled by the agent, the former in WIRE_WAIT_PARTS
#define WIRE_BUCKET_COUNTS 4

// Why something was sampled and is not, or not wholly, in the store.
enum wire_store_lost {
	WIRE_STORE_LOST_STACKS,  // no room for another stack: not counted at all
	WIRE_STORE_LOST_BUCKETS, // nor for another bucket
	WIRE_STORE_LOST_LIVE,    // no room among the live objects: counted as allocated, and as freed at once
	WIRE_STORE_LOST_COUNT
};

// What of the heap the agent does not see. Bits of wire_store.heap_unseen.
#define WIRE_UNSEEN_ALL 1u        // the executable, or a library before ours, has a malloc of its own
#define WIRE_UNSEEN_EXECUTABLE 2u // the executable imports no malloc: either it needs none, or it has its own inside
#define WIRE_UNSEEN_MAPPINGS 4u   // what it maps was to be seen, and there was no memory to note it in

struct wire_stack {
	uint64_t hash; // of the PCs; the agent's own
	uint16_t
		npcs; // ≥1; all are return addresses, but for those with WIRE_PC_EXACT. The call of malloc or the like first
	uint8_t stop; // enum wire_stop
	uint8_t reserved[5];
	// uint64_t pcs[npcs] follow
};
#define WIRE_STACK_WORDS 2u // of the arena, before the PCs

struct wire_bucket {
	uint32_t kind;  // atomic; enum wire_bucket_kind: publishes the rest
	uint32_t stack; // the arena word where its wire_stack begins
	uint64_t key;
	uint64_t rate;                       // in force when it was sampled: what scales the counts
	uint64_t counts[WIRE_BUCKET_COUNTS]; // atomic
	uint64_t work; // WIRE_WORK, of the region's pool: what the thread worked for; 0: not known, or not told apart
};

// A live object is in one place of one group. Its address publishes the rest: 0: free, WIRE_LIVE_BUSY: being written. No group is on two pages:
// a page that is not there has none in use. A piece of what the program mapped has WIRE_LIVE_MAPPED in its address, where an allocator's object may be, too.
#define WIRE_LIVE_PLACES 10u
#define WIRE_LIVE_BUSY 1u
#define WIRE_LIVE_MAPPED 2u
struct wire_live_group {
	_Alignas(64) uint64_t addresses[WIRE_LIVE_PLACES]; // atomic
	struct wire_live {
		uint32_t bucket;
		uint32_t born_ds; // tenths of a second since wire_store.start_ns
		uint64_t bytes : 48;
		uint64_t traced : 16; // the number of its wire_traced: index + 1; 0: it has none
	} objects[WIRE_LIVE_PLACES];
};

// The entry of sequence number S has index S % WIRE_TRACED. `turn` is a seqlock: it publishes the rest, and is another one for each sample. While the
// object of a heap sample is in use, it is LIVE; whoever frees the object takes that off, if the entry still is that object's.
#define WIRE_TRACED 65535u
#define WIRE_TRACED_BUSY 1u // being written
#define WIRE_TRACED_LIVE 2u
#define WIRE_TRACED_TURN(sequence, bits) (((uint64_t)(sequence) + 1) << 2 | (bits))
#define WIRE_TRACED_SEQUENCE(turn) (((turn) >> 2) - 1)
#define WIRE_TRACED_COUNTS 2u
struct wire_traced {
	uint64_t turn;   // atomic; WIRE_TRACED_TURN; 0: never used
	uint32_t bucket; // its number
	uint32_t flags;  // like what follows, of its wire_trace
	uint8_t trace_id[16];
	uint8_t span_id[8];
	uint64_t counts[WIRE_TRACED_COUNTS]; // parts of its bucket's first ones: of what comes, not of what goes
	uint64_t object;                     // the address of a heap sample's
};

struct wire_store {
	uint64_t magic;
	uint32_t version;
	uint32_t pid;
	uint64_t size; // of the whole
	uint64_t arena_off, buckets_off, live_off, traced_off;
	uint32_t arena_words, nbuckets, ngroups;
	uint32_t heap_unseen; // WIRE_UNSEEN_…
	uint64_t start_ns;    // CLOCK_MONOTONIC
	// What follows changes while the target runs; atomics, written by the agent.
	_Alignas(64) uint64_t heap_rate; // bytes; 0: off
	uint64_t mutex_rate;             // 0: off
	uint64_t block_rate;             // 0: off
	uint64_t heap_mmap;              // 1: what the program maps is in the heap's buckets as well
	_Alignas(64) uint32_t arena_used;
	uint32_t buckets_used;
	uint64_t lost[WIRE_STORE_LOST_COUNT];
	_Alignas(64) uint64_t traced_next; // sequence number; those before it were given out
	uint64_t traces_lost;              // of samples whose entries were overwritten, or that found none
};

// What is switched on: the agent's wish in its hello (from its environment, or handed on by fork), the collector's in WIRE_MSG_RATES.
struct wire_rates {
	uint64_t heap_bytes; // a sample for so many bytes allocated, on average; 0: off
	uint64_t mutex;      // one contention of so many is kept; 0: off
	uint64_t block;      // ns: one wait is kept for so long a time waited, on average; 0: off
	uint32_t block_io;   // 1: waits for files, sockets and time, too
	uint32_t wakers;     // 1: who is woken is linked to who woke it
	uint32_t heap_mmap;  // 1: with heap_bytes: what the program maps itself, too
	uint32_t reserved;   // 0
};

#define WIRE_STORE_ASSERT(what) _Static_assert(what, #what)
WIRE_STORE_ASSERT(sizeof(struct wire_stack) == WIRE_STACK_WORDS * 8);
WIRE_STORE_ASSERT(sizeof(struct wire_bucket) == 64);
WIRE_STORE_ASSERT(sizeof(struct wire_live_group) == 256);
WIRE_STORE_ASSERT(sizeof(struct wire_traced) == 64);
WIRE_STORE_ASSERT(sizeof(struct wire_store) <= 4096);
WIRE_STORE_ASSERT(sizeof(struct wire_rates) == 40);
#undef WIRE_STORE_ASSERT

#endif
