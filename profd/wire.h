// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// wire.h: everything the agent (inside the target) and the collector (another process) share.
//
// Four things carry it:
//  1. The region: one memfd, created by the agent, mapped by both. It holds the header, the ring's shards and the
//     thread slots. It outlives the target, so that a SIGKILL loses nothing that was committed.
//  2. The control socket: AF_UNIX, SOCK_SEQPACKET. The region's fd and the unwind tables' fds travel as SCM_RIGHTS.
//  3. The profile store (wire_store.h), where heap, mutex or block profiling was switched on: another memfd of the agent's.
//  4. The event trace (wire_events.h), where tracing was switched on: a third one.
//
// Trust: the collector copies every value out of the region once, then checks it; a hostile target can spoil its own
// profile and nothing else. The agent checks a table's sizes when it maps it, and bounds every load in its walk.
//
// Region layout (all offsets from the start, each part aligned to 4096):
//
//   0            struct wire_header
//   shards_off   struct wire_shard [nshards]           one cache-line pair each
//   slots_off    struct wire_slot  [nslots]            the thread table
//   pool_off     uint32_t [WIRE_POOL_INDEX], then uint64_t [WIRE_POOL_WORDS]   what threads work for: stacks, contexts, labels
//   tasks_off    struct wire_task [WIRE_TASKS]         what has a stack and is no thread
//   ring_off     nshards × shard_size bytes            the records, shard after shard
//
// Ring: MPSC per shard. `head` and `tail` are byte positions that only grow; position P lives at byte
// P & (shard_size-1). A record occupies `words` 8-byte words (its head word included) and may wrap. Protocol:
//
//   producer (handler)                                   consumer (collector)
//   1 CAS head: P → P+size (drop when it would pass      1 read the word at tail (acquire); 0 or RESERVED: stop
//     tail+shard_size, or after WIRE_CAS_TRIES)          2 check tag and size, copy the record out, check again
//   2 store head word: RESERVED | words | tag(P)         3 zero the record's words
//   3 store the payload                                  4 store tail (release)
//   4 store head word: TYPE | words | tag(P) (release)
//
// The consumer zeroes what it consumed, so a word at `tail` that is not zero was written in this lap. When the target is
// dead, a record that was reserved and never committed is skipped by its size; a zero word (died between 1 and 2) by
// scanning for the next word whose tag fits its own position.
//
// Accounting, per shard, at all times: generated = committed records + sum(dropped[]) + records being written.

#ifndef PROFD_WIRE_H
#define PROFD_WIRE_H

#include <stdbool.h>
#include <stdint.h>

#include "profd/wire_events.h"
#include "profd/wire_otel.h"
#include "profd/wire_store.h"
#include "profd/wire_table.h"
#include "profd/wire_waits.h"

#define WIRE_MAGIC 0x64666f7270ULL // "profd"
#define WIRE_VERSION 5u

#define WIRE_PAGE 4096u
#define WIRE_CAS_TRIES 16
#define WIRE_MAX_FRAMES 1024u // frames kept of one stack, from the leaf; deeper ones are marked WIRE_STOP_DEPTH
#define WIRE_MAX_SHARDS 256u
#define WIRE_MAX_SLOTS (1u << 17)
#define WIRE_MIN_SHARD_SIZE (64u << 10) // a power of two, as every shard size
#define WIRE_MAX_SHARD_SIZE (16u << 20)
#define WIRE_MAX_RATE_HZ 10000u

// Why a sample was generated but not put into the ring.
enum wire_drop {
	WIRE_DROP_RING_FULL,  // the collector did not keep up
	WIRE_DROP_CONTENTION, // reserve lost WIRE_CAS_TRIES races
	WIRE_DROP_NO_SCRATCH, // all scratch buffers were in use
	WIRE_DROP_COUNT
};

// Where and why the walk ended. Only WIRE_STOP_END is a complete stack.
enum wire_stop {
	WIRE_STOP_END,        // reached the thread's outermost frame
	WIRE_STOP_DEPTH,      // WIRE_MAX_FRAMES reached
	WIRE_STOP_NO_TABLE,   // a PC in no module that has a table, and no usable frame pointer
	WIRE_STOP_NO_RULE,    // the module's CFI says nothing, or nothing we can express, at that PC
	WIRE_STOP_UNREADABLE, // a stack address that could not be read
	WIRE_STOP_READS,      // what may be read by system calls for one walk was used up
	WIRE_STOP_BAD_CFA,    // the stack did not grow, or was not aligned: broken stack or broken CFI
	WIRE_STOP_COUNT
};

