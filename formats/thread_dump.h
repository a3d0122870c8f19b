// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// thread_dump.h: all threads of a process at one moment, the input of the thread dump's formats. It knows no pid but as a number to
// show, no ELF file, no socket.
//
//   thread_dump ─┬─ profile     the tables of profile.h: mappings, functions, locations, strings. Its samples are made on request
//                ├─ stacks[]    distinct stacks, location ids leaf first; index+1 is a stack's id
//                ├─ causes[]    why threads do what they do: who made them or queued their work; index+1 is a cause's id
//                └─ threads[]   sorted by tid; each names its stack, its creator's, and its cause
//
// Strings are interned in the profile. Not thread-safe; one owner at a time.

#ifndef PROFD_FORMATS_THREAD_DUMP_H
#define PROFD_FORMATS_THREAD_DUMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/profile.h"
#include "formats/profile_view.h"

struct writer;

struct thread_dump_stack {
	uint32_t nlocations;
	const uint32_t *location_ids; // leaf first
	const char *partial;          // why it does not reach the thread's start; "": it does
};

struct thread_dump_cause {
	const char *kind; // "created", "woken", "queued"
	uint32_t stack;   // id
	uint32_t parent;  // id, less than its own; 0: none that is known
};

struct thread_dump_thread {
	uint32_t tid;
	const char *name;
	const char *state;      // "epoll", "mutex lock", "sleep", "running"…; never empty
	const char *object;     // what it waits for: "0x7f…", "fd 5; 312 fds", "pipe:[123]"…; "": nothing to say
	uint32_t owner_tid;     // who holds the lock, or is joined; 0: not known
	int64_t waiting_ns;     // it has not run for at least so long; 0: not known, or it runs
	int64_t cpu_ns;         // CPU time so far; −1: not known
	uint32_t stack;         // id; 0: none could be read
	uint32_t creator_tid;   // 0: not known
	uint32_t creator_stack; // id; 0: not known
	uint32_t cause;         // id; 0: not known
	const char *labels;     // label_text.h; NULL or "": none
	int64_t count;          // threads that it stands for; 0 means 1
	bool hidden;            // not written: only there for others to name
};

static inline int64_t thread_dump_count(const struct thread_dump_thread *thread)
{
	return thread->count ? thread->count : 1;
}

enum thread_verdict {
	THREAD_VERDICT_DEADLOCK, // threads: each waits for the next, the last for the first
	THREAD_VERDICT_CONVOY,   // threads: they wait for one lock
	THREAD_VERDICT_UNJOINED, // count threads of that creator ended joinable, and are not joined
	THREAD_VERDICT_GROWS,    // the group of that stack, creator and state grew, from dump to dump
	THREAD_VERDICT_ZOMBIES,  // threads: they did not run for a whole window, and nobody was woken where they are
	THREAD_VERDICT_COUNT
};

struct thread_dump_verdict {
	enum thread_verdict kind;
	uint32_t nthreads;
	uint32_t *threads; // indices into threads[], sorted by tid as they are
	int64_t count;
	uint32_t base, dumps; // of what grows: count so many dumps ago, when it was first seen or had shrunk last
	uint32_t stack, creator_stack; // ids; 0: none
	const char *state;             // of a group; interned
	const char *evidence;          // more to be said, one line; interned; NULL: nothing
	int64_t window_ns, waiting_ns; // of zombies: the window; that each of them has waited at the least
};

struct thread_dump {
	struct profile *profile; // owned
	const char *command;     // for titles; "" not known
	int64_t pid;
	int64_t time_ns;     // since the epoch
	int64_t duration_ns; // from the first thread read to the last
	uint32_t nthreads, nstacks, ncauses;
	struct thread_dump_thread *threads;
	struct thread_dump_stack *stacks;
	struct thread_dump_cause *causes;
	uint32_t nverdicts, verdicts_capacity;
	struct thread_dump_verdict *verdicts; // add with thread_dump_add_verdict
	struct thread_dump_index *index;      // interning of stacks; thread_dump.c's own
};

struct thread_dump *thread_dump_create(void);       // with an empty profile. NULL: no memory
void thread_dump_destroy(struct thread_dump *dump); // accepts NULL and half-built ones
// Interns; returns an id ≥ 1, or 0 when out of memory or a location does not exist. partial: "" when complete.
uint32_t thread_dump_add_stack(struct thread_dump *dump, const uint32_t *location_ids, uint32_t nlocations,
			       const char *partial);
