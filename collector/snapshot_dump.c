// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// snapshot_dump.c: names, states and verdicts for what a scan found. On the thread that asked, with the source locked.

#include "collector/clock.h"
#include "collector/snapshot_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "collector/jit_names.h"
#include "collector/jitdump.h"
#include "collector/mapping.h"
#include "collector/name_wants.h"
#include "collector/origins.h"
#include "collector/process.h"
#include "collector/profile_builder.h"
#include "collector/snapshot_tasks.h"
#include "collector/thread_groups.h"
#include "collector/thread_scan.h"
#include "collector/thread_watch.h"
#include "collector/trace_text.h"
#include "collector/wait_state.h"
#include "collector/window.h"
#include "formats/thread_dump.h"
#include "profd/wire.h"

_Static_assert(WAIT_OPERAND_BYTES == THREAD_OPERAND_BYTES, "one is copied from the other");

#define NAMES 8 // of a stack, that tell what a lock is

// ---- Naming --------------------------------------------------------------------------------------------------------

// A stack by its PCs, and what it is in the dump.
struct stack_item {
	XXH128_hash_t hash; // of PCs and stop
	uint32_t id;        // in the dump
	uint32_t nnames;
	const char *names[NAMES]; // leaf first, as in the symbol table
};

struct builder {
	struct snapshot_source *source;   // locked
	const struct origins *origins;    // the source's. NULL: none
	const struct thread_watch *watch; // NULL: none
	struct thread_dump *dump;
	uint32_t *context_stacks; // ids in the dump, of origins->contexts; 0: not named yet
	uint32_t *context_causes; // likewise
	struct profile_builder frames;
	struct intern stacks;
	struct wait_state_process *waits;
	struct jit_names *jit_names;
	bool jit_loaded;
	bool counts_groups;
	struct snapshot_tasks tasks; // of a dump
};

static const struct jit_names *get_jit_names(void *context, uint32_t number, uint64_t address)
{
	struct builder *builder = context;
	char path[64];
	struct stat status;

	(void)number;
	if (builder->jit_loaded)
		return builder->jit_names;
	builder->jit_loaded = true;
	snprintf(path, sizeof(path), "/proc/%d", (int)builder->source->pid);
	if (stat(path, &status) == 0) {
		int fd = jitdump_open(builder->source->pid, status.st_uid, builder->source->mappings);

		builder->jit_names = jit_names_load(builder->source->pid, status.st_uid, fd);
		if (fd >= 0)
			close(fd);
	}
	return builder->jit_names;
}

static void take_names(const struct builder *builder, struct stack_item *item, const uint32_t *ids, uint32_t n)
{
	const struct profile *profile = builder->dump->profile;

	for (uint32_t i = 0; i < n && item->nnames < NAMES; i++) {
		const struct profile_location *location = &profile->locations[ids[i] - 1];

		for (uint32_t k = 0; k < location->nlines && item->nnames < NAMES; k++)
			item->names[item->nnames++] =
				profile->functions[location->lines[k].function_id - 1].system_name;
	}
}

// The locations of pcs; how many, or −ENOMEM. What was interrupted is exact, as is the leaf of a thread; return addresses are looked up one
// before. The agent's own frames, of functions that it watches, are not the program's: they are left out.
static int name_pcs(struct builder *builder, const uint64_t *pcs, uint32_t npcs, bool leaf_is_exact, uint32_t *ids)
{
	int n = 0;

	for (uint32_t i = 0; i < npcs; i++) {
		bool exact = (i == 0 && leaf_is_exact) || (pcs[i] & WIRE_PC_EXACT);
		uint64_t pc = pcs[i] & ~WIRE_PC_EXACT;
		const struct mapping *mapping =
			mapping_set_find(builder->source->mappings, pc - (exact || pc == 0 ? 0 : 1));

		if (mapping && mapping->agent && (n > 0 || i + 1 < npcs))
			continue;
		ids[n] = profile_builder_location(&builder->frames, 0, mapping, pc | (exact ? WIRE_PC_EXACT : 0));
		if (ids[n++] == 0)
			return -ENOMEM;
	}
	return n;
}