enum wire_clock {
	WIRE_CLOCK_AUTO, // CPU timers up to the kernel's tick, perf events above it where the kernel lets us
	WIRE_CLOCK_CPU,  // timer_create on the thread's CPU clock: fires at the kernel's tick at most
	WIRE_CLOCK_PERF, // a perf_event of the CPU clock for each thread
	WIRE_CLOCK_COUNT
};

enum wire_record_type {
	WIRE_REC_NONE = 0,
	WIRE_REC_RESERVED = 1,
	WIRE_REC_SAMPLE = 2,
};

// Head word of a record: tag in bits 63..32, type in 31..24, size in 8-byte words in 23..0.
#define WIRE_HEAD(pos, type, words) (((uint64_t)WIRE_TAG(pos) << 32) | ((uint64_t)(type) << 24) | (uint64_t)(words))
#define WIRE_TAG(pos) ((uint32_t)((pos) >> 3) ^ 0x9e3779b9u)
#define WIRE_HEAD_TAG(w) ((uint32_t)((w) >> 32))
#define WIRE_HEAD_TYPE(w) ((uint32_t)((w) >> 24) & 0xffu)
#define WIRE_HEAD_WORDS(w) ((uint32_t)(w)&0xffffffu)

// One on-CPU sample. `pcs[0]` is the leaf PC as interrupted; the others are return addresses (look up at pc−1), but
// for those whose bit in flags says that a signal frame precedes them: see WIRE_PC_EXACT.
struct wire_sample {
	uint64_t head;
	uint64_t time_ns; // CLOCK_MONOTONIC
	uint64_t cpu_ns;  // CPU time this sample stands for: weight × the thread's period
	uint32_t tid;
	uint32_t weight;   // 1 + timer overrun
	uint32_t slot;     // index into the slots
	uint32_t maps_gen; // wire_header.maps_gen when it was taken
	uint16_t nframes;
	uint8_t stop;     // enum wire_stop
	uint8_t flags;    // WIRE_SAMPLE_*
	uint32_t context; // what its thread worked for: a context of the pool; 0: not known
	uint32_t labels;  // a set of labels of the pool; 0: none
	uint32_t reserved;
	// uint64_t pcs[nframes] follow, and with WIRE_SAMPLE_TRACE a struct wire_trace
};
#define WIRE_SAMPLE_TRACE 1u

// The span that a thread works on, as W3C's Trace Context has it: bytes in that order.
struct wire_trace {
	uint8_t trace_id[16];
	uint8_t span_id[8];
	uint8_t flags; // WIRE_TRACE_SAMPLED: the trace is recorded
	uint8_t reserved[7];
};
#define WIRE_TRACE_SAMPLED 1u
#define WIRE_TRACE_WORDS (sizeof(struct wire_trace) / 8)

// A PC right above a signal frame is exact (interrupted), not a return address. User addresses have bit 63 clear.
#define WIRE_PC_EXACT (1ULL << 63)

// Written by producers (head, counters) and by the collector (tail). Each on its own cache line.
struct wire_shard {
	_Alignas(64) uint64_t head;        // atomic; producers, CAS
	uint64_t generated;                // atomic; samples that came to this shard
	uint64_t dropped[WIRE_DROP_COUNT]; // atomic
	_Alignas(64) uint64_t tail;        // atomic; the collector's
};

// A thread of the target. Owned by the thread itself (or by the helper for a thread made by raw clone).
// `state_tid` publishes: the slot is live when its low 32 bits, the tid, are not zero. The high 32 bits are the slot's
// generation, raised at each release; a reader takes state_tid (acquire), copies, and takes it again: equal means whole.
struct wire_slot {
	_Alignas(64) uint64_t state_tid; // atomic
	uint32_t creator;                // the context that it was born with; 0: not known
	uint32_t creator_tid;            // the thread that made it
	char name[16];                   // as of registration or the last pthread_setname_np; NUL-terminated
	uint64_t private_words[12];      // the agent's own; meaningless to the collector
	uint64_t work;       // atomic; WIRE_WORK: what it works for now. By the thread alone, like all that follows
	uint32_t trace_turn; // atomic; odd: trace is being changed
	uint32_t has_trace;  // atomic; 0: trace means nothing
	struct wire_trace trace;
	uint64_t otel_at; // where its otel_thread_ctx_v1 is (wire_otel.h), as long as the slot is its; 0: there is none
	uint64_t reserved;
};
#define WIRE_SLOT_TID(s) ((uint32_t)(s))
#define WIRE_SLOT_GEN(s) ((uint32_t)((s) >> 32))
#define WIRE_WORK(context, labels) ((uint64_t)(labels) << 32 | (context))
#define WIRE_WORK_CONTEXT(w) ((uint32_t)(w))
#define WIRE_WORK_LABELS(w) ((uint32_t)((w) >> 32))

