// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// flame_tree.c: builds the call tree. The stacks are expanded (inlined calls, root first) and sorted; equal beginnings
// then stand together, and one walk over them yields the nodes in preorder with no search for children. Everything is a
// loop over arrays. Memory: 4 bytes a frame of every stack while building, and the nodes.

#include "formats/flame_tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

// A sample's stack while the tree is built: indices of sites, root first.
struct stack {
	const uint32_t *sites;
	uint32_t depth;
	uint32_t thread;
	const struct profile_sample *sample;
};

struct builder {
	const struct profile *profile;
	struct flame_tree *tree;
	struct stack *stacks;
	uint32_t nstacks;
	uint32_t *arena; // the site indices of all stacks
	uint32_t *path;  // path[d]: the node at depth d of the stack before
};

// ---- Threads -------------------------------------------------------------------------------------------------------

struct thread_key {
	struct flame_thread thread;
	uint32_t stack;
};

static struct flame_thread thread_of_sample(const struct profile_sample *sample)
{
	struct flame_thread thread = {"", "", 0};
	for (uint32_t i = 0; i < sample->nlabels; i++) {
		const struct profile_label *label = &sample->labels[i];
		if (strcmp(label->key, "thread_name") == 0 && label->str)
			thread.name = label->str;
		if (strcmp(label->key, "thread_id") == 0) {
			thread.text = label->str ? label->str : "";
			thread.id = label->str ? 0 : label->num;
		}
	}
	return thread;
}

static int thread_compare(const struct flame_thread *a, const struct flame_thread *b)
{
	int order = strcmp(a->name, b->name);
	if (!order)
		order = (a->id > b->id) - (a->id < b->id);
	return order ? order : strcmp(a->text, b->text);
}

static int thread_key_compare(const void *left, const void *right)
{
	const struct thread_key *a = left, *b = right;
	int order = thread_compare(&a->thread, &b->thread);
	return order ? order : (a->stack > b->stack) - (a->stack < b->stack);
}

static int number_threads(struct builder *builder)
{
	struct flame_tree *tree = builder->tree;
	struct thread_key *keys = calloc((size_t)builder->nstacks + 1, sizeof(*keys));
	tree->threads = calloc((size_t)builder->nstacks + 1, sizeof(*tree->threads));
	if (!keys || !tree->threads) {
		free(keys);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < builder->nstacks; i++)
		keys[i] = (struct thread_key){thread_of_sample(builder->stacks[i].sample), i};
	qsort(keys, builder->nstacks, sizeof(*keys), thread_key_compare);
	for (uint32_t i = 0; i < builder->nstacks; i++) {
		if (i == 0 || thread_compare(&keys[i].thread, &keys[i - 1].thread) != 0)
			tree->threads[tree->nthreads++] = keys[i].thread;
		builder->stacks[keys[i].stack].thread = tree->nthreads - 1;
	}
	free(keys);
	return 0;
}

// ---- Stacks --------------------------------------------------------------------------------------------------------

// A sample without width (nothing above zero) makes no frame.
static bool sample_has_width(struct flame_tree *tree, const struct profile_sample *sample)
{
	bool width = false;
	for (uint32_t v = 0; v < tree->nvalues; v++) {
		width |= sample->values[v] > 0;
		tree->negative += sample->values[v] < 0;
	}
	return width;
}

static size_t sample_depth(const struct builder *builder, const struct profile_sample *sample)
{
	const size_t *start = builder->tree->site_start;
	size_t depth = 0;
	for (uint32_t i = 0; i < sample->nlocations; i++) {
		uint32_t location = sample->location_ids[i] - 1;
		depth += start[location + 1] - start[location];
	}
	return depth;
}

static int allocate_stacks(struct builder *builder)
{
	const struct profile *profile = builder->profile;
	size_t total = 0, deepest = 0;
	for (uint32_t i = 0; i < profile->nsamples; i++) {
		size_t depth = sample_depth(builder, &profile->samples[i]);
		total += depth;
		deepest = depth > deepest ? depth : deepest;
	}
	if (total >= UINT32_MAX)
		return -EOVERFLOW;
	builder->stacks = calloc((size_t)profile->nsamples + 1, sizeof(*builder->stacks));
	builder->arena = calloc(total + 1, sizeof(*builder->arena));
	builder->path = calloc(deepest + 1, sizeof(*builder->path));
	builder->tree->nodes = calloc(total + 1, sizeof(*builder->tree->nodes));
	return builder->stacks && builder->arena && builder->path && builder->tree->nodes ? 0 : -ENOMEM;
}

