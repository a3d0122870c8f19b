// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// window_profile.c: turns what a stopped window gathered into a profile: looks its PCs up and names them. In the thread of the window's
// owner, without the collector's lock: what it reads of sessions does not change any more.

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "collector/jit_names.h"
#include "collector/name_wants.h"
#include "collector/profile_builder.h"
#include "collector/session.h"
#include "collector/window_impl.h"
#include "collector/window_work.h"
#include "formats/causal.h"
#include "formats/name_gaps.h"
#include "formats/profile.h"
#include "formats/pseudo_frame.h"

// A stack, its causes, and what it is grouped under.
#define MAX_STACK_IDS (WIRE_MAX_FRAMES + CAUSAL_MAX_ADDED + 1)
_Static_assert(CAUSAL_MAX_CAUSES == WIRE_CHAIN && CAUSAL_MAX_IDS == WIRE_STACK_FRAMES, "as in the pool");

struct builder {
	struct window *window;
	struct profile *profile;
	struct profile_builder frames;
	struct intern jit_names; // struct source_jit_names
	uint32_t *locations;     // location ids by node index; 0: not made yet
	uint32_t *stack;         // scratch: MAX_STACK_IDS
	bool many_targets;
};

struct source_jit_names {
	uint32_t source;
	struct jit_names *names; // NULL: it has none
};

static struct jit_names *load_jit_names(struct builder *builder, uint32_t source)
{
	uint32_t index = intern_find(&builder->window->sources, &source);
	const struct session *session;
	struct jit_names *names;

	if (index == INTERN_NONE)
		return NULL;
	session = ((const struct window_source *)intern_item(&builder->window->sources, index))->session;
	names = jit_names_load(session->pid, session->uid, __atomic_load_n(&session->jitdump_fd, __ATOMIC_RELAXED));
	if (names && jit_names_full(names))
		profile_add_comment(builder->profile, "process %d: not all names of generated code are known: too many",
				    (int)session->pid);
	return names;
}

static const struct jit_names *get_jit_names(void *context, uint32_t source, uint64_t address)
{
	struct builder *builder = context;
	bool new;
	uint32_t index = intern_add(&builder->jit_names, &source, &new);
	struct source_jit_names *item;

	if (index == INTERN_NONE)
		return NULL;
	item = intern_item(&builder->jit_names, index);
	if (new)
		item->names = load_jit_names(builder, source);
	return item->names;
}

static uint32_t location_id(struct builder *builder, uint32_t source, uint32_t node_index)
{
	const struct aggregate *aggregate = &builder->window->aggregate;
	const struct aggregate_node *node = aggregate_node(aggregate, node_index);
	uint32_t *id = &builder->locations[node_index - 1];

	if (!*id)
		*id = profile_builder_location(&builder->frames, source, aggregate_mapping(aggregate, node->mapping),
					       node->pc);
	return *id;
}

#define THREAD_LABELS 4
static uint32_t fill_labels(const struct builder *builder, const struct aggregate_thread *thread,
			    struct profile_label labels[THREAD_LABELS])
{
	uint32_t index = intern_find(&builder->window->sources, &thread->source);
	const struct window_source *source =
		index == INTERN_NONE ? NULL : intern_item(&builder->window->sources, index);
	const struct session *session = source ? source->session : NULL;
	const char *name = thread->name[0] || !session ? thread->name : session->comm;
	uint32_t n = 0;

	if (builder->many_targets && session)
		labels[n++] = (struct profile_label){.key = "process_id", .num = session->pid, .num_unit = ""};
	labels[n++] = (struct profile_label){.key = "thread_id", .num = thread->tid, .num_unit = ""};
	if (name[0])
		labels[n++] = (struct profile_label){.key = "thread_name", .str = name, .num_unit = ""};
	if (source && source->service[0])
		labels[n++] = (struct profile_label){.key = "service.name", .str = source->service, .num_unit = ""};
	return n;
}

// The ids of the stack whose leaf is node, max at the most. −ENOMEM.
static int fill_stack(struct builder *builder, uint32_t source, uint32_t node, uint32_t *ids, uint32_t max,
		      uint32_t *ret_n)
{
	uint32_t n = 0;

	while (node != AGGREGATE_ROOT && n < max) {
		ids[n] = location_id(builder, source, node);
		if (ids[n++] == 0)
			return -ENOMEM;
		node = aggregate_node(&builder->window->aggregate, node)->parent;
	}
	*ret_n = n;
	return 0;
}

static int find_cause(void *context, uint32_t number, struct causal_link *ret_link)
{
	struct builder *builder = context;
	const struct aggregate_cause *cause = intern_item(&builder->window->aggregate.causes, number - 1);

	ret_link->kind = context_kind_name(cause->kind);
	ret_link->next = cause->parent;
	return fill_stack(builder, cause->source, cause->node, ret_link->ids, CAUSAL_MAX_IDS, &ret_link->nids);
}

