// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// store_profile.c: see store_profile.h.

#include "collector/store_profile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "collector/clock.h"
#include "collector/jit_names.h"
#include "collector/mapping.h"
#include "collector/name_wants.h"
#include "collector/origins.h"
#include "collector/trace_text.h"
#include "formats/label_text.h"
#include "formats/name_gaps.h"
#include "formats/pseudo_frame.h"

// ---- Readings ------------------------------------------------------------------------------------------------------

int store_part_read(struct store_part *part, enum wire_bucket_kind kind)
{
	const struct store *store = part->source->store;
	int r = store_traces_begin(part);

	store_read_live(store, &part->live);
	if (r == 0)
		r = store_read_buckets(store, kind, &part->buckets, &part->count);
	if (r == 0)
		store_traces_end(part);
	return r;
}

static void finish_part(struct store_part *part)
{
	free(part->buckets);
	free(part->traced);
}

int store_reading_take(struct collector *collector, pid_t pid, enum wire_bucket_kind kind,
		       struct store_reading **ret_reading)
{
	struct store_reading *reading = calloc(1, sizeof(*reading));
	int r = reading ? collector_stores(collector, pid, &reading->sources) : -ENOMEM;

	if (r == 0) {
		reading->parts = calloc(reading->sources.count + 1, sizeof(*reading->parts));
		r = reading->parts ? 0 : -ENOMEM;
	}
	for (size_t i = 0; r == 0 && i < reading->sources.count; i++) {
		reading->parts[i].source = reading->sources.list[i];
		r = store_part_read(&reading->parts[i], kind);
	}
	if (r < 0) {
		store_reading_destroy(reading);
		return r;
	}
	reading->time_ns = clock_epoch_ns();
	reading->now_ns = clock_now_ns();
	*ret_reading = reading;
	return 0;
}

void store_reading_destroy(struct store_reading *reading)
{
	if (!reading)
		return;
	for (size_t i = 0; reading->parts && i < reading->sources.count; i++)
		finish_part(&reading->parts[i]);
	free(reading->parts);
	store_sources_finish(&reading->sources);
	free(reading);
}

int64_t store_reading_end_of(const struct store_reading *reading, const struct store_part *part)
{
	return part->source->ended_ns ? part->source->ended_ns : reading->now_ns;
}

double store_reading_seconds(const struct store_reading *reading)
{
	int64_t first = INT64_MAX, last = 0;

	for (size_t i = 0; i < reading->sources.count; i++) {
		const struct store_part *part = &reading->parts[i];

		if ((int64_t)part->live.start_ns < first)
			first = (int64_t)part->live.start_ns;
		if (store_reading_end_of(reading, part) > last)
			last = store_reading_end_of(reading, part);
	}
	return last > first ? (double)(last - first) / 1e9 : 0;
}

const struct store_part *store_reading_part(const struct store_reading *reading, const struct store_part *part)
{
	for (size_t i = 0; reading && i < reading->sources.count; i++)
		if (reading->parts[i].source->store == part->source->store)
			return &reading->parts[i];
	return NULL;
}

static int by_number(const void *a, const void *b)
{
	uint32_t left = ((const struct store_bucket *)a)->number, right = ((const struct store_bucket *)b)->number;

	return (left > right) - (left < right);
}

const struct store_bucket *store_part_bucket(const struct store_part *part, uint32_t number)
{
	const struct store_bucket key = {.number = number};

	return part && part->count ? bsearch(&key, part->buckets, part->count, sizeof(key), by_number) : NULL;
}

// ---- Profiles ------------------------------------------------------------------------------------------------------

static const struct jit_names *get_jit_names(void *context, uint32_t number, uint64_t address)
{
	struct store_profile *making = context;
	const struct store_source *source = making->reading->parts[number].source;

	if (!making->jit_loaded[number]) {
		making->jit_loaded[number] = true;
		making->jit_names[number] = jit_names_load(source->pid, source->uid, source->jitdump_fd);
	}
	return making->jit_names[number];
}

static struct mapping *find_mapping(const struct store_part *part, uint64_t pc)
{
	uint64_t address = pc & ~WIRE_PC_EXACT;

	return store_source_find(part->source, pc & WIRE_PC_EXACT || address == 0 ? address : address - 1);
}