static uint32_t expand_stack(const struct builder *builder, const struct profile_sample *sample, uint32_t *sites)
{
	const size_t *start = builder->tree->site_start;
	uint32_t depth = 0;
	for (uint32_t i = sample->nlocations; i-- > 0;) {
		uint32_t location = sample->location_ids[i] - 1;
		for (size_t site = start[location]; site < start[location + 1]; site++)
			sites[depth++] = (uint32_t)site;
	}
	return depth;
}

static int expand_stacks(struct builder *builder)
{
	int err = allocate_stacks(builder);
	if (err)
		return err;
	uint32_t *next = builder->arena;
	for (uint32_t i = 0; i < builder->profile->nsamples; i++) {
		const struct profile_sample *sample = &builder->profile->samples[i];
		if (!sample_has_width(builder->tree, sample))
			continue;
		struct stack *stack = &builder->stacks[builder->nstacks++];
		stack->sample = sample;
		stack->sites = next;
		stack->depth = expand_stack(builder, sample, next);
		next += stack->depth;
	}
	return 0;
}

// Callers before their callees, siblings by their frames' numbers, which are in the order of names.
static int stack_compare(const void *left, const void *right, void *context)
{
	const struct stack *a = left, *b = right;
	const struct flame_site *sites = context;
	uint32_t depth = a->depth < b->depth ? a->depth : b->depth;
	for (uint32_t d = 0; d < depth; d++) {
		uint32_t x = sites[a->sites[d]].frame, y = sites[b->sites[d]].frame;
		if (x != y)
			return x < y ? -1 : 1;
	}
	if (a->depth != b->depth)
		return a->depth < b->depth ? -1 : 1;
	return (a->thread > b->thread) - (a->thread < b->thread);
}

// ---- Nodes ---------------------------------------------------------------------------------------------------------

static void widen_lines(struct flame_node *node, uint32_t line)
{
	if (!line)
		return;
	if (!node->line_min || line < node->line_min)
		node->line_min = line;
	if (line > node->line_max)
		node->line_max = line;
}

// How many nodes of the stack before (shared_max of them) this one begins with.
static uint32_t shared_depth(const struct builder *builder, const struct stack *stack, uint32_t shared_max)
{
	const struct flame_tree *tree = builder->tree;
	uint32_t d = 0;
	while (d < shared_max && d < stack->depth &&
	       tree->nodes[builder->path[d + 1]].frame == tree->sites[stack->sites[d]].frame)
		d++;
	return d;
}

static void add_nodes(struct builder *builder, const struct stack *stack, uint32_t shared)
{
	struct flame_tree *tree = builder->tree;
	for (uint32_t d = 0; d < stack->depth; d++) {
		const struct flame_site *site = &tree->sites[stack->sites[d]];
		if (d >= shared) {
			uint32_t i = tree->nnodes++;
			tree->nodes[i].parent = builder->path[d];
			tree->nodes[i].frame = site->frame;
			tree->nodes[i].depth = d + 1;
			builder->path[d + 1] = i;
		}
		widen_lines(&tree->nodes[builder->path[d + 1]], site->line);
	}
	if (stack->depth > tree->max_depth)
		tree->max_depth = stack->depth;
}

// The stacks are sorted: one node and thread's leaves come one after the other.
static void add_leaf(struct flame_tree *tree, uint32_t node, const struct stack *stack)
{
	const struct flame_leaf *last = tree->leaves + tree->nleaves - (tree->nleaves > 0);
	if (tree->nleaves == 0 || last->node != node || last->thread != stack->thread)
		tree->leaves[tree->nleaves++] = (struct flame_leaf){.node = node, .thread = stack->thread};
	struct flame_leaf *leaf = &tree->leaves[tree->nleaves - 1];
	for (uint32_t v = 0; v < tree->nvalues; v++) {
		if (stack->sample->values[v] > 0)
			leaf->values[v] = flame_add(leaf->values[v], stack->sample->values[v]);
	}
}