static int make_stack(struct builder *builder, const struct thread_scan_record *record, struct stack_item *item)
{
	uint32_t ids[WIRE_MAX_FRAMES];
	int n = name_pcs(builder, record->pcs, record->npcs, true, ids);

	if (n < 0)
		return -ENOMEM;
	item->id = thread_dump_add_stack(builder->dump, ids, (uint32_t)n, window_stop_reason(record->stop));
	take_names(builder, item, ids, (uint32_t)n);
	return item->id ? 0 : -ENOMEM;
}

static uint32_t stack_index(struct builder *builder, const struct thread_scan_record *record, bool *ret_new)
{
	XXH128_hash_t hash = XXH3_128bits_withSeed(record->pcs, record->npcs * sizeof(*record->pcs), record->stop);

	return intern_add(&builder->stacks, &hash, ret_new);
}

// All names at once, before the first is looked up.
static void prepare_names(struct builder *builder)
{
	const struct snapshot_source *source = builder->source;
	const struct origins *origins = builder->origins;
	struct name_wants wants = {0};
	bool new;

	for (size_t i = 0; source->scan && i < source->scan->count; i++) {
		const struct thread_scan_record *record = &source->scan->records[i];

		if (stack_index(builder, record, &new) != INTERN_NONE && new)
			name_wants_add_stack(&wants, source->mappings, record->pcs, record->npcs, true);
	}
	for (uint32_t i = 0; origins && i < origins->ncontexts; i++)
		name_wants_add_stack(&wants, source->mappings, origins->contexts[i].pcs, origins->contexts[i].npcs,
				     false);
	for (uint32_t i = 0; i < builder->tasks.count; i++)
		name_wants_add_stack(&wants, source->mappings, builder->tasks.tasks[i].pcs,
				     builder->tasks.tasks[i].npcs, false);
	name_wants_prepare(&wants);
}

// As long as no other is asked for.
static const struct stack_item *get_stack(struct builder *builder, const struct thread_scan_record *record)
{
	uint32_t index = stack_index(builder, record, NULL);
	struct stack_item *item = index == INTERN_NONE ? NULL : intern_item(&builder->stacks, index);

	return item && (item->id || make_stack(builder, record, item) == 0) ? item : NULL;
}

// 0: out of memory.
static uint32_t context_stack(struct builder *builder, uint32_t context)
{
	const struct origin_context *origin = &builder->origins->contexts[context - 1];
	uint32_t *id = &builder->context_stacks[context - 1];
	uint32_t ids[WIRE_STACK_FRAMES];
	int n = *id ? 0 : name_pcs(builder, origin->pcs, origin->npcs, false, ids);

	if (*id == 0 && n >= 0)
		*id = thread_dump_add_stack(builder->dump, ids, (uint32_t)n, window_stop_reason(origin->stop));
	return *id;
}

// The id of a context as a cause, its parents' first. 0: out of memory.
static uint32_t context_cause(struct builder *builder, uint32_t context)
{
	uint32_t chain[WIRE_CHAIN], n = 0, id = 0;

	for (; context && n < WIRE_CHAIN; context = builder->origins->contexts[context - 1].parent)
		chain[n++] = context;
	while (n-- > 0) {
		const struct origin_context *origin = &builder->origins->contexts[chain[n] - 1];
		uint32_t *known = &builder->context_causes[chain[n] - 1];
		const struct thread_dump_cause cause = {.kind = context_kind_name(origin->kind),
							.stack = context_stack(builder, chain[n]),
							.parent = id};

		if (!*known)
			*known = thread_dump_add_cause(builder->dump, &cause);
		id = *known;
		if (!id)
			return 0;
	}
	return id;
}

// What the thread works for, and its labels. text: where they may be made. 0 or −ENOMEM.
static int add_work(struct builder *builder, const struct origin *origin, struct thread_dump_thread *thread, char *text,
		    size_t size)
{
	text[0] = '\0';
	thread->labels = text;
	if (!origin)
		return 0;
	if (origin->labels)
		context_labels_text(builder->origins->labels[origin->labels - 1].labels, text, size);
	if (origin->has_trace)
		trace_text_add(&origin->trace, text, size);
	if (origin->context)
		thread->cause = context_cause(builder, origin->context);
	return origin->context && !thread->cause ? -ENOMEM : 0;
}