// ---- The pool: what threads work for ------------------------------------------------------------------------------
//
// Items, each there once, named by the number of their first word, which is never 0. An item is complete before the index or another
// item names it, and never changes again, but for a context's counts; nothing is ever freed. So a context's parent, its stack's and
// its own words lie before it: there are no cycles, whatever the target says (a reader checks that).
//
//   sample, slot ──► context {kind, stack, parent} ──► context … ──► 0        at most WIRE_CHAIN of them
//                       └──► stack {PCs}
//   sample, slot ──► labels {"key\0value\0…"}
//
// The index finds equal items: open addressing from the hash on, by triangular numbers; an item's number or 0. Who finds a free place puts his own there by
// compare-and-swap; who loses looks again.
#define WIRE_POOL_INDEX (1u << 15)
#define WIRE_POOL_PROBES 64u
#define WIRE_POOL_WORDS (1u << 19)
#define WIRE_POOL_LABELS \
	8u // sixteenths of index and words that labels may take; one more, what stands in for those that had no room
#define WIRE_POOL_BYTES ((uint64_t)WIRE_POOL_INDEX * sizeof(uint32_t) + (uint64_t)WIRE_POOL_WORDS * sizeof(uint64_t))

enum wire_item_type { WIRE_ITEM_NONE, WIRE_ITEM_STACK, WIRE_ITEM_CONTEXT, WIRE_ITEM_LABELS };

// Head word of an item: hash in bits 63..32, type in 31..24, size in words (the head's own included) in 23..0.
#define WIRE_ITEM_HEAD(hash, type, words) ((uint64_t)(hash) << 32 | (uint64_t)(type) << 24 | (uint64_t)(words))
#define WIRE_ITEM_TYPE(w) ((uint32_t)((w) >> 24) & 0xffu)
#define WIRE_ITEM_WORDS(w) ((uint32_t)(w)&0xffffffu)

#define WIRE_STACK_FRAMES 128u // kept of one stack, from the leaf
struct wire_pool_stack {
	uint64_t head;
	uint16_t npcs; // ≥ 1
	uint8_t stop;  // enum wire_stop
	uint8_t reserved[5];
	// uint64_t pcs[npcs] follow: return addresses, but for those with WIRE_PC_EXACT; the call that this is about first
};

// What made a thread do what it does, and how sure that is: made by pthread_create or fork, and handed over by name, are facts.
enum wire_context_kind {
	WIRE_CONTEXT_CREATED, // the stack made the thread, or forked the process
	WIRE_CONTEXT_WOKEN,   // the stack woke the thread: evidence, not proof
	WIRE_CONTEXT_QUEUED,  // the stack handed the work over: profd_capture
	WIRE_CONTEXT_KINDS
};
#define WIRE_GENERATIONS 8u                // of a chain; what is older is left out
#define WIRE_CHAIN (WIRE_GENERATIONS + 1u) // as a reader may find it: a lock's context comes on top
struct wire_pool_context {
	uint64_t head;
	uint32_t stack;
	uint32_t parent;    // what the stack's thread worked for then; 0: nothing that is known
	uint8_t kind;       // enum wire_context_kind
	uint8_t generation; // 1 + its parent's; without one: 1
	uint8_t lock; // 1: the stack gave back a lock, and parent is what the thread itself works for that waited for it
	uint8_t reserved[5];
	uint64_t created;  // atomic; threads made by it
	uint64_t unjoined; // atomic; of them, ended joinable, and neither joined nor detached since
};

#define WIRE_LABELS 8u                 // of a set
#define WIRE_LABEL_KEY_BYTES 32u       // with the NUL
#define WIRE_LABEL_VALUE_BYTES 64u     // likewise
#define WIRE_LABEL_NO_ROOM "(no room)" // the value of a key whose own found none
struct wire_pool_labels {
	uint64_t head;
	uint32_t bytes; // of the text, NULs included
	uint32_t nlabels;
	// char text[bytes] follow, zero-padded: key, NUL, value, NUL, by key in order; no key twice
};