static int build_nodes(struct builder *builder)
{
	struct flame_tree *tree = builder->tree;
	qsort_r(builder->stacks, builder->nstacks, sizeof(*builder->stacks), stack_compare, tree->sites);
	tree->leaves = calloc((size_t)builder->nstacks + 1, sizeof(*tree->leaves));
	if (!tree->leaves)
		return -ENOMEM;
	tree->nodes[0].frame = FLAME_NO_FRAME;
	tree->nnodes = 1;
	uint32_t depth = 0;
	for (uint32_t i = 0; i < builder->nstacks; i++) {
		const struct stack *stack = &builder->stacks[i];
		add_nodes(builder, stack, shared_depth(builder, stack, depth));
		depth = stack->depth;
		add_leaf(tree, builder->path[depth], stack);
	}
	struct flame_node *fitted = realloc(tree->nodes, tree->nnodes * sizeof(*fitted));
	tree->nodes = fitted ? fitted : tree->nodes;
	return 0;
}

// Preorder makes both sums one walk backwards: every child is done before its parent is read.
static void sum_values(struct flame_tree *tree)
{
	const uint32_t nvalues = tree->nvalues;
	for (uint32_t i = 0; i < tree->nnodes; i++)
		tree->nodes[i].end = i + 1;
	for (uint32_t i = 0; i < tree->nleaves; i++) {
		int64_t *self = &tree->self[(size_t)tree->leaves[i].node * nvalues];
		for (uint32_t v = 0; v < nvalues; v++)
			self[v] = flame_add(self[v], tree->leaves[i].values[v]);
	}
	memcpy(tree->total, tree->self, (size_t)tree->nnodes * nvalues * sizeof(*tree->total));
	for (uint32_t i = tree->nnodes; i-- > 1;) {
		uint32_t parent = tree->nodes[i].parent;
		if (tree->nodes[parent].end < tree->nodes[i].end)
			tree->nodes[parent].end = tree->nodes[i].end;
		int64_t *into = &tree->total[(size_t)parent * nvalues];
		for (uint32_t v = 0; v < nvalues; v++)
			into[v] = flame_add(into[v], tree->total[(size_t)i * nvalues + v]);
	}
}

static int value_totals(struct flame_tree *tree)
{
	size_t cells = (size_t)tree->nnodes * tree->nvalues + 1;
	tree->self = calloc(cells, sizeof(*tree->self));
	tree->total = calloc(cells, sizeof(*tree->total));
	if (!tree->self || !tree->total)
		return -ENOMEM;
	sum_values(tree);
	return 0;
}

static int build(struct builder *builder, uint32_t value)
{
	int err = flame_frames_build(builder->tree, builder->profile);
	if (!err)
		err = expand_stacks(builder);
	if (!err)
		err = number_threads(builder);
	if (!err)
		err = build_nodes(builder);
	if (!err)
		err = value_totals(builder->tree);
	return err ? err : flame_frames_sort_modules(builder->tree, value);
}

int flame_tree_create(const struct profile *profile, uint32_t value, struct flame_tree **ret_tree)
{
	if (value >= profile->nsample_types)
		return -EINVAL;
	struct builder builder = {.profile = profile, .tree = calloc(1, sizeof(*builder.tree))};
	if (!builder.tree)
		return -ENOMEM;
	builder.tree->nvalues = profile->nsample_types;
	int err = build(&builder, value);
	free(builder.stacks);
	free(builder.arena);
	free(builder.path);
	if (err) {
		flame_tree_destroy(builder.tree);
		return err;
	}
	*ret_tree = builder.tree;
	return 0;
}

void flame_tree_destroy(struct flame_tree *tree)
{
	if (!tree)
		return;
	for (uint32_t i = 0; i < tree->nnames; i++)
		free(tree->names[i]);
	free(tree->names);
	free(tree->sites);
	free(tree->site_start);
	free(tree->frames);
	free(tree->modules);
	free(tree->nodes);
	free(tree->self);
	free(tree->total);
	free(tree->leaves);
	free(tree->threads);
	free(tree);
}

// ---- The limit -----------------------------------------------------------------------------------------------------

// A node's largest share of any value's total. Never larger than its parent's.
static double node_share(const struct flame_tree *tree, uint32_t node)
{
	double share = 0;
	for (uint32_t v = 0; v < tree->nvalues; v++) {
		double all = (double)tree->total[v];
		double part = (double)tree->total[(size_t)node * tree->nvalues + v];
		if (all > 0 && part / all > share)
			share = part / all;
	}
	return share;
}

