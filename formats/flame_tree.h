// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// flame_tree.h: the call tree both flame graphs draw. Stacks are merged root first, inlined calls become frames of their
// own, and the frame's identity is (name, module, file): one box for a function, whatever address was sampled in it.
//
// The tree is arrays, in preorder, so that it can be walked, written and skipped without recursion (a stack may be 1024
// frames deep, with inlines more):
//
//      nodes[0]  all      parent 0   depth 0   end 5       all ──────────────────
//      nodes[1]  ├ main   parent 0   depth 1   end 4       main ─────────── start
//      nodes[2]  │ ├ f    parent 1   depth 2   end 3       f ──── g ───
//      nodes[3]  │ └ g    parent 1   depth 2   end 4
//      nodes[4]  └ start  parent 0   depth 1   end 5
//
// Invariants: a parent stands before its children; node i's descendants are i+1 … nodes[i].end-1; siblings are sorted by
// name, then module, then file; the same profile gives the same tree, whatever the order of its samples.
// Values below zero (a difference of profiles) have no width: they count as 0 and are counted in `negative`.

#ifndef PROFD_FORMATS_FLAME_TREE_H
#define PROFD_FORMATS_FLAME_TREE_H

#include "formats/profile.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FLAME_NO_FRAME UINT32_MAX // the root's

struct flame_module {
	const char *path;   // the mapping's file; "" for code in no mapping
	const char *advice; // as in struct profile_mapping: for frames without a name
	int64_t self;       // of the value the tree was made for
};

struct flame_frame {
	const char *name;
	const char *label; // the name made short
	const char *file;  // "" when not known
	int64_t start_line;
	uint32_t module; // index
	bool nameless;   // code without a symbol: name is module and offset
};

// Where one inlined call of a location stands: its frame, and the line that was executing in it.
struct flame_site {
	uint32_t frame;
	uint32_t line; // 0: not known
};

struct flame_node {
	uint32_t parent; // index; the root is its own
	uint32_t frame;  // index, or FLAME_NO_FRAME
	uint32_t depth;
	uint32_t end;                // one past the last descendant
	uint32_t line_min, line_max; // lines seen executing here; 0: not known
};

struct flame_thread {
	const char *name; // label thread_name, or ""
	const char *text; // label thread_id where that is text, or ""
	int64_t id;       // label thread_id where that is a number, or 0
};

// What ended in one node on one thread. Sorted by node, then thread; no pair twice.
struct flame_leaf {
	uint32_t node, thread;
	int64_t values[PROFILE_MAX_VALUES];
};

struct flame_tree {
	uint32_t nvalues;
	uint32_t nframes, nmodules, nsites, nnodes, nleaves, nthreads;
	uint32_t max_depth;
	uint64_t negative;            // values below zero, counted as 0
	uint64_t limited;             // nodes that flame_tree_limit folded into their callers
	double limited_share;         // no folded node had more than this share of any total
	struct flame_frame *frames;   // sorted by name, module's path, file
	struct flame_module *modules; // heaviest first
	struct flame_node *nodes;
	int64_t *self, *total; // [node * nvalues + value]; sums stop at INT64_MAX
	struct flame_leaf *leaves;
	struct flame_thread *threads; // sorted by name, then id; at least one when there is a leaf

	// While it is built; location i's sites are sites[site_start[i]] … sites[site_start[i + 1]], outermost call first.
	struct flame_site *sites;
	size_t *site_start;
	char **names; // made for code without a symbol, and those made short; owned
	uint32_t nnames;
};

// value: the sample type whose self values sort the modules. Strings are the profile's, which must outlive the tree.
// 0, −ENOMEM, −EINVAL (no such sample type), −EOVERFLOW (more than 2^32 frames).
int flame_tree_create(const struct profile *profile, uint32_t value, struct flame_tree **ret_tree);
void flame_tree_destroy(struct flame_tree *tree);

// Folds the lightest frames into their callers' own values until at most max_nodes are left (the root always is).
// 0 or −ENOMEM.
int flame_tree_limit(struct flame_tree *tree, uint32_t max_nodes);

// flame_frames.c: fills frames, modules (self not yet), sites and site_start. 0 or −errno.
int flame_frames_build(struct flame_tree *tree, const struct profile *profile);
// flame_frames.c: sorts the modules by their self value.
int flame_frames_sort_modules(struct flame_tree *tree, uint32_t value);

static inline int64_t flame_add(int64_t a, int64_t b)
{
	int64_t sum;
	return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

#endif