// A coroutine or fiber that the program told of (profd_task_register). `turn_state` publishes as a slot's state_tid does: raised with
// each change, so that equal before and after means whole. Odd turns: being changed.
#define WIRE_TASKS (1u << 14)
enum wire_task_state {
	WIRE_TASK_FREE,
	WIRE_TASK_RUNNING,   // or not begun: its stack, if any, is some thread's now
	WIRE_TASK_SUSPENDED, // its stack stands still, from sp on
	WIRE_TASK_STATES
};
struct wire_task {
	_Alignas(64) uint64_t turn_state; // atomic; WIRE_TASK_WORD
	uint64_t stack_low, stack_high;
	uint64_t pc, sp, fp; // where it is suspended: the return address, SP and FP as they are behind the call
	uint64_t since_ns;   // CLOCK_MONOTONIC
	uint64_t work;       // WIRE_WORK of whoever ran it last
	char name[32];       // NUL-terminated
	char waits_for[16];  // likewise; "": nothing was said
	uint32_t reserved[4];
};
#define WIRE_TASK_WORD(turn, state) ((uint64_t)(turn) << 8 | (uint64_t)(state))
#define WIRE_TASK_TURN(w) ((w) >> 8)
#define WIRE_TASK_STATE(w) ((uint32_t)(w)&0xffu)

struct wire_header {
	uint64_t magic;
	uint32_t version;
	uint32_t pid;
	uint64_t region_size;
	uint64_t shards_off, slots_off, pool_off, tasks_off, ring_off;
	uint32_t nshards, nslots;
	uint32_t shard_size; // bytes; a power of two
	uint32_t helper_tid; // the agent's own thread
	uint64_t start_ns;   // CLOCK_MONOTONIC, agent start
	// What follows changes while the target runs; atomics, written by the agent.
	_Alignas(64) uint32_t maps_gen; // raised before each dlclose and after each dlopen
	uint32_t sampling_seq;          // last SAMPLING request that took effect
	uint32_t period_ns;             // 0: not sampling
	uint32_t threads_live;          // registered now
	uint32_t slots_used;            // slots [0, slots_used) were ever used
	uint32_t threads_armed;         // with a timer now
	uint64_t threads_seen;          // ever registered
	uint64_t threads_unsampled;     // could not be given a slot or a timer (see timer_errno)
	uint32_t timer_errno;           // why the last timer could not be made; 0: none
	uint32_t handler_lost;          // times that SIGPROF's kernel disposition was found not to be ours
	uint64_t foreign_forwarded;     // SIGPROFs not ours, given to the program's own handler
	uint64_t foreign_ignored;       // SIGPROFs not ours, and the program has no handler: kept from killing it
	uint64_t late;                  // our SIGPROFs that came after sampling had stopped: no sample, no loss
	uint64_t restarted;             // system calls that our signal interrupted and the handler restarted
	uint32_t clock;                 // enum wire_clock in force: CPU or PERF
	uint32_t perf_errno;            // why some thread has a CPU timer although PERF was wanted; 0: none has
	uint32_t threads_perf;          // with a perf event now
	uint32_t threads_slowed;        // sampled below the rate now, to keep to max_overhead_permille
	uint64_t slowed_total;          // times that a thread's rate was lowered
	uint64_t contexts_lost;         // stacks and contexts that had no room in the pool
	uint64_t labels_lost;           // sets of labels that had none: times that one was to be set
	uint32_t pool_used;             // words; those before this were given out
	uint32_t pool_labels;           // items that are labels
	uint32_t tasks_used;            // tasks [0, tasks_used) were ever used
	uint64_t tasks_lost;            // that had no room
	uint32_t store_errno;           // why the profile store could not be made when it was asked for; 0: it could
	uint32_t reserved;
};

// ---- Control socket -----------------------------------------------------------------------------------------------