static int share_compare(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;
	return (a < b) - (a > b);
}

// What stays: every node above `share`, and of those exactly at it the first `ties` in preorder. A caller is never
// lighter than its callee and stands before it, so no node stays without its caller.
struct threshold {
	double share;
	uint32_t ties;
};

static int find_threshold(const struct flame_tree *tree, uint32_t max_nodes, struct threshold *ret_threshold)
{
	double *shares = calloc(tree->nnodes, sizeof(*shares));
	if (!shares)
		return -ENOMEM;
	shares[0] = 2; // the root stands before all others
	for (uint32_t i = 1; i < tree->nnodes; i++)
		shares[i] = node_share(tree, i);
	qsort(shares, tree->nnodes, sizeof(*shares), share_compare);
	ret_threshold->share = shares[max_nodes - 1];
	ret_threshold->ties = 0;
	for (uint32_t i = max_nodes; i-- > 0 && shares[i] <= ret_threshold->share;)
		ret_threshold->ties++;
	free(shares);
	return 0;
}

static bool node_stays(double share, struct threshold *threshold)
{
	if (share > threshold->share)
		return true;
	if (share < threshold->share || !threshold->ties)
		return false;
	threshold->ties--;
	return true;
}

// Moves the nodes that stay to the front; renumber[i] becomes i's new index, or that of its nearest caller that stays.
static void fold_nodes(struct flame_tree *tree, struct threshold threshold, uint32_t *renumber)
{
	uint32_t kept = 1;
	tree->max_depth = 0;
	for (uint32_t i = 1; i < tree->nnodes; i++) {
		uint32_t parent = renumber[tree->nodes[i].parent];
		renumber[i] = parent;
		if (!node_stays(node_share(tree, i), &threshold))
			continue;
		renumber[i] = kept;
		tree->nodes[kept] = tree->nodes[i];
		tree->nodes[kept].parent = parent;
		if (tree->nodes[kept].depth > tree->max_depth)
			tree->max_depth = tree->nodes[kept].depth;
		memmove(&tree->total[(size_t)kept * tree->nvalues], &tree->total[(size_t)i * tree->nvalues],
			tree->nvalues * sizeof(*tree->total));
		kept++;
	}
	tree->limited += tree->nnodes - kept;
	tree->nnodes = kept;
}

static int leaf_compare(const void *left, const void *right)
{
	const struct flame_leaf *a = left, *b = right;
	if (a->node != b->node)
		return a->node < b->node ? -1 : 1;
	return (a->thread > b->thread) - (a->thread < b->thread);
}

static void fold_leaves(struct flame_tree *tree, const uint32_t *renumber)
{
	uint32_t kept = 0;
	for (uint32_t i = 0; i < tree->nleaves; i++)
		tree->leaves[i].node = renumber[tree->leaves[i].node];
	qsort(tree->leaves, tree->nleaves, sizeof(*tree->leaves), leaf_compare);
	for (uint32_t i = 0; i < tree->nleaves; i++) {
		if (kept == 0 || leaf_compare(&tree->leaves[kept - 1], &tree->leaves[i]) != 0) {
			tree->leaves[kept++] = tree->leaves[i];
			continue;
		}
		int64_t *into = tree->leaves[kept - 1].values;
		for (uint32_t v = 0; v < tree->nvalues; v++)
			into[v] = flame_add(into[v], tree->leaves[i].values[v]);
	}
	tree->nleaves = kept;
}

int flame_tree_limit(struct flame_tree *tree, uint32_t max_nodes)
{
	struct threshold threshold;
	if (max_nodes < 1)
		max_nodes = 1;
	if (tree->nnodes <= max_nodes)
		return 0;
	uint32_t *renumber = calloc(tree->nnodes, sizeof(*renumber));
	int err = renumber ? find_threshold(tree, max_nodes, &threshold) : -ENOMEM;
	if (!err) {
		tree->limited_share = threshold.share > 1 ? 1 : threshold.share;
		fold_nodes(tree, threshold, renumber);
		fold_leaves(tree, renumber);
		memset(tree->self, 0, (size_t)tree->nnodes * tree->nvalues * sizeof(*tree->self));
		sum_values(tree);
	}
	free(renumber);
	return err;
}