// Location ids, the agent's own frames left out unless there are no others. 0: the stack makes no sense, or no memory.
static uint32_t name_stack(struct store_profile *making, const struct store_part *part, uint32_t stack,
			   uint32_t ids[WIRE_STORE_FRAMES], uint8_t *ret_stop)
{
	uint64_t pcs[WIRE_STORE_FRAMES];
	uint32_t npcs = store_read_stack(part->source->store, stack, pcs, ret_stop), n = 0;

	for (int whole = 0; whole < 2 && n == 0; whole++) {
		for (uint32_t i = 0; i < npcs; i++) {
			const struct mapping *mapping = find_mapping(part, pcs[i]);

			if (mapping && mapping->agent && !whole)
				continue;
			ids[n] = profile_builder_location(&making->frames, (uint32_t)(part - making->reading->parts),
							  mapping, pcs[i]);
			if (ids[n++] == 0)
				return 0;
		}
	}
	return n;
}

// What it called, if that is to be told, below a stack of n ids. Returns how many there are then; 0: no memory.
static uint32_t put_leaf(struct store_profile *making, uint32_t *ids, uint32_t n)
{
	if (!making->leaf)
		return n;
	memmove(ids + 1, ids, n * sizeof(*ids));
	ids[0] = pseudo_frame(making->profile, PSEUDO_MAPPED, making->leaf);
	return ids[0] ? n + 1 : 0;
}

// ---- What its threads worked for -----------------------------------------------------------------------------------

#define PROGRAM_LABELS (WIRE_LABELS + 3) // its own, its trace's

struct cause_search {
	struct store_profile *making;
	const struct store_part *part;
};

static int find_cause(void *context, uint32_t cause, struct causal_link *ret_link)
{
	const struct cause_search *search = context;
	const struct origin_context *origin = &search->part->source->origins->contexts[cause - 1];

	ret_link->kind = context_kind_name(origin->kind);
	ret_link->next = origin->parent;
	ret_link->nids = origin->npcs;
	for (uint32_t i = 0; i < origin->npcs; i++) {
		ret_link->ids[i] = profile_builder_location(&search->making->frames,
							    (uint32_t)(search->part - search->making->reading->parts),
							    find_mapping(search->part, origin->pcs[i]), origin->pcs[i]);
		if (ret_link->ids[i] == 0)
			return -ENOMEM;
	}
	return 0;
}

// A bucket's stack under what caused it: in making->stack. 0; −ENOENT: it makes no sense; −ENOMEM.
static int show_stack(struct store_profile *making, const struct store_part *part, const struct store_bucket *bucket)
{
	struct store_stack *stack = &making->stack;
	struct cause_search search = {making, part};
	uint32_t cause = origins_find_context(part->source->origins, WIRE_WORK_CONTEXT(bucket->work));

	if (stack->part == part && stack->bucket == bucket->number)
		return 0;
	stack->part = NULL;
	stack->n = name_stack(making, part, bucket->stack, stack->ids, &stack->stop);
	if (stack->n == 0)
		return profile_failed(making->profile) ? -ENOMEM : -ENOENT;
	stack->n = put_leaf(making, stack->ids, stack->n);
	if (stack->n > 0 && making->reading->view.causal)
		stack->n = causal_append(making->profile, find_cause, &search, cause, stack->ids, stack->n);
	if (stack->n == 0)
		return -ENOMEM;
	stack->part = part;
	stack->bucket = bucket->number;
	return 0;
}

// The program's labels as text. Returns how much of it is not the trace's.
static size_t labels_of(const struct store_part *part, const struct store_sample *sample, char *text, size_t size)
{
	const struct origins *origins = part->source->origins;
	uint32_t labels = origins_find_labels(origins, WIRE_WORK_LABELS(sample->bucket->work));
	size_t own;

	text[0] = '\0';
	if (labels)
		context_labels_text(origins->labels[labels - 1].labels, text, size);
	own = strlen(text);
	if (sample->trace)
		trace_text_add(sample->trace, text, size);
	return own;
}