// Of a thread without one: why its stack is not known.
static const char *running_reason(const struct builder *builder, const struct thread_scan_record *record)
{
	if (!record->place.running)
		return "it has ended";
	if (record->starved)
		return "it got no CPU";
	switch (-builder->source->scan->capture_error) {
	case 0:
		return "it went on running";
	case EPERM:
	case EACCES:
	case ENOSYS:
		return "perf_event_open is not allowed";
	default:
		return "perf_event_open failed";
	}
}

static struct finding *finding_of(const struct builder *builder, const struct thread_scan_record *record)
{
	return &builder->source->findings[record - builder->source->scan->records];
}

// stack: NULL when it has none.
static const struct wait_state *get_state(struct builder *builder, const struct thread_scan_record *record,
					  const struct stack_item *stack)
{
	struct finding *finding = finding_of(builder, record);
	struct wait_state_input input = {
		.tid = record->tid,
		.run_state = record->run_state,
		.starved = record->starved,
		.in_syscall = record->place.in_syscall,
		.nr = record->place.nr,
		.operand_at = record->operand_at,
		.names = stack ? stack->names : NULL,
		.nnames = stack ? stack->nnames : 0,
	};

	if (!finding->has_state) {
		memcpy(input.args, record->place.args, sizeof(input.args));
		memcpy(input.operand, record->operand, sizeof(input.operand));
		wait_state_find(builder->waits, &input, &finding->state);
		finding->has_state = true;
	}
	return &finding->state;
}

static int add_thread(struct builder *builder, const struct thread_scan_record *record)
{
	struct thread_dump_thread thread = {
		.tid = record->tid,
		.name = record->name,
		.cpu_ns = (int64_t)record->times.run_ns,
		.waiting_ns = record->waiting_ns,
	};
	const struct origin *origin = origins_find(builder->origins, record->tid);
	const struct stack_item *stack = NULL;
	XXH128_hash_t hash = {0};
	const struct wait_state *state;
	uint32_t creator = 0; // the same number in every dump
	char labels[CONTEXT_LABELS_BYTES + 256];
	int r;

	if (add_work(builder, origin, &thread, labels, sizeof(labels)) < 0)
		return -ENOMEM;
	if (origin && origin->creator) {
		thread.creator_tid = origin->creator_tid;
		thread.creator_stack = context_stack(builder, origin->creator);
		creator = builder->origins->contexts[origin->creator - 1].stack;
		if (!thread.creator_stack)
			return -ENOMEM;
	}
	if (record->npcs > 0) {
		stack = get_stack(builder, record);
		if (!stack)
			return -ENOMEM;
		thread.stack = stack->id;
		hash = stack->hash;
	} else {
		thread.stack = thread_dump_add_stack(builder->dump, NULL, 0, running_reason(builder, record));
		if (!thread.stack)
			return -ENOMEM;
	}
	state = get_state(builder, record, stack);
	thread.state = state->state;
	thread.object = state->object;
	thread.owner_tid = state->owner_tid;
	r = thread_dump_add_thread(builder->dump, &thread);
	if (r == 0 && builder->counts_groups)
		thread_groups_count(builder->source->groups, hash, creator, thread.stack, thread.creator_stack,
				    builder->dump->threads[builder->dump->nthreads - 1].state);
	return r;
}

// pprof's readers take the first mapping for the program's. Programs are mapped below their libraries.
static void add_main_mapping(struct builder *builder)
{
	const struct mapping_set *mappings = builder->source->mappings;

	for (size_t i = 0; i < mappings->count; i++) {
		if (mappings->entries[i].mapping->path[0] == '/') {
			profile_builder_mapping(&builder->frames, mappings->entries[i].mapping);
			return;
		}
	}
}

// ---- Verdicts ------------------------------------------------------------------------------------------------------