// Returns an id ≥ 1, or 0 when out of memory or the stack or the parent does not exist. The kind is copied.
uint32_t thread_dump_add_cause(struct thread_dump *dump, const struct thread_dump_cause *cause);
// Copies the strings. 0 or −ENOMEM, −EINVAL (a stack or cause that does not exist, no state).
int thread_dump_add_thread(struct thread_dump *dump, const struct thread_dump_thread *thread);
// Sorts the threads by tid; once, after the last one.
void thread_dump_finish(struct thread_dump *dump);
// Hides the threads whose name and number do not fit the shell pattern ("worker*", "4711"). Never shows one that is hidden.
void thread_dump_show_only(struct thread_dump *dump, const char *pattern);
// Hides the threads whose labels are not asked for, and puts the stacks of the others under their causes' and what they are grouped by.
// After thread_dump_finish, once. 0 or −ENOMEM.
int thread_dump_apply_view(struct thread_dump *dump, const struct profile_view *view);
// The state as shown in brackets: `mutex lock 0x7f… held by thread 17 "writer"`. UTF-8, without a ',' or a ']' or a newline. Returns buf.
const char *thread_dump_state(const struct thread_dump *dump, const struct thread_dump_thread *thread, char *buf,
			      size_t size);
// How many threads are in each state, sorted by it. An array to free; NULL: no memory.
struct thread_dump_state_count {
	const char *state; // the dump's
	uint64_t count;
};
struct thread_dump_state_count *thread_dump_count_states(const struct thread_dump *dump, uint32_t *ret_count);
// Gives dump->profile one sample for each stack and state (sample type: name/count, label "state"; "thread_name" too with
// names), so that every format of writer.h can show it. Once. 0 or −ENOMEM.
int thread_dump_to_profile(struct thread_dump *dump, const char *name, bool names);

// ---- Verdicts: thread_verdicts.c -------------------------------------------------------------------------------------

// Has this thread not run since the dump was taken?
typedef bool thread_dump_is_unmoved(void *context, uint32_t tid);
// Finds deadlocks and convoys; after thread_dump_finish. 0 or −ENOMEM.
int thread_dump_find_verdicts(struct thread_dump *dump, thread_dump_is_unmoved *is_unmoved, void *context);
// Copies threads; state must outlive the dump. 0 or −ENOMEM.
int thread_dump_add_verdict(struct thread_dump *dump, const struct thread_dump_verdict *verdict);
// As comments ("# …"), for the top of a text; nothing when there is none. As a member of a JSON object, with a comma.
void thread_dump_put_verdicts(const struct thread_dump *dump, struct writer *writer);
void thread_dump_put_verdicts_json(const struct thread_dump *dump, struct writer *writer);

// Makes dump what changed since before, an earlier dump of the same process: one thread stands for those of equal stack, state and name,
// count is how many more there are (less: negative). Only thread_dump_to_profile understands such a dump. thread_delta.c. 0 or −ENOMEM.
int thread_dump_delta(struct thread_dump *dump, const struct thread_dump *before);
// The same for sums: adds another dump, with what its comments say that is not said yet. For thread_dump_to_profile and thread_dump_to_wall. 0 or −ENOMEM.
int thread_dump_accumulate(struct thread_dump *dump, const struct thread_dump *other);
// Gives dump->profile a sample for each group: samples/count and wall/nanoseconds, count × period_ns; labels state, cpu ("on", "off")
// and thread_name. Once. 0 or −ENOMEM.
int thread_dump_to_wall(struct thread_dump *dump, int64_t period_ns);

// ---- Formats: 0 or −errno; they flush -------------------------------------------------------------------------------

// Go's debug=1: `NAME profile: total N`, groups of equal stack and state, highest count first.
int thread_dump_write_grouped(const struct thread_dump *dump, const char *name, struct writer *writer);
// Go's debug=2: one block a thread.
int thread_dump_write_threads(const struct thread_dump *dump, struct writer *writer);
int thread_dump_write_json(const struct thread_dump *dump, struct writer *writer);

// The last two piece by piece, for who would not hold all of the text. NULL: no memory. The dump must outlive the stream.
struct thread_dump_stream;
// go_files: names of other files than .c, .go and .s are left out.
struct thread_dump_stream *thread_dump_stream_threads(const struct thread_dump *dump, bool go_files);
struct thread_dump_stream *thread_dump_stream_json(const struct thread_dump *dump);
// Writes one piece, at most some 100 KB, and does not flush. 1: there are more; 0: that was the last; −errno.
int thread_dump_stream_next(struct thread_dump_stream *stream, struct writer *writer);
void thread_dump_stream_destroy(struct thread_dump_stream *stream); // accepts NULL

#endif