int store_profile_add(struct store_profile *making, const struct store_part *part, const struct store_sample *sample,
		      const struct profile_label *labels, uint32_t nlabels)
{
	const struct profile_view *view = &making->reading->view;
	struct profile_label all[PROGRAM_LABELS + STORE_PROFILE_LABELS + 1];
	char text[CONTEXT_LABELS_BYTES + 256];
	size_t own = labels_of(part, sample, text, sizeof(text));
	struct store_stack *stack = &making->stack;
	uint32_t n, nall;
	int r;

	if (!label_choice_wants(&view->labels, text))
		return 0;
	r = show_stack(making, part, sample->bucket);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	n = stack->n;
	if (view->labels.group[0]) {
		stack->ids[n] = pseudo_frame_group(making->profile, view->labels.group, text);
		if (stack->ids[n++] == 0)
			return -ENOMEM;
	}
	if (view->hides_traces)
		text[own] = '\0';
	// Ours are last: no label of the program's replaces one.
	nall = label_text_labels(text, making->profile, all, PROGRAM_LABELS);
	memcpy(all + nall, labels, nlabels * sizeof(*labels));
	nall += nlabels;
	if (making->reading->sources.count > 1)
		all[nall++] = (struct profile_label){.key = "process_id", .num = part->source->pid, .num_unit = ""};
	making->nstacks += sample->weight;
	making->ntruncated += stack->stop == WIRE_STOP_END ? 0 : sample->weight;
	return profile_add_sample(making->profile, stack->ids, n, all, nall, sample->values);
}

static void want_names(const struct store_part *part, struct name_wants *wants)
{
	uint64_t pcs[WIRE_STORE_FRAMES];
	uint8_t stop;

	for (size_t k = 0; k < part->count; k++) {
		uint32_t npcs = store_read_stack(part->source->store, part->buckets[k].stack, pcs, &stop);

		for (uint32_t n = 0; n < npcs; n++)
			name_wants_add(wants, find_mapping(part, pcs[n]), pcs[n]);
	}
}

static void want_names_of_causes(const struct store_part *part, struct name_wants *wants)
{
	const struct origins *origins = part->source->origins;

	for (uint32_t i = 0; origins && i < origins->ncontexts; i++)
		for (uint32_t k = 0; k < origins->contexts[i].npcs; k++)
			name_wants_add(wants, find_mapping(part, origins->contexts[i].pcs[k]),
				       origins->contexts[i].pcs[k]);
}

void store_profile_prepare_names(const struct store_reading *reading)
{
	struct name_wants wants = {0};

	for (size_t i = 0; i < reading->sources.count; i++) {
		want_names(&reading->parts[i], &wants);
		if (reading->view.causal)
			want_names_of_causes(&reading->parts[i], &wants);
	}
	name_wants_prepare(&wants);
}

void store_profile_add_main_mappings(struct store_profile *making)
{
	for (size_t i = 0; i < making->reading->sources.count; i++)
		if (making->reading->parts[i].source->main_mapping)
			profile_builder_mapping(&making->frames, making->reading->parts[i].source->main_mapping);
}

bool store_profile_begin(struct store_profile *making, const struct store_reading *reading)
{
	*making = (struct store_profile){.reading = reading, .profile = profile_create()};
	making->jit_names = calloc(reading->sources.count + 1, sizeof(*making->jit_names));
	making->jit_loaded = calloc(reading->sources.count + 1, sizeof(*making->jit_loaded));
	profile_builder_init(&making->frames, making->profile);
	making->frames.jit_names = get_jit_names;
	making->frames.context = making;
	return making->profile && making->jit_names && making->jit_loaded;
}

struct profile *store_profile_end(struct store_profile *making, int r)
{
	struct profile *profile = making->profile;

	if (r == 0) {
		profile_builder_explain(&making->frames);
		r = name_gaps_comment(profile);
	}
	for (size_t i = 0; making->jit_names && i < making->reading->sources.count; i++)
		jit_names_destroy(making->jit_names[i]);
	free(making->jit_names);
	free(making->jit_loaded);
	profile_builder_finish(&making->frames);
	if (r == 0 && !profile_failed(profile))
		return profile;
	profile_destroy(profile);
	return NULL;
}

// ---- Samples -------------------------------------------------------------------------------------------------------

static bool counts_here(const struct store_choice *choice, const struct store_traced *traced)
{
	return traced->sequence >= choice->since && (!choice->only || choice->only[traced->number]);
}

static bool are_any(const int64_t values[PROFILE_MAX_VALUES])
{
	for (int k = 0; k < PROFILE_MAX_VALUES; k++)
		if (values[k] != 0)
			return true;
	return false;
}