// The threads' places were read one after the other, and their locks' memory after that. If it has not run since its place was read, it
// was there all the while.
static bool is_unmoved(void *context, uint32_t tid)
{
	const struct builder *builder = context;
	const struct thread_scan_record *record = thread_scan_find(builder->source->scan, tid);
	struct task_reader reader;
	struct finding *finding;

	if (!record || !record->place.in_syscall)
		return false;
	finding = finding_of(builder, record);
	if (!finding->was_asked && task_reader_open(builder->source->pid, &reader) == 0) {
		finding->is_unmoved = task_reader_check_unmoved(&reader, tid, &record->times, &record->place) == 0;
		task_reader_close(&reader);
	}
	finding->was_asked = true;
	return finding->is_unmoved;
}

// Contexts of one stack, under different parents, are one.
static struct thread_dump_verdict *find_unjoined(const struct thread_dump *dump, uint32_t creator_stack)
{
	for (uint32_t i = 0; i < dump->nverdicts; i++)
		if (dump->verdicts[i].kind == THREAD_VERDICT_UNJOINED &&
		    dump->verdicts[i].creator_stack == creator_stack)
			return &dump->verdicts[i];
	return NULL;
}

static int add_unjoined(struct builder *builder)
{
	struct thread_dump_verdict *known;
	int r = 0;

	for (uint32_t i = 0; builder->origins && i < builder->origins->ncontexts && r == 0; i++) {
		const struct origin_context *creator = &builder->origins->contexts[i];
		struct thread_dump_verdict verdict = {.kind = THREAD_VERDICT_UNJOINED,
						      .count = (int64_t)creator->unjoined};

		if (creator->unjoined == 0 || creator->unjoined > creator->created)
			continue;
		verdict.creator_stack = context_stack(builder, i + 1);
		known = find_unjoined(builder->dump, verdict.creator_stack);
		if (known)
			known->count += verdict.count;
		else
			r = verdict.creator_stack ? thread_dump_add_verdict(builder->dump, &verdict) : -ENOMEM;
	}
	return r;
}

static int judge(struct builder *builder)
{
	int r = thread_dump_find_verdicts(builder->dump, is_unmoved, builder);

	if (r == 0)
		r = add_unjoined(builder);
	if (r == 0 && builder->watch)
		r = thread_watch_judge(builder->watch, builder->source->scan, builder->dump);
	return r == 0 ? thread_groups_end(builder->source->groups, builder->dump) : r;
}

// ---- The dump ------------------------------------------------------------------------------------------------------

static int add_task(struct builder *builder, const struct snapshot_task *found)
{
	const struct origin_task *task = found->task;
	const struct origin origin = {.context = task->context, .labels = task->labels};
	int64_t now_ns = clock_now_ns();
	char labels[CONTEXT_LABELS_BYTES + 256];
	uint32_t ids[WIRE_MAX_FRAMES];
	int n;
	struct thread_dump_thread thread = {
		.tid = SNAPSHOT_TASK_BASE + task->index,
		.name = task->name,
		.state = "suspended",
		.object = task->waits_for,
		.cpu_ns = -1,
		.waiting_ns = task->since_ns < (uint64_t)now_ns ? now_ns - (int64_t)task->since_ns : 0,
	};

	if (add_work(builder, &origin, &thread, labels, sizeof(labels)) < 0 ||
	    (n = name_pcs(builder, found->pcs, found->npcs, false, ids)) < 0)
		return -ENOMEM;
	thread.stack = thread_dump_add_stack(builder->dump, ids, (uint32_t)n,
					     found->npcs ? window_stop_reason(found->stop) : "not on its own stack");
	return thread.stack ? thread_dump_add_thread(builder->dump, &thread) : -ENOMEM;
}