// What it is shown under, besides its own stack of n ids. Returns how many there are then; 0: no memory.
static uint32_t put_under(struct builder *builder, uint32_t work, const char *labels, uint32_t n)
{
	const struct profile_view *view = &builder->window->options.view;
	const struct aggregate_work *item = work ? intern_item(&builder->window->aggregate.works, work - 1) : NULL;

	if (view->causal && item && item->cause)
		n = causal_append(builder->profile, find_cause, builder, item->cause, builder->stack, n);
	if (n > 0 && view->labels.group[0]) {
		builder->stack[n] = pseudo_frame_group(builder->profile, view->labels.group, labels);
		n = builder->stack[n] ? n + 1 : 0;
	}
	return n;
}

#define MAX_LABELS (THREAD_LABELS + WIRE_LABELS + 3) // the thread's, its own, its trace's

static bool add_sample(struct builder *builder, const struct aggregate_sample *sample)
{
	const struct aggregate *aggregate = &builder->window->aggregate;
	const struct aggregate_thread *thread = intern_item(&aggregate->threads, sample->thread);
	const int64_t values[PROFILE_MAX_VALUES] = {(int64_t)sample->samples, (int64_t)sample->cpu_ns};
	struct profile_label labels[MAX_LABELS];
	char text[WINDOW_WORK_TEXT_BYTES];
	uint32_t n, nlabels;

	if (fill_stack(builder, thread->source, sample->node, builder->stack, WIRE_MAX_FRAMES, &n) < 0)
		return false;
	window_work_text(builder->window, sample->work, text);
	n = put_under(builder, sample->work, text, n);
	if (n == 0)
		return false;
	// Ours are last: no label of the program's replaces one.
	nlabels = label_text_labels(text, builder->profile, labels, MAX_LABELS - THREAD_LABELS);
	nlabels += fill_labels(builder, thread, labels + nlabels);
	return profile_add_sample(builder->profile, builder->stack, n, labels, nlabels, values) == 0;
}

static double percent(uint64_t part, uint64_t whole)
{
	return whole ? 100.0 * (double)part / (double)whole : 0;
}

const char *window_stop_reason(uint32_t stop)
{
	static const char *const reasons[WINDOW_STOP_COUNT] = {
		[WIRE_STOP_DEPTH] = "too deep",
		[WIRE_STOP_NO_TABLE] = "no unwind table",
		[WIRE_STOP_NO_RULE] = "no unwind rule",
		[WIRE_STOP_UNREADABLE] = "unreadable stack",
		[WIRE_STOP_READS] = "too many reads",
		[WIRE_STOP_BAD_CFA] = "broken stack",
		[WINDOW_STOP_SKIPPED] =
			"callers of compiled Java code may be missing (run java with -XX:+PreserveFramePointer)",
	};

	return stop < WINDOW_STOP_COUNT && reasons[stop] ? reasons[stop] : "";
}

double window_truncated_percent(const struct window_stats *stats)
{
	uint64_t complete_ns = stats->stop_ns[WIRE_STOP_END];

	return percent(stats->cpu_ns > complete_ns ? stats->cpu_ns - complete_ns : 0, stats->cpu_ns);
}

double window_reached_hz(const struct window_stats *stats)
{
	// Each record is one signal that the handler saw; what it stands for is in its CPU time.
	return stats->cpu_ns ? (double)stats->records * 1e9 / (double)stats->cpu_ns : 0;
}

static void add_truncation_comment(struct profile *profile, const struct window_stats *stats)
{
	char text[512] = "";
	size_t used = 0;

	for (uint32_t i = 0; i < WINDOW_STOP_COUNT; i++) {
		if (!window_stop_reason(i)[0] || stats->stop_ns[i] == 0 || used >= sizeof(text))
			continue;
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s %.2f%%", used ? ", " : ": ",
					 window_stop_reason(i), percent(stats->stop_ns[i], stats->cpu_ns));
	}
	profile_add_comment(profile, "truncated stacks: %.2f%%%s", window_truncated_percent(stats), text);
}