enum wire_msg_type {
	// agent → collector
	WIRE_MSG_HELLO =
		1,         // struct wire_hello + the region's fd. First message; version mismatch: the collector closes
	WIRE_MSG_MAPS = 2, // struct wire_msg, arg = the new maps_gen
	WIRE_MSG_WANT_TABLES =
		3,           // struct wire_msg: unwind tables, from now on, sampled or not; READY when they were sent
	WIRE_MSG_STORE = 4,  // struct wire_store_msg + the profile store's fd
	WIRE_MSG_EVENTS = 5, // struct wire_events_msg + the event trace's fd
	// collector → agent
	WIRE_MSG_TABLE = 32,    // struct wire_table_msg + the table's fd: [start,end) is unwound by it from now on
	WIRE_MSG_FORGET = 33,   // struct wire_table_msg without fd: [start,end) holds that module no more
	WIRE_MSG_SAMPLING = 34, // struct wire_sampling
	WIRE_MSG_READY = 35,    // struct wire_msg: all that start-up needs, or WANT_TABLES asked for, was sent
	WIRE_MSG_REFUSED = 36,  // struct wire_msg, arg = enum wire_refusal; the collector hangs up
	WIRE_MSG_RATES = 37,    // struct wire_rates_msg: in force from now on
	WIRE_MSG_TRACE = 38,    // struct wire_trace_msg: write events, or write none
};

enum wire_refusal {
	WIRE_REFUSED_SILENTLY, // no reason was given
	WIRE_REFUSED_USER,
	WIRE_REFUSED_VERSION,
	WIRE_REFUSED_NAMESPACE, // of PIDs
	WIRE_REFUSED_FULL,
	WIRE_REFUSED_BAD, // hello makes no sense
};

struct wire_msg {
	uint32_t type;
	uint32_t arg;
};

struct wire_hello {
	struct wire_msg msg; // arg = WIRE_VERSION
	uint64_t magic;
	uint64_t region_size;
	uint32_t pid;
	uint32_t ppid;
	struct wire_rates rates; // wished for, or in force already
	uint32_t forked;         // 1: the same image as its parent, since fork; its mappings are its parent's
	uint32_t reserved;
};

struct wire_store_msg {
	struct wire_msg msg;
	uint64_t size; // bytes of the fd
};

struct wire_events_msg {
	struct wire_msg msg;
	uint64_t size; // bytes of the fd; 0: without one, for the reason in msg.arg (errno)
};

struct wire_trace_msg {
	struct wire_msg msg; // arg: 0: off, 1: on
	uint32_t mib;        // how large the trace is to be, if it is not there yet
	uint32_t reserved;
};

struct wire_rates_msg {
	struct wire_msg msg;
	struct wire_rates rates;
};

struct wire_table_msg {
	struct wire_msg msg;
	uint64_t start, end; // the module's executable mapping(s) in the target
	uint64_t bias;       // vaddr in the file = address − bias
	uint64_t size;       // bytes of the table's fd
};

struct wire_sampling {
	struct wire_msg msg;            // arg = request number, written to wire_header.sampling_seq when in effect
	uint32_t rate_hz;               // 0: stop
	uint32_t clock;                 // enum wire_clock
	uint32_t max_overhead_permille; // of a thread's CPU time, in the handler; 0: no limit
	uint32_t reserved;
};

#define WIRE_ASSERT(what) _Static_assert(what, #what)
WIRE_ASSERT(sizeof(struct wire_sample) == 56);
WIRE_ASSERT(sizeof(struct wire_shard) == 128);
WIRE_ASSERT(sizeof(struct wire_slot) == 192);
WIRE_ASSERT(sizeof(struct wire_trace) == 32);
WIRE_ASSERT(sizeof(struct wire_task) == 128);
WIRE_ASSERT(sizeof(struct wire_pool_stack) == 16);
WIRE_ASSERT(sizeof(struct wire_pool_context) == 40);
WIRE_ASSERT(sizeof(struct wire_pool_labels) == 16);
WIRE_ASSERT(WIRE_POOL_BYTES % WIRE_PAGE == 0);
WIRE_ASSERT(sizeof(struct wire_header) <= WIRE_PAGE);
WIRE_ASSERT(sizeof(struct wire_msg) == 8);
WIRE_ASSERT(sizeof(struct wire_hello) == 80);
WIRE_ASSERT(sizeof(struct wire_store_msg) == 16);
WIRE_ASSERT(sizeof(struct wire_events_msg) == 16);
WIRE_ASSERT(sizeof(struct wire_trace_msg) == 16);
WIRE_ASSERT(sizeof(struct wire_rates_msg) == 48);
WIRE_ASSERT(sizeof(struct wire_table_msg) == 40);
WIRE_ASSERT(sizeof(struct wire_sampling) == 24);
#undef WIRE_ASSERT

#endif