static int build_threads(struct builder *builder)
{
	struct snapshot_source *source = builder->source;
	const struct thread_scan *scan = source->scan;
	int r = 0;

	if (!source->findings)
		source->findings = calloc(scan->count, sizeof(*source->findings));
	if (!source->findings)
		return -ENOMEM;
	builder->dump->time_ns = source->scan_time_ns;
	builder->dump->duration_ns = scan->end_ns - scan->start_ns;
	for (size_t i = 0; i < scan->count && r == 0; i++)
		if (!snapshot_is_agents_own(source->mappings, &scan->records[i]))
			r = add_thread(builder, &scan->records[i]);
	for (uint32_t i = 0; i < builder->tasks.count && r == 0; i++)
		r = add_task(builder, &builder->tasks.tasks[i]);
	thread_dump_finish(builder->dump);
	return r;
}

static int build_dump(struct builder *builder)
{
	int r;

	thread_groups_begin(builder->source->groups, builder->source->counted);
	builder->source->counted = true;
	builder->counts_groups = true;
	r = build_threads(builder);
	return r == 0 ? judge(builder) : r;
}

// The threads that a creator made, live or not, are one entry, with their number.
static int build_creators(struct builder *builder)
{
	int r = 0;

	builder->dump->time_ns = clock_epoch_ns();
	for (uint32_t i = 0; builder->origins && i < builder->origins->ncontexts && r == 0; i++) {
		const struct origin_context *creator = &builder->origins->contexts[i];
		struct thread_dump_thread thread = {
			.tid = i + 1, .name = "", .state = "created", .object = "", .cpu_ns = -1};

		if (creator->created == 0)
			continue;
		thread.count = (int64_t)creator->created;
		thread.stack = context_stack(builder, i + 1);
		r = thread.stack ? thread_dump_add_thread(builder->dump, &thread) : -ENOMEM;
	}
	thread_dump_finish(builder->dump);
	return r;
}

static void set_command(struct thread_dump *dump)
{
	char *command = process_command((pid_t)dump->pid);

	dump->command = profile_string(dump->profile, command ? command : "");
	free(command);
}

int snapshot_name(struct snapshot_source *source, const struct thread_watch *watch, enum snapshot_kind kind,
		  struct thread_dump **ret_dump)
{
	const struct origins *origins = source->origins;
	static int (*const builds[])(struct builder * builder) = {
		[SNAPSHOT_DUMP] = build_dump, [SNAPSHOT_SAMPLE] = build_threads, [SNAPSHOT_CREATORS] = build_creators};
	struct builder builder = {.source = source,
				  .origins = origins,
				  .watch = watch,
				  .dump = thread_dump_create(),
				  .context_stacks = calloc(origins ? origins->ncontexts + 1 : 1, sizeof(uint32_t)),
				  .context_causes = calloc(origins ? origins->ncontexts + 1 : 1, sizeof(uint32_t)),
				  .waits = wait_state_open(source->pid, origins ? origins->helper_tid : 0)};
	int r = -ENOMEM;

	profile_builder_init(&builder.frames, builder.dump ? builder.dump->profile : NULL);
	builder.frames.jit_names = get_jit_names;
	builder.frames.context = &builder;
	intern_init(&builder.stacks, sizeof(struct stack_item), sizeof(XXH128_hash_t), &builder.frames.budget);
	if (builder.dump && builder.waits && builder.context_stacks && builder.context_causes) {
		builder.dump->pid = source->pid;
		set_command(builder.dump);
		add_main_mapping(&builder);
		r = kind == SNAPSHOT_DUMP ? snapshot_tasks_walk(source->pid, source->image, origins, &builder.tasks)
					  : 0;
		prepare_names(&builder);
		if (r == 0)
			r = builds[kind](&builder);
		profile_builder_add_notes(&builder.frames);
		profile_builder_explain(&builder.frames);
		if (r == 0 && profile_failed(builder.dump->profile))
			r = -ENOMEM;
	}
	snapshot_tasks_finish(&builder.tasks);
	intern_finish(&builder.stacks);
	profile_builder_finish(&builder.frames);
	wait_state_close(builder.waits);
	jit_names_destroy(builder.jit_names);
	free(builder.context_stacks);
	free(builder.context_causes);
	if (r < 0)
		thread_dump_destroy(builder.dump);
	else
		*ret_dump = builder.dump;
	return r;
}
