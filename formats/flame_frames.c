// SPDX-License-Identifier: Apache-2.0
// SPDX-FileCopyrightText: The profd authors
//
// flame_frames.c: the names of a flame graph. Every (location, inlined call) of a profile is a site; the sites with the
// same name, module and file are one frame, and frames are numbered in the order of their names, so that comparing two
// numbers compares two names. Runs wherever a format is written; no state of its own.

#include "formats/flame_tree.h"
#include "formats/short_name.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_LABEL 2048 // bytes; a longer one is cut

// A site before its frame has a number.
struct candidate {
	const char *name, *path, *file;
	const struct profile_function *function; // NULL: none
	int64_t start_line;
	uint32_t site;
};

static int candidate_compare_frame(const struct candidate *a, const struct candidate *b)
{
	int order = strcmp(a->name, b->name);
	if (!order)
		order = strcmp(a->path, b->path);
	return order ? order : strcmp(a->file, b->file);
}

static int candidate_compare(const void *left, const void *right)
{
	const struct candidate *a = left, *b = right;
	int order = candidate_compare_frame(a, b);
	return order ? order : (a->site > b->site) - (a->site < b->site);
}

static const struct profile_function *site_function(const struct profile *profile,
						    const struct profile_location *location, uint32_t line)
{
	uint32_t id = line < location->nlines ? location->lines[line].function_id : 0;
	return id && id <= profile->nfunctions ? &profile->functions[id - 1] : NULL;
}

// A name for code without a symbol is made here and owned by the tree.
static const char *make_name(struct flame_tree *tree, const struct profile *profile,
			     const struct profile_location *location, uint32_t line)
{
	char buf[512];
	const char *name = profile_frame_name(profile, location, line, buf, sizeof(buf));
	char *copy = strdup(name[0] ? name : "[unknown]");
	if (copy)
		tree->names[tree->nnames++] = copy;
	return copy;
}

static const char *location_path(const struct profile *profile, const struct profile_location *location)
{
	uint32_t id = location->mapping_id;
	const char *path = id && id <= profile->nmappings ? profile->mappings[id - 1].file : NULL;
	return path ? path : "";
}

static int fill_candidate(struct flame_tree *tree, const struct profile *profile,
			  const struct profile_location *location, uint32_t line, struct candidate *candidate)
{
	const struct profile_function *function = site_function(profile, location, line);
	bool named = function && function->name && function->name[0];
	candidate->name = named ? function->name : make_name(tree, profile, location, line);
	candidate->path = location_path(profile, location);
	candidate->file = function && function->file ? function->file : "";
	candidate->function = named ? function : NULL;
	candidate->start_line = function ? function->start_line : 0;
	return candidate->name ? 0 : -ENOMEM;
}

static uint32_t clamp_line(int64_t line)
{
	if (line <= 0)
		return 0;
	return line > INT32_MAX ? INT32_MAX : (uint32_t)line;
}

static uint32_t location_nsites(const struct profile_location *location)
{
	return location->nlines ? location->nlines : 1;
}

// Allocates for all sites and says where each location's begin.
static int count_sites(struct flame_tree *tree, const struct profile *profile)
{
	size_t total = 0;
	tree->site_start = calloc((size_t)profile->nlocations + 1, sizeof(*tree->site_start));
	if (!tree->site_start)
		return -ENOMEM;
	for (uint32_t i = 0; i < profile->nlocations; i++) {
		tree->site_start[i] = total;
		total += location_nsites(&profile->locations[i]);
	}
	tree->site_start[profile->nlocations] = total;
	if (total >= UINT32_MAX)
		return -EOVERFLOW;
	tree->nsites = (uint32_t)total;
	tree->sites = calloc(total + 1, sizeof(*tree->sites));
	tree->names = calloc(2 * total + 1, sizeof(*tree->names));
	return tree->sites && tree->names ? 0 : -ENOMEM;
}

static int fill_sites(struct flame_tree *tree, const struct profile *profile, struct candidate *candidates)
{
	for (uint32_t i = 0; i < profile->nlocations; i++) {
		const struct profile_location *location = &profile->locations[i];
		uint32_t count = location_nsites(location);
		for (uint32_t k = 0; k < count; k++) {
			uint32_t line = count - 1 - k; // outermost first
			uint32_t site = (uint32_t)tree->site_start[i] + k;
			int err = fill_candidate(tree, profile, location, line, &candidates[site]);
			if (err)
				return err;
			candidates[site].site = site;
			tree->sites[site].line = line < location->nlines ? clamp_line(location->lines[line].line) : 0;
		}
	}
	return 0;
}

static int path_compare(const void *left, const void *right)
{
	return strcmp(*(const char *const *)left, *(const char *const *)right);
}

static int module_compare_path(const void *key, const void *element)
{
	const char *path = key;
	const struct flame_module *module = element;
	return strcmp(path, module->path);
}