static void add_comments(struct builder *builder, const struct window_stats *stats)
{
	struct profile *profile = builder->profile;
	uint64_t dropped = stats->dropped_aggregate;

	for (int i = 0; i < WIRE_DROP_COUNT; i++)
		dropped += stats->dropped[i];
	profile_add_comment(profile, "profd %s", PROFD_VERSION);
	if (builder->window->command)
		profile_add_comment(profile, "command: %s", builder->window->command);
	for (uint32_t i = 0; i < builder->window->sources.count; i++) {
		const struct window_source *source = intern_item(&builder->window->sources, i);

		if (source->service[0])
			profile_add_comment(profile, "service.name: %s (process %d)", source->service,
					    (int)source->session->pid);
	}
	// A timer that fires at the kernel's tick only makes up by weight what it lacks in records.
	profile_add_comment(profile, "rate: %u Hz asked, %.1f Hz reached (samples per second of CPU)",
			    builder->window->options.rate_hz, window_reached_hz(stats));
	profile_add_comment(profile, "clock: %s",
			    stats->clock == WIRE_CLOCK_PERF ? "perf events" : "CPU timers, at the kernel's tick");
	if (stats->perf_errno)
		profile_add_comment(profile, "perf events: %s", window_perf_reason(stats->perf_errno));
	if (stats->slowed)
		profile_add_comment(profile, "rate lowered by --max-overhead: %" PRIu64 " times", stats->slowed);
	profile_add_comment(profile,
			    "samples: %" PRIu64 " taken, standing for %" PRIu64 " periods; %u threads; %u processes",
			    stats->records, stats->samples, stats->threads, stats->targets);
	profile_add_comment(profile,
			    "dropped: %" PRIu64 " (ring full %" PRIu64 ", contention %" PRIu64 ", no scratch %" PRIu64
			    ", memory limit %" PRIu64 ")",
			    dropped, stats->dropped[WIRE_DROP_RING_FULL], stats->dropped[WIRE_DROP_CONTENTION],
			    stats->dropped[WIRE_DROP_NO_SCRATCH], stats->dropped_aggregate);
	add_truncation_comment(profile, stats);
	if (stats->contexts_lost > 0 || stats->labels_lost > 0)
		profile_add_comment(profile, "no room since the start: contexts lost %" PRIu64 ", labels lost %" PRIu64,
				    stats->contexts_lost, stats->labels_lost);
	if (stats->labels_lost > 0)
		profile_add_comment(profile,
				    "labels lost have the value " WIRE_LABEL_NO_ROOM ": of different sets a process "
				    "keeps %u at the most, for good",
				    WIRE_POOL_INDEX / 16 * WIRE_POOL_LABELS);
	if (stats->unwanted > 0)
		profile_add_comment(profile, "not shown: %" PRIu64 " samples without the labels asked for",
				    stats->unwanted);
	if (stats->threads_unsampled > 0)
		profile_add_comment(profile, "threads not sampled: %" PRIu64 "%s%s", stats->threads_unsampled,
				    stats->timer_errno ? ": " : "",
				    stats->timer_errno ? strerrordesc_np(stats->timer_errno) : "");
}

static void want_names(const struct aggregate *aggregate, uint32_t first, struct name_wants *wants)
{
	for (uint32_t i = first; i <= aggregate->nodes.count; i++) {
		const struct aggregate_node *node = aggregate_node(aggregate, i);

		name_wants_add(wants, aggregate_mapping(aggregate, node->mapping), node->pc);
	}
}

// All at once, before the first is looked up.
static void prepare_names(const struct aggregate *aggregate)
{
	struct name_wants wants = {0};

	want_names(aggregate, 1, &wants);
	name_wants_prepare(&wants);
}

// Nodes are never taken away, and the window keeps their mappings.
void window_prepare(struct window *window)
{
	struct name_wants wants = {0};

	pthread_mutex_lock(&window->collector->lock);
	want_names(&window->aggregate, window->nprepared + 1, &wants);
	window->nprepared = window->aggregate.nodes.count;
	pthread_mutex_unlock(&window->collector->lock);
	name_wants_prepare(&wants);
}

static bool build(struct builder *builder)
{
	const struct aggregate *aggregate = &builder->window->aggregate;
	struct profile *profile = builder->profile;
	struct window_stats stats;

	window_stats(builder->window, &stats);
	profile_add_sample_type(profile, "samples", "count");
	profile_add_sample_type(profile, "cpu", "nanoseconds");
	profile_set_period(profile, "cpu", "nanoseconds", (int64_t)stats.period_ns);
	profile->time_ns = stats.start_ns;
	profile->duration_ns = stats.end_ns > stats.start_ns ? stats.end_ns - stats.start_ns : 0;
	add_comments(builder, &stats);
	if (builder->window->main_mapping &&
	    profile_builder_mapping(&builder->frames, builder->window->main_mapping) == 0)
		return false;
	prepare_names(aggregate);
	for (uint32_t i = 0; i < aggregate->samples.count; i++)
		if (!add_sample(builder, intern_item(&aggregate->samples, i)))
			return false;
	profile_builder_add_notes(&builder->frames);
	profile_builder_explain(&builder->frames);
	return name_gaps_comment(profile) == 0 && !profile_failed(profile);
}

struct profile *window_profile(struct window *window)
{
	struct builder builder = {.window = window, .many_targets = window->sources.count > 1};
	bool built = false;

	builder.profile = profile_create();
	profile_builder_init(&builder.frames, builder.profile);
	builder.frames.jit_names = get_jit_names;
	builder.frames.context = &builder;
	intern_init(&builder.jit_names, sizeof(struct source_jit_names), sizeof(uint32_t), &builder.frames.budget);
	builder.locations = calloc(window->aggregate.nodes.count + 1, sizeof(*builder.locations));
	builder.stack = calloc(MAX_STACK_IDS, sizeof(*builder.stack));
	if (builder.profile && builder.locations && builder.stack)
		built = build(&builder);
	for (uint32_t i = 0; i < builder.jit_names.count; i++)
		jit_names_destroy(((struct source_jit_names *)intern_item(&builder.jit_names, i))->names);
	intern_finish(&builder.jit_names);
	profile_builder_finish(&builder.frames);
	free(builder.locations);
	free(builder.stack);
	if (!built) {
		profile_destroy(builder.profile);
		return NULL;
	}
	return builder.profile;
}