// What entries that count have of each value; sums. `first` is of the same trace as all of them, or they are all of the bucket's.
static void sum_counts(const struct store_part *part, const struct store_traced *first, size_t n,
		       const struct store_profile_kind *kind, const struct store_choice *choice,
		       uint64_t sums[PROFILE_MAX_VALUES])
{
	for (int k = 0; k < PROFILE_MAX_VALUES; k++)
		sums[k] = 0;
	for (size_t i = 0; i < n; i++) {
		uint64_t counts[PROFILE_MAX_VALUES] = {0};

		if (!counts_here(choice, &first[i]))
			continue;
		kind->traced_counts(part, &first[i], counts);
		for (int k = 0; k < PROFILE_MAX_VALUES; k++)
			sums[k] = store_traces_add(sums[k], counts[k]);
	}
}

int store_profile_add_bucket(struct store_profile *making, const struct store_part *part,
			     const struct store_bucket *bucket, const struct store_profile_kind *kind,
			     const struct store_choice *choice, struct store_share shares[PROFILE_MAX_VALUES])
{
	const struct store_traced *first;
	size_t count = store_traces_find(part, bucket->number, &first), run;
	uint64_t sums[PROFILE_MAX_VALUES];
	int64_t values[PROFILE_MAX_VALUES];
	struct store_sample sample = {.bucket = bucket, .values = values};
	int r = 0;

	sum_counts(part, first, count, kind, choice, sums);
	for (int k = 0; k < PROFILE_MAX_VALUES; k++)
		shares[k].traced = sums[k];
	for (; count > 0 && r == 0; first += run, count -= run) {
		for (run = 1; run < count && store_traced_are_alike(first, &first[run]);)
			run++;
		sum_counts(part, first, run, kind, choice, sums);
		for (int k = 0; k < PROFILE_MAX_VALUES; k++)
			values[k] = store_share_take(&shares[k], sums[k]);
		sample.trace = &first->trace;
		sample.weight = sums[0];
		if (are_any(values))
			r = kind->add(making, part, &sample);
	}
	for (int k = 0; k < PROFILE_MAX_VALUES; k++)
		values[k] = store_share_rest(&shares[k]);
	sample.trace = NULL;
	sample.weight = shares[0].sampled_now > shares[0].traced ? shares[0].sampled_now - shares[0].traced : 0;
	return r == 0 && are_any(values) ? kind->add(making, part, &sample) : r;
}

static void compare(const struct store_part *part, const struct store_bucket *bucket, const struct store_part *before,
		    const struct store_profile_kind *kind, struct store_share shares[PROFILE_MAX_VALUES])
{
	const struct store_bucket *old = store_part_bucket(before, bucket->number);
	int64_t values[PROFILE_MAX_VALUES] = {0}, old_values[PROFILE_MAX_VALUES] = {0};
	uint64_t counts[PROFILE_MAX_VALUES] = {0}, old_counts[PROFILE_MAX_VALUES] = {0};

	kind->values(part, bucket, values);
	kind->counts(part, bucket, counts);
	if (old) {
		kind->values(part, old, old_values);
		kind->counts(part, old, old_counts);
	}
	for (int k = 0; k < PROFILE_MAX_VALUES; k++)
		shares[k] = (struct store_share){.value = values[k] - old_values[k],
						 .value_now = values[k],
						 .sampled = (int64_t)(counts[k] - old_counts[k]),
						 .sampled_now = counts[k]};
}

static int add_part(struct store_profile *making, const struct store_part *part, const struct store_part *before,
		    const struct store_profile_kind *kind)
{
	const struct store_choice choice = {.since = before ? before->traced_next : 0};
	int r = 0;

	for (size_t i = 0; i < part->count && r == 0; i++) {
		struct store_share shares[PROFILE_MAX_VALUES];

		compare(part, &part->buckets[i], before, kind, shares);
		r = store_profile_add_bucket(making, part, &part->buckets[i], kind, &choice, shares);
	}
	return r;
}

int store_profile_add_all(struct store_profile *making, const struct store_reading *before,
			  const struct store_profile_kind *kind)
{
	const struct store_reading *reading = making->reading;
	int r = 0;

	for (size_t i = 0; i < reading->sources.count && r == 0; i++)
		r = add_part(making, &reading->parts[i], store_reading_part(before, &reading->parts[i]), kind);
	return r;
}