// Why code of a module has no name.
static void explain_modules(struct flame_tree *tree, const struct profile *profile)
{
	for (uint32_t i = 0; i < profile->nmappings; i++) {
		const struct profile_mapping *mapping = &profile->mappings[i];
		struct flame_module *module =
			bsearch(mapping->file, tree->modules, tree->nmodules, sizeof(*module), module_compare_path);
		if (module && !module->advice[0])
			module->advice = mapping->advice;
	}
}

static int build_modules(struct flame_tree *tree, const struct candidate *candidates)
{
	const char **paths = calloc((size_t)tree->nsites + 1, sizeof(*paths));
	tree->modules = calloc((size_t)tree->nsites + 1, sizeof(*tree->modules));
	if (!paths || !tree->modules) {
		free(paths);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < tree->nsites; i++)
		paths[i] = candidates[i].path;
	qsort(paths, tree->nsites, sizeof(*paths), path_compare);
	for (uint32_t i = 0; i < tree->nsites; i++) {
		if (i == 0 || strcmp(paths[i], paths[i - 1]) != 0)
			tree->modules[tree->nmodules++] = (struct flame_module){paths[i], "", 0};
	}
	free(paths);
	return 0;
}

// NULL: no memory.
static const char *make_label(struct flame_tree *tree, const struct candidate *candidate, char *buf, size_t size)
{
	if (!candidate->function ||
	    strcmp(short_name_of_function(candidate->function, buf, size), candidate->name) == 0)
		return candidate->name;
	char *copy = strdup(buf);
	if (copy)
		tree->names[tree->nnames++] = copy;
	return copy;
}

// Candidates are sorted: equal ones stand together, and the first of them gives the frame its start line.
static int number_frames(struct flame_tree *tree, const struct candidate *candidates)
{
	char label[MAX_LABEL];
	tree->frames = calloc((size_t)tree->nsites + 1, sizeof(*tree->frames));
	if (!tree->frames)
		return -ENOMEM;
	for (uint32_t i = 0; i < tree->nsites; i++) {
		const struct candidate *candidate = &candidates[i];
		if (i == 0 || candidate_compare_frame(candidate, &candidates[i - 1]) != 0) {
			struct flame_frame *frame = &tree->frames[tree->nframes++];
			const struct flame_module *module = bsearch(candidate->path, tree->modules, tree->nmodules,
								    sizeof(*module), module_compare_path);
			frame->name = candidate->name;
			frame->label = make_label(tree, candidate, label, sizeof(label));
			if (!frame->label)
				return -ENOMEM;
			frame->file = candidate->file;
			frame->start_line = candidate->start_line;
			frame->nameless = !candidate->function;
			frame->module = (uint32_t)(module - tree->modules);
		}
		tree->sites[candidate->site].frame = tree->nframes - 1;
	}
	return 0;
}

int flame_frames_build(struct flame_tree *tree, const struct profile *profile)
{
	int err = count_sites(tree, profile);
	if (err)
		return err;
	struct candidate *candidates = calloc((size_t)tree->nsites + 1, sizeof(*candidates));
	if (!candidates)
		return -ENOMEM;
	err = fill_sites(tree, profile, candidates);
	if (!err)
		err = build_modules(tree, candidates);
	if (!err) {
		explain_modules(tree, profile);
		qsort(candidates, tree->nsites, sizeof(*candidates), candidate_compare);
		err = number_frames(tree, candidates);
	}
	free(candidates);
	return err;
}

struct ranked_module {
	struct flame_module module;
	uint32_t old;
};

static int ranked_compare(const void *left, const void *right)
{
	const struct ranked_module *a = left, *b = right;
	if (a->module.self != b->module.self)
		return a->module.self < b->module.self ? 1 : -1;
	return strcmp(a->module.path, b->module.path);
}

static void sum_module_self(struct flame_tree *tree, uint32_t value)
{
	for (uint32_t i = 1; i < tree->nnodes; i++) {
		struct flame_module *module = &tree->modules[tree->frames[tree->nodes[i].frame].module];
		module->self = flame_add(module->self, tree->self[(size_t)i * tree->nvalues + value]);
	}
}

int flame_frames_sort_modules(struct flame_tree *tree, uint32_t value)
{
	struct ranked_module *ranked = calloc((size_t)tree->nmodules + 1, sizeof(*ranked));
	uint32_t *renumber = calloc((size_t)tree->nmodules + 1, sizeof(*renumber));
	int err = ranked && renumber ? 0 : -ENOMEM;
	if (!err) {
		sum_module_self(tree, value);
		for (uint32_t i = 0; i < tree->nmodules; i++)
			ranked[i] = (struct ranked_module){tree->modules[i], i};
		qsort(ranked, tree->nmodules, sizeof(*ranked), ranked_compare);
		for (uint32_t i = 0; i < tree->nmodules; i++) {
			tree->modules[i] = ranked[i].module;
			renumber[ranked[i].old] = i;
		}
		for (uint32_t i = 0; i < tree->nframes; i++)
			tree->frames[i].module = renumber[tree->frames[i].module];
	}
	free(ranked);
	free(renumber);
	return err;
}
